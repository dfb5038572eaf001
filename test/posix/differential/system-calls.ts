/**
 * System calls as the differential fuzzer makes them: straight from the C library, with any arguments at all,
 * and with the errno as a negative result instead of an exception. Paths are latin1 strings, so that every
 * byte can be in a name; relative ones are looked up from the process's working directory.
 */
import { constants } from 'node:os';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');

/** A native function whose failures are -1 and errno; ours are -errno. */
function sys(definition: string): (...args: unknown[]) => number {
  const native: (...args: unknown[]) => unknown = libc.func(definition);
  return (...args) => {
    const result = native(...args);
    if (typeof result !== 'number') throw new TypeError(`${definition} gave ${typeof result}`);
    return result === -1 ? -koffi.errno() : result;
  };
}

/** A C string. */
export const z = (path: string): Buffer => Buffer.from(`${path}\0`, 'latin1');

/** All of them give 0 or a count, or -errno. */
export const calls = {
  open: sys('int open(const void *, int, unsigned int)'),
  close: sys('int close(int)'),
  chdir: sys('int chdir(const void *)'),
  fchdir: sys('int fchdir(int)'),
  read: sys('int64_t read(int, void *, size_t)'),
  pread: sys('int64_t pread(int, void *, size_t, int64_t)'),
  write: sys('int64_t write(int, const void *, size_t)'),
  pwrite: sys('int64_t pwrite(int, const void *, size_t, int64_t)'),
  lseek: sys('int64_t lseek(int, int64_t, int)'),
  truncate: sys('int truncate(const void *, int64_t)'),
  ftruncate: sys('int ftruncate(int, int64_t)'),
  fallocate: sys('int fallocate(int, int, int64_t, int64_t)'),
  copyFileRange: sys('int64_t copy_file_range(int, void *, int, void *, size_t, unsigned int)'),
  fsync: sys('int fsync(int)'),
  fdatasync: sys('int fdatasync(int)'),
  mkdir: sys('int mkdir(const void *, unsigned int)'),
  rmdir: sys('int rmdir(const void *)'),
  unlink: sys('int unlink(const void *)'),
  rename: sys('int rename(const void *, const void *)'),
  renameat2: sys('int renameat2(int, const void *, int, const void *, unsigned int)'),
  linkat: sys('int linkat(int, const void *, int, const void *, int)'),
  symlink: sys('int symlink(const void *, const void *)'),
  readlink: sys('int64_t readlink(const void *, void *, size_t)'),
  chmod: sys('int chmod(const void *, unsigned int)'),
  fchmod: sys('int fchmod(int, unsigned int)'),
  chown: sys('int chown(const void *, unsigned int, unsigned int)'),
  lchown: sys('int lchown(const void *, unsigned int, unsigned int)'),
  fchown: sys('int fchown(int, unsigned int, unsigned int)'),
  utimensat: sys('int utimensat(int, const void *, const void *, int)'),
  statx: sys('int statx(int, const void *, int, unsigned int, void *)'),
  getdents: sys('int64_t getdents64(int, void *, size_t)'),
  mknod: sys('int mknod(const void *, unsigned int, uint64_t)'),
  access: sys('int access(const void *, int)'),
  setxattr: sys('int setxattr(const void *, const void *, const void *, size_t, int)'),
  lsetxattr: sys('int lsetxattr(const void *, const void *, const void *, size_t, int)'),
  fsetxattr: sys('int fsetxattr(int, const void *, const void *, size_t, int)'),
  getxattr: sys('int64_t getxattr(const void *, const void *, void *, size_t)'),
  lgetxattr: sys('int64_t lgetxattr(const void *, const void *, void *, size_t)'),
  listxattr: sys('int64_t listxattr(const void *, void *, size_t)'),
  llistxattr: sys('int64_t llistxattr(const void *, void *, size_t)'),
  removexattr: sys('int removexattr(const void *, const void *)'),
} as const;

const getcwd: (...args: unknown[]) => unknown = libc.func('void *getcwd(void *, size_t)');
const PATH_MAX = 4096;

/** The process's working directory, asked of the kernel; undefined when that has been removed. */
export function workingDirectory(): string | undefined {
  const room = Buffer.alloc(PATH_MAX);
  if (getcwd(room, PATH_MAX) === null) return undefined;
  return room.toString('latin1', 0, room.indexOf(0));
}

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_EMPTY_PATH = 0x1000;

const errnoNames = new Map(
  Object.entries(constants.errno)
    // Linux has two names for 95 and for 11; the kernel's are used.
    .filter(([name]) => name !== 'ENOTSUP' && name !== 'EWOULDBLOCK')
    .map(([name, value]) => [value, name]),
);

/** A result for people: `ENOENT`, or the number. */
export function nameResult(result: number): string {
  return result < 0 ? (errnoNames.get(-result) ?? `errno ${-result}`) : String(result);
}

/** What statx(2) says, without what two filesystems cannot agree on. */
export interface Stat {
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly ino: bigint;
  readonly size: bigint;
  readonly rdev: string;
  /** Nanoseconds since 1970. */
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

const STATX_BASIC_STATS = 0x7ff;
/** Offsets in struct statx (include/uapi/linux/stat.h), which is the same on every architecture. */
const STATX_BYTES = 256;
const statBuffer = Buffer.alloc(STATX_BYTES);
const timeAt = (offset: number): bigint =>
  statBuffer.readBigInt64LE(offset) * 1_000_000_000n + BigInt(statBuffer.readUInt32LE(offset + 8));

/** A path (`''` with AT_EMPTY_PATH: the descriptor itself). Gives the errno's name when it cannot. */
export function stat(fd: number, path: string, flags: number): Stat | string {
  const result = calls.statx(fd, z(path), flags, STATX_BASIC_STATS, statBuffer);
  if (result < 0) return nameResult(result);
  return {
    mode: statBuffer.readUInt16LE(28),
    nlink: statBuffer.readUInt32LE(16),
    uid: statBuffer.readUInt32LE(20),
    gid: statBuffer.readUInt32LE(24),
    ino: statBuffer.readBigUInt64LE(32),
    size: statBuffer.readBigUInt64LE(40),
    rdev: `${statBuffer.readUInt32LE(128)}:${statBuffer.readUInt32LE(132)}`,
    atimeNs: timeAt(64),
    ctimeNs: timeAt(96),
    mtimeNs: timeAt(112),
  };
}

export const S_IFMT = 0o170_000;
export const S_IFDIR = 0o040_000;
export const S_IFREG = 0o100_000;
export const S_IFLNK = 0o120_000;
export const S_IFIFO = 0o010_000;
export const isDirectory = ({ mode }: Stat): boolean => (mode & S_IFMT) === S_IFDIR;

const DAY_NS = 86_400_000_000_000n;

/** A time that a program has set, exactly (none of those is near the present); any other is `now`. */
export function nameTime(timeNs: bigint): string {
  const distanceNs = timeNs - BigInt(Date.now()) * 1_000_000n;
  return distanceNs > -DAY_NS && distanceNs < DAY_NS ? 'now' : String(timeNs);
}

/** What two filesystems must agree on. A directory's size is its filesystem's own affair. */
export function nameStat(stat: Stat | string): string {
  if (typeof stat === 'string') return stat;
  const size = isDirectory(stat) ? '' : ` size ${stat.size}`;
  const { mode, nlink, uid, gid, rdev } = stat;
  const device = rdev === '0:0' ? '' : ` rdev ${rdev}`;
  return `mode ${mode.toString(8)} nlink ${nlink} owner ${uid}:${gid}${size}${device} mtime ${nameTime(stat.mtimeNs)}`;
}

const direntBuffer = Buffer.alloc(65_536);
/** Offsets in struct linux_dirent64. */
const D_RECLEN = 16;
const D_TYPE = 18;
const D_NAME = 19;

/** The rest of an open directory, `.` and `..` too: names (latin1) to types. Or the errno's name. */
export function readDirectory(fd: number): Map<string, number> | string {
  const entries = new Map<string, number>();
  for (;;) {
    const length = calls.getdents(fd, direntBuffer, direntBuffer.length);
    if (length < 0) return nameResult(length);
    if (length === 0) return entries;
    for (let at = 0; at < length; at += direntBuffer.readUInt16LE(at + D_RECLEN)) {
      const end = direntBuffer.indexOf(0, at + D_NAME);
      const name = direntBuffer.toString('latin1', at + D_NAME, end);
      // A name that comes twice is a difference, and must not vanish in the map.
      entries.set(entries.has(name) ? `${name} (again)` : name, direntBuffer.readUInt8(at + D_TYPE));
    }
  }
}
