/**
 * Is this a place to mount at? Finds out without hanging, whatever is mounted there already, and says in one
 * line what is wrong and what to do.
 *
 * **Source:** native-notes/mount.md, "Dead mounts".
 */
import { lstatSync, readdirSync } from 'node:fs';
import { MountError } from './mount-error.js';
import { mountAt, resolveMountpoint } from './mount-table.js';
import { runProgram } from './run-program.js';

/** How a mounted filesystem answers: `dead` is "Transport endpoint is not connected". */
export type MountHealth = 'alive' | 'dead' | 'silent';

const PROBE_TIMEOUT_MS = 2_000;
const EXIT_DEAD = 3;

/** Asks the filesystem at argv[1] for its figures; exits 3 when its daemon is gone. */
const PROBE = `
  try { require('node:fs').statfsSync(process.argv[1]); }
  catch (error) { process.exit(error.code === 'ENOTCONN' || error.code === 'ECONNABORTED' ? ${EXIT_DEAD} : 0); }
`;

/**
 * Whether the filesystem mounted at `mountpoint` answers. Asked by a child process, because who asks a
 * silent one is stuck in the kernel. An answer of any kind counts as alive (for root, another user's private
 * mount answers with no more than that).
 */
export async function probeMount(mountpoint: string): Promise<MountHealth> {
  const result = await runProgram(process.execPath, ['-e', PROBE, mountpoint], {
    timeoutMs: PROBE_TIMEOUT_MS,
    environment: { NODE_OPTIONS: '' },
  });
  if (result.code === undefined) return 'silent';
  return result.code === EXIT_DEAD ? 'dead' : 'alive';
}

function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** Why something is mounted at `mountpoint` already. */
async function occupied(mountpoint: string, type: string): Promise<MountError> {
  const health = type.startsWith('fuse') ? await probeMount(mountpoint) : 'alive';
  switch (health) {
    case 'dead':
      return new MountError(
        'dead',
        `${mountpoint}: a dead mount is in the way (Transport endpoint is not connected): its daemon is gone; mount with --force to clear it`,
      );
    case 'silent':
      return new MountError(
        'silent',
        `${mountpoint}: a ${type} mount is in the way and does not answer; unmount it with: leasefs umount --force ${mountpoint}`,
      );
    case 'alive':
      return new MountError(
        'alreadyMounted',
        `${mountpoint}: already mounted (${type}); unmount it first or choose another directory`,
      );
  }
}

/**
 * The mountpoint's real path, when a filesystem can be mounted there. **Errors:** MountError missing,
 * notDirectory, notEmpty (unless allowed), alreadyMounted, dead, silent, notAllowed.
 */
export async function checkMountpoint(path: string, options: { allowNonEmpty: boolean }): Promise<string> {
  const mountpoint = resolveMountpoint(path);
  const mounted = mountAt(mountpoint);
  if (mounted !== undefined) throw await occupied(mountpoint, mounted.type);
  try {
    if (!lstatSync(mountpoint).isDirectory()) {
      throw new MountError(
        'notDirectory',
        `${path}: not a directory; a filesystem is mounted on a directory`,
      );
    }
    if (!options.allowNonEmpty && readdirSync(mountpoint).length > 0) {
      throw new MountError(
        'notEmpty',
        `${path}: not empty; choose an empty directory, or hide its contents with -o nonempty`,
      );
    }
  } catch (error) {
    if (error instanceof MountError) throw error;
    throw pathProblem(path, error);
  }
  return mountpoint;
}

function pathProblem(path: string, cause: unknown): MountError {
  switch (errorCode(cause)) {
    case 'ENOENT':
      return new MountError('missing', `${path}: no such directory; create it with: mkdir -p ${path}`, {
        cause,
      });
    case 'ENOTDIR':
      return new MountError('notDirectory', `${path}: part of the path is not a directory`, { cause });
    case 'EACCES':
      return new MountError('notAllowed', `${path}: permission denied`, { cause });
    case 'ENOTCONN':
      return new MountError(
        'dead',
        `${path}: lies inside a dead mount (Transport endpoint is not connected); clear that first`,
        { cause },
      );
    default:
      return new MountError('failed', `${path}: cannot be used as a mountpoint: ${String(cause)}`, { cause });
  }
}
