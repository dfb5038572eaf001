/**
 * Writes down what is known under leases (hints.ts), in the background, a little at a time, and what is left of
 * it at an unmount.
 *
 * INVARIANT: what is written of an inode is of one version that the server has, as far as a lease in force says:
 * nothing that is only in the journal; no names while a change of this mount is on its way, because attributes
 * and names follow it one after the other.
 */
import type { Clock, Timer } from '../base/clock.js';
import { type Attr, isDir, isRegular, isSymlink } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { type Content, type Contents, namesOf } from './contents.js';
import type { Hint, Hints } from './hints.js';
import type { Journal } from './journal.js';
import type { LeaseCache } from './lease-cache.js';
import type { LocalOperations } from './local-operations.js';
import type { KnownXattrs, Xattrs } from './xattrs.js';

export interface RememberingOptions {
  readonly clock: Clock;
  readonly hints: Hints;
  readonly leases: LeaseCache;
  readonly contents: Contents;
  readonly xattrs: Xattrs;
  readonly own: Pick<LocalOperations, 'isQuiet' | 'run' | 'isOwn'>;
  readonly journal: Pick<Journal, 'isDirty'>;
}

/** Plain attributes: a lease is not remembered. */
function plain({ lease: _lease, exclusive: _exclusive, ...attr }: Attr): Attr {
  return attr;
}

export class Remembering {
  readonly #options: RememberingOptions;
  /** Of which more is known than is written. */
  #learned = new Set<Ino>();
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(options: RememberingOptions) {
    this.#options = options;
  }

  /** More is known of it. */
  learned(ino: Ino): void {
    this.#learned.add(ino);
    if (this.#timer === undefined) this.#later(limits.hintDelayMs);
  }

  #later(delayMs: number): void {
    if (this.#isClosed) return;
    const fire = (): void => {
      this.#timer = undefined;
      const isFull = this.#slice() >= limits.hintsPerSlice;
      if (this.#learned.size > 0) this.#later(isFull ? limits.hintPauseMs : limits.hintDelayMs);
    };
    this.#timer = this.#options.clock.after(delayMs, fire, { background: true });
  }

  /** Writes some; answers how many. */
  #slice(): number {
    const hints: Hint[] = [];
    const notYet: Ino[] = [];
    for (const ino of this.#learned) {
      if (hints.length >= limits.hintsPerSlice || notYet.length >= limits.hintsPerSlice) break;
      this.#learned.delete(ino);
      const hint = this.#hint(ino);
      if (hint === 'later') notYet.push(ino);
      else if (hint !== undefined) hints.push(hint);
    }
    this.#options.hints.put(hints);
    for (const ino of notYet) this.#learned.add(ino);
    return hints.length;
  }

  /** What is certain of an inode now; undefined: nothing is. */
  #hint(ino: Ino): Hint | 'later' | undefined {
    const { leases, own, journal } = this.#options;
    const attr = leases.answer('getattr', { ino });
    // Without a name it may be gone at any time.
    if (attr === undefined || attr.nlink === 0) return undefined;
    if (journal.isDirty(ino) || (isDir(attr.mode) && !own.isQuiet)) return 'later';
    const content = this.#content(attr);
    const names = isDir(attr.mode) ? this.#names(ino, content) : { names: [], isComplete: false };
    return { attr: plain(attr), ...names, content, xattrs: this.#xattrs(attr) };
  }

  #content(attr: Attr): Content | undefined {
    return this.#options.contents.of(attr.ino, attr) ?? this.#ownContent(attr);
  }

  /** Of what this mount has to itself, and hence asks nobody about. */
  #ownContent({ ino, mode }: Attr): Content | undefined {
    const { own } = this.#options;
    if (!own.isOwn(ino)) return undefined;
    if (isSymlink(mode)) {
      const reply = own.run('readlink', { ino });
      return reply && { kind: 'target', target: reply.target };
    }
    if (isRegular(mode)) {
      const reply = own.run('extents', { ino, offset: 0, length: Number.MAX_SAFE_INTEGER });
      const isWhole = reply?.next === null && reply.extents.length <= limits.hintExtents;
      return isWhole ? { kind: 'extents', extents: reply.extents } : undefined;
    }
    const limit = limits.readdirPageEntries;
    if (!isDir(mode) || (this.#options.leases.namesOf(ino)?.children.size ?? 0) > limit) return undefined;
    const reply = own.run('readdir', { ino, after: 0, limit, plus: false });
    return reply?.end === true
      ? { kind: 'listing', parent: reply.parent, entries: reply.entries }
      : undefined;
  }

  #xattrs(attr: Attr): KnownXattrs | undefined {
    const { xattrs, own } = this.#options;
    const isNone = own.isOwn(attr.ino) && own.run('listxattr', { ino: attr.ino })?.names.length === 0;
    return isNone ? { values: [], names: [] } : xattrs.of(attr.ino, attr);
  }

  #names(ino: Ino, content: Content | undefined): Pick<Hint, 'names' | 'isComplete'> {
    const known = this.#options.leases.namesOf(ino);
    const listed = content?.kind === 'listing' ? namesOf(content.entries).children : new Map();
    const names: [string, Ino | null][] = [];
    let isAll = true;
    for (const entry of known?.children ?? []) {
      if (listed.has(entry[0])) continue;
      isAll = names.length < limits.hintNames;
      if (!isAll) break;
      names.push(entry);
    }
    const isComplete = content?.kind === 'listing' || (known?.isComplete === true && isAll);
    return { names, isComplete };
  }

  /** Writes all that can be written, as far as there is time. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#timer?.cancel();
    const { clock } = this.#options;
    const endMs = clock.monotonicMs() + limits.hintCloseMs;
    while (clock.monotonicMs() < endMs && this.#slice() > 0)
      await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
