/**
 * System calls that node:fs does not have, straight from the C library, as the table's checks need them.
 * Paths are strings or bytes; failures throw LibcError with the errno's name as `code`.
 */
import { constants } from 'node:os';
import koffi from 'koffi';

export type Path = string | Uint8Array;

export class LibcError extends Error {
  override name = 'LibcError';
  readonly code: string;
  constructor(call: string, errno: number) {
    const names = Object.entries(constants.errno).filter(([, value]) => value === errno);
    // Linux has two names for 95; the kernel's is used.
    const code = names.map(([name]) => name).find((name) => name !== 'ENOTSUP') ?? `errno ${errno}`;
    super(`${call}: ${code}`);
    this.code = code;
  }
}

type Native = (...args: unknown[]) => unknown;

const libc = koffi.load('libc.so.6');
const native = (definition: string): Native => libc.func(definition);

const calls = {
  renameat2: native('int renameat2(int, const void *, int, const void *, unsigned int)'),
  mkfifo: native('int mkfifo(const void *, unsigned int)'),
  mknod: native('int mknod(const void *, unsigned int, uint64_t)'),
  truncate: native('int truncate(const void *, int64_t)'),
  symlink: native('int symlink(const void *, const void *)'),
  fallocate: native('int fallocate(int, int, int64_t, int64_t)'),
  pwrite: native('int64_t pwrite(int, const void *, size_t, int64_t)'),
  lseek: native('int64_t lseek(int, int64_t, int)'),
  copy_file_range: native('int64_t copy_file_range(int, void *, int, void *, size_t, unsigned int)'),
  linkat: native('int linkat(int, const void *, int, const void *, int)'),
  utimensat: native('int utimensat(int, const void *, const void *, int)'),
  setxattr: native('int setxattr(const void *, const void *, const void *, size_t, int)'),
  lsetxattr: native('int lsetxattr(const void *, const void *, const void *, size_t, int)'),
  getxattr: native('int64_t getxattr(const void *, const void *, void *, size_t)'),
  listxattr: native('int64_t listxattr(const void *, void *, size_t)'),
  removexattr: native('int removexattr(const void *, const void *)'),
  mmap: native('void *mmap(void *, size_t, int, int, int, int64_t)'),
  msync: native('int msync(void *, size_t, int)'),
  munmap: native('int munmap(void *, size_t)'),
  opendir: native('void *opendir(const void *)'),
  readdir: native('void *readdir(void *)'),
  telldir: native('int64_t telldir(void *)'),
  seekdir: native('void seekdir(void *, int64_t)'),
  closedir: native('int closedir(void *)'),
};

const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_SYMLINK_FOLLOW = 0x400;
export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_PUNCH_HOLE = 2;
export const FALLOC_FL_ZERO_RANGE = 16;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;
export const O_TMPFILE = 0o20200000;
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;
export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;
export const UTIME_NOW = (1 << 30) - 1;
export const UTIME_OMIT = (1 << 30) - 2;

/** A C string. */
const z = (path: Path): Buffer => Buffer.concat([Buffer.from(path), Buffer.alloc(1)]);

function call(name: keyof typeof calls, ...args: unknown[]): number {
  const result = calls[name](...args);
  if (typeof result !== 'number') throw new TypeError(`${name} gave ${typeof result}`);
  if (result === -1) throw new LibcError(name, koffi.errno());
  return result;
}

export function renameat2(from: Path, to: Path, flags: number): void {
  call('renameat2', AT_FDCWD, z(from), AT_FDCWD, z(to), flags);
}

export function mkfifo(path: Path, mode: number): void {
  call('mkfifo', z(path), mode);
}

/** `mode` with file type; `dev` as makedev gives it. */
export function mknod(path: Path, mode: number, dev: number): void {
  call('mknod', z(path), mode, dev);
}

/** truncate(2), which opens nothing (node's opens the file for reading and writing). */
export function truncate(path: Path, size: number): void {
  call('truncate', z(path), size);
}

/** symlink(2) without node's idea of what a target may be. */
export function symlink(target: Path, path: Path): void {
  call('symlink', z(target), z(path));
}

export function fallocate(fd: number, mode: number, offset: number, length: number): void {
  call('fallocate', fd, mode, offset, length);
}

export function lseek(fd: number, offset: number, whence: number): number {
  return call('lseek', fd, offset, whence);
}

/** pwrite(2) at offsets beyond 2^53 too; how many bytes were written. */
export function pwrite(fd: number, data: string, offset: number): number {
  const bytes = Buffer.from(data);
  return call('pwrite', fd, bytes, bytes.length, offset);
}

/** How many bytes were copied. */
export function copyFileRange(from: number, offset: number, to: number, at: number, length: number): number {
  const places = [offset, at].map((place) => {
    const cell = Buffer.alloc(8);
    cell.writeBigInt64LE(BigInt(place));
    return cell;
  });
  return call('copy_file_range', from, places[0], to, places[1], length, 0);
}

/** linkat(2) of an open file, by way of /proc/self/fd. */
export function linkOpen(fd: number, path: Path): void {
  call('linkat', AT_FDCWD, z(`/proc/self/fd/${fd}`), AT_FDCWD, z(path), AT_SYMLINK_FOLLOW);
}

/** [seconds, nanoseconds or UTIME_NOW or UTIME_OMIT] for atime and mtime. */
export function utimensat(path: Path, times: readonly [[number, number], [number, number]], flags = 0): void {
  const spec = Buffer.alloc(32);
  for (const [index, value] of times.flat().entries()) spec.writeBigInt64LE(BigInt(value), index * 8);
  call('utimensat', AT_FDCWD, z(path), spec, flags);
}

export function setxattr(path: Path, name: Path, value: Path, flags = 0): void {
  const bytes = Buffer.from(value);
  call('setxattr', z(path), z(name), bytes, bytes.length, flags);
}

export function lsetxattr(path: Path, name: Path, value: Path): void {
  const bytes = Buffer.from(value);
  call('lsetxattr', z(path), z(name), bytes, bytes.length, 0);
}

export function getxattr(path: Path, name: Path, room = 65_536): Buffer {
  const out = Buffer.alloc(room);
  return out.subarray(0, call('getxattr', z(path), z(name), out, room));
}

/** What getxattr says the value's length is, asked with no room at all. */
export function xattrLength(path: Path, name: Path): number {
  return call('getxattr', z(path), z(name), null, 0);
}

export function listxattr(path: Path, room = 65_536): string[] {
  const out = Buffer.alloc(room);
  const length = call('listxattr', z(path), out, room);
  return out.subarray(0, length).toString('latin1').split('\0').slice(0, -1);
}

export function removexattr(path: Path, name: Path): void {
  call('removexattr', z(path), z(name));
}

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MS_SYNC = 4;

/** A file mapped into memory. `bytes` is the mapping itself; it must not be touched after `unmap`. */
export class Mapping {
  readonly bytes: Uint8Array;
  readonly #address: unknown;

  constructor(fd: number, length: number, options: { write: boolean; shared: boolean }) {
    const protection = PROT_READ | (options.write ? PROT_WRITE : 0);
    const flags = options.shared ? MAP_SHARED : MAP_PRIVATE;
    this.#address = calls.mmap(null, length, protection, flags, fd, 0);
    if (koffi.address(this.#address) === 2n ** 64n - 1n) throw new LibcError('mmap', koffi.errno());
    this.bytes = new Uint8Array(koffi.view(this.#address, length));
  }

  sync(): void {
    call('msync', this.#address, this.bytes.length, MS_SYNC);
  }

  unmap(): void {
    call('munmap', this.#address, this.bytes.length);
  }
}

const D_NAME_OFFSET = 19;

/** readdir(3) with its positions. */
export class DirectoryStream {
  readonly #stream: unknown;

  constructor(path: Path) {
    this.#stream = calls.opendir(z(path));
    if (this.#stream === null) throw new LibcError('opendir', koffi.errno());
  }

  /** The next entry's name, undefined at the end. */
  next(): string | undefined {
    const entry = calls.readdir(this.#stream);
    if (entry === null) return undefined;
    const record: unknown = koffi.decode(entry, 16, 'uint16_t');
    if (typeof record !== 'number') throw new TypeError('d_reclen');
    const name = Buffer.from(koffi.view(entry, record)).subarray(D_NAME_OFFSET);
    return name.subarray(0, name.indexOf(0)).toString('latin1');
  }

  tell(): unknown {
    return calls.telldir(this.#stream);
  }

  seek(position: unknown): void {
    calls.seekdir(this.#stream, position);
  }

  close(): void {
    call('closedir', this.#stream);
  }
}
