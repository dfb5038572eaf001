/**
 * What a mount knew of inodes when it had leases on them, on its disk, for when it has none any more: after a
 * restart, or over another connection. A hint is worth nothing by itself: whoever wants to use it asks the server
 * first whether its version is still the present one (revalidation.ts).
 *
 * INVARIANT: a record is of one version; damage is noticed by its checksum. No more than limits.hintsKept of them,
 * nor than so many bytes; those that were written last are kept.
 */
import { Packr } from 'msgpackr';
import { crc32c } from '../base/crc32c.js';
import { makeLog } from '../base/log.js';
import type { Attr } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { Database } from '../sqlite/database.js';
import type { CacheDatabase } from './cache-database.js';
import type { Content } from './contents.js';
import type { KnownXattrs } from './xattrs.js';

const log = makeLog('client');
const packr = new Packr({ useRecords: false });
/** Records that are dropped in one go when there are too many. */
const PRUNED_AT_ONCE = 1024;

export interface Hint {
  /** Without a lease. */
  readonly attr: Attr;
  /** Of a directory, besides those in `content`: by name (latin1); null: there is none. */
  readonly names: readonly (readonly [string, Ino | null])[];
  /** No other names are in it. */
  readonly isComplete: boolean;
  readonly content: Content | undefined;
  readonly xattrs: KnownXattrs | undefined;
}

interface Columns {
  readonly crc: number;
  readonly record: Buffer;
}

export class Hints {
  readonly #cache: CacheDatabase;
  readonly #maxBytes: number;
  #count: number;
  #bytes: number;
  #stamp: number;

  constructor(cache: CacheDatabase, maxBytes: number = limits.hintBytes) {
    this.#cache = cache;
    this.#maxBytes = maxBytes;
    const totals = cache.attempt(
      (db) =>
        db
          .prepare<{ count: number; bytes: number; stamp: number }>(
            `SELECT count(*) AS count, ifnull(sum(length(record)), 0) AS bytes, ifnull(max(stamp), 0) AS stamp
              FROM hints`,
          )
          .get(),
      undefined,
    );
    this.#count = totals?.count ?? 0;
    this.#bytes = totals?.bytes ?? 0;
    this.#stamp = totals?.stamp ?? 0;
    if (this.#bytes > maxBytes) cache.attempt((db) => db.transaction(() => this.#prune(db)), undefined);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Of which inodes there are any. */
  inodes(): Ino[] {
    return this.#cache.attempt(
      (db) =>
        db
          .prepare<{ ino: Ino }>('SELECT ino FROM hints')
          .all()
          .map(({ ino }) => ino),
      [],
    );
  }

  get(ino: Ino): Hint | undefined {
    const columns = this.#cache.attempt((db) => this.#columns(db, ino), undefined);
    if (columns === undefined) return undefined;
    // This program has written it.
    if (crc32c(columns.record) === columns.crc) return packr.unpack(columns.record) as Hint;
    log.error('what was remembered of an inode is damaged on disk: it is dropped', { ino });
    this.forget([ino]);
    return undefined;
  }

  #columns(db: Database, ino: Ino): Columns | undefined {
    return db.prepare<Columns>('SELECT crc, record FROM hints WHERE ino = ?').get(ino);
  }

  put(hints: readonly Hint[]): void {
    if (hints.length === 0 || this.#maxBytes === 0) return;
    this.#cache.attempt(
      (db) =>
        db.transaction(() => {
          const stamp = ++this.#stamp;
          for (const hint of hints) this.#put(db, hint, stamp);
          this.#prune(db);
        }),
      undefined,
    );
  }

  #put(db: Database, hint: Hint, stamp: number): void {
    const { ino } = hint.attr;
    const record = packr.pack(hint);
    const before = this.#columns(db, ino);
    if (before?.record.equals(record) === true) {
      db.run('UPDATE hints SET stamp = ? WHERE ino = ?', stamp, ino);
      return;
    }
    db.run(
      'INSERT OR REPLACE INTO hints(ino, stamp, crc, record) VALUES (?, ?, ?, ?)',
      ino,
      stamp,
      crc32c(record),
      record,
    );
    this.#count += before === undefined ? 1 : 0;
    this.#bytes += record.length - (before?.record.length ?? 0);
  }

  #prune(db: Database): void {
    while (this.#count > limits.hintsKept || this.#bytes > this.#maxBytes) {
      const oldest = db
        .prepare<{ ino: Ino; length: number }>(
          'SELECT ino, length(record) AS length FROM hints ORDER BY stamp LIMIT ?',
        )
        .all(PRUNED_AT_ONCE);
      if (oldest.length === 0) return;
      for (const { ino, length } of oldest) this.#delete(db, ino, length);
    }
  }

  #delete(db: Database, ino: Ino, length: number): void {
    db.run('DELETE FROM hints WHERE ino = ?', ino);
    this.#count--;
    this.#bytes -= length;
  }

  /** They are not true any more. */
  forget(inodes: readonly Ino[]): void {
    if (inodes.length === 0) return;
    this.#cache.attempt(
      (db) =>
        db.transaction(() => {
          for (const ino of inodes) {
            const columns = this.#columns(db, ino);
            if (columns !== undefined) this.#delete(db, ino, columns.record.length);
          }
        }),
      undefined,
    );
  }
}
