/**
 * Takes mounts out of the tree: this process's own, another's, and dead ones. Always by a child program
 * (`umount` for root, the setuid `fusermount3` otherwise): unmounting writes back and evicts through the
 * daemon, and a daemon that waited for itself in the kernel could not even be killed.
 *
 * **Source:** umount(2), umount(8), fusermount3(1); native-notes/mount.md.
 */
import { MountError } from './mount-error.js';
import { mountAt, resolveMountpoint } from './mount-table.js';
import { probeMount } from './mountpoint.js';
import { type ProgramResult, runProgram } from './run-program.js';

const UNMOUNT_TIMEOUT_MS = 10_000;

function runUnmount(mountpoint: string, lazy: boolean): Promise<ProgramResult> {
  const options = { timeoutMs: UNMOUNT_TIMEOUT_MS };
  return process.geteuid?.() === 0
    ? runProgram('umount', ['-i', '-c', ...(lazy ? ['-l'] : []), '--', mountpoint], options)
    : runProgram('fusermount3', ['-u', ...(lazy ? ['-z'] : []), '--', mountpoint], options);
}

function problem(mountpoint: string, result: ProgramResult): MountError {
  if (result.missing) {
    return new MountError(
      'noFusermount',
      `${mountpoint}: cannot unmount: fusermount3 is not installed (package fuse3)`,
    );
  }
  if (result.code === undefined) {
    return new MountError('silent', `${mountpoint}: unmounting did not finish; use --force to detach it`);
  }
  if (/busy/i.test(result.message)) {
    return new MountError(
      'busy',
      `${mountpoint}: in use; close what is open there, or use --force to detach it now`,
    );
  }
  return new MountError('failed', `${mountpoint}: cannot unmount: ${result.message}`);
}

/**
 * Unmounts what is mounted at `path`, whoever serves it. With `force` a busy mount is detached from the tree
 * at once and ends when its last file is closed. **Errors:** MountError notMounted, busy, silent, failed.
 */
export async function unmountPath(path: string, options: { force: boolean }): Promise<void> {
  const mountpoint = resolveMountpoint(path);
  if (mountAt(mountpoint) === undefined) {
    throw new MountError('notMounted', `${path}: nothing is mounted there`);
  }
  const result = await runUnmount(mountpoint, false);
  if (result.code === 0) return;
  const error = problem(mountpoint, result);
  if (!options.force || error.reason === 'noFusermount') throw error;
  const detached = await runUnmount(mountpoint, true);
  if (detached.code !== 0) throw problem(mountpoint, detached);
}

/**
 * Removes a mount whose daemon is gone, for `--force`; several on top of one another too. Does nothing where
 * nothing is mounted. **Errors:** MountError alreadyMounted when the mount answers, silent when it hangs.
 */
export async function clearDeadMount(path: string): Promise<void> {
  const mountpoint = resolveMountpoint(path);
  for (let layers = 0; layers < MAX_LAYERS; layers++) {
    const mounted = mountAt(mountpoint);
    if (mounted === undefined) return;
    const health = mounted.type.startsWith('fuse') ? await probeMount(mountpoint) : 'alive';
    if (health === 'alive') {
      throw new MountError(
        'alreadyMounted',
        `${mountpoint}: the ${mounted.type} mount there is alive; unmount it first`,
      );
    }
    if (health === 'silent') {
      throw new MountError(
        'silent',
        `${mountpoint}: the mount there does not answer but its daemon still runs; stop it, or: leasefs umount --force ${mountpoint}`,
      );
    }
    const result = await runUnmount(mountpoint, true);
    if (result.code !== 0) throw problem(mountpoint, result);
  }
  throw new MountError('failed', `${mountpoint}: more than ${MAX_LAYERS} dead mounts on top of one another`);
}

const MAX_LAYERS = 16;
