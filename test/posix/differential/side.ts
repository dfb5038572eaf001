/**
 * One of the two filesystems that are compared: a directory in which a sequence of operations begins anew,
 * and the descriptors that those operations opened.
 *
 * The working directory lies so deep that no path can climb out of what is ours: a path has at most two `..`,
 * a symlink one, and the kernel follows 40 symlinks. A slot's directory is entered only while it lies below
 * where everything begins: from one above, the next could be reached.
 */
import fs from 'node:fs';
import { basename, dirname } from 'node:path';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  calls,
  isDirectory,
  nameResult,
  readDirectory,
  S_IFMT,
  S_IFREG,
  stat,
  workingDirectory,
  z,
} from './system-calls.js';

export const SLOTS = 6;
const SEEK_CUR = 1;
const DEPTH = 44;
/** No operation uses this name. */
const NESTED = 'nested';

/** What an operation did. */
export interface Outcome {
  /** A number or an errno's name, and what else was told. */
  readonly text: string;
  /** What was read. */
  readonly data?: Buffer | undefined;
}

export class Side {
  /** All of it lies in here. */
  readonly top: string;
  /** Open descriptors, -1 where there is none. */
  readonly slots: number[] = Array.from({ length: SLOTS }, () => -1);
  readonly #root: number;
  readonly #rootPath: string;

  constructor(top: string) {
    this.top = top;
    // Down step by step: a mount that caches nothing is asked for every part of a path again.
    must(calls.mkdir(z(top), 0o755), top);
    must(calls.chdir(z(top)), top);
    for (let depth = 0; depth < DEPTH; depth++) {
      must(calls.mkdir(z(NESTED), 0o755), NESTED);
      must(calls.chdir(z(NESTED)), NESTED);
    }
    this.#rootPath = workingDirectory() ?? top;
    this.#root = must(calls.open(z('.'), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY, 0), top);
  }

  /** Makes a directory the process's working directory: a slot's, or where everything begins. 0 or -errno. */
  enter(slot: number | undefined): number {
    if (slot === undefined) return calls.fchdir(this.#root);
    const result = calls.fchdir(this.fd(slot));
    if (result < 0) return result;
    const path = workingDirectory();
    return path === undefined || `${path}/`.startsWith(`${this.#rootPath}/`) ? 0 : calls.fchdir(this.#root);
  }

  fd(slot: number): number {
    return this.slots[slot] ?? -1;
  }

  /** Whether a slot holds what has lost its name, and is no regular file open for reading or writing. */
  isRemoved(slot: number | undefined): boolean {
    if (slot === undefined) return false;
    const found = stat(this.fd(slot), '', AT_EMPTY_PATH);
    if (typeof found === 'string' || found.nlink > 0) return false;
    return (found.mode & S_IFMT) !== S_IFREG || calls.lseek(this.fd(slot), 0, SEEK_CUR) < 0;
  }

  /** Puts a descriptor into a slot; what was there is closed. */
  fill(slot: number, fd: number): void {
    const old = this.fd(slot);
    if (old >= 0) calls.close(old);
    this.slots[slot] = fd;
  }

  /** Lets an ordinary user in again who has locked himself out. */
  heal(): number {
    return calls.fchmod(this.#root, 0o755);
  }

  /** Removes everything. The working directory is outside afterwards. */
  end(): void {
    for (let slot = 0; slot < SLOTS; slot++) this.fill(slot, -1);
    this.heal();
    calls.close(this.#root);
    must(calls.chdir(z(dirname(this.top))), this.top);
    removeTree(basename(this.top));
    process.chdir('/');
  }
}

/** What the fuzzer itself cannot do without. */
function must(result: number, path: string): number {
  if (result < 0) throw new Error(`the fuzzer's own ${path}: ${nameResult(result)}`);
  return result;
}

/** Like `rm -rf` of a name in the working directory, also without permission as long as it could be given. */
function removeTree(name: string): void {
  const found = stat(AT_FDCWD, name, AT_SYMLINK_NOFOLLOW);
  if (typeof found === 'string') throw new Error(`cannot remove ${name}: ${found}`);
  if (!isDirectory(found)) {
    must(calls.unlink(z(name)), name);
    return;
  }
  if ((found.mode & 0o700) !== 0o700) must(calls.chmod(z(name), 0o700), name);
  must(calls.chdir(z(name)), name);
  const fd = must(calls.open(z('.'), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY, 0), name);
  const entries = readDirectory(fd);
  calls.close(fd);
  if (typeof entries === 'string') throw new Error(`cannot list ${name}: ${entries}`);
  for (const child of entries.keys()) if (child !== '.' && child !== '..') removeTree(child);
  must(calls.chdir(z('..')), name);
  must(calls.rmdir(z(name)), name);
}

/** Whether timestamps of this directory's filesystem tell two changes apart that follow at once. */
export function hasFineTimes(directory: string): boolean {
  const path = `${directory}/times-${process.pid}`;
  const fd = calls.open(z(path), fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  const seen = new Set<bigint>();
  for (let count = 0; count < 20; count++) {
    calls.pwrite(fd, z('x'), 1, 0);
    const found = stat(fd, '', AT_EMPTY_PATH);
    if (typeof found !== 'string') seen.add(found.mtimeNs);
  }
  calls.close(fd);
  fs.unlinkSync(path);
  return seen.size === 20;
}
