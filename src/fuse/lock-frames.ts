/**
 * Locks in the FUSE kernel protocol: GETLK, SETLK and SETLKW, and the lock owner that FLUSH and RELEASE carry.
 *
 * Offsets go up to 2^63 - 1 there, and up to 2^53 - 1 here: an end beyond that means the end of the file,
 * whatever its size, which is the same for every byte that a file can have.
 *
 * **Source:** include/uapi/linux/fuse.h, fuse_lk_in, fuse_flush_in, fuse_release_in; fs/fuse/file.c,
 * fuse_lk_fill(), convert_fuse_file_lock().
 */
import { LOCK_END } from '../lease/lock-ranges.js';
import { FsError } from '../proto/errno.js';
import { asLockOwner, type LockOwner } from '../proto/ids.js';
import type { FileLock } from '../vfs/operations.js';
import { LK_FLOCK, LockKind, RELEASE_FLOCK_UNLOCK, size } from './abi.js';
import { MalformedRequest, readU64 } from './decode.js';
import type { Frame } from './encode.js';

const TYPES: ReadonlyMap<number, FileLock['type']> = new Map([
  [LockKind.READ, 'read'],
  [LockKind.WRITE, 'write'],
  [LockKind.UNLOCK, 'unlock'],
]);

/** The kernel's 8 bytes, as they lie: only ever compared. */
function readOwner(body: Buffer, at: number): LockOwner {
  return asLockOwner(body.toString('hex', at, at + 8));
}

function need(body: Buffer, bytes: number, op: string): void {
  if (body.length < bytes) throw new MalformedRequest(op, `${body.length} bytes, ${bytes} needed`);
}

/** **Errors:** EOVERFLOW for a start above 2^53 - 1, EINVAL for a type or a range that is none. */
export function decodeLock(body: Buffer, op: string): { fh: number; lock: FileLock } {
  need(body, 48, op);
  const type = TYPES.get(body.readUInt32LE(32));
  if (type === undefined) throw new FsError('EINVAL', op, { detail: 'lock type' });
  const start = readU64(body, 16, 'EOVERFLOW', op);
  const end = body.readUInt32LE(28) > 0x1f_ffff ? LOCK_END : readU64(body, 24, 'EOVERFLOW', op);
  if (end < start) throw new FsError('EINVAL', op, { detail: 'end before start' });
  const space = (body.readUInt32LE(40) & LK_FLOCK) === 0 ? 'fcntl' : 'flock';
  const lock: FileLock = { space, owner: readOwner(body, 8), start, end, type, pid: body.readUInt32LE(36) };
  return { fh: readU64(body, 0, 'EIO', op), lock };
}

/** FLUSH: the handle, and who closed a descriptor of it. */
export function decodeFlush(body: Buffer): { fh: number; lockOwner: LockOwner } {
  need(body, 24, 'flush');
  return { fh: readU64(body, 0, 'EIO', 'flush'), lockOwner: readOwner(body, 16) };
}

/** RELEASE: the handle, and whose flock lock ends with it, if it ever had one. */
export function decodeRelease(body: Buffer): { fh: number; flockOwner: LockOwner | undefined } {
  need(body, 24, 'release');
  const unlocks = (body.readUInt32LE(12) & RELEASE_FLOCK_UNLOCK) !== 0;
  return { fh: readU64(body, 0, 'EIO', 'release'), flockOwner: unlocks ? readOwner(body, 16) : undefined };
}

/** fuse_lk_out: the lock in the way, or one of type F_UNLCK. */
export function encodeLock(lock: FileLock | undefined): Frame {
  const frame = Buffer.allocUnsafe(size.outHeader + size.lkOut).fill(0);
  const at = size.outHeader;
  if (lock === undefined) {
    frame.writeUInt32LE(LockKind.UNLOCK, at + 16);
    return frame;
  }
  frame.writeBigUInt64LE(BigInt(lock.start), at);
  frame.writeBigUInt64LE(lock.end >= LOCK_END ? 2n ** 63n - 1n : BigInt(lock.end), at + 8);
  frame.writeUInt32LE(lock.type === 'read' ? LockKind.READ : LockKind.WRITE, at + 16);
  frame.writeUInt32LE(lock.pid, at + 20);
  return frame;
}
