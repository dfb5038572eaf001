/**
 * What the metadata server keeps, as an interface: the namespace's rows (names/rows.ts), and what the server
 * itself must not forget over a restart: sessions and their kept replies, id ranges, chunk servers, tasks,
 * the cluster map's epoch. Implementations: sqlite-store.ts (the default), memory-store.ts (the model in
 * tests). The contract is test/contract/meta-store.ts.
 *
 * Everything is synchronous: a transaction is one stretch without an `await`, so nothing comes between its
 * reads and its writes. Reads are allowed outside transactions, writes are not.
 *
 * A store knows rows and how they hang together, not what operations mean.
 */
import type { Timespec } from '../base/clock.js';
import type { HeldLock } from '../lease/locks.js';
import type { Answer } from '../names/operation.js';
import type { RowChange, RowRead } from '../names/rows.js';
import type { ServerEntry } from '../proto/cluster-map.js';
import type { ChunkId, ClusterId, FencingToken, Ino, ServerId, SessionId } from '../proto/ids.js';
import type { Task } from '../proto/meta-methods.js';

/** Fixed when the filesystem is made. */
export interface FilesystemRow {
  readonly clusterId: ClusterId;
  readonly formatVersion: number;
  readonly replicas: number;
  /** Placement groups. */
  readonly groups: number;
  readonly createdAt: Timespec;
}

export interface SessionRow {
  readonly id: SessionId;
  /** The newest token. */
  readonly token: FencingToken;
  /** The newest token under which a request has come: whoever holds it has its reply. 0: none yet. */
  readonly confirmedToken: number;
  readonly host: string;
  readonly pid: number;
  readonly mountpoint: string;
  /** Mutations with smaller sequence numbers have their replies; nothing is kept for them. */
  readonly finishedBelow: number;
  /** It may have leases. */
  readonly leases: boolean;
}

/** Chunk ids, first <= id <= last, that only this session may commit. INVARIANT: ranges never overlap. */
export interface ChunkRange {
  readonly first: ChunkId;
  readonly last: ChunkId;
  readonly session: SessionId;
}

/** Inode numbers, first <= ino <= last, that only this session may give out. */
export interface InodeRange {
  readonly first: Ino;
  readonly last: Ino;
  readonly session: SessionId;
}

export interface TaskRow {
  readonly id: number;
  /** The only server that can do it. */
  readonly server: ServerId;
  readonly work: Task['work'];
  /** Times that it failed. */
  readonly attempts: number;
  /** Why it failed last; empty when it did not. */
  readonly message: string;
}

export interface Counters {
  readonly inodes: number;
  /** Inodes without a name that are open or waiting to be reaped. */
  readonly orphans: number;
  readonly chunks: number;
  /** Bytes that extents reference. */
  readonly referencedBytes: number;
  /** Bytes of the chunks. */
  readonly chunkBytes: number;
}

export interface KeptReplies {
  readonly count: number;
  readonly bytes: number;
}

/** What ids are given out for; each kind has its own numbers. */
export type IdKind = 'inode' | 'chunk' | 'session' | 'task';

/**
 * **Errors** of every method: ENOSPC, EIO, EROFS, ENOMEM from the storage; EIO when closed. A transaction in
 * which any of them occurred on writing is lost as a whole.
 */
export interface MetaStore {
  readonly filesystem: FilesystemRow;

  /**
   * Runs `body` and commits; rolls everything back when it throws. `durable`: when it returns, this and every
   * transaction before it is on disk, also when `body` changed nothing. Does not nest.
   */
  transaction<T>(durable: boolean, body: () => T): T;

  /** Rows for semantics. `newIno` must be asked inside a transaction. */
  answer(read: RowRead): Answer;
  apply(changes: readonly RowChange[]): void;
  /** Inodes marked reapable, smallest first. */
  reapable(limit: number): Ino[];

  /** `count` fresh ids, first..first + count - 1. Never given out again, unless the transaction fails. */
  allocate(kind: IdKind, count: number): number;
  /** The smallest id of this kind that was never given out. */
  nextId(kind: IdKind): number;

  sessions(): SessionRow[];
  putSession(row: SessionRow): void;
  /** With its replies, ranges, journal and locks; it has no opens any more. */
  deleteSession(id: SessionId): void;
  openCount(session: SessionId): number;
  reply(session: SessionId, sequence: number): Uint8Array | undefined;
  putReply(session: SessionId, sequence: number, reply: Uint8Array): void;
  /** Forgets replies with sequence < below. */
  pruneReplies(session: SessionId, below: number): void;
  keptReplies(session: SessionId): KeptReplies;

  /** The last entry of the session's journal that was carried out; 0: none. */
  journalled(session: SessionId): number;
  setJournalled(session: SessionId, applied: number): void;
  putInodeRange(range: InodeRange): void;
  /** Whose range an inode number lies in. */
  inodeOwner(ino: Ino): SessionId | undefined;

  /** In no particular order. */
  locks(): HeldLock[];
  putLock(lock: HeldLock): void;
  /** The lock of this owner that starts where this one does. */
  deleteLock(lock: HeldLock): void;
  deleteLocks(session: SessionId): void;

  ranges(): ChunkRange[];
  putRange(range: ChunkRange): void;

  /** Takes up to `limit` chunks without references out of the chunk table, smallest id first. */
  takeGarbage(limit: number): ChunkId[];
  garbageCount(limit: number): number;
  /** Whether the chunk table has it, referenced or not. */
  hasChunk(id: ChunkId): boolean;
  /** Remembers that these ids must never be committed (again). */
  retire(ids: readonly ChunkId[]): void;
  isRetired(id: ChunkId): boolean;
  /** Forgets retired ids, first <= id <= last. */
  forgetRetired(first: ChunkId, last: ChunkId): void;

  readonly epoch: number;
  setEpoch(epoch: number): void;
  servers(): ServerEntry[];
  putServer(row: ServerEntry): void;

  /** By id. */
  tasks(): TaskRow[];
  putTask(row: TaskRow): void;
  deleteTask(id: number): void;

  counters(): Counters;
  /** Throws InvariantError when rows contradict one another. Reads everything: for tests and `fsck`. */
  checkInvariants(): void;
  /** Idempotent. */
  close(): void;
}
