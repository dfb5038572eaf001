/**
 * Extended attributes of inodes, by version, as `Contents` has what is in them: `ls -l` asks for two of every file,
 * which hardly any has. That there is none of a name is remembered, too.
 *
 * INVARIANT: no more than limits.xattrsRemembered inodes, of each no more than VALUES, none of them large.
 */
import { type Attr, isSameVersion } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import type { Version } from './contents.js';
import { type LearnRules, type Present, unchangedSince } from './learning.js';

type Method = keyof MetaMethods & string;

/** Names as latin1. */
export interface KnownXattrs {
  /** Null: there is none. */
  readonly values: readonly (readonly [string, Uint8Array | null])[];
  /** Of all that there are; null: not known. */
  readonly names: readonly string[] | null;
}

interface Known {
  readonly at: Version;
  readonly values: Map<string, Uint8Array | null>;
  names: readonly string[] | null;
}

interface Asked {
  readonly ino?: Ino;
  readonly name?: Uint8Array;
}

const VALUES = 16;
const VALUE_BYTES = 1024;

const keyOf = (name: Uint8Array): string => Buffer.from(name).toString('latin1');

export class Xattrs {
  readonly #options: Present;
  /** Least recently learned first. */
  readonly #known = new Map<Ino, Known>();

  constructor(options: Present) {
    this.#options = options;
  }

  of(ino: Ino, at: Version): KnownXattrs | undefined {
    const known = this.#known.get(ino);
    if (known === undefined || !isSameVersion(known.at, at)) return undefined;
    return { values: [...known.values], names: known.names };
  }

  put(ino: Ino, at: Version, { values, names }: KnownXattrs): void {
    this.#set(ino, { at, values: new Map(values), names });
  }

  #set(ino: Ino, known: Known): void {
    this.#known.delete(ino);
    this.#known.set(ino, known);
    if (this.#known.size <= limits.xattrsRemembered) return;
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest);
      return;
    }
  }

  clear(): void {
    this.#known.clear();
  }

  /** The reply that the server would give; undefined: ask it. **Errors:** ENODATA. */
  answer<K extends Method>(method: K, args: ArgsOf<MetaMethods[K]>): ReplyOf<MetaMethods[K]> | undefined;
  answer(method: Method, { ino, name }: Asked): unknown {
    if ((method !== 'getxattr' && method !== 'listxattr') || ino === undefined) return undefined;
    const known = this.#known.get(ino);
    const attr = known === undefined ? undefined : this.#options.attrOf(ino);
    if (known === undefined || attr === undefined || !isSameVersion(known.at, attr)) return undefined;
    const { names, values } = known;
    if (method === 'listxattr')
      return names === null ? undefined : { names: names.map((each) => Buffer.from(each, 'latin1')) };
    if (name === undefined) return undefined;
    const key = keyOf(name);
    const value = values.get(key);
    if (value === null || (names !== null && !names.includes(key))) throw new FsError('ENODATA', method);
    return value && { value };
  }

  /** A reply has come; `seen` as Contents saw it when the call began. */
  learn<K extends Method>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    reply: ReplyOf<MetaMethods[K]>,
    seen: Attr | undefined,
  ): void {
    const rule: Rules[K] = RULES[method];
    rule?.(this, args, reply, seen);
  }

  /** A call has failed: if there is no such attribute, that is known from now on. */
  learnMissing(method: Method, { ino, name }: Asked, error: unknown, seen: Attr | undefined): void {
    const isMissing = method === 'getxattr' && error instanceof FsError && error.code === 'ENODATA';
    if (isMissing && ino !== undefined && name !== undefined) this.value(ino, name, null, seen);
  }

  value(ino: Ino, name: Uint8Array, value: Uint8Array | null, seen: Attr | undefined): void {
    if (value !== null && value.length > VALUE_BYTES) return;
    const known = this.#at(ino, seen);
    if (known === undefined || known.values.size >= VALUES) return;
    known.values.set(keyOf(name), value && Buffer.from(value));
    this.#options.onLearned(ino);
  }

  listed(ino: Ino, names: readonly Uint8Array[], seen: Attr | undefined): void {
    if (names.length > VALUES) return;
    const known = this.#at(ino, seen);
    if (known === undefined) return;
    known.names = names.map(keyOf);
    this.#options.onLearned(ino);
  }

  /** What is known of the version that was there from the call to the reply; undefined: that is not certain. */
  #at(ino: Ino, seen: Attr | undefined): Known | undefined {
    const now = unchangedSince(this.#options, ino, seen);
    if (now === undefined) return undefined;
    const before = this.#known.get(ino);
    if (before !== undefined && isSameVersion(before.at, now)) return before;
    const { version, ctime } = now;
    const known: Known = { at: { version, ctime }, values: new Map(), names: null };
    this.#set(ino, known);
    return known;
  }
}

type Rules = LearnRules<Xattrs, [seen: Attr | undefined]>;
const RULES: Rules = {
  getxattr: (xattrs, { ino, name }, { value }, seen) => xattrs.value(ino, name, value, seen),
  listxattr: (xattrs, { ino }, { names }, seen) => xattrs.listed(ino, names, seen),
};
