/**
 * Bytes of closed files that are not committed yet, on this machine's disk: a file that this mount alone has a
 * lease on need not wait at close(2) until its chunk is stored on other machines. Whoever else wants to see it
 * recalls the lease, and what was written is committed first; and when the daemon is killed, the next one finds
 * the bytes here.
 *
 * INVARIANT: what was kept of a file is all that was pending of it at its last close.
 */

import { Packr } from 'msgpackr';
import type { Timespec } from '../base/clock.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { Database } from '../sqlite/database.js';
import type { PendingChunk } from './pending-chunk.js';
import type { PendingFile } from './pending-file.js';

const packr = new Packr({ useRecords: false });

/** Of an earlier daemon, or of a session that was lost. */
export interface LeftWrite {
  readonly generation: number;
  readonly ino: Ino;
  /** That the inode had when they were kept, or that this mount has given it since. */
  readonly version: number;
  readonly mtime: Timespec;
  readonly clearPrivileges: boolean;
  readonly pieces: readonly { readonly offset: number; readonly bytes: Buffer }[];
}

interface Columns {
  readonly generation: number;
  readonly ino: Ino;
  readonly version: number;
  readonly sec: number;
  readonly nsec: number;
  readonly clear: number;
  readonly pieces: Buffer;
}

interface Kept {
  readonly file: PendingFile;
  readonly writtenAt: Timespec;
  version: number;
}

export class KeptWrites {
  readonly #db: Database;
  readonly #kept = new Map<Ino, Kept>();
  /** Rises with every daemon and every session. */
  #generation: number;

  constructor(db: Database) {
    this.#db = db;
    const generations = db.prepare<{ last: number | null }>('SELECT max(generation) AS last FROM written');
    this.#generation = (generations.get()?.last ?? 0) + 1;
  }

  /**
   * Keeps what is pending of a file, whose inode has this version. False: it is too much, it has to be stored.
   * **Errors:** ENOSPC, EIO of this machine's disk.
   */
  keep(file: PendingFile, version: number): boolean {
    if (file.isClean) return true;
    if (file.overlay.bytes > limits.keptBytesPerFile) return false;
    const kept = this.#kept.get(file.ino);
    if (kept?.writtenAt !== file.writtenAt) this.#write(file, version);
    return true;
  }

  /** What was pending of a file has changed otherwise than by a write: it was cut, or got another time. */
  changed(file: PendingFile): void {
    const kept = this.#kept.get(file.ino);
    if (kept === undefined) return;
    if (file.isClean) this.#drop(file.ino);
    else this.#write(file, kept.version);
  }

  #write(file: PendingFile, version: number): void {
    const { ino, mtime, clearPrivileges } = file;
    const pieces = file.overlay
      .pieces()
      .map(({ offset, chunk, chunkOffset, length }) => ({ offset, bytes: chunk.bytes(chunkOffset, length) }));
    this.#db.run(
      `INSERT OR REPLACE INTO written(generation, ino, version, sec, nsec, clear_privileges, pieces)
        VALUES (?, ?, ?, ?, ?, ?, ?)`,
      this.#generation,
      ino,
      version,
      mtime.sec,
      mtime.nsec,
      clearPrivileges ? 1 : 0,
      packr.pack(pieces),
    );
    this.#kept.set(ino, { file, writtenAt: file.writtenAt, version });
  }

  /** This mount has changed the inode. */
  version(ino: Ino, version: number): void {
    const kept = this.#kept.get(ino);
    if (kept === undefined || kept.version >= version) return;
    kept.version = version;
    const sql = 'UPDATE written SET version = ? WHERE ino = ? AND generation = ?';
    this.#db.run(sql, version, ino, this.#generation);
  }

  /** This mount has removed the inode. */
  gone(ino: Ino): void {
    if (this.#kept.has(ino)) this.#drop(ino);
  }

  /** A chunk is committed: what is not pending any more is kept no longer. */
  committed(chunk: PendingChunk): void {
    const clean = [...chunk.files.keys()].filter(
      (file) => file.isClean && this.#kept.get(file.ino)?.file === file,
    );
    if (clean.length === 0) return;
    this.#db.transaction(() => {
      for (const { ino } of clean) this.#drop(ino);
    });
  }

  #drop(ino: Ino): void {
    this.#kept.delete(ino);
    this.#db.run('DELETE FROM written WHERE ino = ? AND generation = ?', ino, this.#generation);
  }

  /** The session is over, and what it has not committed is given up; what was kept of it is left over. */
  sessionLost(): void {
    this.#generation++;
    this.#kept.clear();
  }

  /** What an earlier daemon, or a lost session, has kept; oldest first. */
  leftovers(): LeftWrite[] {
    const sql = `SELECT generation, ino, version, sec, nsec, clear_privileges AS clear, pieces FROM written
      WHERE generation < ? ORDER BY generation, ino`;
    return this.#db
      .prepare<Columns>(sql)
      .all(this.#generation)
      .map(({ generation, ino, version, sec, nsec, clear, pieces }) => ({
        generation,
        ino,
        version,
        mtime: { sec, nsec },
        clearPrivileges: clear !== 0,
        // This program has written it.
        pieces: packr.unpack(pieces) as LeftWrite['pieces'],
      }));
  }

  /** Something left over is committed, or is somewhere else. */
  forget({ ino, generation }: LeftWrite): void {
    this.#db.run('DELETE FROM written WHERE ino = ? AND generation = ?', ino, generation);
  }
}
