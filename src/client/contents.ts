/**
 * What is in inodes, by version: the extents of files, the targets of symlinks, the listings of directories. A
 * version (with its time of change) has one content, whoever learned it and when; so this is answered from for
 * as long as `LeaseCache` knows that version to be the present one, and need not be told of any change.
 *
 * Listings come page by page, and no page says of which version it is: one that is known before the call and
 * after the reply, with no change of this mount under way, was so in between.
 *
 * INVARIANT: what is kept is complete, and no more than limits.contentsRemembered names and extents.
 */
import { assert } from '../base/assert.js';
import { type Attr, isDir, isSameVersion } from '../proto/attr.js';
import type { Extent } from '../proto/extent.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { DirEntry, MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { type LearnRules, type Present, unchangedSince } from './learning.js';
import type { LeasedNames } from './leased-rows.js';

type Method = keyof MetaMethods & string;
type Entry = Omit<DirEntry, 'attr'>;
export type Version = Pick<Attr, 'version' | 'ctime'>;

export type Content =
  | { readonly kind: 'extents'; readonly extents: readonly Extent[] }
  | { readonly kind: 'target'; readonly target: Uint8Array }
  | { readonly kind: 'listing'; readonly parent: Ino; readonly entries: readonly Entry[] };

interface Known {
  readonly at: Version;
  readonly content: Content;
}

/** Pages of a listing that is not complete yet. */
interface Listing {
  readonly at: Version;
  readonly entries: Entry[];
}

interface Asked {
  readonly ino?: Ino;
  readonly offset?: number;
  readonly after?: number;
  readonly limit?: number;
  readonly plus?: boolean;
}

export interface ContentsOptions extends Present {
  /** All names of a directory are known. */
  readonly onListed: (ino: Ino, at: Version, names: LeasedNames) => void;
}

/** Calls whose replies do not say of which version they are. */
const UNDATED: ReadonlySet<Method> = new Set(['readdir', 'readlink', 'getxattr', 'listxattr']);
const LISTINGS_UNDER_WAY = 64;

const weightOf = (content: Content): number => {
  if (content.kind === 'target') return 1;
  return 1 + (content.kind === 'extents' ? content.extents : content.entries).length;
};

export function namesOf(entries: readonly Entry[]): LeasedNames {
  const children = entries.map(({ name, ino }): [string, Ino] => [Buffer.from(name).toString('latin1'), ino]);
  return { children: new Map(children), isComplete: true };
}

export class Contents {
  readonly #options: ContentsOptions;
  /** Least recently learned first. */
  readonly #known = new Map<Ino, Known>();
  readonly #listings = new Map<Ino, Listing>();
  #weight = 0;

  constructor(options: ContentsOptions) {
    this.#options = options;
  }

  of(ino: Ino, at: Version): Content | undefined {
    const known = this.#known.get(ino);
    return known !== undefined && isSameVersion(known.at, at) ? known.content : undefined;
  }

  put(ino: Ino, at: Version, content: Content): void {
    if (weightOf(content) > limits.hintNames) return;
    this.#drop(ino);
    this.#known.set(ino, { at: { version: at.version, ctime: at.ctime }, content });
    this.#weight += weightOf(content);
    for (const oldest of this.#known.keys()) {
      if (this.#weight <= limits.contentsRemembered) break;
      this.#drop(oldest);
    }
  }

  #drop(ino: Ino): void {
    const known = this.#known.get(ino);
    if (known === undefined) return;
    this.#weight -= weightOf(known.content);
    this.#known.delete(ino);
  }

  clear(): void {
    this.#known.clear();
    this.#listings.clear();
    this.#weight = 0;
  }

  /** The reply that the server would give; undefined: ask it. */
  answer<K extends Method>(method: K, args: ArgsOf<MetaMethods[K]>): ReplyOf<MetaMethods[K]> | undefined;
  answer(method: Method, args: Asked): unknown {
    if (method !== 'extents' && method !== 'readlink' && method !== 'readdir') return undefined;
    const { ino } = args;
    const known = ino === undefined ? undefined : this.#known.get(ino);
    if (ino === undefined || known === undefined) return undefined;
    const attr = this.#options.attrOf(ino);
    if (attr === undefined || !isSameVersion(known.at, attr)) return undefined;
    const { content } = known;
    switch (content.kind) {
      case 'extents':
        if (method !== 'extents' || args.offset !== 0) return undefined;
        return { attr, extents: [...content.extents], next: null };
      case 'target':
        return method === 'readlink' ? { target: content.target } : undefined;
      case 'listing':
        return method === 'readdir' ? this.#page(content, args) : undefined;
    }
  }

  #page(
    { parent, entries }: Extract<Content, { kind: 'listing' }>,
    { after = 0, limit = 0, plus = false }: Asked,
  ): ReplyOf<MetaMethods['readdir']> | undefined {
    let [low, high] = [0, entries.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((entries[middle]?.cookie ?? 0) <= after) low = middle + 1;
      else high = middle;
    }
    const page = entries.slice(low, low + limit);
    const end = low + page.length === entries.length;
    if (!plus) return { entries: page, parent, end };
    const described: DirEntry[] = [];
    for (const entry of page) {
      const attr = this.#options.attrOf(entry.ino);
      if (attr === undefined) return undefined;
      described.push({ ...entry, attr });
    }
    return { entries: described, parent, end };
  }

  /** For `learn`, and that of Xattrs: to be asked when a call begins. */
  seen<K extends Method>(method: K, args: ArgsOf<MetaMethods[K]>): Attr | undefined;
  seen(method: Method, { ino }: Asked): Attr | undefined {
    return UNDATED.has(method) && ino !== undefined && this.#options.isQuiet()
      ? this.#options.attrOf(ino)
      : undefined;
  }

  /** A reply has come; `seen` as it was when the call began. */
  learn<K extends Method>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    reply: ReplyOf<MetaMethods[K]>,
    seen: Attr | undefined,
  ): void {
    const rule: Rules[K] = RULES[method];
    rule?.(this, args, reply, seen);
  }

  extents({ ino, offset }: Asked, reply: ReplyOf<MetaMethods['extents']>): void {
    const { attr, extents, next } = reply;
    if (ino === undefined || offset !== 0 || next !== null || extents.length > limits.hintExtents) return;
    this.put(ino, attr, { kind: 'extents', extents });
    this.#options.onLearned(ino);
  }

  target(ino: Ino, target: Uint8Array, seen: Attr | undefined): void {
    if (seen === undefined) return;
    this.put(ino, seen, { kind: 'target', target: Buffer.from(target) });
    this.#options.onLearned(ino);
  }

  listed(
    { ino, after }: { ino: Ino; after: number },
    { entries, parent, end }: ReplyOf<MetaMethods['readdir']>,
    seen: Attr | undefined,
  ): void {
    const now = unchangedSince(this.#options, ino, seen);
    const before = after === 0 ? undefined : this.#listings.get(ino);
    this.#listings.delete(ino);
    if (now === undefined || !isDir(now.mode)) return;
    if (after !== 0) {
      if (before === undefined || !isSameVersion(before.at, now)) return;
      if (before.entries.at(-1)?.cookie !== after) return;
    }
    // Names of a reply are views of all of its bytes.
    const page = entries.map(({ name, ino: child, kind, cookie }) => ({
      name: Buffer.from(name),
      ...{ ino: child, kind, cookie },
    }));
    const all = before === undefined ? page : [...before.entries, ...page];
    if (all.length >= limits.hintNames) return;
    if (!end) this.#under(ino, { at: now, entries: all });
    else {
      this.put(ino, now, { kind: 'listing', parent, entries: all });
      this.#options.onListed(ino, now, namesOf(all));
    }
  }

  #under(ino: Ino, listing: Listing): void {
    this.#listings.set(ino, listing);
    if (this.#listings.size <= LISTINGS_UNDER_WAY) return;
    for (const oldest of this.#listings.keys()) {
      this.#listings.delete(oldest);
      return;
    }
  }

  checkInvariants(): void {
    let weight = 0;
    for (const { content } of this.#known.values()) weight += weightOf(content);
    assert(weight === this.#weight, 'what is remembered is counted');
    assert(weight <= limits.contentsRemembered, 'what is remembered keeps to its bound');
  }
}

type Rules = LearnRules<Contents, [seen: Attr | undefined]>;
const RULES: Rules = {
  extents: (contents, args, reply) => contents.extents(args, reply),
  readlink: (contents, { ino }, { target }, seen) => contents.target(ino, target, seen),
  readdir: (contents, args, reply, seen) => contents.listed(args, reply, seen),
};
