/**
 * What a mount keeps on this machine's disk so that it outlives the daemon: `journal.db` in its cache directory.
 */
import { join } from 'node:path';
import { present } from '../base/assert.js';
import { type Database, openDatabase } from '../sqlite/database.js';

/** "lfjn" in the file's header. */
const APPLICATION_ID = 0x6c66_6a6e;
const FORMAT_VERSION = 3;
/** Every change that is answered here writes the page that its row goes to: 250 bytes, most of them. */
const PAGE_BYTES = 2048;

const TABLES = `
CREATE TABLE entries(number INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
CREATE TABLE owner(id INTEGER PRIMARY KEY CHECK(id = 1), session INTEGER NOT NULL) STRICT;
`;

/**
 * Parts of files, in the order of their ids. What changes often is not in one row with the bytes, which would be
 * written again with it; and there is no index, because what is written is in memory, too, until it is left behind.
 */
const WRITTEN = `
CREATE TABLE written(
  id INTEGER PRIMARY KEY,
  generation INTEGER NOT NULL,
  ino INTEGER NOT NULL,
  version INTEGER NOT NULL,
  ctime_sec INTEGER,
  ctime_nsec INTEGER,
  mtime_sec INTEGER NOT NULL,
  mtime_nsec INTEGER NOT NULL,
  clear_privileges INTEGER NOT NULL,
  entry INTEGER
) STRICT;
CREATE TABLE pieces(id INTEGER PRIMARY KEY, pieces BLOB NOT NULL) STRICT;
`;

/** Of an earlier format: there was one part of each file, and no ctime. */
const FROM_1 = `
ALTER TABLE written RENAME TO written1;
${WRITTEN}
INSERT INTO written SELECT rowid, generation, ino, version, NULL, NULL, sec, nsec, clear_privileges, NULL FROM written1;
INSERT INTO pieces SELECT rowid, pieces FROM written1;
DROP TABLE written1;
`;

/** Parts had numbers within their file. */
const FROM_2 = `
ALTER TABLE written RENAME TO written2;
ALTER TABLE pieces RENAME TO pieces2;
${WRITTEN}
CREATE TABLE ordered(id INTEGER PRIMARY KEY, generation INTEGER, ino INTEGER, part INTEGER) STRICT;
INSERT INTO ordered(generation, ino, part) SELECT generation, ino, part FROM written2 ORDER BY generation, ino, part;
INSERT INTO written SELECT id, generation, ino, version, ctime_sec, ctime_nsec, mtime_sec, mtime_nsec, clear_privileges, entry
  FROM written2 JOIN ordered USING(generation, ino, part);
INSERT INTO pieces SELECT id, pieces FROM pieces2 JOIN ordered USING(generation, ino, part);
DROP TABLE ordered;
DROP TABLE written2;
DROP TABLE pieces2;
`;

/** The schema as it was made, or from an earlier format. */
const MIGRATIONS: Readonly<Record<number, string>> = { 0: `${TABLES}${WRITTEN}`, 1: FROM_1, 2: FROM_2 };

export function openMountDatabase(cacheDir: string): Database {
  return openDatabase({
    path: join(cacheDir, 'journal.db'),
    applicationId: APPLICATION_ID,
    formatVersion: FORMAT_VERSION,
    migrate: (db, from) => db.exec(present(MIGRATIONS[from], 'formats below the newest can be read')),
    create: true,
    pageBytes: PAGE_BYTES,
  });
}
