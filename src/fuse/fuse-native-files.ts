/**
 * The files that are open through a fuse-native mount: what the descriptor numbers of libfuse stand for, and
 * which of them have lost their name.
 *
 * libfuse 2 knows files by path. It therefore renames an open file that is unlinked (or replaced by a rename)
 * to `.fuse_hidden` + 16 hex digits, and unlinks that name at the last close. Such a rename becomes a real
 * unlink here, and the hidden name lives in this table alone: no other mount ever sees it, it cannot keep a
 * directory from being removed, and a crash leaves nothing behind.
 *
 * INVARIANT: a hidden name leads to an inode that is open. Bounded by the descriptors that programs hold.
 *
 * **Source:** libfuse 2.9.9 lib/fuse.c hide_node, fuse_do_release; native-notes/fuse-native.md.
 */
import type { Ino } from '../proto/ids.js';
import { lastName } from './fuse-native-paths.js';

const HIDDEN = /^\.fuse_hidden[0-9a-f]{16}$/;
/** Descriptors travel as 32-bit signed numbers, and 0 means none. */
const MAX_FD = 2 ** 31 - 1;

export interface NativeFile {
  readonly ino: Ino;
  readonly fh: number;
  /** What has to be durable when a write returns: O_DSYNC asks for the data, O_SYNC for everything. */
  readonly writeThrough: 'nothing' | 'data' | 'everything';
}

export class NativeFiles {
  readonly #files = new Map<number, NativeFile>();
  readonly #opens = new Map<Ino, { handles: number; references: number }>();
  readonly #hidden = new Map<string, Ino>();
  #lastFd = 0;

  /** A descriptor number for `file`. `references`: to its inode, which are kept until its last descriptor is gone. */
  add(file: NativeFile, references: number): number {
    do {
      this.#lastFd = this.#lastFd === MAX_FD ? 1 : this.#lastFd + 1;
    } while (this.#files.has(this.#lastFd));
    this.#files.set(this.#lastFd, file);
    const open = this.#opens.get(file.ino) ?? { handles: 0, references: 0 };
    open.handles += 1;
    open.references += references;
    this.#opens.set(file.ino, open);
    return this.#lastFd;
  }

  get(fd: number): NativeFile | undefined {
    return this.#files.get(fd);
  }

  /** The file of `fd`, which is open no longer, and how many references to its inode are to be given back now. */
  remove(fd: number): { file: NativeFile; references: number } | undefined {
    const file = this.#files.get(fd);
    if (file === undefined) return undefined;
    this.#files.delete(fd);
    const open = this.#opens.get(file.ino);
    if (open === undefined) return { file, references: 0 };
    open.handles -= 1;
    if (open.handles > 0) return { file, references: 0 };
    this.#opens.delete(file.ino);
    for (const [name, ino] of this.#hidden) if (ino === file.ino) this.#hidden.delete(name);
    return { file, references: open.references };
  }

  isOpen(ino: Ino): boolean {
    return this.#opens.has(ino);
  }

  /** Whether libfuse may mean by this rename that an open file loses its name. */
  static looksHidden(path: string): boolean {
    return HIDDEN.test(lastName(path));
  }

  hide(path: string, ino: Ino): void {
    this.#hidden.set(lastName(path), ino);
  }

  /** The inode of a file that lost its name and goes by `path` now. */
  hiddenAt(path: string): Ino | undefined {
    return this.#hidden.get(lastName(path));
  }

  isHidden(ino: Ino): boolean {
    for (const hidden of this.#hidden.values()) if (hidden === ino) return true;
    return false;
  }

  /** Forgets the hidden name `path`; false when it was none. */
  unhide(path: string): boolean {
    return this.#hidden.delete(lastName(path));
  }
}
