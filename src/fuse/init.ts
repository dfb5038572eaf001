/**
 * What is agreed upon with the kernel when a mount begins: version, features, sizes. Pure.
 *
 * Asked for, where the kernel offers it: see WANTED. Not asked for, on purpose: WRITEBACK_CACHE (the kernel
 * would own size and mtime).
 *
 * **Source:** fs/fuse/inode.c, process_init_reply(); native-notes/fuse-kernel.md.
 */
import { limits } from '../proto/limits.js';
import { FUSE_MAJOR, FUSE_MINOR, FUSE_OLDEST_MINOR, InitFlag, InitFlag2 } from './abi.js';
import type { InitRequest } from './decode.js';
import type { InitReply } from './encode.js';

const WANTED =
  InitFlag.ASYNC_READ |
  InitFlag.POSIX_LOCKS |
  InitFlag.FLOCK_LOCKS |
  InitFlag.ATOMIC_O_TRUNC |
  InitFlag.EXPORT_SUPPORT |
  InitFlag.BIG_WRITES |
  InitFlag.DONT_MASK |
  InitFlag.AUTO_INVAL_DATA |
  InitFlag.DO_READDIRPLUS |
  InitFlag.READDIRPLUS_AUTO |
  InitFlag.ASYNC_DIO |
  InitFlag.PARALLEL_DIROPS |
  InitFlag.POSIX_ACL |
  InitFlag.MAX_PAGES |
  InitFlag.HANDLE_KILLPRIV_V2 |
  InitFlag.SETXATTR_EXT |
  InitFlag.INIT_EXT;

const WANTED2 = InitFlag2.CREATE_SUPP_GROUP | InitFlag2.DIRECT_IO_ALLOW_MMAP;

/** Requests that the kernel may have under way for read-ahead and asynchronous I/O (its default is 12). */
const MAX_BACKGROUND = 64;

export interface Agreement {
  readonly reply: InitReply;
  /** SETXATTR has its flags (FUSE_SETXATTR_EXT). */
  readonly setxattrExtended: boolean;
  /** What is opened past the page cache may still be mapped, and does not leave stale pages (Linux 6.6). */
  readonly directIo: boolean;
}

/**
 * The answer to INIT. `retry`: the kernel speaks a newer major version and will ask again when told ours;
 * `tooOld`: it cannot be spoken with.
 */
export function negotiate(request: InitRequest): Agreement | 'retry' | 'tooOld' {
  if (request.major > FUSE_MAJOR) return 'retry';
  if (request.major < FUSE_MAJOR || request.minor < FUSE_OLDEST_MINOR) return 'tooOld';
  const flags = request.flags & WANTED;
  const flags2 = (flags & InitFlag.INIT_EXT) !== 0 ? request.flags2 & WANTED2 : 0;
  return {
    setxattrExtended: (flags & InitFlag.SETXATTR_EXT) !== 0,
    directIo: (flags2 & InitFlag2.DIRECT_IO_ALLOW_MMAP) !== 0,
    reply: {
      minor: Math.min(request.minor, FUSE_MINOR),
      maxReadahead: Math.max(request.maxReadahead, limits.fuseIoBytes),
      flags,
      flags2,
      maxBackground: MAX_BACKGROUND,
      maxWrite: limits.fuseIoBytes,
    },
  };
}
