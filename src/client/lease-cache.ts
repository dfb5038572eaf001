/**
 * What this mount remembers under its leases: attributes, and the entries of directories (missing ones
 * too). It stands between vfs and the metadata link: it answers what it can, and learns from every reply.
 *
 * Rules. Nothing is answered without a lease, nor once the lease may have run out (`trustedMs`). A reply is
 * learned in the turn in which it arrives, before any recall that came behind it is obeyed. What this mount
 * changes itself is forgotten with the reply and learned anew; its leases stay. While the outcome of a change is
 * not known (`doubt`) nothing is remembered at all. `.` and `..` are the server's to answer.
 *
 * Replies may overtake each other by a little: entries are learned only from calls that began under the same
 * lease of the directory, and attributes only from a version that is not below one that was seen.
 *
 * INVARIANT: entries are kept only for inodes that have a lease.
 * It does not keep extents or data (Contents, FileState, ChunkReader), nor what is pending here.
 */
import { assert } from '../base/assert.js';
import { type Attr, isDir, isSameVersion } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import type { Taken } from '../proto/lease-methods.js';
import type { Changed, MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import type { LearnRules } from './learning.js';
import type { LeasedNames } from './leased-rows.js';

interface Leased {
  epoch: number;
  /** When it was learned, in the count of `moment`. */
  readonly since: number;
  /** The highest version that was seen: what is below it came late. */
  version: number;
  /** Undefined: changed here, and not learned again yet. */
  attr: Attr | undefined;
  /** Children by name (latin1); null: there is none. Created with the first. */
  children: Map<string, Ino | null> | undefined;
  /** Nothing is in it but `children`. */
  isComplete: boolean;
  /** The kernel keeps pages of the file from one open to the next. */
  keepsPages: boolean;
  /** Nobody else has a lease on it. */
  isExclusive: boolean;
  /** A directory that it was found in; it may have moved since. */
  foundIn: Ino | undefined;
}

export interface HeldLease {
  readonly ino: Ino;
  readonly epoch: number;
}

/** A lease that is being given up. */
export interface DroppedLease extends HeldLease {
  readonly keepsPages: boolean;
  readonly isExclusive: boolean;
}

const droppedLease = (ino: Ino, { epoch, keepsPages, isExclusive }: Leased): DroppedLease => ({
  ino,
  epoch,
  keepsPages,
  isExclusive,
});

type Method = keyof MetaMethods & string;

export interface LeaseCacheOptions {
  /** How much longer leases can be trusted, in milliseconds; not above 0: they cannot. */
  readonly trustedMs: () => number;
  /** More leases than this are not kept: the oldest go, and are given back. */
  readonly maxLeases: number;
  readonly giveBack: (leases: readonly DroppedLease[]) => void;
  /** An inode was changed, or may have been, by other means than LocalOperations; or is not remembered any more. */
  readonly onChanged?: (ino: Ino) => void;
  /** More is known of an inode than before. */
  readonly onLearned?: (ino: Ino) => void;
}

/** The epoch of a lease whose number the server has not said yet; it gives out none below 1. */
const BORN = 0;
const NO_NAMES: ReadonlyMap<string, Ino | null> = new Map();

/** Thrown often, and made once. */
const NO_SUCH_NAME = new FsError('ENOENT', 'lookup');

const keyOf = (name: Uint8Array): string =>
  Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1');
const isDots = (key: string): boolean => key === '.' || key === '..';

export class LeaseCache {
  readonly #options: LeaseCacheOptions;
  /** Least recently granted first. */
  readonly #leases = new Map<Ino, Leased>();
  /** Epochs on their way back to the server: replies may name them until it has them. */
  readonly #returning = new Set<number>();
  /** Changes of this mount that may have been carried out, or be carried out yet. */
  #doubts = 0;
  #moment = 0;
  /** Of the call whose reply is being learned. */
  #calledAt = 0;

  constructor(options: LeaseCacheOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#leases.size;
  }

  /** For how long the kernel may remember what this inode's lease covers: 0 without one. */
  heldForMs(ino: Ino): number {
    return this.#leases.has(ino) ? Math.max(this.#options.trustedMs(), 0) : 0;
  }

  /** A file is being opened: whether the pages that the kernel has of it were all read under this lease. */
  keepPages(ino: Ino): boolean {
    const leased = this.#leases.get(ino);
    if (leased === undefined || this.#options.trustedMs() <= 0) return false;
    const { keepsPages } = leased;
    leased.keepsPages = true;
    return keepsPages;
  }

  /** The reply that the server would give; undefined: ask it. **Errors:** ENOENT. */
  answer<K extends Method>(method: K, args: ArgsOf<MetaMethods[K]>): ReplyOf<MetaMethods[K]> | undefined;
  answer(method: Method, args: { ino?: Ino; parent?: Ino; name?: Uint8Array }): Attr | undefined {
    if (method !== 'getattr' && method !== 'lookup') return undefined;
    if (this.#options.trustedMs() <= 0) return undefined;
    if (args.ino !== undefined) return this.#leases.get(args.ino)?.attr;
    if (args.parent === undefined || args.name === undefined) return undefined;
    const child = this.#child(args.parent, keyOf(args.name));
    if (child === null) throw NO_SUCH_NAME;
    return child === undefined ? undefined : this.#leases.get(child)?.attr;
  }

  /** Whether there is no such name, for certain. */
  lacks(parent: Ino, name: Uint8Array): boolean {
    return this.#options.trustedMs() > 0 && this.#child(parent, keyOf(name)) === null;
  }

  #child(parent: Ino, key: string): Ino | null | undefined {
    if (isDots(key)) return undefined;
    const leased = this.#leases.get(parent);
    const child = leased?.children?.get(key);
    return child === undefined && leased?.isComplete === true ? null : child;
  }

  // Learning

  /** For `learn`: to be asked for when a call begins. */
  get moment(): number {
    return this.#moment;
  }

  /** A reply has come to a call that began at `calledAt`. */
  learn<K extends Method>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    reply: ReplyOf<MetaMethods[K]>,
    calledAt: number,
  ): void {
    this.#calledAt = calledAt;
    const rule: Rules[K] = RULES[method];
    rule?.(this, args, reply);
  }

  /** There is no such name. */
  missing({ parent, name }: { parent: Ino; name: Uint8Array }, calledAt: number): void {
    this.#calledAt = calledAt;
    this.entry(parent, name, null);
  }

  /** This mount has made it by itself; the server will give the lease's number. */
  born(attr: Attr): void {
    this.#under(attr, BORN, true);
    if (isDir(attr.mode)) this.made(attr.ino);
  }

  /** Nobody else can know of it yet: this mount has made it by itself, and the server has not answered for it. */
  isUnborn(ino: Ino): boolean {
    return this.#leases.get(ino)?.epoch === BORN;
  }

  /** The number of the lease on something that was `born`; false: it is not remembered any more. */
  leased(ino: Ino, epoch: number): boolean {
    const leased = this.#leases.get(ino);
    if (leased?.epoch === BORN) leased.epoch = epoch;
    return leased !== undefined;
  }

  /** This mount has removed it by itself. Answers its lease, if the server knows of one. */
  gone(ino: Ino): HeldLease | undefined {
    const epoch = this.#leases.get(ino)?.epoch ?? BORN;
    this.#leases.delete(ino);
    return epoch === BORN ? undefined : { ino, epoch };
  }

  isExclusive(ino: Ino): boolean {
    return this.#leases.get(ino)?.isExclusive === true;
  }

  /** Others may read it, and remember it, from now on. False: it is not remembered here. */
  shared(ino: Ino): boolean {
    const leased = this.#leases.get(ino);
    if (leased !== undefined) leased.isExclusive = false;
    return leased !== undefined;
  }

  /** This mount has changed a name by itself. */
  ownEntry(parent: Ino, name: Uint8Array, child: Ino | null): void {
    this.#calledAt = this.#moment;
    this.entry(parent, name, child);
  }

  /** Names of a directory as they were at a version; nothing, unless that is its present one. */
  adopt(ino: Ino, at: Pick<Attr, 'version' | 'ctime'>, names: LeasedNames): void {
    const leased = this.#leases.get(ino);
    if (leased?.attr === undefined || !isSameVersion(leased.attr, at)) return;
    const { children = new Map<string, Ino | null>() } = leased;
    // What is known already is not older.
    for (const [key, child] of names.children) if (!children.has(key)) children.set(key, child);
    leased.children = children;
    if (names.isComplete) leased.isComplete = true;
    this.#options.onLearned?.(ino);
  }

  /** The names of a directory, as far as they are known. */
  namesOf(ino: Ino): LeasedNames | undefined {
    const leased = this.#leases.get(ino);
    return leased && { children: leased.children ?? NO_NAMES, isComplete: leased.isComplete };
  }

  attr(attr: Attr): void {
    this.#under(attr, attr.lease, attr.exclusive === true);
  }

  #under(attr: Attr, lease: number | undefined, isExclusive: boolean): void {
    const { ino } = attr;
    const held = this.#leases.get(ino);
    if (lease !== undefined && held?.epoch !== lease) {
      if (this.#doubts > 0 || this.#returning.has(lease)) return;
      if (held !== undefined) this.#options.onChanged?.(ino);
      this.#leases.delete(ino);
      const since = ++this.#moment;
      const { version } = attr;
      this.#leases.set(ino, {
        epoch: lease,
        since,
        version,
        attr,
        children: undefined,
        isComplete: false,
        keepsPages: false,
        isExclusive,
        foundIn: undefined,
      });
      this.#trim();
      this.#options.onLearned?.(ino);
    } else if (held !== undefined && attr.version >= held.version) {
      held.attr = attr;
      held.version = attr.version;
      this.#options.onLearned?.(ino);
    }
  }

  #trim(): void {
    if (this.#leases.size <= this.#options.maxLeases) return;
    const dropped: DroppedLease[] = [];
    for (const [ino, leased] of this.#leases) {
      dropped.push(droppedLease(ino, leased));
      this.#options.onChanged?.(ino);
      this.#leases.delete(ino);
      if (dropped.length >= this.#options.maxLeases / 16) break;
    }
    for (const { epoch } of dropped) this.#returning.add(epoch);
    this.#options.giveBack(dropped);
  }

  entry(parent: Ino, name: Uint8Array, child: Ino | null): void {
    const leased = this.#leases.get(parent);
    const key = keyOf(name);
    if (leased === undefined || isDots(key)) return;
    if (leased.since > this.#calledAt) {
      // It may be older than what was learned under this lease, or newer: this mount's own change, which waited.
      leased.children?.delete(key);
      leased.isComplete = false;
      return;
    }
    leased.children ??= new Map();
    leased.children.set(key, child);
    const found = child === null ? undefined : this.#leases.get(child);
    if (found !== undefined) found.foundIn = parent;
    this.#options.onLearned?.(parent);
  }

  foundIn(ino: Ino): Ino | undefined {
    return this.#leases.get(ino)?.foundIn;
  }

  /**
   * The server has made a lease exclusive, or granted such a one. What was remembered under the one that it stands in
   * for stays. False: it is not kept.
   */
  taken({ attr, was }: Taken): boolean {
    const held = this.#leases.get(attr.ino);
    const { lease } = attr;
    if (lease !== undefined && held !== undefined && held.epoch === was) held.epoch = lease;
    this.attr(attr);
    const leased = this.#leases.get(attr.ino);
    if (leased === undefined || leased.epoch !== lease) return false;
    leased.isExclusive = true;
    return true;
  }

  /** All that is in a directory, of which the lease was `taken` and nothing was changed meanwhile. */
  takenEntries(parent: Ino, entries: NonNullable<Taken['entries']>): void {
    const leased = this.#leases.get(parent);
    if (leased === undefined) return;
    leased.children = new Map(entries.map(({ name, ino }) => [keyOf(name), ino]));
    leased.isComplete = true;
    this.#options.onLearned?.(parent);
  }

  /** This mount has changed it; `entries`: nobody knows how. */
  changed(ino: Ino, { entries = false }: { entries?: boolean } = {}): void {
    this.#options.onChanged?.(ino);
    const leased = this.#leases.get(ino);
    if (leased === undefined) return;
    leased.attr = undefined;
    if (!entries) return;
    leased.children = undefined;
    leased.isComplete = false;
  }

  /** A directory that was made here just now: it is empty. */
  made(ino: Ino): void {
    const leased = this.#leases.get(ino);
    if (leased !== undefined) leased.isComplete = true;
  }

  known(parent: Ino, name: Uint8Array): Ino | null | undefined {
    return this.#child(parent, keyOf(name));
  }

  // Forgetting

  /** Gives up what is recalled; answers what there was. */
  recalled(leases: readonly HeldLease[]): DroppedLease[] {
    return leases.flatMap(({ ino, epoch }) => {
      const leased = this.#leases.get(ino);
      // An older one has made way for this, even if that was not said here.
      if (leased === undefined || leased.epoch > epoch) return [];
      this.#leases.delete(ino);
      return [droppedLease(ino, leased)];
    });
  }

  /** They are the server's again. */
  returned(leases: readonly HeldLease[]): void {
    for (const { epoch } of leases) this.#returning.delete(epoch);
  }

  /**
   * A change of this mount was given up and may be carried out all the same. What it shows on is known to its
   * reply alone, and the server recalls nothing from whoever changes something: until `doubtOver` nothing is
   * remembered. Answers what there was, to be given back.
   */
  doubt(): DroppedLease[] {
    this.#doubts++;
    const dropped = this.clear();
    for (const { epoch } of dropped) this.#returning.add(epoch);
    return dropped;
  }

  doubtOver(): void {
    this.#doubts--;
    assert(this.#doubts >= 0, 'a doubt is over once');
  }

  /** The connection they were granted over is gone. Answers what there was. */
  clear(): DroppedLease[] {
    const dropped = [...this.#leases].map(([ino, leased]) => droppedLease(ino, leased));
    this.#leases.clear();
    return dropped;
  }
}

type Rules = LearnRules<LeaseCache>;

const made = (cache: LeaseCache, { parent, name }: { parent: Ino; name: Uint8Array }, attr: Attr): void => {
  cache.attr(attr);
  cache.changed(parent);
  cache.entry(parent, name, attr.ino);
};

const removed = (
  cache: LeaseCache,
  { parent, name }: { parent: Ino; name: Uint8Array },
  { changed = [] }: { changed?: readonly Changed[] | undefined },
): void => {
  for (const ino of [parent, ...changed.map((each) => each.ino)]) cache.changed(ino);
  cache.entry(parent, name, null);
};

const one = (cache: LeaseCache, _args: unknown, attr: Attr): void => cache.attr(attr);
const xattr = (cache: LeaseCache, { ino }: { ino: Ino }): void => cache.changed(ino);

/** What each reply says of what is remembered. */
const RULES: Rules = {
  lookup: (cache, { parent, name }, attr) => {
    cache.attr(attr);
    cache.entry(parent, name, attr.ino);
  },
  getattr: one,
  setattr: one,
  open: one,
  tmpfile: one,
  fallocate: one,
  create: (cache, args, { attr, created }) => {
    if (created) made(cache, args, attr);
    else {
      cache.attr(attr);
      cache.entry(args.parent, args.name, attr.ino);
    }
  },
  mknod: made,
  symlink: made,
  link: made,
  mkdir: (cache, args, attr) => {
    made(cache, args, attr);
    cache.made(attr.ino);
  },
  unlink: removed,
  rmdir: removed,
  rename: (cache, { parent, name, newParent, newName, mode, whiteout }, { changed = [] }) => {
    const moved = cache.known(parent, name);
    for (const ino of [parent, newParent, ...changed.map((each) => each.ino)]) cache.changed(ino);
    // Nothing was changed where both names were of one inode by then.
    const isPlain = mode !== 'exchange' && whiteout === undefined && changed.length > 0;
    if (!isPlain || moved === undefined || moved === null) {
      cache.changed(parent, { entries: true });
      cache.changed(newParent, { entries: true });
      return;
    }
    cache.entry(parent, name, null);
    cache.entry(newParent, newName, moved);
  },
  readdir: (cache, { ino }, { entries }) => {
    for (const { name, attr } of entries) {
      if (attr === undefined) continue;
      cache.attr(attr);
      cache.entry(ino, name, attr.ino);
    }
  },
  release: (cache, { inos }) => {
    for (const ino of inos) cache.changed(ino);
  },
  accessed: (cache, { files }) => {
    for (const { ino } of files) cache.changed(ino);
  },
  setxattr: xattr,
  removexattr: xattr,
  commit: (cache, _args, { attrs, missing }) => {
    for (const attr of attrs) cache.attr(attr);
    for (const ino of missing) cache.changed(ino);
  },
  copyRange: (cache, _args, { attr }) => cache.attr(attr),
  extents: (cache, _args, { attr }) => cache.attr(attr),
};
