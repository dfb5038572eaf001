/**
 * The metadata server's store in a simulation: rows in memory, everything that is committed told to Logical,
 * together with whether a request asked for it or a journal brought it: a journal is asked for its number
 * before its entries are carried out, and given the new one behind them, all in one turn. Each server that is started gets one of its own over the same rows; the one of a server that
 * crashed takes nothing any more.
 */
import { assert } from '../../src/base/assert.js';
import { compareTimespec } from '../../src/base/clock.js';
import type { MemoryStore } from '../../src/meta/memory-store.js';
import type { IdKind, InodeRange, MetaStore } from '../../src/meta/store.js';
import type { Answer } from '../../src/names/operation.js';
import type { InodeRow, RowChange, RowRead } from '../../src/names/rows.js';
import type { Ino, SessionId } from '../../src/proto/ids.js';
import type { History, JournalledEntry } from './history.js';
import type { Logical } from './logical.js';

interface Applied {
  readonly changes: readonly RowChange[];
  /** Which entry it would be, if it came with a journal. */
  readonly entry: JournalledEntry | undefined;
}

export class RecordingStore implements MetaStore {
  readonly #rows: MemoryStore;
  readonly #history: History;
  readonly #logical: Logical;
  #isIn = false;
  /** Applied, and not told to Logical. */
  #applied: Applied[] = [];
  /** What may be carried out of a journal now. */
  #journal: { readonly session: SessionId; entries: JournalledEntry[] } | undefined;
  /** Its server has crashed. */
  isDead = false;
  /** Planted bugs: see planted-bugs.ts. */
  forgetsReplies = false;
  altered: (changes: readonly RowChange[]) => readonly RowChange[] = (changes) => changes;

  constructor(rows: MemoryStore, { history, logical }: { history: History; logical: Logical }) {
    this.#rows = rows;
    this.#history = history;
    this.#logical = logical;
  }

  journalled(session: SessionId): number {
    const applied = this.#rows.journalled(session);
    if (!this.#isIn) return applied;
    this.#direct();
    this.#journal = { session, entries: this.#history.journalFrom(session, applied + 1) };
    return applied;
  }

  setJournalled(session: SessionId, applied: number): void {
    const before = this.#rows.journalled(session);
    this.#rows.setJournalled(session, applied);
    const carriedOut = this.#applied.splice(0);
    this.#journal = undefined;
    for (const entry of this.#history.journalFrom(session, before + 1)) {
      if (entry.number > applied) break;
      const [first] = carriedOut;
      if (first === undefined || first.entry?.number !== entry.number) this.#logical.refused(session, entry);
      else this.#logical.carriedOut(session, entry, carriedOut.shift()?.changes ?? []);
    }
    assert(carriedOut.length === 0, 'every change of a journal has an entry');
  }

  #inode(ino: Ino): InodeRow | undefined {
    return this.#rows.answer({ read: 'inode', ino }) as InodeRow | undefined;
  }

  /** What was applied was not a journal's. */
  #direct(): void {
    this.#journal = undefined;
    for (const { changes } of this.#applied.splice(0)) this.#logical.direct(changes);
  }

  putInodeRange(range: InodeRange): void {
    this.#rows.putInodeRange(range);
  }

  inodeOwner(ino: Ino): SessionId | undefined {
    return this.#rows.inodeOwner(ino);
  }

  get filesystem(): MetaStore['filesystem'] {
    return this.#rows.filesystem;
  }

  get epoch(): number {
    return this.#rows.epoch;
  }

  transaction<T>(durable: boolean, body: () => T): T {
    assert(!this.isDead, 'a server that crashed does nothing');
    this.#isIn = true;
    try {
      return this.#rows.transaction(durable, body);
    } finally {
      this.#isIn = false;
      this.#direct();
    }
  }

  answer(read: RowRead): Answer {
    return this.#rows.answer(read);
  }

  apply(changes: readonly RowChange[]): void {
    const altered = this.altered(changes);
    const journal = this.#journal;
    const entry = journal?.entries.find(({ saw, isCommit }) => {
      const isAsSeen = ([ino, version, ctime]: (typeof saw)[number]): boolean => {
        const row = this.#inode(ino);
        return row?.version === version && compareTimespec(row.ctime, ctime) === 0;
      };
      return isCommit ? saw.some(isAsSeen) : saw.every(isAsSeen);
    });
    if (journal !== undefined && entry !== undefined)
      journal.entries = journal.entries.filter(({ number }) => number > entry.number);
    this.#rows.apply(altered);
    this.#applied.push({ changes: altered, entry });
  }

  reply(session: SessionId, sequence: number): Uint8Array | undefined {
    this.#direct();
    return this.forgetsReplies ? undefined : this.#rows.reply(session, sequence);
  }

  putReply(session: SessionId, sequence: number, reply: Uint8Array): void {
    this.#direct();
    if (this.#rows.reply(session, sequence) === undefined) this.#rows.putReply(session, sequence, reply);
    this.#history.answered(session, sequence, reply);
  }

  reapable(limit: number): Ino[] {
    return this.#rows.reapable(limit);
  }

  allocate(kind: IdKind, count: number): number {
    return this.#rows.allocate(kind, count);
  }

  nextId(kind: IdKind): number {
    return this.#rows.nextId(kind);
  }

  sessions: MetaStore['sessions'] = () => this.#rows.sessions();
  putSession: MetaStore['putSession'] = (row) => this.#rows.putSession(row);
  deleteSession: MetaStore['deleteSession'] = (id) => this.#rows.deleteSession(id);
  openCount: MetaStore['openCount'] = (session) => this.#rows.openCount(session);
  pruneReplies: MetaStore['pruneReplies'] = (session, below) => this.#rows.pruneReplies(session, below);
  keptReplies: MetaStore['keptReplies'] = (session) => this.#rows.keptReplies(session);
  locks: MetaStore['locks'] = () => this.#rows.locks();
  putLock: MetaStore['putLock'] = (lock) => this.#rows.putLock(lock);
  deleteLock: MetaStore['deleteLock'] = (lock) => this.#rows.deleteLock(lock);
  deleteLocks: MetaStore['deleteLocks'] = (session) => this.#rows.deleteLocks(session);
  ranges: MetaStore['ranges'] = () => this.#rows.ranges();
  putRange: MetaStore['putRange'] = (range) => this.#rows.putRange(range);
  takeGarbage: MetaStore['takeGarbage'] = (limit) => this.#rows.takeGarbage(limit);
  garbageCount: MetaStore['garbageCount'] = (limit) => this.#rows.garbageCount(limit);
  hasChunk: MetaStore['hasChunk'] = (id) => this.#rows.hasChunk(id);
  retire: MetaStore['retire'] = (ids) => this.#rows.retire(ids);
  isRetired: MetaStore['isRetired'] = (id) => this.#rows.isRetired(id);
  forgetRetired: MetaStore['forgetRetired'] = (first, last) => this.#rows.forgetRetired(first, last);
  setEpoch: MetaStore['setEpoch'] = (epoch) => this.#rows.setEpoch(epoch);
  servers: MetaStore['servers'] = () => this.#rows.servers();
  putServer: MetaStore['putServer'] = (row) => this.#rows.putServer(row);
  tasks: MetaStore['tasks'] = () => this.#rows.tasks();
  putTask: MetaStore['putTask'] = (row) => this.#rows.putTask(row);
  deleteTask: MetaStore['deleteTask'] = (id) => this.#rows.deleteTask(id);
  counters: MetaStore['counters'] = () => this.#rows.counters();

  checkInvariants(): void {
    this.#rows.checkInvariants();
  }

  /** The rows stay: the next server goes on with them. */
  close(): void {
    this.isDead = true;
  }
}
