/**
 * One of the two filesystems that are compared: a directory in which a sequence of operations begins anew,
 * and the descriptors that those operations opened.
 *
 * The working directory lies so deep that no path can climb out of what is ours: a path has at most two `..`,
 * a symlink one, and the kernel follows 40 symlinks. A slot's directory is entered only while it lies below
 * where everything begins: from one above, the next could be reached.
 */
import fs from 'node:fs';
import { AT_EMPTY_PATH, calls, S_IFMT, S_IFREG, stat, workingDirectory, z } from './system-calls.js';

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
    fs.mkdirSync(top, { mode: 0o755 });
    const root = `${top}/${Array(DEPTH).fill(NESTED).join('/')}`;
    fs.mkdirSync(root, { recursive: true, mode: 0o755 });
    this.#rootPath = root;
    this.#root = calls.open(z(root), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY, 0);
    if (this.#root < 0) throw new Error(`cannot open ${root}`);
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

  /** Removes everything. Leaves the working directory, which must be outside by then. */
  end(): void {
    for (let slot = 0; slot < SLOTS; slot++) this.fill(slot, -1);
    this.heal();
    calls.close(this.#root);
    removeTree(Buffer.from(this.top));
  }
}

/** Like `rm -rf`, also where there is no permission as long as it could be given. */
function removeTree(path: Buffer): void {
  const found = fs.lstatSync(path);
  if (!found.isDirectory()) {
    fs.unlinkSync(path);
    return;
  }
  if ((found.mode & 0o700) !== 0o700) fs.chmodSync(path, 0o700);
  for (const name of fs.readdirSync(path, { encoding: 'buffer' }))
    removeTree(Buffer.concat([path, Buffer.from('/'), name]));
  fs.rmdirSync(path);
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
