/**
 * An inode's attributes as every program shares them, and the mode bits they are made of.
 * **Source:** inode(7), stat(2).
 */
import { type Static, Type } from '@sinclair/typebox';
import { compareTimespec } from '../base/clock.js';
import { tCount, tIno, tTimespec, tU32 } from './schema.js';

export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;

export const isDir = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR;
export const isRegular = (mode: number): boolean => (mode & S_IFMT) === S_IFREG;
export const isSymlink = (mode: number): boolean => (mode & S_IFMT) === S_IFLNK;

export const tAttr = Type.Object({
  ino: tIno,
  /** File type (S_IFMT) and permission bits. */
  mode: tU32,
  nlink: tU32,
  uid: tU32,
  gid: tU32,
  /** Linux's encoding of a device number, as the kernel sends it in mknod; 0 otherwise. */
  rdev: tU32,
  /** Bytes. A symlink's is its target's length. */
  size: tCount,
  /** Bytes that extents hold; st_blocks is this over 512, rounded up. */
  allocated: tCount,
  atime: tTimespec,
  mtime: tTimespec,
  ctime: tTimespec,
  /** Creation ("birth") time. */
  crtime: tTimespec,
  /** Rises with every change of the inode, its extents or its xattrs. */
  version: tCount,
  /** In a reply to a mount: the epoch of its lease on this inode; absent: it has none. */
  lease: Type.Optional(tCount),
  /** That lease is exclusive, and the inode is new: it has no entries, extents or xattrs but what the reply says. */
  exclusive: Type.Optional(Type.Boolean()),
});

export type Attr = Static<typeof tAttr>;

/**
 * Whether two attributes of an inode are of one state of it: a version that is given anew, because what a mount
 * had made of the inode was never carried out, has another time of change.
 */
export const isSameVersion = (
  a: Pick<Attr, 'version' | 'ctime'>,
  b: Pick<Attr, 'version' | 'ctime'>,
): boolean => a.version === b.version && compareTimespec(a.ctime, b.ctime) === 0;
