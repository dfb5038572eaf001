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
const DIRECTORIES = ['', 'd0', 'd1'] as const;
const NAMES = ['a', 'b', 'c'] as const;
const SLOTS = 4;

interface Place {
  readonly directory: (typeof DIRECTORIES)[number];
  readonly name: string;
}

export interface ProgramOptions {
  readonly kernel: Kernel;
  readonly scheduler: Scheduler;
  readonly prng: Prng;
  /** Between two operations. */
  readonly thinkMs: number;
  /** A fresh value to write. */
  readonly value: () => string;
  /** Programs that use this mount now. */
  readonly busy: { count: number };
}

export class Program {
  readonly #options: ProgramOptions;
  #file: { readonly fh: number } | undefined;
  /** Operations that it has carried out, failed ones included. */
  operations = 0;

  constructor(options: ProgramOptions) {
    this.#options = options;
  }

  async run(isOver: () => boolean): Promise<void> {
    const { scheduler, prng, kernel, thinkMs } = this.#options;
    while (!isOver()) {
      const pauseMs = prng.next() < 0.05 ? thinkMs * 40 : prng.next() * thinkMs;
      await scheduler.sleep(pauseMs, kernel.machine);
      await this.#attempt();
    }
    await this.#closing();
  }

  async #attempt(): Promise<void> {
    const { busy } = this.#options;
    this.operations++;
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
      await this.#options.kernel.close(file.fh);
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
    else if (choice < 89) await this.#directory(prng.pick(['d0', 'd1']));
    else if (choice < 98) await this.#list(prng.pick(DIRECTORIES), prng.next() < 0.5);
    else await this.#evict();
  }

  #place(): Place {
    const { prng } = this.#options;
    return { directory: prng.pick(DIRECTORIES), name: prng.pick(NAMES) };
  }

  /** As the kernel does with a path whose inode turns out to be gone: looks everything up again, once. */
  async #withPath(body: (place: Place) => Promise<unknown>): Promise<void> {
    const place = this.#place();
    try {
      await body(place);
    } catch (error) {
      if (!isErrno(error, 'ESTALE')) throw error;
      this.#forgetPath(place);
      await body(place);
    }
  }

  #forgetPath({ directory, name }: Place): void {
    const { dentries } = this.#options.kernel.cache;
    const key = nameKey(ROOT_INO, directory);
    const parent = directory === '' ? ROOT_INO : dentries.get(key)?.ino;
    if (parent !== undefined) dentries.delete(nameKey(parent, name));
    dentries.delete(key);
  }

  async #parent(directory: string): Promise<Ino> {
    return directory === '' ? ROOT_INO : await this.#options.kernel.lookup(ROOT_INO, directory);
  }

  async #inode({ directory, name }: Place): Promise<Ino> {
    return await this.#options.kernel.lookup(await this.#parent(directory), name);
  }

  async #stat(place: Place): Promise<void> {
    const { kernel, prng } = this.#options;
    if (prng.next() < 0.2) await kernel.getattr(await this.#parent(place.directory));
    else await kernel.getattr(await this.#inode(place));
  }

  async #create({ directory, name }: Place): Promise<void> {
    const { kernel, prng } = this.#options;
    const parent = await this.#parent(directory);
    await this.#closing();
    const flags = O_RDWR | prng.pick([0, O_EXCL, O_TRUNC]);
    this.#file = await kernel.create(parent, name, 0o600 + prng.int(0, 63), flags);
    await this.#write(this.#file.fh);
  }

  async #reopen(place: Place): Promise<void> {
    const { kernel, prng } = this.#options;
    await this.#closing();
    const ino = await this.#inode(place);
    this.#file = { fh: await kernel.open(ino, O_RDWR | (prng.next() < 0.15 ? O_TRUNC : 0)) };
    await kernel.read(this.#file.fh);
  }

  async #useFile(): Promise<void> {
    const { kernel, prng } = this.#options;
    if (this.#file === undefined) {
      await this.#withPath((place) => this.#reopen(place));
      return;
    }
    const { fh } = this.#file;
    const choice = prng.int(0, 9);
    if (choice < 4) await this.#write(fh);
    else if (choice < 7) await kernel.read(fh);
    else if (choice < 8) await kernel.fsync(fh);
    else await this.#closing();
  }

  async #write(fh: number): Promise<void> {
    const { kernel, prng, value } = this.#options;
    await kernel.write(fh, prng.int(0, SLOTS - 1), value().padStart(SLOT_BYTES, '_'));
  }

  async #setattr(place: Place): Promise<void> {
    const { kernel, prng } = this.#options;
    const ino = await this.#inode(place);
    const isCut = prng.next() < 0.3;
    await kernel.setattr(
      ino,
      isCut ? { size: prng.int(0, 3) * SLOT_BYTES } : { mode: 0o600 + prng.int(0, 63) },
    );
  }

  async #rename(place: Place): Promise<void> {
    const { kernel, prng } = this.#options;
    if (prng.next() < 0.15) {
      await kernel.rename(ROOT_INO, prng.pick(['d0', 'd1']), ROOT_INO, prng.pick(['d0', 'd1']));
      return;
    }
    const to = this.#place();
    const parent = await this.#parent(place.directory);
    await kernel.rename(parent, place.name, await this.#parent(to.directory), to.name);
  }

  async #link(place: Place): Promise<void> {
    const { kernel } = this.#options;
    const to = this.#place();
    const ino = await this.#inode(place);
    await kernel.link(ino, await this.#parent(to.directory), to.name);
  }

  async #unlink({ directory, name }: Place): Promise<void> {
    const { kernel } = this.#options;
    await kernel.unlink(await this.#parent(directory), name);
  }

  async #directory(name: string): Promise<void> {
    const { kernel, prng } = this.#options;
    if (prng.next() < 0.75) await kernel.mkdir(ROOT_INO, name, 0o700 + prng.int(0, 63));
    else await kernel.rmdir(ROOT_INO, name);
  }

  async #list(directory: string, plus: boolean): Promise<void> {
    const { kernel } = this.#options;
    const ino = await this.#parent(directory);
    const entries = await kernel.readdir(ino, plus);
    for (const { ino: child } of entries.slice(0, 2)) await kernel.getattr(child).catch(unlessStale);
  }

  async #evict(): Promise<void> {
    const { kernel, busy } = this.#options;
    // A path that another program walks keeps its inodes.
    if (busy.count === 1) await kernel.evict();
  }
}

/** Removed since it was listed. */
function unlessStale(error: unknown): undefined {
  if (!isErrno(error, 'ESTALE')) throw error;
}
