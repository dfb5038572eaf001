/**
 * The inode-based operations that a FUSE driver asks for and vfs/ answers. It stands between them and belongs
 * to neither protocol: no byte of FUSE above it, no server below it. Drivers import this file alone.
 *
 * Vocabulary: `ino` is an inode number (the FUSE node id is the same number); `fh` is a handle given out by
 * open, create or opendir and valid until release or releasedir; names, targets, xattr names and values are
 * bytes. Every method may answer at once or with a promise, and fails with FsError; a driver turns any other
 * exception into EIO with a log line.
 *
 * Concurrency: operations arrive in any number and order; a driver does not hold one back for another
 * except that `forget` and `release` come after the operations that used the inode or handle.
 *
 * **Source:** include/uapi/linux/fuse.h; libfuse's fuse_lowlevel.h for the meaning of each call.
 */

import type { Timespec } from '../base/clock.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { Attr } from '../proto/attr.js';
import type { Ino, LockOwner } from '../proto/ids.js';

/** The calling process, and whether it still wants its answer. */
export interface Request {
  readonly uid: number;
  readonly gid: number;
  /** 0 when the caller is in another PID namespace, or unknown to the driver. */
  readonly pid: number;
  /** The caller received a signal; a waiting operation may answer EINTR. */
  readonly interrupted: boolean;
  /** Calls `listener` when the caller is interrupted (at once if it already was); returns the way to stop listening. */
  onInterrupt(listener: () => void): () => void;
}

/** An inode as the kernel may remember it. A timeout of 0: ask again each time. */
export interface Entry {
  readonly attr: Attr;
  /** How long the name may be taken to lead here. */
  readonly entryTimeoutMs: number;
  /** How long the attributes may be used without asking. */
  readonly attrTimeoutMs: number;
}

export interface AttrReply {
  readonly attr: Attr;
  readonly attrTimeoutMs: number;
}

export interface OpenReply {
  readonly fh: number;
  /** The kernel's pages of this file are still right: do not drop them. */
  readonly keepCache: boolean;
  /** Bypass the page cache for this handle, where that can be done without harm to mmap. */
  readonly directIo: boolean;
}

/** A directory entry with where to go on behind it (d_off). */
export interface ReaddirEntry {
  readonly name: Uint8Array;
  readonly ino: Ino;
  /** File type bits, S_IFMT. */
  readonly kind: number;
  readonly nextOffset: number;
  /** With readdirplus, except for `.` and `..`: what lookup would answer. */
  readonly entry?: Entry;
}

/** Takes entries until it returns false: that entry no longer fitted and was not taken. */
export type ReaddirSink = (entry: ReaddirEntry) => boolean;

export type TimeChange = Timespec | 'now';

/** The fields present are to be set. */
export interface AttrChange {
  mode?: number;
  uid?: number;
  gid?: number;
  size?: number;
  atime?: TimeChange;
  mtime?: TimeChange;
  ctime?: TimeChange;
  /** FATTR_KILL_SUIDGID: the kernel leaves it to us to clear setuid and setgid. */
  clearPrivileges?: boolean;
}

export interface StatfsReply {
  readonly blockSize: number;
  /** In blocks of blockSize. */
  readonly blocks: number;
  readonly freeBlocks: number;
  readonly availableBlocks: number;
  readonly inodes: number;
  readonly freeInodes: number;
  readonly nameMax: number;
}

/** What fallocate does with a range besides making the file long enough (unless `keepSize`). */
export interface FallocateMode {
  /** Make a hole of it (FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE). */
  readonly zero: boolean;
  readonly keepSize: boolean;
}

/** A place in an open file. */
export interface FilePlace {
  readonly ino: Ino;
  readonly fh: number;
  readonly offset: number;
}

export type RenameMode = 'replace' | 'noreplace' | 'exchange';
export type SetxattrMode = 'any' | 'create' | 'replace';

/** A lock as F_SETLK, F_GETLK and flock(2) speak of it. */
export interface FileLock {
  /** flock(2) and fcntl(2) locks do not know each other. */
  readonly space: 'fcntl' | 'flock';
  readonly owner: LockOwner;
  /** Bytes, both included; an end of 2^53 - 1 is the end of the file, whatever its size. */
  readonly start: number;
  readonly end: number;
  readonly type: 'read' | 'write' | 'unlock';
  /** Who asks, or who holds it; 0 when that is not on this machine. */
  readonly pid: number;
}

export interface Operations {
  lookup(req: Request, parent: Ino, name: Uint8Array): MaybePromise<Entry>;
  /**
   * Whether it is known that `lookup` would fail with ENOENT. Most of what is about to be made is looked up
   * first, and an error thrown through compiled code costs as much as making it.
   */
  lacksName(parent: Ino, name: Uint8Array): boolean;
  /** The kernel has let go of `count` of the references it got by lookup and the creating operations. */
  forget(ino: Ino, count: number): void;
  getattr(req: Request, ino: Ino, fh: number | undefined): MaybePromise<AttrReply>;
  setattr(req: Request, ino: Ino, fh: number | undefined, change: AttrChange): MaybePromise<AttrReply>;
  /** Asked only when the kernel does not check permissions itself. `mask`: R_OK 4, W_OK 2, X_OK 1. */
  access(req: Request, ino: Ino, mask: number): MaybePromise<void>;

  readlink(req: Request, ino: Ino): MaybePromise<Uint8Array>;
  /**
   * `mode` includes the file type. `umask` is what it loses where the directory has no default ACL; absent: the
   * driver's kernel has applied it.
   */
  mknod(
    req: Request,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    rdev: number,
    umask?: number,
  ): MaybePromise<Entry>;
  mkdir(req: Request, parent: Ino, name: Uint8Array, mode: number, umask?: number): MaybePromise<Entry>;
  symlink(req: Request, parent: Ino, name: Uint8Array, target: Uint8Array): MaybePromise<Entry>;
  link(req: Request, ino: Ino, newParent: Ino, newName: Uint8Array): MaybePromise<Entry>;
  unlink(req: Request, parent: Ino, name: Uint8Array): MaybePromise<void>;
  rmdir(req: Request, parent: Ino, name: Uint8Array): MaybePromise<void>;
  rename(
    req: Request,
    parent: Ino,
    name: Uint8Array,
    newParent: Ino,
    newName: Uint8Array,
    mode: RenameMode,
    /** Leave a character device 0:0 at the old name (RENAME_WHITEOUT); not with `exchange`. */
    whiteout?: boolean,
  ): MaybePromise<void>;

  /** `flags`: open(2)'s, Linux numbers; O_TRUNC is carried out here. */
  open(req: Request, ino: Ino, flags: number): MaybePromise<OpenReply>;
  /** Creates (O_CREAT, O_EXCL in `flags`) and opens in one step. `umask`: as in mknod. */
  create(
    req: Request,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    flags: number,
    umask?: number,
  ): MaybePromise<{ entry: Entry; open: OpenReply }>;
  /** O_TMPFILE: a new file without a name, which `link` may give one. */
  tmpfile(
    req: Request,
    parent: Ino,
    mode: number,
    flags: number,
    umask?: number,
  ): MaybePromise<{ entry: Entry; open: OpenReply }>;
  /** Fewer bytes than `length` only at the end of the file. Several buffers are one after the other. */
  read(
    req: Request,
    ino: Ino,
    fh: number,
    offset: number,
    length: number,
  ): MaybePromise<Uint8Array | Uint8Array[]>;
  /**
   * Takes all of `data`, what fits below limits.fileBytes (EFBIG: nothing does), or fails; does not keep `data`
   * beyond the call. `clearPrivileges`: as in AttrChange.
   * `append`: true, at the end of the file, whatever `offset`; false, at `offset`, whatever the handle; absent,
   * as the handle was opened.
   */
  write(
    req: Request,
    ino: Ino,
    fh: number,
    offset: number,
    data: Uint8Array,
    clearPrivileges: boolean,
    append?: boolean,
  ): MaybePromise<number>;
  /**
   * A descriptor was closed (others of the same handle may be open): report what failed to be written. The
   * fcntl locks of `lockOwner`, who closed it, on this file are gone afterwards.
   */
  flush(req: Request, ino: Ino, fh: number, lockOwner?: LockOwner): MaybePromise<void>;
  /** The handle's last descriptor is gone, and with it the flock lock of `flockOwner`. */
  release(ino: Ino, fh: number, flockOwner?: LockOwner): MaybePromise<void>;
  fsync(req: Request, ino: Ino, fh: number, dataOnly: boolean): MaybePromise<void>;
  fallocate(req: Request, file: FilePlace, length: number, mode: FallocateMode): MaybePromise<void>;
  /** The first offset at or behind the place that lies in a hole, or in data. ENXIO: there is none. */
  lseek(req: Request, from: FilePlace, what: 'data' | 'hole'): MaybePromise<number>;
  /** Copies within the filesystem; answers how many bytes, fewer than `length` at the end of the source. */
  copyFileRange(req: Request, from: FilePlace, to: FilePlace, length: number): MaybePromise<number>;

  /** A lock in the way of this one, undefined when there is none. */
  getlk(req: Request, ino: Ino, fh: number, lock: FileLock): MaybePromise<FileLock | undefined>;
  /** Sets or clears a lock; with `wait` for as long as it takes. Errors: EAGAIN, EDEADLK, EINTR, ENOLCK. */
  setlk(req: Request, ino: Ino, fh: number, lock: FileLock, wait: boolean): MaybePromise<void>;

  opendir(
    req: Request,
    ino: Ino,
    flags: number,
  ): MaybePromise<{ fh: number; cacheDir: boolean; keepCache: boolean }>;
  /** Entries behind `offset` (0: from the start; else some entry's nextOffset), `.` and `..` included. */
  readdir(
    req: Request,
    ino: Ino,
    fh: number,
    offset: number,
    plus: boolean,
    take: ReaddirSink,
  ): MaybePromise<void>;
  releasedir(ino: Ino, fh: number): MaybePromise<void>;
  fsyncdir(req: Request, ino: Ino, fh: number, dataOnly: boolean): MaybePromise<void>;

  statfs(req: Request, ino: Ino): MaybePromise<StatfsReply>;
  /** Everything written through this mount so far is durable when it returns. */
  syncfs(req: Request): MaybePromise<void>;

  getxattr(req: Request, ino: Ino, name: Uint8Array): MaybePromise<Uint8Array>;
  /** The same of getxattr and ENODATA: the kernel asks for the capabilities of every file that is written to. */
  lacksXattr(ino: Ino, name: Uint8Array): boolean;
  setxattr(
    req: Request,
    ino: Ino,
    name: Uint8Array,
    value: Uint8Array,
    mode: SetxattrMode,
    /** An access ACL set by somebody outside the file's group: the setgid bit goes. */
    clearSetgid?: boolean,
  ): MaybePromise<void>;
  listxattr(req: Request, ino: Ino): MaybePromise<Uint8Array[]>;
  removexattr(req: Request, ino: Ino, name: Uint8Array): MaybePromise<void>;
}

/**
 * What a driver offers the filesystem above it while mounted: the ways to make the kernel forget. A driver
 * without notifications (fuse-native) has no Notifier, and nothing may then be cached beyond a timeout of 0.
 * Every call is asynchronous and never made from the path that answers requests.
 */
export interface Notifier {
  /**
   * Drops attributes, and pages of [offset, offset + length) unless offset < 0 (length 0: to the end). Whether the
   * kernel had the inode: one of a reply that it has not taken yet it does not have.
   */
  invalidateInode(ino: Ino, offset: number, length: number): Promise<boolean>;
  invalidateEntry(parent: Ino, name: Uint8Array): Promise<void>;
  /**
   * As invalidateEntry, for the last name of `child`, which is gone: programs that watch it hear of that. May wait
   * for requests of this mount; may be left out when there are many. **Errors:** the kernel cannot drop the name.
   */
  deleteEntry(parent: Ino, child: Ino, name: Uint8Array): Promise<void>;
  /** Every name is looked up again. **Errors:** ENOSYS: this kernel cannot (`hasEpoch`). */
  incrementEpoch(): Promise<void>;
  readonly hasEpoch: boolean;
}

/** Which limits and features a driver settled with its kernel. */
export interface MountedDriver {
  /** Resolves when the filesystem has been unmounted, by whomever; rejects when the device failed. */
  readonly ended: Promise<void>;
  readonly notifier: Notifier | undefined;
  /** Takes the mount out of the tree (lazily when busy and `force`). Errors: EBUSY. */
  unmount(options: { force: boolean }): Promise<void>;
}

/** How a filesystem is to be mounted; the same for every driver. */
export interface MountOptions {
  readonly mountpoint: string;
  /** What `mount` and `df` show as the source. */
  readonly source: string;
  readonly allowOther: boolean;
  readonly defaultPermissions: boolean;
  readonly readOnly: boolean;
  /** Options for the kernel that need no translation: noexec, nosuid, nodev, noatime, ... */
  readonly kernelOptions: readonly string[];
  readonly debug: boolean;
}

/** Starts serving `operations` at a mountpoint; resolves when the kernel can use it. */
export type MountDriver = (operations: Operations, options: MountOptions) => Promise<MountedDriver>;
