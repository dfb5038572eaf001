/**
 * A program that does everything at once to a few directories and files that others work on as well: one
 * system call after the other, each timed. Before each it notes in a file outside the mount what it is about
 * to do, because a program that is stuck in a call cannot say so.
 *
 * Memory that is mapped is read and written by the kernel, in a `write` from it and a `read` into it: the page
 * faults are the same as a program's own, and a file that was cut short meanwhile is EFAULT instead of SIGBUS.
 */
import fs from 'node:fs';
import { constants } from 'node:os';
import { Prng } from '../../src/base/prng.js';
import { LibcError, Mapping, truncate } from '../posix/libc.js';
import { type CallTimes, note } from './call-times.js';

export interface Order {
  /** On its mount. */
  readonly directory: string;
  /** Outside it. */
  readonly notePath: string;
  readonly scratchPath: string;
  readonly seed: number;
  readonly seconds: number;
}

/** A call that took longer than LONG_MS. */
export interface LongCall {
  readonly kind: string;
  readonly path: string;
  /** Since 1970. */
  readonly atMs: number;
  readonly ms: number;
}

/** What a worker says at the end. */
export interface Outcome {
  readonly times: CallTimes;
  readonly long: readonly LongCall[];
  /** Calls that failed with what no race explains. */
  readonly unexpected: readonly string[];
}

export const DIRECTORIES = ['d0', 'd1', 'd2'];
const LONG_MS = 500;
const PAGE = 4096;
const FILE_BYTES = 4 * PAGE;
const KEPT = 50;
export const NOTE_BYTES = 128;

/**
 * What others may have done meanwhile. A descriptor stays usable whatever happens to its name. ESTALE is none
 * of POSIX's: the kernel gives it when another mount has moved a directory that this one knows in its old place
 * and renames go on here (native-notes/fuse-kernel.md); how often is limited in hammering.ts.
 */
const WALK = ['ENOENT', 'ESTALE'];
const EXPECTED: Record<string, readonly string[]> = {
  create: [...WALK, 'EEXIST'],
  open: WALK,
  stat: WALK,
  readdir: WALK,
  chmod: WALK,
  truncate: WALK,
  unlink: WALK,
  rename: WALK,
  renameDirectory: [...WALK, 'ENOTEMPTY', 'EEXIST'],
  link: [...WALK, 'EEXIST'],
  mkdir: [...WALK, 'EEXIST'],
  rmdir: [...WALK, 'ENOTEMPTY', 'EEXIST'],
  mapRead: ['EFAULT'],
  mapWrite: ['EFAULT'],
};

class Worker {
  readonly times: CallTimes = {};
  readonly long: LongCall[] = [];
  readonly unexpected: string[] = [];
  readonly #order: Order;
  readonly #prng: Prng;
  readonly #note: number;
  readonly #scratch: number;
  readonly #block = Buffer.alloc(2 * PAGE, 0x61);

  constructor(order: Order) {
    this.#order = order;
    this.#prng = new Prng(order.seed);
    this.#note = fs.openSync(order.notePath, 'w');
    this.#scratch = fs.openSync(order.scratchPath, 'w+');
    fs.writeSync(this.#scratch, this.#block);
  }

  /** Makes a call and times it; undefined when it failed. */
  #call<T>(kind: string, path: string, body: () => T): T | undefined {
    const atMs = Date.now();
    fs.writeSync(this.#note, `${atMs} ${kind} ${path}`.padEnd(NOTE_BYTES).slice(0, NOTE_BYTES), 0);
    const startMs = performance.now();
    let value: T | undefined;
    let errno: string | undefined;
    try {
      value = body();
    } catch (error) {
      errno = codeOf(error);
    }
    const ms = performance.now() - startMs;
    note(this.times, { kind, ms, errno });
    if (ms > LONG_MS && this.long.length < KEPT) this.long.push({ kind, path, atMs, ms });
    if (errno !== undefined && EXPECTED[kind]?.includes(errno) !== true && this.unexpected.length < KEPT)
      this.unexpected.push(`${kind} ${path}: ${errno}`);
    return value;
  }

  #directory(): string {
    const top = `${this.#order.directory}/${this.#prng.pick(DIRECTORIES)}`;
    return this.#prng.next() < 0.3 ? `${top}/${this.#subdirectory()}` : top;
  }

  #subdirectory(): string {
    return `s${this.#prng.int(0, 1)}`;
  }

  #file(): string {
    return `${this.#directory()}/f${this.#prng.int(0, 4)}`;
  }

  #withFile(kind: 'create' | 'open', flags: string, body: (fd: number, path: string) => void): void {
    const path = this.#file();
    const fd = this.#call(kind, path, () => fs.openSync(path, flags));
    if (fd === undefined) return;
    body(fd, path);
    this.#call('close', path, () => fs.closeSync(fd));
  }

  #write(fd: number, path: string): void {
    const at = this.#prng.int(0, FILE_BYTES - PAGE);
    const length = this.#prng.int(1, this.#block.length);
    this.#call('write', path, () => fs.writeSync(fd, this.#block, 0, length, at));
  }

  #read(fd: number, path: string): void {
    const into = Buffer.alloc(FILE_BYTES);
    this.#call('read', path, () => fs.readSync(fd, into, 0, FILE_BYTES, 0));
  }

  /** `sync`: the pages reach the file before the mapping goes; it goes with its pages unwritten otherwise. */
  #map(fd: number, path: string, { write, sync }: { write: boolean; sync: boolean }): void {
    if (write) this.#call('ftruncate', path, () => fs.ftruncateSync(fd, FILE_BYTES));
    const map = this.#call('mmap', path, () => new Mapping(fd, FILE_BYTES, { write, shared: true }));
    if (map === undefined) return;
    const { bytes } = map;
    for (let count = 0; count < 3; count++) {
      const at = this.#prng.int(0, 3) * PAGE;
      if (write && count === 1)
        this.#call('mapWrite', path, () => fs.readSync(this.#scratch, bytes, at, PAGE, 0));
      else this.#call('mapRead', path, () => fs.writeSync(this.#scratch, bytes, at, PAGE, 0));
    }
    if (write && sync) this.#call('msync', path, () => map.sync());
    this.#call('munmap', path, () => map.unmap());
  }

  /** What a worker does, and how often. */
  readonly #deeds: readonly (readonly [weight: number, deed: () => void])[] = [
    [10, () => this.#withFile('create', 'wx', (fd, path) => this.#write(fd, path))],
    [6, () => this.#withFile('open', 'r+', (fd, path) => this.#write(fd, path))],
    [4, () => this.#withFile('open', 'a', (fd, path) => this.#write(fd, path))],
    [10, () => this.#withFile('open', 'r', (fd, path) => this.#read(fd, path))],
    [
      4,
      () =>
        this.#withFile('open', 'r+', (fd, path) => {
          this.#read(fd, path);
          this.#write(fd, path);
          this.#call('fsync', path, () => fs.fsyncSync(fd));
          this.#call('fstat', path, () => fs.fstatSync(fd));
        }),
    ],
    [6, () => this.#withFile('open', 'r', (fd, path) => this.#map(fd, path, { write: false, sync: false }))],
    [4, () => this.#withFile('open', 'r+', (fd, path) => this.#map(fd, path, { write: true, sync: true }))],
    [4, () => this.#withFile('open', 'r+', (fd, path) => this.#map(fd, path, { write: true, sync: false }))],
    [20, () => this.#onPath('stat', this.#file(), (path) => fs.statSync(path))],
    [10, () => this.#onPath('readdir', this.#directory(), (path) => fs.readdirSync(path))],
    [3, () => this.#onPath('chmod', this.#file(), (path) => fs.chmodSync(path, 0o600))],
    [
      3,
      () => this.#onPath('truncate', this.#file(), (path) => truncate(path, this.#prng.int(0, FILE_BYTES))),
    ],
    [8, () => this.#onPath('unlink', this.#file(), (path) => fs.unlinkSync(path))],
    [8, () => this.#onPath('rename', this.#file(), (path) => fs.renameSync(path, this.#file()))],
    [5, () => this.#onPath('link', this.#file(), (path) => fs.linkSync(path, this.#file()))],
    [5, () => this.#onPath('mkdir', this.#place(), (path) => fs.mkdirSync(path))],
    [4, () => this.#onPath('rmdir', this.#place(), (path) => fs.rmdirSync(path))],
    [4, () => this.#onPath('renameDirectory', this.#place(), (path) => fs.renameSync(path, this.#place()))],
  ];

  /** Of a directory that comes and goes. */
  #place(): string {
    return `${this.#order.directory}/${this.#prng.pick(DIRECTORIES)}/${this.#subdirectory()}`;
  }

  #onPath(kind: string, path: string, body: (path: string) => unknown): void {
    this.#call(kind, path, () => body(path));
  }

  run(): Outcome {
    const endMs = performance.now() + this.#order.seconds * 1000;
    const weights = this.#deeds.reduce((sum, [weight]) => sum + weight, 0);
    while (performance.now() < endMs) {
      let left = this.#prng.next() * weights;
      for (const [weight, deed] of this.#deeds) {
        left -= weight;
        if (left >= 0) continue;
        deed();
        break;
      }
    }
    fs.ftruncateSync(this.#note);
    fs.closeSync(this.#note);
    fs.closeSync(this.#scratch);
    const { times, long, unexpected } = this;
    return { times, long, unexpected };
  }
}

function codeOf(error: unknown): string {
  if (error instanceof LibcError) return error.code;
  if (!(error instanceof Error && 'errno' in error && typeof error.errno === 'number')) throw error;
  // Node has no name for some of them.
  const { errno } = error;
  return Object.entries(constants.errno).find(([, value]) => value === -errno)?.[0] ?? String(errno);
}

process.on('message', (order: Order) => process.send?.(new Worker(order).run()));
process.on('disconnect', () => process.exit());
