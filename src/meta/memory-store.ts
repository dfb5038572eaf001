/**
 * The metadata server's store in memory: the model that the SQLite store is compared with, and a store for
 * tests that need no disk. A transaction copies everything before it starts and puts the copy back when it
 * fails: simple, and slow with many rows.
 */
import { assert } from '../base/assert.js';
import type { HeldLock } from '../lease/locks.js';
import { MemoryRows } from '../names/memory-rows.js';
import type { Answer } from '../names/operation.js';
import type { RowChange, RowRead } from '../names/rows.js';
import type { ServerEntry } from '../proto/cluster-map.js';
import { FsError } from '../proto/errno.js';
import { asIno, type ChunkId, type Ino, type ServerId, type SessionId } from '../proto/ids.js';
import type {
  ChunkRange,
  Counters,
  FilesystemRow,
  IdKind,
  InodeRange,
  KeptReplies,
  MetaStore,
  SessionRow,
  TaskRow,
} from './store.js';

/** Everything but the namespace's rows. Its values are never changed in place. */
interface Records {
  readonly next: Map<IdKind, number>;
  readonly epoch: { value: number };
  readonly sessions: Map<SessionId, SessionRow>;
  readonly replies: Map<SessionId, Map<number, Uint8Array>>;
  readonly locks: Map<string, HeldLock>;
  readonly ranges: Map<ChunkId, ChunkRange>;
  readonly retired: Set<ChunkId>;
  readonly journalled: Map<SessionId, number>;
  readonly inodeRanges: Map<Ino, InodeRange>;
  readonly servers: Map<ServerId, ServerEntry>;
  readonly tasks: Map<number, TaskRow>;
  /** Length of each chunk that is garbage and not taken yet. */
  readonly garbageLengths: Map<ChunkId, number>;
}

function copyRecords(from: Records): Records {
  return {
    next: new Map(from.next),
    epoch: { ...from.epoch },
    sessions: new Map(from.sessions),
    replies: new Map([...from.replies].map(([session, replies]) => [session, new Map(replies)])),
    locks: new Map(from.locks),
    ranges: new Map(from.ranges),
    retired: new Set(from.retired),
    journalled: new Map(from.journalled),
    inodeRanges: new Map(from.inodeRanges),
    servers: new Map(from.servers),
    tasks: new Map(from.tasks),
    garbageLengths: new Map(from.garbageLengths),
  };
}

function fill<K, V>(to: Map<K, V>, from: ReadonlyMap<K, V>, copy: (value: V) => V = (value) => value): void {
  to.clear();
  for (const [key, value] of from) to.set(key, copy(value));
}

function copyRows(from: MemoryRows): MemoryRows {
  const to = new MemoryRows({ sec: 0, nsec: 0 });
  fill(to.inodes, from.inodes);
  fill(to.dentries, from.dentries, (rows) => [...rows]);
  fill(to.extents, from.extents, (rows) => [...rows]);
  fill(to.chunks, from.chunks);
  fill(to.xattrs, from.xattrs, (rows) => [...rows]);
  fill(to.opens, from.opens, (sessions) => new Set(sessions));
  for (const ino of from.reapable) to.reapable.add(ino);
  for (const id of from.garbage) to.garbage.add(id);
  return to;
}

const lockKey = ({ ino, space, session, owner, start }: HeldLock): string =>
  [ino, space, session, owner, start].join();
const byNumber = (a: number, b: number): number => a - b;

export class MemoryStore implements MetaStore {
  readonly filesystem: FilesystemRow;
  #rows: MemoryRows;
  #records: Records;
  #inTransaction = false;
  #closed = false;

  /** A filesystem with an empty root. */
  constructor(filesystem: FilesystemRow, options: { firstInode: number; firstSession: number }) {
    this.filesystem = filesystem;
    this.#rows = new MemoryRows(filesystem.createdAt);
    this.#records = {
      next: new Map([
        ['inode', options.firstInode],
        ['chunk', 1],
        ['session', options.firstSession],
        ['task', 1],
      ]),
      epoch: { value: 1 },
      sessions: new Map(),
      replies: new Map(),
      locks: new Map(),
      ranges: new Map(),
      retired: new Set(),
      journalled: new Map(),
      inodeRanges: new Map(),
      servers: new Map(),
      tasks: new Map(),
      garbageLengths: new Map(),
    };
  }

  #reading(): Records {
    if (this.#closed) throw new FsError('EIO', 'store', { detail: 'closed' });
    return this.#records;
  }

  #writing(): Records {
    assert(this.#inTransaction, 'writes happen in transactions');
    return this.#reading();
  }

  transaction<T>(_durable: boolean, body: () => T): T {
    this.#reading();
    assert(!this.#inTransaction, 'transactions do not nest');
    const [rows, records] = [copyRows(this.#rows), copyRecords(this.#records)];
    this.#inTransaction = true;
    try {
      const result = body();
      assert(!(result instanceof Promise), 'a transaction returned a promise');
      return result;
    } catch (error) {
      [this.#rows, this.#records] = [rows, records];
      throw error;
    } finally {
      this.#inTransaction = false;
    }
  }

  answer(read: RowRead): Answer {
    this.#reading();
    return read.read === 'newIno' ? asIno(this.allocate('inode', 1)) : this.#rows.answer(read);
  }

  apply(changes: readonly RowChange[]): void {
    const records = this.#writing();
    const lengths = new Map<ChunkId, number>();
    for (const change of changes) {
      if ('put' in change && change.put === 'chunk') lengths.set(change.row.id, change.row.length);
      if ('adjust' in change) {
        const row = this.#rows.chunks.get(change.id);
        if (row !== undefined) lengths.set(row.id, row.length);
      }
    }
    this.#rows.apply(changes);
    for (const [id, length] of lengths)
      if (this.#rows.garbage.has(id)) records.garbageLengths.set(id, length);
  }

  reapable(limit: number): Ino[] {
    this.#reading();
    return [...this.#rows.reapable].sort(byNumber).slice(0, limit);
  }

  allocate(kind: IdKind, count: number): number {
    const records = this.#writing();
    const first = this.nextId(kind);
    records.next.set(kind, first + count);
    return first;
  }

  nextId(kind: IdKind): number {
    return this.#reading().next.get(kind) ?? 1;
  }

  sessions(): SessionRow[] {
    return [...this.#reading().sessions.values()].sort((a, b) => a.id - b.id);
  }

  putSession(row: SessionRow): void {
    this.#writing().sessions.set(row.id, row);
  }

  deleteSession(id: SessionId): void {
    const records = this.#writing();
    assert(this.openCount(id) === 0, `session ${id}, which ends, has nothing open`);
    records.sessions.delete(id);
    records.replies.delete(id);
    this.deleteLocks(id);
    for (const range of this.ranges()) if (range.session === id) records.ranges.delete(range.first);
    records.journalled.delete(id);
    for (const [first, range] of records.inodeRanges)
      if (range.session === id) records.inodeRanges.delete(first);
  }

  journalled(session: SessionId): number {
    return this.#reading().journalled.get(session) ?? 0;
  }

  setJournalled(session: SessionId, applied: number): void {
    this.#writing().journalled.set(session, applied);
  }

  putInodeRange(range: InodeRange): void {
    this.#writing().inodeRanges.set(range.first, range);
  }

  inodeOwner(ino: Ino): SessionId | undefined {
    const ranges = [...this.#reading().inodeRanges.values()];
    return ranges.find(({ first, last }) => first <= ino && ino <= last)?.session;
  }

  openCount(session: SessionId): number {
    this.#reading();
    return [...this.#rows.opens.values()].filter((sessions) => sessions.has(session)).length;
  }

  reply(session: SessionId, sequence: number): Uint8Array | undefined {
    return this.#reading().replies.get(session)?.get(sequence);
  }

  putReply(session: SessionId, sequence: number, reply: Uint8Array): void {
    const { replies } = this.#writing();
    const kept = replies.get(session) ?? new Map<number, Uint8Array>();
    assert(!kept.has(sequence), 'one reply for each sequence number');
    replies.set(session, kept.set(sequence, reply));
  }

  pruneReplies(session: SessionId, below: number): void {
    const kept = this.#writing().replies.get(session);
    for (const sequence of [...(kept?.keys() ?? [])]) if (sequence < below) kept?.delete(sequence);
  }

  keptReplies(session: SessionId): KeptReplies {
    const kept = [...(this.#reading().replies.get(session)?.values() ?? [])];
    return { count: kept.length, bytes: kept.reduce((sum, reply) => sum + reply.length, 0) };
  }

  locks(): HeldLock[] {
    return [...this.#reading().locks.values()];
  }

  putLock(lock: HeldLock): void {
    this.#writing().locks.set(lockKey(lock), lock);
  }

  deleteLock(lock: HeldLock): void {
    this.#writing().locks.delete(lockKey(lock));
  }

  deleteLocks(session: SessionId): void {
    const { locks } = this.#writing();
    for (const [key, lock] of locks) if (lock.session === session) locks.delete(key);
  }

  ranges(): ChunkRange[] {
    return [...this.#reading().ranges.values()].sort((a, b) => a.first - b.first);
  }

  putRange(range: ChunkRange): void {
    this.#writing().ranges.set(range.first, range);
  }

  takeGarbage(limit: number): ChunkId[] {
    const { garbageLengths } = this.#writing();
    const taken = [...this.#rows.garbage].sort(byNumber).slice(0, limit);
    for (const id of taken) {
      this.#rows.garbage.delete(id);
      garbageLengths.delete(id);
    }
    return taken;
  }

  garbageCount(limit: number): number {
    this.#reading();
    return Math.min(limit, this.#rows.garbage.size);
  }

  hasChunk(id: ChunkId): boolean {
    this.#reading();
    return this.#rows.chunks.has(id) || this.#rows.garbage.has(id);
  }

  retire(ids: readonly ChunkId[]): void {
    const { retired } = this.#writing();
    for (const id of ids) retired.add(id);
  }

  isRetired(id: ChunkId): boolean {
    return this.#reading().retired.has(id);
  }

  forgetRetired(first: ChunkId, last: ChunkId): void {
    const { retired } = this.#writing();
    for (const id of [...retired]) if (id >= first && id <= last) retired.delete(id);
  }

  get epoch(): number {
    return this.#reading().epoch.value;
  }

  setEpoch(epoch: number): void {
    const records = this.#writing();
    assert(epoch >= records.epoch.value, 'the epoch only rises');
    records.epoch.value = epoch;
  }

  servers(): ServerEntry[] {
    return [...this.#reading().servers.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  putServer(row: ServerEntry): void {
    this.#writing().servers.set(row.id, row);
  }

  tasks(): TaskRow[] {
    return [...this.#reading().tasks.values()].sort((a, b) => a.id - b.id);
  }

  putTask(row: TaskRow): void {
    this.#writing().tasks.set(row.id, row);
  }

  deleteTask(id: number): void {
    this.#writing().tasks.delete(id);
  }

  counters(): Counters {
    const { garbageLengths } = this.#reading();
    const chunks = [...this.#rows.chunks.values()];
    const inodes = [...this.#rows.inodes.values()];
    const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);
    return {
      inodes: inodes.length,
      orphans: inodes.filter((row) => row.nlink === 0).length,
      chunks: chunks.length + garbageLengths.size,
      referencedBytes: sum(chunks.map((row) => row.used)),
      chunkBytes: sum(chunks.map((row) => row.length)) + sum(garbageLengths.values()),
    };
  }

  checkInvariants(): void {
    this.#reading();
    this.#rows.checkInvariants();
    for (const task of this.tasks()) assert(this.#records.servers.has(task.server), 'a task has a server');
    for (const range of this.ranges()) assert(this.#records.sessions.has(range.session), 'a range is owned');
    for (const lock of this.locks()) assert(this.#records.sessions.has(lock.session), 'a lock is owned');
    for (const id of this.#records.replies.keys()) assert(this.#records.sessions.has(id), 'a reply is owned');
  }

  close(): void {
    this.#closed = true;
  }
}
