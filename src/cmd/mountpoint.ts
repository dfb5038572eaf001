/** What commands do with a mountpoint before something is mounted there, and after a mount has died. */

import { mountAt } from '../fuse/mount-table.js';
import { checkMountpoint, probeMount } from '../fuse/mountpoint.js';
import { clearDeadMount } from '../fuse/unmount.js';

/** Clears away what is mounted at `path` (resolved) when its daemon is gone; true when that was so. */
export async function clearIfDead(path: string): Promise<boolean> {
  if (!(await isDead(path))) return false;
  await clearDeadMount(path);
  return true;
}

async function isDead(path: string): Promise<boolean> {
  const mounted = mountAt(path);
  if (mounted === undefined || !mounted.type.startsWith('fuse')) return false;
  return (await probeMount(path)) === 'dead';
}

/** What is to be mounted where. `clearDead`: in the place of a dead mount, if there is one. */
export interface Place {
  readonly clearDead: boolean;
  readonly nonEmpty: boolean;
}

/**
 * Whether `path` (resolved) will do, long before something is mounted there: a dead mount stays until the new one can
 * take its place, so that programs find an error there and not an empty directory.
 * **Errors:** MountError, whose message says what is in the way and what to do.
 */
export async function checkPlace(path: string, { clearDead, nonEmpty }: Place): Promise<void> {
  if (clearDead && (await isDead(path))) return;
  await checkMountpoint(path, { allowNonEmpty: nonEmpty });
}

/** Now something is mounted there. **Errors:** as `checkPlace`. */
export async function makePlace(path: string, { clearDead, nonEmpty }: Place): Promise<void> {
  if (clearDead) await clearIfDead(path);
  await checkMountpoint(path, { allowNonEmpty: nonEmpty });
}
