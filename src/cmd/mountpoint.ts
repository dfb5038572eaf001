/** What commands do with a mountpoint before something is mounted there, and after a mount has died. */

import { mountAt } from '../fuse/mount-table.js';
import { checkMountpoint, probeMount } from '../fuse/mountpoint.js';
import { clearDeadMount } from '../fuse/unmount.js';

/** Clears away what is mounted at `path` (resolved) when its daemon is gone; true when that was so. */
export async function clearIfDead(path: string): Promise<boolean> {
  const mounted = mountAt(path);
  if (mounted === undefined || !mounted.type.startsWith('fuse')) return false;
  if ((await probeMount(path)) !== 'dead') return false;
  await clearDeadMount(path);
  return true;
}

/**
 * Makes sure that `path` (resolved) can be mounted over. `clearDead`: a dead mount there is cleared away first.
 * **Errors:** MountError, whose message says what is in the way and what to do.
 */
export async function prepareMountpoint(
  path: string,
  options: { clearDead: boolean; nonEmpty: boolean },
): Promise<void> {
  if (options.clearDead) await clearIfDead(path);
  await checkMountpoint(path, { allowNonEmpty: options.nonEmpty });
}
