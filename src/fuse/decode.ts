/**
 * Requests of the FUSE kernel protocol: from bytes to plain values. Each decoder is given a body (the frame
 * behind its header, extensions cut off) and checks every length before it reads.
 *
 * Invariants: a decoder never reads outside its body and never throws anything but FsError; a body that does
 * not have its structure's shape gives MalformedRequest (EIO). Names, targets and xattr values are copied
 * out, because the frame's memory is used again; WRITE's data alone is a view.
 *
 * It does not: judge what the values mean (names/ does), or know any reply.
 *
 * **Source:** include/uapi/linux/fuse.h; fs/fuse/{dir,file,xattr,dev}.c for which body each opcode has.
 */
import type { Timespec } from '../base/clock.js';
import { type ErrnoName, FsError } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import type { AttrChange } from '../vfs/operations.js';
import { EXT_GROUPS, Fattr, size } from './abi.js';

/** A request whose bytes do not have the shape of its opcode; the caller gets EIO. */
export class MalformedRequest extends FsError {
  override name = 'MalformedRequest';

  constructor(op: string, detail: string) {
    super('EIO', op, { detail });
  }
}

const TWO_32 = 2 ** 32;
/** The upper half of 2^53 - 1. */
const MAX_HIGH = 0x1f_ffff;

/**
 * Unsigned 64-bit number at `at`. **Errors:** `tooLarge` above 2^53 - 1, which no identifier or offset of
 * this filesystem reaches (RLIM_INFINITY and the like do).
 */
export function readU64(body: Buffer, at: number, tooLarge: ErrnoName, op: string): number {
  const high = body.readUInt32LE(at + 4);
  if (high > MAX_HIGH) throw new FsError(tooLarge, op, { detail: 'number above 2^53 - 1' });
  return high * TWO_32 + body.readUInt32LE(at);
}

/** Signed 64-bit seconds. **Errors:** EOVERFLOW beyond ±2^53. */
function readSeconds(body: Buffer, at: number, op: string): number {
  const seconds = body.readInt32LE(at + 4) * TWO_32 + body.readUInt32LE(at);
  if (!Number.isSafeInteger(seconds)) throw new FsError('EOVERFLOW', op, { detail: 'time out of range' });
  return seconds;
}

/** An unsigned 64-bit number exactly, for comparing only. */
function readKey(frame: Buffer, at: number): number | bigint {
  const high = frame.readUInt32LE(at + 4);
  return high > MAX_HIGH ? frame.readBigUInt64LE(at) : high * TWO_32 + frame.readUInt32LE(at);
}

/** **Errors:** MalformedRequest (EIO) when a body has fewer than `bytes`. */
export function need(body: Buffer, bytes: number, op: string): void {
  if (body.length < bytes) throw new MalformedRequest(op, `${body.length} bytes, ${bytes} needed`);
}

function copy(body: Buffer, from: number, to: number): Buffer {
  return Buffer.from(body.subarray(from, to));
}

/** fuse_in_header. */
export interface Header {
  readonly opcode: number;
  /** The request's number exactly; `uniqueLow` and `uniqueHigh` are its halves, to be sent back. */
  readonly unique: number | bigint;
  readonly uniqueLow: number;
  readonly uniqueHigh: number;
  /** Not yet checked to be an inode number; 0 where the opcode has none. Infinity: above 2^53 - 1. */
  readonly nodeid: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** Bytes of extensions at the end of the frame. */
  readonly extensionBytes: number;
}

/** The header of a frame, or undefined when not even that can be relied upon: the device is then of no use. */
export function decodeHeader(frame: Buffer): Header | undefined {
  if (frame.length < size.inHeader || frame.readUInt32LE(0) !== frame.length) return undefined;
  const extensionBytes = frame.readUInt16LE(36) * 8;
  if (size.inHeader + extensionBytes > frame.length) return undefined;
  const nodeHigh = frame.readUInt32LE(20);
  return {
    opcode: frame.readUInt32LE(4),
    unique: readKey(frame, 8),
    uniqueLow: frame.readUInt32LE(8),
    uniqueHigh: frame.readUInt32LE(12),
    nodeid: nodeHigh > 0x1f_ffff ? Number.POSITIVE_INFINITY : nodeHigh * TWO_32 + frame.readUInt32LE(16),
    uid: frame.readUInt32LE(24),
    gid: frame.readUInt32LE(28),
    pid: frame.readUInt32LE(32),
    extensionBytes,
  };
}

/** The part of a frame between its header and its extensions. */
export function bodyOf(frame: Buffer, header: Header): Buffer {
  return frame.subarray(size.inHeader, frame.length - header.extensionBytes);
}

/**
 * The caller's supplementary group that equals the parent directory's group, if the kernel sent one
 * (FUSE_CREATE_SUPP_GROUP). Extensions of other types are passed over.
 */
export function decodeSupplementaryGroup(frame: Buffer, header: Header, op: string): number | undefined {
  let at = frame.length - header.extensionBytes;
  while (at < frame.length) {
    if (frame.length - at < 8) throw new MalformedRequest(op, 'truncated extension header');
    const bytes = frame.readUInt32LE(at);
    if (bytes < 8 || bytes > frame.length - at) throw new MalformedRequest(op, 'extension size');
    if (frame.readUInt32LE(at + 4) === EXT_GROUPS && bytes >= 16 && frame.readUInt32LE(at + 8) >= 1) {
      return frame.readUInt32LE(at + 12);
    }
    at += Math.ceil(bytes / 8) * 8;
  }
  return undefined;
}

/** A NUL-terminated string of bytes and where the next one starts. */
function readString(body: Buffer, from: number, op: string): { text: Buffer; next: number } {
  const end = body.indexOf(0, from);
  if (end < 0) throw new MalformedRequest(op, 'string without its NUL');
  if (end === from) throw new MalformedRequest(op, 'empty string');
  return { text: copy(body, from, end), next: end + 1 };
}

const SLASH = 0x2f;

function readName(body: Buffer, from: number, op: string): { text: Buffer; next: number } {
  const name = readString(body, from, op);
  if (name.text.length > limits.nameBytes) throw new FsError('ENAMETOOLONG', op);
  if (name.text.includes(SLASH)) throw new MalformedRequest(op, 'name with a slash');
  return name;
}

/** LOOKUP, UNLINK, RMDIR: one name. **Errors:** ENAMETOOLONG above 255 bytes. */
export function decodeName(body: Buffer, op: string): Buffer {
  return readName(body, 0, op).text;
}

export function decodeForget(body: Buffer): number {
  need(body, 8, 'forget');
  return readU64(body, 0, 'EIO', 'forget');
}

/** Node ids and counts of BATCH_FORGET. */
export function decodeBatchForget(body: Buffer): { nodeid: number; count: number }[] {
  need(body, 8, 'batch_forget');
  const count = body.readUInt32LE(0);
  need(body, 8 + count * 16, 'batch_forget');
  const list: { nodeid: number; count: number }[] = [];
  for (let index = 0; index < count; index++) {
    const at = 8 + index * 16;
    list.push({
      nodeid: readU64(body, at, 'EIO', 'batch_forget'),
      count: readU64(body, at + 8, 'EIO', 'batch_forget'),
    });
  }
  return list;
}

export function decodeGetattr(body: Buffer): { flags: number; fh: number } {
  need(body, 16, 'getattr');
  return { flags: body.readUInt32LE(0), fh: readU64(body, 8, 'EIO', 'getattr') };
}

/** STATX; the flags and mask that statx(2) was called with are hints that this filesystem has no use for. */
export function decodeStatx(body: Buffer): { flags: number; fh: number } {
  need(body, 24, 'statx');
  return { flags: body.readUInt32LE(0), fh: readU64(body, 8, 'EIO', 'statx') };
}

function readTime(body: Buffer, secAt: number, nsecAt: number): Timespec {
  const nsec = body.readUInt32LE(nsecAt);
  if (nsec > 999_999_999) throw new FsError('EINVAL', 'setattr', { detail: 'nanoseconds' });
  return { sec: readSeconds(body, secAt, 'setattr'), nsec };
}

/** **Errors:** EFBIG for a size above 2^53 - 1, EINVAL for nanoseconds out of range. */
export function decodeSetattr(body: Buffer): { fh: number | undefined; change: AttrChange } {
  need(body, 88, 'setattr');
  const valid = body.readUInt32LE(0);
  const change: AttrChange = {};
  if (valid & Fattr.MODE) change.mode = body.readUInt32LE(68);
  if (valid & Fattr.UID) change.uid = body.readUInt32LE(76);
  if (valid & Fattr.GID) change.gid = body.readUInt32LE(80);
  if (valid & Fattr.SIZE) change.size = readU64(body, 16, 'EFBIG', 'setattr');
  if (valid & Fattr.ATIME_NOW) change.atime = 'now';
  else if (valid & Fattr.ATIME) change.atime = readTime(body, 32, 56);
  if (valid & Fattr.MTIME_NOW) change.mtime = 'now';
  else if (valid & Fattr.MTIME) change.mtime = readTime(body, 40, 60);
  if (valid & Fattr.CTIME) change.ctime = readTime(body, 48, 64);
  if (valid & Fattr.KILL_SUIDGID) change.clearPrivileges = true;
  const fh = valid & Fattr.FH ? readU64(body, 8, 'EIO', 'setattr') : undefined;
  return { fh, change };
}

/** SYMLINK: the new name, then the target. **Errors:** ENAMETOOLONG for either. */
export function decodeSymlink(body: Buffer): { name: Buffer; target: Buffer } {
  const name = readName(body, 0, 'symlink');
  const target = readString(body, name.next, 'symlink').text;
  if (target.length >= limits.pathBytes) throw new FsError('ENAMETOOLONG', 'symlink');
  return { name: name.text, target };
}

/** The low bits of umask(2), which is all there are. */
export const readUmask = (body: Buffer, at: number): number => body.readUInt32LE(at) & 0o777;

export function decodeMknod(body: Buffer): { mode: number; rdev: number; umask: number; name: Buffer } {
  need(body, 16, 'mknod');
  return {
    mode: body.readUInt32LE(0),
    rdev: body.readUInt32LE(4),
    umask: readUmask(body, 8),
    name: readName(body, 16, 'mknod').text,
  };
}

export function decodeMkdir(body: Buffer): { mode: number; umask: number; name: Buffer } {
  need(body, 8, 'mkdir');
  return { mode: body.readUInt32LE(0), umask: readUmask(body, 4), name: readName(body, 8, 'mkdir').text };
}

export interface RenameRequest {
  readonly newParent: number;
  readonly flags: number;
  readonly name: Buffer;
  readonly newName: Buffer;
}

/** RENAME (8 bytes before the names, no flags) and RENAME2 (16). */
export function decodeRename(body: Buffer, hasFlags: boolean): RenameRequest {
  const namesAt = hasFlags ? 16 : 8;
  need(body, namesAt, 'rename');
  const name = readName(body, namesAt, 'rename');
  return {
    newParent: readU64(body, 0, 'EIO', 'rename'),
    flags: hasFlags ? body.readUInt32LE(8) : 0,
    name: name.text,
    newName: readName(body, name.next, 'rename').text,
  };
}

export function decodeLink(body: Buffer): { ino: number; name: Buffer } {
  need(body, 8, 'link');
  return { ino: readU64(body, 0, 'EIO', 'link'), name: readName(body, 8, 'link').text };
}

/** OPEN and OPENDIR. */
export function decodeOpen(body: Buffer): { flags: number; openFlags: number } {
  need(body, 8, 'open');
  return { flags: body.readUInt32LE(0), openFlags: body.readUInt32LE(4) };
}

export function decodeCreate(body: Buffer): {
  flags: number;
  mode: number;
  umask: number;
  openFlags: number;
  name: Buffer;
} {
  need(body, 16, 'create');
  return {
    flags: body.readUInt32LE(0),
    mode: body.readUInt32LE(4),
    umask: readUmask(body, 8),
    openFlags: body.readUInt32LE(12),
    name: readName(body, 16, 'create').text,
  };
}

/**
 * READ, READDIR, READDIRPLUS. `length` is held to what one reply may carry. **Errors:** EINVAL for a position in
 * a directory above 2^53 - 1; one in a file is behind its end.
 */
export function decodeRead(body: Buffer, op: string): { fh: number; offset: number; length: number } {
  need(body, 40, op);
  const isBehindAll = op === 'read' && body.readUInt32LE(12) > MAX_HIGH;
  return {
    fh: readU64(body, 0, 'EIO', op),
    offset: isBehindAll ? limits.fileBytes : readU64(body, 8, 'EINVAL', op),
    length: Math.min(body.readUInt32LE(16), limits.fuseIoBytes),
  };
}

/**
 * `data` is a view of the frame; it may end above 2^53 - 1. `flags` are the request's, `openFlags` those of the
 * open file now (fcntl(2) changes them). **Errors:** EFBIG for an offset above 2^53 - 1.
 */
export function decodeWrite(body: Buffer): {
  fh: number;
  offset: number;
  flags: number;
  openFlags: number;
  data: Buffer;
} {
  need(body, 40, 'write');
  const length = body.readUInt32LE(16);
  if (body.length - 40 !== length)
    throw new MalformedRequest('write', `${body.length - 40} of ${length} bytes`);
  return {
    fh: readU64(body, 0, 'EIO', 'write'),
    offset: readU64(body, 8, 'EFBIG', 'write'),
    flags: body.readUInt32LE(20),
    openFlags: body.readUInt32LE(32),
    data: body.subarray(40),
  };
}

/** RELEASE, RELEASEDIR, FLUSH: the handle. */
export function decodeHandle(body: Buffer, op: string): number {
  need(body, 24, op);
  return readU64(body, 0, 'EIO', op);
}

/** FSYNC and FSYNCDIR. */
export function decodeFsync(body: Buffer, op: string): { fh: number; flags: number } {
  need(body, 16, op);
  return { fh: readU64(body, 0, 'EIO', op), flags: body.readUInt32LE(8) };
}

export function decodeAccess(body: Buffer): number {
  need(body, 8, 'access');
  return body.readUInt32LE(0);
}

function readXattrName(body: Buffer, from: number, op: string): { text: Buffer; next: number } {
  const name = readString(body, from, op);
  if (name.text.length > limits.xattrNameBytes) throw new FsError('ERANGE', op);
  return name;
}

/**
 * SETXATTR: structure (16 bytes with FUSE_SETXATTR_EXT, else 8), name, value. **Errors:** E2BIG for a value
 * above 64 KiB, ERANGE for a name above 255 bytes.
 */
export function decodeSetxattr(
  body: Buffer,
  extended: boolean,
): { name: Buffer; value: Buffer; flags: number; setxattrFlags: number } {
  const nameAt = extended ? 16 : 8;
  need(body, nameAt, 'setxattr');
  const length = body.readUInt32LE(0);
  const name = readXattrName(body, nameAt, 'setxattr');
  if (body.length - name.next !== length) throw new MalformedRequest('setxattr', 'value length');
  if (length > limits.xattrValueBytes) throw new FsError('E2BIG', 'setxattr');
  return {
    name: name.text,
    value: copy(body, name.next, body.length),
    flags: body.readUInt32LE(4),
    setxattrFlags: extended ? body.readUInt32LE(8) : 0,
  };
}

/** GETXATTR: how much the caller has room for (0: wants the size) and the name. */
export function decodeGetxattr(body: Buffer): { room: number; name: Buffer } {
  need(body, 8, 'getxattr');
  return { room: body.readUInt32LE(0), name: readXattrName(body, 8, 'getxattr').text };
}

export function decodeListxattr(body: Buffer): number {
  need(body, 8, 'listxattr');
  return body.readUInt32LE(0);
}

export function decodeRemovexattr(body: Buffer): Buffer {
  return readXattrName(body, 0, 'removexattr').text;
}

/** The number of the request that is to be interrupted. */
export function decodeInterrupt(body: Buffer): number | bigint {
  need(body, 8, 'interrupt');
  return readKey(body, 0);
}

export interface InitRequest {
  readonly major: number;
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  /** 0 unless flags has INIT_EXT. */
  readonly flags2: number;
}

/** INIT of any version: 8 bytes at least, 16 since 7.6, 64 with INIT_EXT. */
export function decodeInit(body: Buffer): InitRequest {
  need(body, 8, 'init');
  return {
    major: body.readUInt32LE(0),
    minor: body.readUInt32LE(4),
    maxReadahead: body.length >= 16 ? body.readUInt32LE(8) : 0,
    flags: body.length >= 16 ? body.readUInt32LE(12) : 0,
    flags2: body.length >= 20 ? body.readUInt32LE(16) : 0,
  };
}
