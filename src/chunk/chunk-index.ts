/**
 * The disk store's database: a row for every chunk it holds, and the bytes of the small ones.
 *
 * The row is what makes a chunk exist: it is written in the same transaction as a small chunk's bytes, and
 * after a large chunk's file is on disk. Every transaction is on disk when it returns. The database's
 * exclusive lock keeps a second server out of the directory.
 *
 * INVARIANT: a row has either a file or a blob, never both.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { present } from '../base/assert.js';
import type { ChunkId } from '../proto/ids.js';
import { type Database, openDatabase, type SqlValue } from '../sqlite/database.js';
import type { StoredChunk } from './store.js';

export interface ChunkRow {
  readonly length: number;
  readonly crc: number;
  /** See block-checksums.ts. */
  readonly sums: Buffer;
  /** Where a large chunk's bytes are (chunk-files.ts); null: in this database. */
  readonly file: string | null;
}

const APPLICATION_ID = 0x6c66_636b;
const FORMAT_VERSION = 1;
/**
 * Pages in the WAL at which a commit copies them into the database. Small, because the copy happens inside
 * the commit: 4000 pages stop the server for up to 90 ms, 1000 for up to 12 ms (native-notes/fsync.md).
 */
const CHECKPOINT_PAGES = 1000;
const WAL_BYTES = 16 * 1024 * 1024;

const SCHEMA = `
  CREATE TABLE chunk (
    id INTEGER PRIMARY KEY, length INTEGER NOT NULL, crc INTEGER NOT NULL, sums BLOB NOT NULL, file TEXT
  ) STRICT;
  CREATE TABLE blob (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
`;

export class ChunkIndex {
  readonly #db: Database;

  private constructor(db: Database) {
    this.#db = db;
  }

  /**
   * Opens the index in `directory`, or makes it. **Throws** an Error for people when another process has it
   * open, or when chunk files are there whose index is gone.
   */
  static open(directory: string, filesDirectory: string): ChunkIndex {
    const path = join(directory, 'chunks.db');
    if (!existsSync(path) && existsSync(filesDirectory))
      throw new Error(`${path} is missing, but ${filesDirectory} is there: nothing was touched; restore it`);
    const db = openDatabase({
      path,
      applicationId: APPLICATION_ID,
      formatVersion: FORMAT_VERSION,
      migrate: (fresh) => fresh.exec(SCHEMA),
      create: true,
    });
    try {
      return new ChunkIndex(prepareDatabase(db));
    } catch (error) {
      db.close();
      throw error;
    }
  }

  /** Runs `body`, then makes what it changed durable. */
  transaction(body: () => void): void {
    this.#db.transaction(body);
  }

  find(id: ChunkId): ChunkRow | undefined {
    return this.#db.prepare<ChunkRow>('SELECT length, crc, sums, file FROM chunk WHERE id = ?').get(id);
  }

  /** The bytes of a small chunk. */
  blob(id: ChunkId): Buffer | undefined {
    return this.#db.prepare<{ bytes: Buffer }>('SELECT bytes FROM blob WHERE id = ?').get(id)?.bytes;
  }

  /** Adds a chunk or replaces it; `blob` when the row has no file. Within a transaction. */
  replace(id: ChunkId, row: ChunkRow, blob: Uint8Array | null): void {
    const values: SqlValue[] = [id, row.length, row.crc, row.sums, row.file];
    this.#db.run('REPLACE INTO chunk (id, length, crc, sums, file) VALUES (?, ?, ?, ?, ?)', ...values);
    if (blob === null) this.#db.run('DELETE FROM blob WHERE id = ?', id);
    else this.#db.run('REPLACE INTO blob (id, bytes) VALUES (?, ?)', id, blob);
  }

  /** Within a transaction. */
  remove(id: ChunkId): void {
    this.#db.run('DELETE FROM chunk WHERE id = ?', id);
    this.#db.run('DELETE FROM blob WHERE id = ?', id);
  }

  list(after: number, last: number, limit: number): StoredChunk[] {
    const sql = 'SELECT id, length, crc FROM chunk WHERE id > ? AND id <= ? ORDER BY id LIMIT ?';
    return this.#db.prepare<StoredChunk>(sql).all(after, last, limit);
  }

  totals(): { chunks: number; usedBytes: number } {
    const sql = 'SELECT count(*) AS chunks, coalesce(sum(length), 0) AS usedBytes FROM chunk';
    return present(this.#db.prepare<{ chunks: number; usedBytes: number }>(sql).get(), 'totals');
  }

  /** Pages that deletions have left unused in the database file. */
  get freePages(): number {
    const row = this.#db.prepare<{ freelist_count: number }>('PRAGMA freelist_count').get();
    return present(row, 'freelist_count').freelist_count;
  }

  /** Shortens the database file by up to `pages` unused pages; the disk gets them at the next checkpoint. */
  shrink(pages: 64 | 256): void {
    this.#db.exec(`PRAGMA incremental_vacuum(${pages})`);
  }

  /** Copies the WAL into the database and gives the WAL's and the shrunken file's space back. */
  checkpoint(): void {
    this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  }

  close(): void {
    this.#db.close();
  }
}

function prepareDatabase(db: Database): Database {
  const mode = db.prepare<{ auto_vacuum: number }>('PRAGMA auto_vacuum').get();
  // A new database only: the mode cannot be chosen inside the transaction that makes it.
  if (mode?.auto_vacuum !== 2) db.exec('PRAGMA auto_vacuum = INCREMENTAL; VACUUM');
  db.exec(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}; PRAGMA journal_size_limit = ${WAL_BYTES}`);
  db.setDurable(true);
  return db;
}
