/**
 * What a kernel remembers of a FUSE mount: names with the epoch and the time until which they count, and of
 * each inode attributes, pages and how often it was looked up.
 *
 * **Source:** fs/fuse/dir.c (fuse_dentry_revalidate, fuse_entry_unlinked, fuse_rename_common), inode.c
 * (fuse_iget, fuse_change_attributes, fuse_reverse_inval_inode), file.c of Linux 6.18.
 */
import type { Timespec } from '../../src/base/clock.js';
import type { Attr } from '../../src/proto/attr.js';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { nameKey } from './history.js';

export interface Dentry {
  readonly ino: Ino;
  readonly epoch: number;
  untilMs: number;
}

export interface Listed {
  readonly name: string;
  readonly ino: Ino;
  readonly kind: number;
}

export interface CachedInode {
  readonly ino: Ino;
  /** The newest that was learned, still right or not: i_mtime and i_size. */
  attr: Attr | undefined;
  freshUntilMs: number;
  /** Replies to requests that began before this say nothing. */
  attrVersion: number;
  /** The attrVersion that the newest attributes brought. */
  learnedAt: number;
  pages: Buffer | undefined;
  /** READs under way: their pages are locked, and whoever drops pages waits for them. */
  readonly reading: Set<Promise<unknown>>;
  /** Rises when pages are dropped: a listing under way brings none then. */
  pagesDropped: number;
  /** A directory's entries, as they were read when its time of change was this. */
  listing: { readonly entries: readonly Listed[]; readonly mtime: Timespec } | undefined;
  lookups: number;
  /** Requests and handles that need it. */
  pins: number;
}

/** Sampled before a request; what its reply may still say depends on it. */
export interface Before {
  readonly epoch: number;
  readonly attrVersion: number;
}

export class KernelCache {
  readonly #nowMs: () => number;
  readonly inodes = new Map<Ino, CachedInode>();
  readonly dentries = new Map<string, Dentry>();
  epoch = 1;
  attrVersion = 1;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.inode(ROOT_INO).pins++;
  }

  inode(ino: Ino): CachedInode {
    const known = this.inodes.get(ino);
    if (known !== undefined) return known;
    const made: CachedInode = {
      ino,
      attr: undefined,
      freshUntilMs: 0,
      attrVersion: 0,
      learnedAt: 0,
      pages: undefined,
      reading: new Set(),
      pagesDropped: 0,
      listing: undefined,
      lookups: 0,
      pins: 0,
    };
    this.inodes.set(ino, made);
    return made;
  }

  before(): Before {
    return { epoch: this.epoch, attrVersion: this.attrVersion };
  }

  isCurrent(dentry: Dentry): boolean {
    return dentry.epoch === this.epoch && this.#nowMs() < dentry.untilMs;
  }

  isFresh(inode: CachedInode): boolean {
    return inode.attr !== undefined && this.#nowMs() < inode.freshUntilMs;
  }

  /** A reply gives a name and counts as a lookup. */
  entered(key: string, ino: Ino, timeoutMs: number, before: Before): void {
    this.dentries.set(key, { ino, epoch: before.epoch, untilMs: this.#nowMs() + timeoutMs });
    this.inode(ino).lookups++;
  }

  /** fuse_change_attributes: unless something has happened since the request began. */
  learned(inode: CachedInode, attr: Attr, timeoutMs: number, before: Before | undefined): void {
    if (before !== undefined && inode.attrVersion > before.attrVersion) return;
    const old = inode.attr;
    const isOther = old !== undefined && (!sameTime(old, attr) || old.size !== attr.size);
    inode.attr = attr;
    inode.attrVersion = ++this.attrVersion;
    inode.learnedAt = inode.attrVersion;
    inode.freshUntilMs = this.#nowMs() + timeoutMs;
    if (isOther) this.dropPages(inode);
  }

  dropPages(inode: CachedInode): void {
    inode.pages = undefined;
    inode.listing = undefined;
    inode.pagesDropped++;
  }

  /** fuse_dir_changed: by this kernel itself. */
  directoryChanged(inode: CachedInode): void {
    this.stale(inode);
    inode.listing = undefined;
    inode.pagesDropped++;
  }

  /** What is known of its attributes has to be asked for again. */
  stale(inode: CachedInode): void {
    inode.freshUntilMs = 0;
  }

  /** fuse_entry_unlinked. */
  unlinked(key: string): void {
    const dentry = this.dentries.get(key);
    this.dentries.delete(key);
    const inode = dentry === undefined ? undefined : this.inodes.get(dentry.ino);
    if (inode === undefined) return;
    inode.attrVersion = ++this.attrVersion;
    this.stale(inode);
  }

  /** d_move: with the time and the epoch that the entry has. */
  moved(from: { parent: Ino; name: string }, to: { parent: Ino; name: string }): void {
    const [fromKey, toKey] = [nameKey(from.parent, from.name), nameKey(to.parent, to.name)];
    const dentry = this.dentries.get(fromKey);
    if (this.dentries.get(toKey)?.ino !== dentry?.ino) this.unlinked(toKey);
    if (dentry === undefined) return;
    this.dentries.delete(fromKey);
    this.dentries.set(toKey, dentry);
    this.stale(this.inode(dentry.ino));
  }

  forgetAll(): void {
    this.dentries.clear();
    for (const inode of this.inodes.values()) {
      this.stale(inode);
      this.dropPages(inode);
    }
  }

  /** Takes out what nothing needs; answers how often each was looked up. */
  evict(): { ino: Ino; lookups: number }[] {
    this.dentries.clear();
    const evicted = [...this.inodes.values()].filter(({ pins, ino }) => pins === 0 && ino !== ROOT_INO);
    for (const { ino } of evicted) this.inodes.delete(ino);
    return evicted.map(({ ino, lookups }) => ({ ino, lookups }));
  }
}

const sameTime = (a: Attr, b: Attr): boolean => a.mtime.sec === b.mtime.sec && a.mtime.nsec === b.mtime.nsec;
