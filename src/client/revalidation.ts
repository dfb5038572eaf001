/**
 * Brings back what was known of inodes before (hints.ts), under leases of now: the first time that a call is about
 * one of which there is a hint, the server is asked whether its version is still the present one, together with
 * what is in it as far as that is known, and further down; the more, the more such calls there are. What is
 * unchanged is put where it would be had it been fetched; what is not is dropped and fetched.
 *
 * Each hint is asked about once over a connection; one of what another mount has to itself at that moment is used or
 * dropped when its version is known otherwise. INVARIANT: nothing is put anywhere but under a lease.
 */
import { makeLog } from '../base/log.js';
import { type Attr, isSameVersion } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { type Contents, namesOf } from './contents.js';
import type { Hint, Hints } from './hints.js';
import type { LeaseCache } from './lease-cache.js';
import type { Xattrs } from './xattrs.js';

const log = makeLog('client');

type Method = keyof MetaMethods & string;

export interface RevalidationOptions {
  readonly hints: Hints;
  readonly leases: LeaseCache;
  readonly contents: Contents;
  readonly xattrs: Xattrs;
  /** It was changed here, and the server does not know. */
  readonly isDirty: (ino: Ino) => boolean;
  readonly ask: (args: ArgsOf<MetaMethods['revalidate']>) => Promise<ReplyOf<MetaMethods['revalidate']>>;
}

interface Subjects {
  readonly ino?: Ino;
  readonly parent?: Ino;
  readonly name?: Uint8Array;
}

/** The calls that are answered from what a hint brings back. */
const ANSWERED: ReadonlySet<Method> = new Set([
  ...(['lookup', 'getattr', 'readdir', 'readlink', 'extents', 'getxattr', 'listxattr'] as const),
]);

export class Revalidation {
  readonly #options: RevalidationOptions;
  #untried = new Set<Ino>();
  readonly #underWay = new Map<Ino, Promise<void>>();
  /** Asked about, and another mount's alone then. */
  #unsure = new Map<Ino, Hint>();
  #batch: number = limits.revalidatedAtFirst;

  constructor(options: RevalidationOptions) {
    this.#options = options;
  }

  /** There is a new connection: nothing is leased over it. */
  restart(): void {
    this.#untried = new Set(this.#options.hints.inodes());
    this.#unsure.clear();
    this.#batch = limits.revalidatedAtFirst;
  }

  /** What a call has to wait for, before it is tried again; undefined: nothing. Never fails. */
  before<K extends Method>(method: K, args: ArgsOf<MetaMethods[K]>): Promise<void> | undefined;
  before(method: Method, args: Subjects): Promise<void> | undefined {
    if (this.#untried.size + this.#underWay.size + this.#unsure.size === 0) return undefined;
    if (!ANSWERED.has(method)) return undefined;
    const subjects = this.#subjects(method, args);
    if (subjects.map((ino) => this.#isSettled(ino)).includes(true)) return Promise.resolve();
    const underWay = new Set(subjects.flatMap((ino) => this.#underWay.get(ino) ?? []));
    if (underWay.size > 0) return Promise.all(underWay).then(() => {});
    const untried = subjects.filter((ino) => this.#untried.has(ino));
    return untried.length === 0 ? undefined : this.#revalidate(untried);
  }

  /** Whether a hint that was not used is now: its version is known to be the present one. */
  #isSettled(ino: Ino): boolean {
    const hint = this.#unsure.get(ino);
    const { hints, leases, isDirty } = this.#options;
    const known = hint && leases.answer('getattr', { ino });
    if (hint === undefined || known === undefined) return false;
    this.#unsure.delete(ino);
    const isUsed = isSameVersion(known, hint.attr) && !isDirty(ino);
    if (isUsed) this.#adopt(hint);
    else hints.forget([ino]);
    return isUsed;
  }

  /** The inodes that the answer is about. */
  #subjects(method: Method, { ino, parent, name }: Subjects): Ino[] {
    const { leases, contents } = this.#options;
    if (method === 'lookup' && parent !== undefined && name !== undefined) {
      const child = leases.known(parent, name);
      return child === undefined || child === null ? [parent] : [parent, child];
    }
    if (ino === undefined) return [];
    if (method !== 'readdir') return [ino];
    const attr = leases.answer('getattr', { ino });
    const content = attr === undefined ? undefined : contents.of(ino, attr);
    return content?.kind === 'listing' ? [ino, ...content.entries.map((entry) => entry.ino)] : [ino];
  }

  #revalidate(subjects: readonly Ino[]): Promise<void> {
    const picked = this.#pick(subjects);
    if (picked.length === 0) return Promise.resolve();
    this.#batch = Math.min(2 * this.#batch, limits.revalidatedAtOnce);
    const done = this.#ask(picked).finally(() => {
      for (const { attr } of picked)
        if (this.#underWay.get(attr.ino) === done) this.#underWay.delete(attr.ino);
    });
    for (const { attr } of picked) this.#underWay.set(attr.ino, done);
    return done;
  }

  /** Hints of these inodes, and of what is in and below them, that the server has to be asked about. */
  #pick(subjects: readonly Ino[]): Hint[] {
    const { hints, leases, isDirty } = this.#options;
    const queue = subjects.slice(0, limits.revalidatedAtOnce);
    const queued = new Set(queue);
    const picked: Hint[] = [];
    const stale: Ino[] = [];
    let count = Math.max(this.#batch, queue.length);
    for (const [at, ino] of queue.entries()) {
      if (picked.length >= count) break;
      if (!this.#untried.delete(ino)) continue;
      const hint = hints.get(ino);
      if (hint === undefined || isDirty(ino)) continue;
      const known = leases.answer('getattr', { ino });
      if (known === undefined) picked.push(hint);
      else if (isSameVersion(known, hint.attr)) this.#adopt(hint);
      else {
        stale.push(ino);
        continue;
      }
      const children = childrenOf(hint).filter((child) => !queued.has(child));
      // A directory is worth having with all that is in it.
      if (at === 0) count = Math.min(Math.max(count, 1 + children.length), limits.revalidatedAtOnce);
      if (queue.length >= 2 * limits.revalidatedAtOnce) continue;
      for (const child of children) queued.add(child);
      queue.push(...children);
    }
    hints.forget(stale);
    return picked;
  }

  async #ask(picked: readonly Hint[]): Promise<void> {
    const { hints, leases, isDirty, ask } = this.#options;
    const inodes = picked.map(({ attr }): [Ino, number, Attr['ctime']] => [
      attr.ino,
      attr.version,
      attr.ctime,
    ]);
    let reply: ReplyOf<MetaMethods['revalidate']>;
    try {
      reply = await ask({ inodes });
    } catch (error) {
      log.info('what was remembered cannot be revalidated, and is fetched', { error: String(error) });
      return;
    }
    const left = new Map(picked.map((hint) => [hint.attr.ino, hint]));
    for (const [ino, lease, atime] of reply.unchanged) {
      const hint = left.get(ino);
      left.delete(ino);
      if (hint === undefined || isDirty(ino)) continue;
      leases.attr({ ...hint.attr, atime, lease });
      this.#adopt(hint);
    }
    for (const ino of reply.unleased) {
      const hint = left.get(ino);
      if (hint === undefined || !left.delete(ino)) continue;
      this.#unsure.set(ino, hint);
    }
    hints.forget([...left.keys()]);
  }

  /** Where the lease or a newer version is not there after all, none of this is used. */
  #adopt({ attr, names, isComplete, content, xattrs }: Hint): void {
    const { leases, contents } = this.#options;
    if (xattrs !== undefined) this.#options.xattrs.put(attr.ino, attr, xattrs);
    if (content !== undefined) contents.put(attr.ino, attr, content);
    const listed = content?.kind === 'listing' ? namesOf(content.entries).children : [];
    if (names.length === 0 && !isComplete) return;
    leases.adopt(attr.ino, attr, { children: new Map([...listed, ...names]), isComplete });
  }
}

function childrenOf({ content, names }: Hint): Ino[] {
  const listed = content?.kind === 'listing' ? content.entries.map(({ ino }) => ino) : [];
  return [...listed, ...names.flatMap(([, ino]) => ino ?? [])];
}
