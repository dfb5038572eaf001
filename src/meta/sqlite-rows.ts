/**
 * The namespace's rows in SQLite: what semantics ask for, and the changes they answer with. Every change says
 * by how much it moved the totals, so that statfs never counts rows.
 *
 * It opens no transaction and keeps no total: sqlite-store.ts does.
 */
import { assert, present, unreachable } from '../base/assert.js';
import type { Answer } from '../names/operation.js';
import type {
  ChunkRow,
  DentryRow,
  ExtentRow,
  InodeRow,
  RowChange,
  RowRead,
  XattrRow,
} from '../names/rows.js';
import type { ChunkId, Ino, SessionId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { Database } from '../sqlite/database.js';

/** What changes may move. */
export interface Totals {
  inodes: number;
  chunks: number;
  referencedBytes: number;
  chunkBytes: number;
}

interface InodeColumns {
  readonly ino: Ino;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  readonly allocated: number;
  readonly atime: number;
  readonly atime_nsec: number;
  readonly mtime: number;
  readonly mtime_nsec: number;
  readonly ctime: number;
  readonly ctime_nsec: number;
  readonly crtime: number;
  readonly crtime_nsec: number;
  readonly version: number;
  readonly parent: Ino | null;
  readonly target: Buffer | null;
}

function inodeRow(c: InodeColumns): InodeRow {
  return {
    ino: c.ino,
    mode: c.mode,
    nlink: c.nlink,
    uid: c.uid,
    gid: c.gid,
    rdev: c.rdev,
    size: c.size,
    allocated: c.allocated,
    atime: { sec: c.atime, nsec: c.atime_nsec },
    mtime: { sec: c.mtime, nsec: c.mtime_nsec },
    ctime: { sec: c.ctime, nsec: c.ctime_nsec },
    crtime: { sec: c.crtime, nsec: c.crtime_nsec },
    version: c.version,
    parent: c.parent,
    target: c.target,
  };
}

/** In the order in which putInode's statements take them; the inode number comes last. */
function inodeValues(row: InodeRow): (number | Uint8Array | null)[] {
  return [
    row.mode,
    row.nlink,
    row.uid,
    row.gid,
    row.rdev,
    row.size,
    row.allocated,
    row.atime.sec,
    row.atime.nsec,
    row.mtime.sec,
    row.mtime.nsec,
    row.ctime.sec,
    row.ctime.nsec,
    row.crtime.sec,
    row.crtime.nsec,
    row.version,
    row.parent,
    row.target,
    row.ino,
  ];
}

function statements(db: Database) {
  return {
    inode: db.prepare<InodeColumns>('SELECT * FROM inodes WHERE ino = ?'),
    updateInode: db.prepare(
      `UPDATE inodes SET mode = ?, nlink = ?, uid = ?, gid = ?, rdev = ?, size = ?, allocated = ?,
        atime = ?, atime_nsec = ?, mtime = ?, mtime_nsec = ?, ctime = ?, ctime_nsec = ?,
        crtime = ?, crtime_nsec = ?, version = ?, parent = ?, target = ? WHERE ino = ?`,
    ),
    insertInode: db.prepare(
      `INSERT INTO inodes(mode, nlink, uid, gid, rdev, size, allocated,
        atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec,
        crtime, crtime_nsec, version, parent, target, ino)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    deleteInode: db.prepare('DELETE FROM inodes WHERE ino = ?'),
    dentry: db.prepare<DentryRow>('SELECT * FROM dentries WHERE parent = ? AND hash = ? AND name = ?'),
    namesakes: db.prepare<DentryRow>('SELECT * FROM dentries WHERE parent = ? AND hash = ?'),
    dentries: db.prepare<DentryRow>(
      'SELECT * FROM dentries WHERE parent = ? AND hash >= ? ORDER BY hash, name LIMIT ?',
    ),
    putDentry: db.prepare(
      'INSERT OR REPLACE INTO dentries(parent, hash, name, slot, ino, kind) VALUES (?, ?, ?, ?, ?, ?)',
    ),
    deleteDentry: db.prepare('DELETE FROM dentries WHERE parent = ? AND hash = ? AND name = ?'),
    // The first extent that can overlap is the last one that starts at or before `from`.
    extents: db.prepare<ExtentRow>(
      `SELECT ino, offset, length, chunk, chunk_offset AS chunkOffset FROM extents
        WHERE ino = ? AND offset >= ifnull((SELECT max(offset) FROM extents WHERE ino = ? AND offset <= ?), 0)
          AND offset < ? AND offset + length > ?
        ORDER BY offset LIMIT ?`,
    ),
    putExtent: db.prepare(
      'INSERT OR REPLACE INTO extents(ino, offset, length, chunk, chunk_offset) VALUES (?, ?, ?, ?, ?)',
    ),
    deleteExtent: db.prepare('DELETE FROM extents WHERE ino = ? AND offset = ?'),
    chunk: db.prepare<ChunkRow>('SELECT * FROM chunks WHERE id = ?'),
    putChunk: db.prepare('INSERT OR REPLACE INTO chunks(id, length, crc, used) VALUES (?, ?, ?, ?)'),
    adjustChunk: db.prepare('UPDATE chunks SET used = used + ? WHERE id = ?'),
    xattr: db.prepare<XattrRow>('SELECT * FROM xattrs WHERE ino = ? AND name = ?'),
    xattrs: db.prepare<XattrRow>('SELECT * FROM xattrs WHERE ino = ? ORDER BY name'),
    putXattr: db.prepare('INSERT OR REPLACE INTO xattrs(ino, name, value) VALUES (?, ?, ?)'),
    deleteXattr: db.prepare('DELETE FROM xattrs WHERE ino = ? AND name = ?'),
    deleteXattrs: db.prepare('DELETE FROM xattrs WHERE ino = ?'),
    isOpen: db.prepare('SELECT 1 FROM opens WHERE ino = ? LIMIT 1'),
    isOpenByOthers: db.prepare('SELECT 1 FROM opens WHERE ino = ? AND session <> ? LIMIT 1'),
    opens: db.prepare<{ ino: Ino }>('SELECT ino FROM opens WHERE session = ? LIMIT ?'),
    putOpen: db.prepare('INSERT OR IGNORE INTO opens(ino, session) VALUES (?, ?)'),
    deleteOpen: db.prepare('DELETE FROM opens WHERE ino = ? AND session = ?'),
    deleteOpens: db.prepare('DELETE FROM opens WHERE ino = ?'),
    reapable: db.prepare<{ ino: Ino }>('SELECT ino FROM reapable ORDER BY ino LIMIT ?'),
    putReapable: db.prepare('INSERT OR IGNORE INTO reapable(ino) VALUES (?)'),
    deleteReapable: db.prepare('DELETE FROM reapable WHERE ino = ?'),
    garbage: db.prepare<ChunkRow>('SELECT * FROM chunks WHERE used = 0 ORDER BY id LIMIT ?'),
    garbageCount: db.prepare<{ n: number }>(
      'SELECT count(*) AS n FROM (SELECT 1 FROM chunks WHERE used = 0 LIMIT ?)',
    ),
    deleteChunk: db.prepare('DELETE FROM chunks WHERE id = ?'),
  };
}

export class SqliteRows {
  readonly #sql: ReturnType<typeof statements>;
  readonly #newIno: () => Ino;
  /** Rows of inodes as they are in the database, or in its open transaction; not of symlinks, whose targets are long. */
  readonly #inodes = new Map<Ino, InodeRow>();

  constructor(db: Database, newIno: () => Ino) {
    this.#sql = statements(db);
    this.#newIno = newIno;
  }

  answer(read: RowRead): Answer {
    const sql = this.#sql;
    switch (read.read) {
      case 'inode':
        return this.#inode(read.ino);
      case 'dentry':
        return sql.dentry.get(read.parent, read.hash, read.name);
      case 'namesakes':
        return sql.namesakes.all(read.parent, read.hash);
      case 'dentries':
        return sql.dentries.all(read.parent, read.fromHash, read.limit);
      case 'extents':
        return sql.extents.all(read.ino, read.ino, read.from, read.to, read.from, read.limit);
      case 'chunk': {
        const row = sql.chunk.get(read.id);
        return row === undefined || row.used === 0 ? undefined : row;
      }
      case 'xattr':
        return sql.xattr.get(read.ino, read.name);
      case 'xattrs':
        return sql.xattrs.all(read.ino);
      case 'isOpen':
        return sql.isOpen.get(read.ino) !== undefined;
      case 'isOpenByOthers':
        return sql.isOpenByOthers.get(read.ino, read.session) !== undefined;
      case 'opens':
        return this.opens(read.session, read.limit);
      case 'newIno':
        return this.#newIno();
      default:
        return unreachable(read);
    }
  }

  /** A batch of a mount's changes reads its directory twice for each of them. */
  #inode(ino: Ino): InodeRow | undefined {
    const known = this.#inodes.get(ino);
    if (known !== undefined) return known;
    const columns = this.#sql.inode.get(ino);
    if (columns === undefined) return undefined;
    const row = inodeRow(columns);
    this.#remember(row);
    return row;
  }

  #remember(row: InodeRow): void {
    if (row.target !== null) return;
    if (this.#inodes.size >= limits.inodeRowsKept) this.#inodes.clear();
    this.#inodes.set(row.ino, row);
  }

  /** The transaction is undone, or the database is closed. */
  forget(): void {
    this.#inodes.clear();
  }

  opens(session: SessionId, limit: number): Ino[] {
    return this.#sql.opens.all(session, limit).map((row) => row.ino);
  }

  /** Carries out one change and adds what it moved to `totals`. */
  apply(change: RowChange, totals: Totals): void {
    if ('adjust' in change) this.#adjust(change.id, change.used, totals);
    else if ('put' in change) this.#put(change, totals);
    else this.#delete(change, totals);
  }

  #put(change: Extract<RowChange, { put: string }>, totals: Totals): void {
    const sql = this.#sql;
    switch (change.put) {
      case 'inode': {
        const values = inodeValues(change.row);
        if (sql.updateInode.run(...values).changes === 0) {
          sql.insertInode.run(...values);
          totals.inodes += 1;
        }
        this.#remember(change.row);
        break;
      }
      case 'dentry': {
        const { parent, hash, name, slot, ino, kind } = change.row;
        sql.putDentry.run(parent, hash, name, slot, ino, kind);
        break;
      }
      case 'extent': {
        const { ino, offset, length, chunk, chunkOffset } = change.row;
        sql.putExtent.run(ino, offset, length, chunk, chunkOffset);
        break;
      }
      case 'chunk':
        this.#putChunk(change.row, totals);
        break;
      case 'xattr':
        sql.putXattr.run(change.row.ino, change.row.name, change.row.value);
        break;
      case 'open':
        sql.putOpen.run(change.ino, change.session);
        break;
      case 'reapable':
        sql.putReapable.run(change.ino);
        break;
      default:
        unreachable(change);
    }
  }

  #putChunk(row: ChunkRow, totals: Totals): void {
    const before = this.#sql.chunk.get(row.id);
    if (before !== undefined) this.#countChunk(before, -1, totals);
    this.#sql.putChunk.run(row.id, row.length, row.crc, row.used);
    this.#countChunk(row, 1, totals);
  }

  #countChunk(row: ChunkRow, sign: 1 | -1, totals: Totals): void {
    totals.chunks += sign;
    totals.chunkBytes += sign * row.length;
    totals.referencedBytes += sign * row.used;
  }

  #adjust(id: ChunkId, used: number, totals: Totals): void {
    const { changes } = this.#sql.adjustChunk.run(used, id);
    assert(changes === 1, `chunk ${id}, whose usage changes, is there`);
    totals.referencedBytes += used;
  }

  #delete(change: Extract<RowChange, { delete: string }>, totals: Totals): void {
    const sql = this.#sql;
    switch (change.delete) {
      case 'inode':
        this.#inodes.delete(change.ino);
        totals.inodes -= sql.deleteInode.run(change.ino).changes;
        sql.deleteXattrs.run(change.ino);
        sql.deleteOpens.run(change.ino);
        sql.deleteReapable.run(change.ino);
        break;
      case 'dentry':
        sql.deleteDentry.run(change.parent, change.hash, change.name);
        break;
      case 'extent':
        sql.deleteExtent.run(change.ino, change.offset);
        break;
      case 'xattr':
        sql.deleteXattr.run(change.ino, change.name);
        break;
      case 'open':
        sql.deleteOpen.run(change.ino, change.session);
        break;
      default:
        unreachable(change);
    }
  }

  reapable(limit: number): Ino[] {
    return this.#sql.reapable.all(limit).map((row) => row.ino);
  }

  garbageCount(limit: number): number {
    return present(this.#sql.garbageCount.get(limit), 'a count has a row').n;
  }

  takeGarbage(limit: number, totals: Totals): ChunkId[] {
    return this.#sql.garbage.all(limit).map((row) => {
      this.#sql.deleteChunk.run(row.id);
      this.#countChunk(row, -1, totals);
      return row.id;
    });
  }

  hasChunk(id: ChunkId): boolean {
    return this.#sql.chunk.get(id) !== undefined;
  }
}
