/**
 * The numbers of the FUSE kernel protocol, version 7.45: opcodes, flags, sizes of structures. Nothing here
 * computes; decode.ts and encode.ts know where each field lies. Integers are in the byte order of the
 * machine, which every platform that Node 20 and this driver run on has as little-endian (asserted below).
 *
 * **Source:** include/uapi/linux/fuse.h; native-notes/fuse-kernel.md for what was tried.
 */
import { endianness } from 'node:os';
import { assert } from '../base/assert.js';
import { limits } from '../proto/limits.js';

assert(endianness() === 'LE', 'the FUSE driver speaks little-endian');

export const FUSE_MAJOR = 7;
/** The newest minor version whose structures this driver knows. */
export const FUSE_MINOR = 45;
/** Older kernels (before Linux 4.20) lack FUSE_MAX_PAGES and the structures that this driver takes as given. */
export const FUSE_OLDEST_MINOR = 28;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

const OPCODE_NAMES = new Map<number, string>(
  Object.entries(Opcode).map(([name, opcode]) => [opcode, name.toLowerCase()]),
);

/** `lookup` for 1 and so on; `opcode 99` for one that is not known. */
export function opcodeName(opcode: number): string {
  return OPCODE_NAMES.get(opcode) ?? `opcode ${opcode}`;
}

/** INIT flags, bits 0..31. */
export const InitFlag = {
  ASYNC_READ: 1 << 0,
  POSIX_LOCKS: 1 << 1,
  ATOMIC_O_TRUNC: 1 << 3,
  EXPORT_SUPPORT: 1 << 4,
  BIG_WRITES: 1 << 5,
  FLOCK_LOCKS: 1 << 10,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  DONT_MASK: 1 << 6,
  ASYNC_DIO: 1 << 15,
  PARALLEL_DIROPS: 1 << 18,
  POSIX_ACL: 1 << 20,
  MAX_PAGES: 1 << 22,
  HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const;

/** INIT flags, bits 32..63, as they stand in flags2. */
export const InitFlag2 = {
  CREATE_SUPP_GROUP: 1 << 2,
  DIRECT_IO_ALLOW_MMAP: 1 << 4,
} as const;

/** fuse_setattr_in.valid. */
export const Fattr = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;

/** fuse_open_out.open_flags. */
export const Fopen = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  CACHE_DIR: 1 << 3,
} as const;

/** open(2)'s, in fuse_write_in.flags. */
export const O_APPEND = 0o2000;
/** In O_SYNC as well. */
export const O_DSYNC = 0o10_000;

export const GETATTR_FH = 1 << 0;
export const WRITE_CACHE = 1 << 0;
export const WRITE_KILL_SUIDGID = 1 << 2;
export const OPEN_KILL_SUIDGID = 1 << 0;
export const FSYNC_FDATASYNC = 1 << 0;
export const RELEASE_FLOCK_UNLOCK = 1 << 1;
export const LK_FLOCK = 1 << 0;

/** fuse_file_lock.type, as fcntl(2) has it. */
export const LockKind = { READ: 0, WRITE: 1, UNLOCK: 2 } as const;

/** renameat2(2)'s flags. */
export const RENAME_NOREPLACE = 1 << 0;
export const RENAME_EXCHANGE = 1 << 1;
export const RENAME_WHITEOUT = 1 << 2;

/** fallocate(2)'s mode; the kernel lets no other bit through (fuse_file_fallocate, fs/fuse/file.c). */
export const FALLOC_FL_KEEP_SIZE = 1 << 0;
export const FALLOC_FL_PUNCH_HOLE = 1 << 1;
export const FALLOC_FL_ZERO_RANGE = 1 << 4;

/** lseek(2)'s whence, as far as the kernel asks. */
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

/** setxattr(2)'s flags. */
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

/** fuse_setxattr_in.setxattr_flags. */
export const SETXATTR_ACL_KILL_SGID = 1 << 0;

export const NotifyCode = {
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  DELETE: 6,
  INC_EPOCH: 8,
} as const;

/** fuse_ext_header.type of the caller's supplementary group that matches the parent directory's. */
export const EXT_GROUPS = 32;

/** Sizes in bytes. */
export const size = {
  inHeader: 40,
  outHeader: 16,
  attr: 88,
  entryOut: 128,
  attrOut: 104,
  openOut: 16,
  writeOut: 8,
  lseekOut: 8,
  copyFileRangeOut: 8,
  statfsOut: 80,
  getxattrOut: 8,
  initOut: 64,
  statxOut: 288,
  lkOut: 24,
  dirent: 24,
} as const;

/** What a read of the device must have room for: the largest WRITE and its two headers, rounded to a page. */
export const REQUEST_BYTES = limits.fuseIoBytes + 4096;
export const PAGE_BYTES = 4096;

/** st_blksize: what programs' buffered I/O is sized by. */
export const BLOCK_BYTES = 65_536;
