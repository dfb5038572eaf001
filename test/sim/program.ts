/**
 * A program on a mount: does one thing after the other to a few names that all programs share. What it is
 * answered is held against the store by the Observer; errors are answers.
 */
import type { Prng } from '../../src/base/prng.js';
import { FsError } from '../../src/proto/errno.js';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { nameKey, SLOT_BYTES } from './history.js';
import type { Kernel } from './kernel.js';
import { isErrno } from './kernel-base.js';
import type { Scheduler } from './scheduler.js';

const O_RDWR = 2;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
/** Directories that there may be. */
export const DIRECTORIES: readonly string[] = ['', '', 'd0', 'd0', 'd1', 'd1', 'd0/s', 'd1/s'];
const DIRECTORIES_MAX = 20;
const NAMES = ['a', 'b', 'c'] as const;
const SLOTS = 4;

interface Place {
  readonly directory: string;
  readonly name: string;
}

interface OpenFile {
  readonly kernel: Kernel;
  readonly fh: number;
}

export interface ProgramOptions {
  /** Of its machine's mount, now. */
  readonly kernel: () => Kernel;
  readonly scheduler: Scheduler;
  readonly prng: Prng;
  /** Between two operations. */
  readonly thinkMs: number;
  /** A fresh value to write. */
  readonly value: () => string;
  /** Those that all programs know of; what they make comes in addition. */
  readonly directories: string[];
  /** Programs that use this mount now. */
  readonly busy: { count: number };
}

export class Program {
  readonly #options: ProgramOptions;
  #file: OpenFile | undefined;
  /** Where the operation that is under way began. */
  #kernel: Kernel;
  /** Operations that it has carried out, failed ones included. */
  operations = 0;

  constructor(options: ProgramOptions) {
    this.#options = options;
    this.#kernel = options.kernel();
  }

  async run(isOver: () => boolean): Promise<void> {
    const { scheduler, prng, thinkMs } = this.#options;
    while (!isOver()) {
      const pauseMs = prng.next() < 0.05 ? thinkMs * 40 : prng.next() * thinkMs;
      await scheduler.sleep(pauseMs, this.#kernel.machine);
      await this.#attempt();
    }
    await this.#closing();
  }

  async #attempt(): Promise<void> {
    const { busy } = this.#options;
    this.operations++;
    this.#kernel = this.#options.kernel();
    busy.count++;
    try {
      await this.#operation();
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
    } finally {
      busy.count--;
    }
  }

  async #closing(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    if (file === undefined) return;
    try {
      await file.kernel.close(file.fh);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
    }
  }

  async #operation(): Promise<void> {
    const { prng } = this.#options;
    const choice = prng.int(0, 99);
    if (choice < 26) await this.#withPath((place) => this.#stat(place));
    else if (choice < 34) await this.#withPath((place) => this.#create(place));
    else if (choice < 42) await this.#withPath((place) => this.#reopen(place));
    else if (choice < 58) await this.#useFile();
    else if (choice < 64) await this.#withPath((place) => this.#setattr(place));
    else if (choice < 71) await this.#withPath((place) => this.#rename(place));
    else if (choice < 75) await this.#withPath((place) => this.#link(place));
    else if (choice < 82) await this.#withPath((place) => this.#unlink(place));
    else if (choice < 86) await this.#directory(prng.pick(['d0', 'd1']));
    else if (choice < 92) await this.#work(this.#fresh());
    else if (choice < 98) await this.#list(prng.pick(this.#options.directories), prng.next() < 0.5);
    else await this.#evict();
  }

  #place(): Place {
    const { prng } = this.#options;
    return { directory: prng.pick(this.#options.directories), name: prng.pick(NAMES) };
  }

  /** As the kernel does with a path whose inode turns out to be gone: looks everything up again, once. */
  async #withPath(body: (place: Place) => Promise<unknown>, place = this.#place()): Promise<void> {
    try {
      await body(place);
    } catch (error) {
      if (!isErrno(error, 'ESTALE')) throw error;
      this.#forgetPath(place);
      await body(place);
    }
  }

  #forgetPath({ directory, name }: Place): void {
    const { dentries } = this.#kernel.cache;
    let parent: Ino | undefined = ROOT_INO;
    for (const part of [...partsOf(directory), name]) {
      if (parent === undefined) return;
      const key: string = nameKey(parent, part);
      parent = dentries.get(key)?.ino;
      dentries.delete(key);
    }
  }

  async #parent(directory: string): Promise<Ino> {
    let ino: Ino = ROOT_INO;
    for (const part of partsOf(directory)) ino = await this.#kernel.lookup(ino, part);
    return ino;
  }

  async #inode({ directory, name }: Place): Promise<Ino> {
    return await this.#kernel.lookup(await this.#parent(directory), name);
  }

  async #stat(place: Place): Promise<void> {
    const { prng } = this.#options;
    const kernel = this.#kernel;
    if (prng.next() < 0.2) await kernel.getattr(await this.#parent(place.directory));
    else await kernel.getattr(await this.#inode(place));
  }

  async #create({ directory, name }: Place): Promise<void> {
    const { prng } = this.#options;
    const kernel = this.#kernel;
    const parent = await this.#parent(directory);
    await this.#closing();
    const flags = O_RDWR | prng.pick([0, O_EXCL, O_TRUNC]);
    const { fh } = await kernel.create(parent, name, 0o600 + prng.int(0, 63), flags);
    this.#file = { kernel, fh };
    await this.#write(this.#file);
  }

  async #reopen(place: Place): Promise<void> {
    const { prng } = this.#options;
    const kernel = this.#kernel;
    await this.#closing();
    const ino = await this.#inode(place);
    const fh = await kernel.open(ino, O_RDWR | (prng.next() < 0.15 ? O_TRUNC : 0));
    this.#file = { kernel, fh };
    await kernel.read(fh);
  }

  async #useFile(): Promise<void> {
    const { prng } = this.#options;
    if (this.#file === undefined) {
      await this.#withPath((place) => this.#reopen(place));
      return;
    }
    const { kernel, fh } = this.#file;
    const choice = prng.int(0, 9);
    if (choice < 4) await this.#write(this.#file);
    else if (choice < 7) await kernel.read(fh);
    else if (choice < 8) await kernel.fsync(fh);
    else await this.#closing();
  }

  async #write({ kernel, fh }: OpenFile): Promise<void> {
    const { prng, value } = this.#options;
    await kernel.write(fh, prng.int(0, SLOTS - 1), value().padStart(SLOT_BYTES, '_'));
  }

  async #setattr(place: Place): Promise<void> {
    const { prng } = this.#options;
    const kernel = this.#kernel;
    const ino = await this.#inode(place);
    const isCut = prng.next() < 0.3;
    await kernel.setattr(
      ino,
      isCut ? { size: prng.int(0, 3) * SLOT_BYTES } : { mode: 0o600 + prng.int(0, 63) },
    );
  }

  async #rename(place: Place, to = this.#place()): Promise<void> {
    const { prng } = this.#options;
    const kernel = this.#kernel;
    if (prng.next() < 0.15) {
      await kernel.rename(ROOT_INO, prng.pick(['d0', 'd1']), ROOT_INO, prng.pick(['d0', 'd1']));
      return;
    }
    const parent = await this.#parent(place.directory);
    await kernel.rename(parent, place.name, await this.#parent(to.directory), to.name);
  }

  async #link(place: Place): Promise<void> {
    const kernel = this.#kernel;
    const to = this.#place();
    const ino = await this.#inode(place);
    await kernel.link(ino, await this.#parent(to.directory), to.name);
  }

  async #unlink({ directory, name }: Place): Promise<void> {
    const kernel = this.#kernel;
    await kernel.unlink(await this.#parent(directory), name);
  }

  async #directory(name: string): Promise<void> {
    const { prng } = this.#options;
    const kernel = this.#kernel;
    const choice = prng.next();
    if (choice < 0.6) await kernel.mkdir(ROOT_INO, name, 0o700 + prng.int(0, 63));
    else if (choice < 0.8) await kernel.rmdir(ROOT_INO, name);
    else await kernel.rmdir(await this.#parent(name), 's');
  }

  /** A directory that was never there, until there are enough. */
  #fresh(): string {
    const { prng, directories } = this.#options;
    if (directories.length >= DIRECTORIES_MAX) return prng.pick(directories.slice(2));
    const directory = `${prng.pick(['', '', ...directories.filter((path) => path.length === 2)])}/w${directories.length}`;
    directories.push(directory.replace(/^\//, ''));
    return directories.at(-1) ?? '';
  }

  /** Makes a directory and a few things in it, as whoever unpacks an archive. */
  async #work(directory: string): Promise<void> {
    const { prng, scheduler } = this.#options;
    const parts = partsOf(directory);
    const name = parts.pop() ?? '';
    await this.#kernel.mkdir(await this.#parent(parts.join('/')), name, 0o700 + prng.int(0, 63));
    for (let count = prng.int(2, 12); count > 0; count--) {
      const place = { directory, name: prng.pick(NAMES) };
      this.operations++;
      this.#kernel = this.#options.kernel();
      try {
        await this.#withPath((at) => this.#step(at), place);
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
      }
      await scheduler.sleep(prng.next() * 3, this.#kernel.machine);
    }
  }

  async #step(place: Place): Promise<void> {
    const { prng } = this.#options;
    const choice = prng.int(0, 19);
    if (choice < 8) await this.#create(place);
    else if (choice < 10) await this.#useFile();
    else if (choice < 12) await this.#setattr(place);
    else if (choice < 14) await this.#rename(place, { ...place, name: prng.pick(NAMES) });
    else if (choice < 15) await this.#link(place);
    else if (choice < 18) await this.#unlink(place);
    else if (choice < 19) await this.#stat(place);
    else if (place.directory.endsWith('/s')) await this.#list(place.directory, true);
    else await this.#kernel.mkdir(await this.#parent(place.directory), 's', 0o755);
  }

  async #list(directory: string, plus: boolean): Promise<void> {
    const kernel = this.#kernel;
    const ino = await this.#parent(directory);
    const entries = await kernel.readdir(ino, plus);
    for (const { ino: child } of entries.slice(0, 2)) await kernel.getattr(child).catch(unlessStale);
  }

  async #evict(): Promise<void> {
    const { busy } = this.#options;
    // A path that another program walks keeps its inodes.
    if (busy.count === 1) await this.#kernel.evict();
  }
}

const partsOf = (path: string): string[] => (path === '' ? [] : path.split('/'));

/** Removed since it was listed. */
function unlessStale(error: unknown): undefined {
  if (!isErrno(error, 'ESTALE')) throw error;
}
