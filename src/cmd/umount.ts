/** `leasefs umount`: takes a mount away, living or dead. */
import { Command } from 'commander';
import { mountAt, resolveMountpoint } from '../fuse/mount-table.js';
import { unmountPath } from '../fuse/unmount.js';
import { limits } from '../proto/limits.js';
import { CommandError } from './command-error.js';
import { clearIfDead } from './mountpoint.js';
import { findProcess, type ProcessIdentity, waitForEnd } from './process-identity.js';

/** A daemon that nobody uses any more is gone within this. */
const DETACHED_MS = 2_000;

export function umountCommand(): Command {
  return new Command('umount')
    .summary('unmount a filesystem')
    .description(
      'Unmounts a mountpoint and waits until its daemon has written everything back. Clears dead mounts.',
    )
    .argument('<mountpoint>')
    .option('--force', 'even when programs still use it (a lazy unmount), or when it does not answer')
    .action(async (path: string, options: { force?: true }) => {
      const mountpoint = resolveMountpoint(path);
      const mounted = mountAt(mountpoint);
      if (mounted === undefined) throw new CommandError(`${mountpoint} is not mounted`);
      if (!mounted.type.startsWith('fuse'))
        throw new CommandError(
          `${mountpoint} is not a leasefs mount but ${mounted.source} (${mounted.type})`,
        );
      const daemon = findProcess((args) => servesMount(args, mountpoint));
      if (await clearIfDead(mountpoint)) return;
      await unmountPath(mountpoint, { force: options.force === true });
      if (daemon !== undefined) await waitForDaemon(daemon, options.force === true);
    });
}

/** A daemon that was detached from a busy mount serves on until its last user lets go: that is not awaited. */
async function waitForDaemon(daemon: ProcessIdentity, force: boolean): Promise<void> {
  if (await waitForEnd(daemon, force ? DETACHED_MS : limits.mountStopMs)) return;
  const who = `its daemon (process ${daemon.pid})`;
  if (!force) throw new CommandError(`unmounted, but ${who} still writes back`);
  console.log(`leasefs: unmounted; ${who} goes on for the programs that still use the mount`);
}

/** Whether this is the command line of a daemon as mount.ts and local-cluster.ts start it for `mountpoint`. */
function servesMount(args: readonly string[], mountpoint: string): boolean {
  const at = args.indexOf('mount');
  return at > 0 && args[at + 2] === mountpoint && args[at + 3] === '--foreground';
}
