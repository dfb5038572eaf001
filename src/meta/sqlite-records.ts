/**
 * What the metadata server keeps about itself, in SQLite: sessions and kept replies, id ranges, retired
 * chunks, chunk servers, tasks. Plain rows in and out; sqlite-store.ts puts transactions around them.
 */
import { Value } from '@sinclair/typebox/value';
import { assert, present } from '../base/assert.js';
import type { HeldLock } from '../lease/locks.js';
import { type ServerEntry, tServerEntry } from '../proto/cluster-map.js';
import { asServerId, type ChunkId, type Ino, type SessionId } from '../proto/ids.js';
import { tTask } from '../proto/meta-methods.js';
import type { Database } from '../sqlite/database.js';
import type { ChunkRange, InodeRange, KeptReplies, SessionRow, TaskRow } from './store.js';

interface TaskColumns {
  readonly id: number;
  readonly server: string;
  readonly work: string;
  readonly attempts: number;
  readonly message: string;
}

function taskRow(columns: TaskColumns): TaskRow {
  const work: unknown = JSON.parse(columns.work);
  assert(Value.Check(tTask.properties.work, work), `task ${columns.id} has its shape`);
  return { ...columns, server: asServerId(columns.server), work };
}

export class SqliteRecords {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  #count(sql: string, ...params: number[]): number {
    return present(this.#db.prepare<{ n: number }>(sql).get(...params), 'a count has a row').n;
  }

  orphanCount(): number {
    return this.#count('SELECT count(*) AS n FROM inodes WHERE nlink = 0');
  }

  sessions(): SessionRow[] {
    return this.#db
      .prepare<Omit<SessionRow, 'leases'> & { leases: number }>(
        `SELECT id, token, confirmed_token AS confirmedToken, host, pid, mountpoint,
          finished_below AS finishedBelow, leases FROM sessions ORDER BY id`,
      )
      .all()
      .map((row) => ({ ...row, leases: row.leases !== 0 }));
  }

  putSession(row: SessionRow): void {
    this.#db.run(
      'INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      row.id,
      row.token,
      row.confirmedToken,
      row.host,
      row.pid,
      row.mountpoint,
      row.finishedBelow,
      row.leases ? 1 : 0,
    );
  }

  deleteSession(id: SessionId): void {
    this.#db.run('DELETE FROM sessions WHERE id = ?', id);
    this.#db.run('DELETE FROM replies WHERE session = ?', id);
    this.#db.run('DELETE FROM ranges WHERE session = ?', id);
    this.#db.run('DELETE FROM inode_ranges WHERE session = ?', id);
    this.#db.run('DELETE FROM journals WHERE session = ?', id);
    this.deleteLocks(id);
  }

  openCount(session: SessionId): number {
    return this.#count('SELECT count(*) AS n FROM opens WHERE session = ?', session);
  }

  reply(session: SessionId, sequence: number): Uint8Array | undefined {
    return this.#db
      .prepare<{ reply: Buffer }>('SELECT reply FROM replies WHERE session = ? AND sequence = ?')
      .get(session, sequence)?.reply;
  }

  putReply(session: SessionId, sequence: number, reply: Uint8Array): void {
    this.#db.run('INSERT INTO replies(session, sequence, reply) VALUES (?, ?, ?)', session, sequence, reply);
  }

  pruneReplies(session: SessionId, below: number): void {
    this.#db.run('DELETE FROM replies WHERE session = ? AND sequence < ?', session, below);
  }

  keptReplies(session: SessionId): KeptReplies {
    const row = this.#db
      .prepare<KeptReplies>(
        'SELECT count(*) AS count, ifnull(sum(length(reply)), 0) AS bytes FROM replies WHERE session = ?',
      )
      .get(session);
    return present(row, 'a count has a row');
  }

  journalled(session: SessionId): number {
    const sql = 'SELECT applied FROM journals WHERE session = ?';
    return this.#db.prepare<{ applied: number }>(sql).get(session)?.applied ?? 0;
  }

  setJournalled(session: SessionId, applied: number): void {
    this.#db.run('INSERT OR REPLACE INTO journals(session, applied) VALUES (?, ?)', session, applied);
  }

  putInodeRange({ first, last, session }: InodeRange): void {
    const sql = 'INSERT INTO inode_ranges(first, last, session) VALUES (?, ?, ?)';
    this.#db.run(sql, first, last, session);
  }

  inodeOwner(ino: Ino): SessionId | undefined {
    const sql = 'SELECT last, session FROM inode_ranges WHERE first <= ? ORDER BY first DESC LIMIT 1';
    const range = this.#db.prepare<Omit<InodeRange, 'first'>>(sql).get(ino);
    return range !== undefined && range.last >= ino ? range.session : undefined;
  }

  locks(): HeldLock[] {
    return this.#db
      .prepare<HeldLock>('SELECT session, owner, ino, space, start, end, type, pid FROM locks')
      .all();
  }

  putLock({ session, owner, ino, space, start, end, type, pid }: HeldLock): void {
    const sql = 'INSERT OR REPLACE INTO locks VALUES (?, ?, ?, ?, ?, ?, ?, ?)';
    this.#db.run(sql, session, owner, ino, space, start, end, type, pid);
  }

  deleteLock({ session, owner, ino, space, start }: HeldLock): void {
    const sql = 'DELETE FROM locks WHERE session = ? AND owner = ? AND ino = ? AND space = ? AND start = ?';
    this.#db.run(sql, session, owner, ino, space, start);
  }

  deleteLocks(session: SessionId): void {
    this.#db.run('DELETE FROM locks WHERE session = ?', session);
  }

  ranges(): ChunkRange[] {
    return this.#db.prepare<ChunkRange>('SELECT first, last, session FROM ranges ORDER BY first').all();
  }

  putRange(range: ChunkRange): void {
    this.#db.run(
      'INSERT INTO ranges(first, last, session) VALUES (?, ?, ?)',
      range.first,
      range.last,
      range.session,
    );
  }

  retire(ids: readonly ChunkId[]): void {
    for (const id of ids) this.#db.run('INSERT OR IGNORE INTO retired(chunk) VALUES (?)', id);
  }

  isRetired(id: ChunkId): boolean {
    return this.#db.prepare('SELECT 1 FROM retired WHERE chunk = ?').get(id) !== undefined;
  }

  forgetRetired(first: ChunkId, last: ChunkId): void {
    this.#db.run('DELETE FROM retired WHERE chunk BETWEEN ? AND ?', first, last);
  }

  servers(): ServerEntry[] {
    const rows = this.#db
      .prepare<unknown>(
        `SELECT id, url, host, rack, weight, state, capacity_bytes AS capacityBytes, used_bytes AS usedBytes
          FROM servers ORDER BY id`,
      )
      .all();
    return rows.map((row) => {
      assert(Value.Check(tServerEntry, row), 'a server has its shape');
      return row;
    });
  }

  putServer(row: ServerEntry): void {
    this.#db.run(
      'INSERT OR REPLACE INTO servers VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      row.id,
      row.url,
      row.host,
      row.rack,
      row.weight,
      row.state,
      row.capacityBytes,
      row.usedBytes,
    );
  }

  tasks(): TaskRow[] {
    return this.#db.prepare<TaskColumns>('SELECT * FROM tasks ORDER BY id').all().map(taskRow);
  }

  putTask(row: TaskRow): void {
    this.#db.run(
      'INSERT OR REPLACE INTO tasks(id, server, work, attempts, message) VALUES (?, ?, ?, ?, ?)',
      row.id,
      row.server,
      JSON.stringify(row.work),
      row.attempts,
      row.message,
    );
  }

  deleteTask(id: number): void {
    this.#db.run('DELETE FROM tasks WHERE id = ?', id);
  }
}
