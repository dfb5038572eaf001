/**
 * Makes the mount and gives back the device descriptor that serves it. Three ways: mount(2) for root;
 * the setuid program fusermount3, which hands the descriptor over a socket, for everybody else; and a
 * descriptor that somebody else has mounted already, named as /dev/fd/N (mount.fuse3 does that).
 *
 * Invariant: when a function here throws, nothing is mounted and no descriptor is left open.
 *
 * **Source:** mount(2), fusermount3(1), Documentation/filesystems/fuse.rst; native-notes/mount.md.
 */
import { closeSync, constants, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { makeLog } from '../base/log.js';
import { limits } from '../proto/limits.js';
import type { MountOptions } from '../vfs/operations.js';
import { mount as mountSyscall, receiveDescriptor, socketPair } from './libc.js';
import { MountError } from './mount-error.js';
import { allowsNonEmpty, fusermountOption, mountArguments, SUBTYPE } from './mount-options.js';
import { mountAt, mountOfDevice } from './mount-table.js';
import { checkMountpoint } from './mountpoint.js';
import { runProgram } from './run-program.js';

export { MountError } from './mount-error.js';
export { clearDeadMount, unmountPath } from './unmount.js';

const log = makeLog('fuse');

export interface OpenedMount {
  /** The open /dev/fuse of this mount. */
  readonly fd: number;
  /** Real path; undefined when somebody else has mounted the descriptor. */
  readonly mountpoint: string | undefined;
}

const FUSERMOUNT_TIMEOUT_MS = 20_000;

/** Mounts as `options` say. **Errors:** MountError. */
export async function openMount(options: MountOptions): Promise<OpenedMount> {
  const inherited = /^\/dev\/fd\/(\d{1,9})$/.exec(options.mountpoint)?.[1];
  if (inherited !== undefined) return { fd: inheritedDevice(Number(inherited)), mountpoint: undefined };
  const mountpoint = await checkMountpoint(options.mountpoint, { allowNonEmpty: allowsNonEmpty(options) });
  if (!existsSync('/dev/fuse')) {
    throw new MountError('noDevice', '/dev/fuse is missing: load the kernel module with: modprobe fuse');
  }
  const uid = process.geteuid?.() ?? 0;
  const fd = uid === 0 ? mountAsRoot(mountpoint, options) : await mountAsUser(mountpoint, options);
  return { fd, mountpoint };
}

function inheritedDevice(fd: number): number {
  try {
    if (readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').length > 0) return fd;
  } catch (cause) {
    throw new MountError('failed', `/dev/fd/${fd}: no such descriptor was handed over`, { cause });
  }
  throw new MountError('failed', `/dev/fd/${fd}: not usable as a FUSE device`);
}

function mountAsRoot(mountpoint: string, options: MountOptions): number {
  let fd: number;
  try {
    fd = openSync('/dev/fuse', constants.O_RDWR | constants.O_NONBLOCK);
  } catch (cause) {
    throw new MountError('noDevice', `/dev/fuse cannot be opened: ${String(cause)}`, { cause });
  }
  try {
    const gid = process.getegid?.() ?? 0;
    const { flags, data } = mountArguments(options, { fd, uid: 0, gid });
    const type = `fuse.${SUBTYPE}`;
    const result = mountSyscall({ source: options.source, target: mountpoint, type, flags, data });
    if (result !== 0) throw mountFailure(mountpoint, -result);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

const EPERM = 1;
const EINVAL = 22;
const ENODEV = 19;

function mountFailure(mountpoint: string, errno: number): MountError {
  switch (errno) {
    case EPERM:
      return new MountError(
        'notAllowed',
        `${mountpoint}: mount is not permitted here (CAP_SYS_ADMIN is missing; containers need --cap-add SYS_ADMIN --device /dev/fuse)`,
      );
    case ENODEV:
      return new MountError('noDevice', `${mountpoint}: the kernel has no FUSE; load it with: modprobe fuse`);
    case EINVAL:
      return new MountError('badOption', `${mountpoint}: the kernel refused the mount options (EINVAL)`);
    default:
      return new MountError('failed', `${mountpoint}: mount failed with errno ${errno}`);
  }
}

async function mountAsUser(mountpoint: string, options: MountOptions): Promise<number> {
  const sockets = socketPair();
  if (sockets === undefined) throw new MountError('failed', 'no descriptors left for a socket pair');
  const [ours, theirs] = sockets;
  try {
    const result = await runProgram('fusermount3', ['-o', fusermountOption(options), '--', mountpoint], {
      timeoutMs: FUSERMOUNT_TIMEOUT_MS,
      inherit: theirs,
      environment: { _FUSE_COMMFD: '3' },
    });
    const fd = result.code === 0 ? receiveDescriptor(ours) : undefined;
    if (fd === undefined) throw fusermountFailure(mountpoint, result);
    return fd;
  } finally {
    closeSync(ours);
    closeSync(theirs);
  }
}

function fusermountFailure(mountpoint: string, result: { missing: boolean; message: string }): MountError {
  if (result.missing) {
    return new MountError(
      'noFusermount',
      'fusermount3 is not installed: ordinary users mount through it (package fuse3)',
    );
  }
  if (/failed to open \/dev\/fuse: Permission denied/.test(result.message)) {
    return new MountError(
      'noDevice',
      `${mountpoint}: ordinary users may not open /dev/fuse here; let them, as root: chmod 666 /dev/fuse`,
    );
  }
  const message = result.message === '' ? 'fusermount3 gave no descriptor' : result.message;
  const allowed = !/permission|not permitted|only allowed|user has no/i.test(message);
  return new MountError(allowed ? 'failed' : 'notAllowed', `${mountpoint}: ${message}`);
}

/**
 * Lets the kernel read ahead as much as one READ can carry (its own bound is 128 KiB). Only root may; for
 * others reads stay right and are smaller. Never asks the mount: its device number is in the mount table.
 */
export function raiseReadAhead(mountpoint: string): void {
  const entry = mountAt(mountpoint);
  if (entry === undefined || process.geteuid?.() !== 0) return;
  try {
    writeFileSync(`/sys/class/bdi/${entry.device}/read_ahead_kb`, String(limits.fuseIoBytes / 1024));
  } catch (error) {
    log.debug('read-ahead stays at the kernel default', { mountpoint, error });
  }
}

/**
 * The mountpoint of a FUSE device by its connection number, where the kernel tells it (fdinfo, since 6.17);
 * for descriptors that were handed over.
 */
export function mountpointOf(fd: number): string | undefined {
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
  const connection = /^fuse_connection:\s*(\d+)$/m.exec(info)?.[1];
  return connection === undefined ? undefined : mountOfDevice(`0:${connection}`)?.mountpoint;
}

/**
 * Has the kernel fail everything that waits for this mount (ENOTCONN), for when it can no longer be answered.
 * The mount's owner may. Without effect where the control filesystem is not mounted; closing the device then
 * does the same, unless a thread of this process is among those that wait.
 */
export function abortConnection(mountpoint: string | undefined): void {
  const entry = mountpoint === undefined ? undefined : mountAt(mountpoint);
  if (entry === undefined) return;
  const connection = entry.device.split(':')[1] ?? '';
  try {
    writeFileSync(`/sys/fs/fuse/connections/${connection}/abort`, '1');
  } catch (error) {
    log.debug('the connection could not be aborted', { mountpoint, error });
  }
}
