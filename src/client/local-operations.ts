/**
 * Operations that this mount carries out by itself: the rules of names/ over rows that it has exclusive leases
 * on. What changes something is written into the journal before it is answered; the server does the same again,
 * with the same outcome, because nobody else could change these rows meanwhile.
 *
 * INVARIANT: nothing is done here while a change of this mount is on its way to the server, or may be: it could
 * be about the same rows. Whatever changes something there waits until the journal is empty.
 */
import type { Timespec } from '../base/clock.js';
import { attrOf } from '../names/inode.js';
import { type NamespaceMethod, namespace } from '../names/namespace.js';
import { type Answer, type Operation, type Outcome, runSync } from '../names/operation.js';
import { attrsOf, changedOf } from '../names/reply-attrs.js';
import type { InodeRow, RowChange, RowRead } from '../names/rows.js';
import { type Attr, isDir } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino, SessionId } from '../proto/ids.js';
import { JOURNALLED, type Journalled } from '../proto/lease-methods.js';
import { limits } from '../proto/limits.js';
import { type MetaMethods, metaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';

import type { Journal, JournalEntry } from './journal.js';
import type { ChangedState, Following, OwnState } from './kept-writes.js';
import type { HeldLease, LeaseCache } from './lease-cache.js';
import { LeasedRows, NOT_COVERED } from './leased-rows.js';
import type { ReservedIds } from './reserved-ids.js';
import { bytesOf, everySubject, type Subjects, subjectsOf } from './subjects.js';

type Method = keyof MetaMethods & string;

export interface LocalOperationsOptions {
  readonly cache: LeaseCache;
  readonly journal: Journal;
  readonly numbers: ReservedIds<Ino>;
  readonly now: () => Timespec;
  readonly session: () => SessionId | undefined;
  /** Whether leases can be trusted now. */
  readonly isTrusted: () => boolean;
  /** See KeptWrites.versions. */
  readonly follow: (states: readonly OwnState[]) => Following | undefined;
  /** The server has changed inodes for this mount. */
  readonly onChangedThere: (states: readonly ChangedState[]) => void;
  readonly onGone: (ino: Ino) => void;
  /** For tests. */
  readonly observer?: OwnObserver | undefined;
}

/** An operation that was carried out here. */
export interface OwnOperation {
  readonly method: NamespaceMethod;
  readonly args: unknown;
  readonly session: SessionId;
  readonly now: Timespec;
}

export interface OwnChange extends OwnOperation {
  /** What it went by. */
  readonly saw: Saw;
  readonly born: Ino | undefined;
  readonly changes: readonly RowChange[];
}

type Saw = ReadonlyMap<Ino, { readonly version: number; readonly ctime: Timespec }>;

/** Told of what is done here, in the turn in which it is done. */
export interface OwnObserver {
  changed(change: OwnChange): void;
  refused(operation: OwnOperation, error: FsError): void;
}

const journalled: ReadonlySet<string> = new Set(JOURNALLED);
export const isJournalled = (method: Method): method is Journalled => journalled.has(method);
/** About identifiers alone: they may go at any time. */
const APART: ReadonlySet<Method> = new Set(['reserveIds', 'abandonChunks', 'returnLeases', 'journal', 'map']);
const isNamespace = (method: Method): method is NamespaceMethod => method in namespace;

export class LocalOperations {
  readonly rows: LeasedRows;
  readonly #options: LocalOperationsOptions;
  readonly #onTheirWay = new Set<Promise<void>>();
  /** How many of those are about an inode. */
  readonly #changing = new Map<Ino, number>();
  /** Of inodes that were removed here, to be given back behind that entry of the journal. */
  #returns: { readonly lease: HeldLease; readonly behind: number }[] = [];

  constructor(options: LocalOperationsOptions) {
    this.#options = options;
    this.rows = new LeasedRows({
      namesOf: (ino) => options.cache.namesOf(ino),
      isExclusive: (ino) => options.cache.isExclusive(ino),
    });
  }

  /** Carries it out, if it can be here: undefined: the server has to. **Errors:** the method's; ENOSPC, EIO of this machine's disk. */
  run<K extends Method>(method: K, args: ArgsOf<MetaMethods[K]>): ReplyOf<MetaMethods[K]> | undefined;
  run(method: Method, args: Subjects): unknown {
    if (this.rows.size === 0 || !isNamespace(method) || !this.#options.isTrusted()) return undefined;
    const changes = metaMethods[method].kind === 'mutation';
    if (changes && (!isJournalled(method) || this.#onTheirWay.size > 0)) return undefined;
    if (changes && this.#options.journal.size >= limits.journalEntries) return undefined;
    if (!this.#mayRun(method, args)) return undefined;
    try {
      return this.#run(method, args);
    } catch (error) {
      if (error === NOT_COVERED) return undefined;
      throw error;
    }
  }

  /** A first look, because most of what is asked is not covered. */
  #mayRun(method: Method, args: Subjects): boolean {
    return everySubject(method, args, (ino) => this.rows.has(ino));
  }

  /** Whether there is no such extended attribute, for certain: what getxattr would have failed for. */
  lacksXattr(ino: Ino, name: Uint8Array): boolean {
    const { observer } = this.#options;
    const session = this.#options.session();
    if (session === undefined || !this.#options.isTrusted() || !this.rows.lacksXattr(ino, name)) return false;
    observer?.refused(
      { method: 'getxattr', args: { ino, name }, session, now: this.#options.now() },
      new FsError('ENODATA', 'getxattr'),
    );
    return true;
  }

  #run(method: NamespaceMethod, args: Subjects): unknown {
    // A driver's memory is another request's once this one is answered.
    if (isJournalled(method)) ownBytes(method, args);
    const session = this.#options.session();
    if (session === undefined) throw NOT_COVERED;
    const now = this.#options.now();
    const saw: Map<Ino, InodeRow> = new Map();
    let born: Ino | undefined;
    // The union of all methods' arguments cannot be told apart by TypeScript; the caller's types have done it.
    const operation = (
      namespace[method] as (
        context: { now: Timespec; session: SessionId },
        args: unknown,
      ) => Operation<unknown>
    )({ now, session }, args);
    const answer = (read: RowRead): Answer => {
      if (read.read === 'newIno') {
        born = this.#options.numbers.takeNow();
        if (born === undefined) throw NOT_COVERED;
        return born;
      }
      const known = this.rows.answer(read);
      if (read.read === 'inode') this.#saw(saw, read, known as InodeRow | undefined);
      return known;
    };
    const { reply, changes } = this.#outcome(operation, answer, { method, args, session, now });
    if (isJournalled(method)) this.#done(method, { method, args, session, now, saw, born, changes });
    return reply;
  }

  #outcome(
    operation: Operation<unknown>,
    answer: (read: RowRead) => Answer,
    own: OwnOperation,
  ): Outcome<unknown> {
    try {
      return runSync(operation, answer);
    } catch (error) {
      if (error instanceof FsError) this.#options.observer?.refused(own, error);
      throw error;
    }
  }

  #saw(saw: Map<Ino, InodeRow>, { ino }: RowRead & { read: 'inode' }, row: InodeRow | undefined): void {
    if (row === undefined || saw.size >= limits.journalSaw) throw NOT_COVERED;
    saw.set(ino, row);
  }

  #done(method: Journalled, change: OwnChange): void {
    if (change.changes.length > 0) {
      const { args, now, saw, born, changes } = change;
      const seen: JournalEntry['saw'] = [];
      const inodes: Ino[] = [];
      for (const [ino, { version, ctime }] of saw) {
        seen.push([ino, version, ctime]);
        inodes.push(ino);
      }
      if (born !== undefined) inodes.push(born);
      const states: InodeRow[] = [];
      for (const each of changes) if ('put' in each && each.put === 'inode') states.push(each.row);
      const following = this.#options.follow(states);
      const entry: JournalEntry =
        born === undefined ? { method, args, now, saw: seen } : { method, args, now, saw: seen, ino: born };
      this.#options.journal.append(entry, inodes, following?.write);
      following?.written();
      this.rows.apply(changes);
      this.#mirror(changes, born);
    }
    this.#options.observer?.changed(change);
  }

  /** What is remembered for reading follows. */
  #mirror(changes: readonly RowChange[], born: Ino | undefined): void {
    const { cache } = this.#options;
    for (const change of changes) {
      if ('put' in change) {
        if (change.put === 'inode') {
          const attr = attrOf(change.row);
          if (change.row.ino === born) cache.born(attr);
          else cache.attr(attr);
        } else if (change.put === 'dentry')
          cache.ownEntry(change.row.parent, change.row.name, change.row.ino);
        else if (change.put === 'reapable') this.#gone(change.ino);
      } else if ('delete' in change) {
        if (change.delete === 'inode') this.#gone(change.ino);
        else if (change.delete === 'dentry') cache.ownEntry(change.parent, change.name, null);
      }
    }
  }

  #gone(ino: Ino): void {
    const lease = this.#options.cache.gone(ino);
    if (lease !== undefined) this.#returns.push({ lease, behind: this.#options.journal.last });
    this.#options.onGone(ino);
  }

  /** The server has carried out entries up to this one. Answers the leases that are not needed any more. */
  answered({ leases }: { leases: readonly HeldLease[] }, last: number): HeldLease[] {
    const unknown = leases.filter(({ ino, epoch }) => !this.#options.cache.leased(ino, epoch));
    const due = this.#returns.filter(({ behind }) => behind <= last);
    this.#returns = this.#returns.filter(({ behind }) => behind > last);
    return [...unknown, ...due.map(({ lease }) => lease)];
  }

  /** Whether it has to wait until the journal is empty. */
  mustWait(method: Method, args: Subjects): boolean {
    const { journal } = this.#options;
    if (journal.size === 0 || APART.has(method)) return false;
    const isAbout = isNamespace(method) || method === 'setlk' || method === 'getlk';
    if (isNamespace(method) && metaMethods[method].kind === 'mutation') return true;
    if (!isAbout) return method === 'sync' || method === 'statfs';
    const { ino, parent } = args;
    return [ino, parent].some((each) => each !== undefined && journal.isDirty(each));
  }

  /** Whether a reply says of some inode what was so before the journal. */
  isBehind<K extends Method>(method: K, reply: ReplyOf<MetaMethods[K]>): boolean {
    const { journal } = this.#options;
    if (journal.size === 0 || !isNamespace(method)) return false;
    return attrsOf(method, reply as never).some(({ ino }) => journal.isDirty(ino));
  }

  /** It is this mount's alone, and all of it is known. */
  isOwn(ino: Ino): boolean {
    return this.rows.has(ino);
  }

  /** No change of this mount is on its way to the server. */
  get isQuiet(): boolean {
    return this.#onTheirWay.size === 0;
  }

  /** Resolves when what is on its way now has an outcome, which is known here; undefined: nothing is. */
  untilQuiet(): Promise<unknown> | undefined {
    return this.isQuiet ? undefined : Promise.all(this.#onTheirWay);
  }

  /** The same, where that is all that keeps a change from being made here. */
  heldUp(method: Method, args: Subjects): Promise<unknown> | undefined {
    if (this.isQuiet || !isJournalled(method) || !this.#options.isTrusted()) return undefined;
    return this.#mayRun(method, args) ? this.untilQuiet() : undefined;
  }

  /** A call goes to the server; to be called when it has an outcome and no answer comes any more. */
  sending(method: Method, args: Subjects): () => void {
    if (!isNamespace(method) || metaMethods[method].kind !== 'mutation') return () => {};
    let over = (): void => {};
    const call = new Promise<void>((resolve) => {
      over = resolve;
    });
    const inodes = subjectsOf(args);
    this.#onTheirWay.add(call);
    for (const ino of inodes) this.#changing.set(ino, (this.#changing.get(ino) ?? 0) + 1);
    return () => {
      this.#onTheirWay.delete(call);
      for (const ino of inodes) {
        const left = (this.#changing.get(ino) ?? 0) - 1;
        if (left > 0) this.#changing.set(ino, left);
        else this.#changing.delete(ino);
      }
      over();
    };
  }

  /** The server is changing an inode for this mount. */
  isChanging(ino: Ino): boolean {
    return this.#changing.has(ino);
  }

  /** The server has made something for this mount alone. */
  made<K extends Method>(method: K, args: ArgsOf<MetaMethods[K]>, reply: ReplyOf<MetaMethods[K]>): void;
  made(method: Method, args: Subjects, reply: unknown): void {
    if (!isNamespace(method)) return;
    const changes = metaMethods[method].kind === 'mutation';
    if (changes) for (const ino of subjectsOf(args)) this.rows.drop(ino);
    if (changes) this.#options.onChangedThere(changedOf(method, reply as never));
    for (const attr of attrsOf(method, reply as never)) {
      // While the outcome of some change is not known nothing is learned.
      if (attr.exclusive !== true || !this.#options.cache.isExclusive(attr.ino)) continue;
      const { exclusive: _exclusive, lease: _lease, ...plain }: Attr = attr;
      const parent = isDir(attr.mode) ? (args.parent ?? null) : null;
      this.rows.adoptNew({ ...plain, parent, target: args.target ?? null }, method === 'create');
      void this.#options.numbers.prepare();
    }
  }

  /**
   * The state of a file that is this mount's alone, and of which a write changes no more than bytes, size and
   * times; undefined: it is not such a file.
   */
  stateOf(ino: Ino): Pick<Attr, 'version' | 'ctime'> | undefined {
    if (!this.rows.has(ino) || !this.#options.isTrusted()) return undefined;
    // File capabilities and ACLs go, or change, with the commit.
    if ((this.rows.answer({ read: 'xattrs', ino }) as unknown[]).length > 0) return undefined;
    return this.rows.answer({ read: 'inode', ino }) as InodeRow | undefined;
  }

  /** Somebody else is to see these, or to change them. Nothing more is done to them here; never fails. */
  async settle(inodes: readonly Ino[]): Promise<void> {
    const { journal } = this.#options;
    for (const ino of inodes) this.rows.drop(ino);
    while (inodes.some((ino) => journal.isDirty(ino))) if (!(await this.#flushed())) return;
  }

  async settleAll(): Promise<void> {
    while (this.#options.journal.size > 0) if (!(await this.#flushed())) return;
  }

  /** False: there is nothing to wait for any more. */
  async #flushed(): Promise<boolean> {
    const { journal } = this.#options;
    // It goes on being tried, and is told in the log.
    await journal.flush().catch(() => {});
    return !journal.isClosed;
  }

  clear(): void {
    this.rows.clear();
    this.#returns = [];
  }
}

/** Puts copies in place of names and values. */
function ownBytes(method: Method, args: Record<string, unknown>): void {
  for (const field of bytesOf(method)) {
    const value = args[field];
    if (value instanceof Uint8Array) args[field] = Buffer.from(value);
  }
}
