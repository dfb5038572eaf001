/**
 * The database of what a mount keeps on its disk only to be faster: `cache.db` in its cache directory, beside the
 * file with the blocks of chunks. All of it is of one filesystem. Whatever is wrong with it is told in the log, and
 * it is thrown away: a mount works without it.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeLog } from '../base/log.js';
import { FsError } from '../proto/errno.js';
import type { ClusterId } from '../proto/ids.js';
import { type Database, DatabaseInUse, openDatabase } from '../sqlite/database.js';

const log = makeLog('client');

/** "lfch" in the file's header. */
const APPLICATION_ID = 0x6c66_6368;
const FORMAT_VERSION = 1;

const TABLES = `
CREATE TABLE filesystem(id INTEGER PRIMARY KEY CHECK(id = 1), cluster TEXT NOT NULL) STRICT;
CREATE TABLE blocks(
  chunk INTEGER NOT NULL,
  block INTEGER NOT NULL,
  slot INTEGER NOT NULL UNIQUE,
  length INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  used INTEGER NOT NULL,
  PRIMARY KEY(chunk, block)
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_by_use ON blocks(used);
CREATE TABLE hints(
  ino INTEGER PRIMARY KEY,
  stamp INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  record BLOB NOT NULL
) STRICT;
CREATE INDEX hints_by_stamp ON hints(stamp);
`;

/** That the cache is left as it is: it is another's, or the machine's trouble passes. */
const isTransient = (error: unknown): boolean =>
  error instanceof DatabaseInUse ||
  (error instanceof FsError && ['ENOSPC', 'EROFS', 'EACCES', 'ENOMEM'].includes(error.code));

export class CacheDatabase {
  /** The blocks themselves. */
  readonly dataPath: string;
  readonly #path: string;
  #db: Database | undefined;
  #saidFull = false;

  private constructor(cacheDir: string) {
    this.#path = join(cacheDir, 'cache.db');
    this.dataPath = join(cacheDir, 'blocks.data');
  }

  /** Opens what there is, or makes it; of another filesystem or damaged: thrown away first. Never fails. */
  static open(cacheDir: string, clusterId: ClusterId): CacheDatabase {
    const cache = new CacheDatabase(cacheDir);
    try {
      cache.#db = cache.#opened(clusterId);
    } catch (error) {
      if (isTransient(error)) cache.#without(error);
      else {
        log.error('what was cached on disk is damaged: it is thrown away', { path: cache.#path, error });
        cache.#again(clusterId);
      }
    }
    return cache;
  }

  #again(clusterId: ClusterId): void {
    try {
      this.#remove();
      this.#db = this.#opened(clusterId);
    } catch (error) {
      this.#without(error);
    }
  }

  #without(error: unknown): void {
    log.warn('nothing is cached on disk', { path: this.#path, error: String(error) });
  }

  /** **Throws** when it is damaged. */
  #opened(clusterId: ClusterId): Database {
    const db = openDatabase({
      path: this.#path,
      applicationId: APPLICATION_ID,
      formatVersion: FORMAT_VERSION,
      migrate: (fresh) => fresh.exec(TABLES),
      create: true,
    });
    try {
      const check = db.prepare<{ quick_check: string }>('PRAGMA quick_check(1)').get();
      if (check?.quick_check !== 'ok') throw new Error(`quick_check: ${check?.quick_check ?? 'no answer'}`);
      this.#bind(db, clusterId);
      return db;
    } catch (error) {
      db.close();
      throw error;
    }
  }

  #bind(db: Database, clusterId: ClusterId): void {
    const owner = db.prepare<{ cluster: string }>('SELECT cluster FROM filesystem').get()?.cluster;
    if (owner === clusterId) return;
    if (owner !== undefined)
      log.warn('what was cached on disk is of another filesystem: it is thrown away', { owner, clusterId });
    db.transaction(() => {
      db.run('DELETE FROM blocks');
      db.run('DELETE FROM hints');
      db.run('INSERT OR REPLACE INTO filesystem(id, cluster) VALUES (1, ?)', clusterId);
    });
  }

  get isUsable(): boolean {
    return this.#db !== undefined;
  }

  /** Runs `body` over the database, if there is one. When it fails the cache is given up: `otherwise`. */
  attempt<T>(body: (db: Database) => T, otherwise: T): T {
    if (this.#db === undefined) return otherwise;
    try {
      return body(this.#db);
    } catch (error) {
      this.failed(error);
      return otherwise;
    }
  }

  /** Something is wrong with it; where the disk is only full it is used on. */
  failed(error: unknown): void {
    if (this.#db === undefined) return;
    if (error instanceof FsError && error.code === 'ENOSPC') {
      if (!this.#saidFull) log.warn('the disk is full: less is cached on it', { path: this.#path });
      this.#saidFull = true;
      return;
    }
    log.error('what is cached on disk cannot be used any more: it is thrown away', {
      path: this.#path,
      error,
    });
    this.close();
    try {
      this.#remove();
    } catch (again) {
      this.#without(again);
    }
  }

  #remove(): void {
    for (const suffix of ['', '-wal', '-shm']) rmSync(this.#path + suffix, { force: true });
    rmSync(this.dataPath, { force: true });
  }

  close(): void {
    const db = this.#db;
    this.#db = undefined;
    try {
      db?.close();
    } catch (error) {
      this.#without(error);
    }
  }
}
