/**
 * The metadata server's store in a simulation: rows in memory, everything that is committed written into a
 * History. Each server that is started gets one of its own over the same rows; the one of a server that
 * crashed takes nothing any more.
 */
import { assert } from '../../src/base/assert.js';
import type { MemoryStore } from '../../src/meta/memory-store.js';
import type { IdKind, InodeRange, MetaStore } from '../../src/meta/store.js';
import type { Answer } from '../../src/names/operation.js';
import type { RowChange, RowRead } from '../../src/names/rows.js';
import type { Ino, SessionId } from '../../src/proto/ids.js';
import type { History } from './history.js';

export class RecordingStore implements MetaStore {
  readonly #rows: MemoryStore;
  readonly #history: History;
  /** Its server has crashed. */
  isDead = false;
  /** Planted bugs: see planted-bugs.ts. */
  forgetsReplies = false;
  altered: (changes: readonly RowChange[]) => readonly RowChange[] = (changes) => changes;

  constructor(rows: MemoryStore, history: History) {
    this.#rows = rows;
    this.#history = history;
  }

  journalled(session: SessionId): number {
    return this.#rows.journalled(session);
  }

  setJournalled(session: SessionId, applied: number): void {
    this.#rows.setJournalled(session, applied);
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
    return this.#rows.transaction(durable, body);
  }

  answer(read: RowRead): Answer {
    return this.#rows.answer(read);
  }

  apply(changes: readonly RowChange[]): void {
    const altered = this.altered(changes);
    this.#rows.apply(altered);
    this.#history.applied(altered, (read) => this.#rows.answer(read));
  }

  reply(session: SessionId, sequence: number): Uint8Array | undefined {
    return this.forgetsReplies ? undefined : this.#rows.reply(session, sequence);
  }

  putReply(session: SessionId, sequence: number, reply: Uint8Array): void {
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
