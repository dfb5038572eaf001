/**
 * The metadata server's store in one SQLite database (sqlite-schema.ts). Totals, id counters and the epoch
 * live in the `filesystem` row: a transaction works on a copy of it, and writes it back once before it
 * commits.
 *
 * INVARIANT: the row in memory equals the row on disk whenever no transaction is open.
 */
import { assert, present } from '../base/assert.js';
import type { Timespec } from '../base/clock.js';
import type { HeldLock } from '../lease/locks.js';
import type { Answer } from '../names/operation.js';
import type { RowChange, RowRead } from '../names/rows.js';
import type { ServerEntry } from '../proto/cluster-map.js';
import { asClusterId, asIno, type ChunkId, type ClusterId, type Ino, type SessionId } from '../proto/ids.js';
import { type Database, openDatabase } from '../sqlite/database.js';
import { checkSqliteInvariants } from './sqlite-check.js';
import { SqliteRecords } from './sqlite-records.js';
import { SqliteRows, type Totals } from './sqlite-rows.js';
import { META_APPLICATION_ID, META_FORMAT_VERSION, migrateSchema } from './sqlite-schema.js';
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

/** The changing half of the `filesystem` row. */
interface Head extends Totals {
  epoch: number;
  nextInode: number;
  nextChunk: number;
  nextSession: number;
  nextTask: number;
  /** Rises with every transaction that had to reach the disk: something to write when nothing else changed. */
  syncs: number;
  /** 1 when the store was closed; 0 while it is open, so also after a crash. */
  clean: number;
}

const NEXT = {
  inode: 'nextInode',
  chunk: 'nextChunk',
  session: 'nextSession',
  task: 'nextTask',
} as const satisfies Record<IdKind, keyof Head>;

/** What is not on disk yet is at most a WAL (16 MiB) of rows: far fewer ids than this. */
const IDS_SKIPPED = 2 ** 24;
const CACHE_BYTES = 64 * 1024 * 1024;

/** What a new filesystem is made with. */
export interface FormatOptions {
  readonly clusterId: ClusterId;
  readonly replicas: number;
  readonly groups: number;
  readonly createdAt: Timespec;
  /** Ids below these are the format's own: the root inode, the server's session. */
  readonly firstInode: number;
  readonly firstSession: number;
}

/**
 * Opens the metadata database at `path`; makes it when there is none and `format` says how. `seed` puts the
 * first rows into a new one. **Throws** as openDatabase does.
 */
export function openSqliteStore(
  path: string,
  format: FormatOptions | undefined,
  seed: readonly RowChange[],
): SqliteStore {
  const db = openDatabase({
    path,
    applicationId: META_APPLICATION_ID,
    formatVersion: META_FORMAT_VERSION,
    create: format !== undefined,
    cacheBytes: CACHE_BYTES,
    migrate: (fresh, fromVersion) => {
      migrateSchema(fresh, fromVersion);
      if (fromVersion === 0) writeFirstRows(fresh, present(format, 'a new filesystem has a format'), seed);
    },
  });
  return new SqliteStore(db);
}

function writeFirstRows(db: Database, format: FormatOptions, seed: readonly RowChange[]): void {
  const totals: Totals = { inodes: 0, chunks: 0, referencedBytes: 0, chunkBytes: 0 };
  const rows = new SqliteRows(db, () => asIno(format.firstInode));
  for (const change of seed) rows.apply(change, totals);
  db.run(
    'INSERT INTO filesystem VALUES (1, ?, ?, ?, ?, ?, 1, ?, 1, ?, 1, ?, ?, ?, ?, 0, 1)',
    format.clusterId,
    format.replicas,
    format.groups,
    format.createdAt.sec,
    format.createdAt.nsec,
    format.firstInode,
    format.firstSession,
    totals.inodes,
    totals.chunks,
    totals.referencedBytes,
    totals.chunkBytes,
  );
}

interface HeadColumns extends Head {
  readonly clusterId: string;
  readonly replicas: number;
  readonly groups: number;
  readonly createdSec: number;
  readonly createdNsec: number;
}

const SELECT_HEAD = `SELECT cluster_id AS clusterId, replicas, placement_groups AS groups,
  created_sec AS createdSec, created_nsec AS createdNsec, epoch, next_inode AS nextInode,
  next_chunk AS nextChunk, next_session AS nextSession, next_task AS nextTask, inodes, chunks,
  referenced_bytes AS referencedBytes, chunk_bytes AS chunkBytes, syncs, clean FROM filesystem`;

const UPDATE_HEAD = `UPDATE filesystem SET epoch = ?, next_inode = ?, next_chunk = ?, next_session = ?,
  next_task = ?, inodes = ?, chunks = ?, referenced_bytes = ?, chunk_bytes = ?, syncs = ?, clean = ?`;

export class SqliteStore implements MetaStore {
  readonly filesystem: FilesystemRow;
  readonly #db: Database;
  readonly #rows: SqliteRows;
  readonly #records: SqliteRecords;
  #head: Head;
  #closed = false;
  /** Whether the open transaction has written anything. */
  #touched = false;
  /** Whether a committed transaction may not have reached the disk yet. */
  #unsynced = true;

  constructor(db: Database) {
    this.#db = db;
    this.#rows = new SqliteRows(db, () => asIno(this.allocate('inode', 1)));
    this.#records = new SqliteRecords(db);
    const columns = present(db.prepare<HeadColumns>(SELECT_HEAD).get(), 'the filesystem row');
    const { clusterId, replicas, groups, createdSec, createdNsec, ...head } = columns;
    this.filesystem = {
      clusterId: asClusterId(clusterId),
      formatVersion: META_FORMAT_VERSION,
      replicas,
      groups,
      createdAt: { sec: createdSec, nsec: createdNsec },
    };
    this.#head = head;
    this.transaction(true, () => this.#markOpen());
  }

  /**
   * After a crash, ids may be in use that the last transactions on disk know nothing of: skips more than can
   * have been given out since, so that none is given out twice.
   */
  #markOpen(): void {
    const head = this.#writing();
    if (head.clean === 0)
      for (const kind of ['inode', 'chunk', 'session'] as const) this.allocate(kind, IDS_SKIPPED);
    head.clean = 0;
  }

  transaction<T>(durable: boolean, body: () => T): T {
    const before = this.#head;
    try {
      this.#db.setDurable(durable);
      const result = this.#db.transaction(() => {
        this.#head = { ...before };
        this.#touched = false;
        const value = body();
        this.#writeHead(durable);
        return value;
      });
      this.#unsynced = durable ? false : this.#unsynced || this.#touched;
      return result;
    } catch (error) {
      this.#head = before;
      this.#rows.forget();
      throw error;
    }
  }

  #writeHead(durable: boolean): void {
    const head = this.#head;
    if (durable && (this.#unsynced || this.#touched)) head.syncs += 1;
    else if (!this.#touched) return;
    this.#db
      .prepare(UPDATE_HEAD)
      .run(
        head.epoch,
        head.nextInode,
        head.nextChunk,
        head.nextSession,
        head.nextTask,
        head.inodes,
        head.chunks,
        head.referencedBytes,
        head.chunkBytes,
        head.syncs,
        head.clean,
      );
  }

  /** Every method that writes calls this first. */
  #writing(): Head {
    assert(this.#db.inTransaction, 'writes happen in transactions');
    this.#touched = true;
    return this.#head;
  }

  answer(read: RowRead): Answer {
    return this.#rows.answer(read);
  }

  apply(changes: readonly RowChange[]): void {
    if (changes.length === 0) return;
    const head = this.#writing();
    for (const change of changes) this.#rows.apply(change, head);
  }

  reapable(limit: number): Ino[] {
    return this.#rows.reapable(limit);
  }

  allocate(kind: IdKind, count: number): number {
    const head = this.#writing();
    const first = head[NEXT[kind]];
    assert(Number.isSafeInteger(first + count), `${kind} ids are used up`);
    head[NEXT[kind]] = first + count;
    return first;
  }

  nextId(kind: IdKind): number {
    return this.#head[NEXT[kind]];
  }

  sessions(): SessionRow[] {
    return this.#records.sessions();
  }

  putSession(row: SessionRow): void {
    this.#writing();
    this.#records.putSession(row);
  }

  deleteSession(id: SessionId): void {
    this.#writing();
    assert(this.openCount(id) === 0, `session ${id}, which ends, has nothing open`);
    this.#records.deleteSession(id);
  }

  openCount(session: SessionId): number {
    return this.#records.openCount(session);
  }

  reply(session: SessionId, sequence: number): Uint8Array | undefined {
    return this.#records.reply(session, sequence);
  }

  putReply(session: SessionId, sequence: number, reply: Uint8Array): void {
    this.#writing();
    this.#records.putReply(session, sequence, reply);
  }

  pruneReplies(session: SessionId, below: number): void {
    this.#writing();
    this.#records.pruneReplies(session, below);
  }

  keptReplies(session: SessionId): KeptReplies {
    return this.#records.keptReplies(session);
  }

  journalled(session: SessionId): number {
    return this.#records.journalled(session);
  }

  setJournalled(session: SessionId, applied: number): void {
    this.#writing();
    this.#records.setJournalled(session, applied);
  }

  putInodeRange(range: InodeRange): void {
    this.#writing();
    this.#records.putInodeRange(range);
  }

  inodeOwner(ino: Ino): SessionId | undefined {
    return this.#records.inodeOwner(ino);
  }

  locks(): HeldLock[] {
    return this.#records.locks();
  }

  putLock(lock: HeldLock): void {
    this.#writing();
    this.#records.putLock(lock);
  }

  deleteLock(lock: HeldLock): void {
    this.#writing();
    this.#records.deleteLock(lock);
  }

  deleteLocks(session: SessionId): void {
    this.#writing();
    this.#records.deleteLocks(session);
  }

  ranges(): ChunkRange[] {
    return this.#records.ranges();
  }

  putRange(range: ChunkRange): void {
    this.#writing();
    this.#records.putRange(range);
  }

  takeGarbage(limit: number): ChunkId[] {
    return this.#rows.takeGarbage(limit, this.#writing());
  }

  garbageCount(limit: number): number {
    return this.#rows.garbageCount(limit);
  }

  hasChunk(id: ChunkId): boolean {
    return this.#rows.hasChunk(id);
  }

  retire(ids: readonly ChunkId[]): void {
    this.#writing();
    this.#records.retire(ids);
  }

  isRetired(id: ChunkId): boolean {
    return this.#records.isRetired(id);
  }

  forgetRetired(first: ChunkId, last: ChunkId): void {
    this.#writing();
    this.#records.forgetRetired(first, last);
  }

  get epoch(): number {
    return this.#head.epoch;
  }

  setEpoch(epoch: number): void {
    const head = this.#writing();
    assert(epoch >= head.epoch, 'the epoch only rises');
    head.epoch = epoch;
  }

  servers(): ServerEntry[] {
    return this.#records.servers();
  }

  putServer(row: ServerEntry): void {
    this.#writing();
    this.#records.putServer(row);
  }

  tasks(): TaskRow[] {
    return this.#records.tasks();
  }

  putTask(row: TaskRow): void {
    this.#writing();
    this.#records.putTask(row);
  }

  deleteTask(id: number): void {
    this.#writing();
    this.#records.deleteTask(id);
  }

  counters(): Counters {
    const { inodes, chunks, referencedBytes, chunkBytes } = this.#head;
    return { inodes, chunks, referencedBytes, chunkBytes, orphans: this.#records.orphanCount() };
  }

  checkInvariants(): void {
    checkSqliteInvariants(this.#db, this.counters());
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.transaction(true, () => {
        this.#writing().clean = 1;
      });
    } finally {
      this.#db.close();
      this.#rows.forget();
    }
  }
}
