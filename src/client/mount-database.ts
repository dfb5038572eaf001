/**
 * What a mount keeps on this machine's disk so that it outlives the daemon: `journal.db` in its cache directory.
 */
import { join } from 'node:path';
import { type Database, openDatabase } from '../sqlite/database.js';

/** "lfjn" in the file's header. */
const APPLICATION_ID = 0x6c66_6a6e;
const FORMAT_VERSION = 2;

const TABLES = `
CREATE TABLE entries(number INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
CREATE TABLE owner(id INTEGER PRIMARY KEY CHECK(id = 1), session INTEGER NOT NULL) STRICT;
`;

/** What changes often is not in one row with the bytes, which would be written again with it. */
const WRITTEN = `
CREATE TABLE written(
  generation INTEGER NOT NULL,
  ino INTEGER NOT NULL,
  part INTEGER NOT NULL,
  version INTEGER NOT NULL,
  ctime_sec INTEGER,
  ctime_nsec INTEGER,
  mtime_sec INTEGER NOT NULL,
  mtime_nsec INTEGER NOT NULL,
  clear_privileges INTEGER NOT NULL,
  entry INTEGER,
  PRIMARY KEY(ino, generation, part)
) STRICT;
CREATE TABLE pieces(
  generation INTEGER NOT NULL,
  ino INTEGER NOT NULL,
  part INTEGER NOT NULL,
  pieces BLOB NOT NULL,
  PRIMARY KEY(ino, generation, part)
) STRICT;
`;

/** Of an earlier format: there was one part of each file, and no ctime. */
const FROM_1 = `
ALTER TABLE written RENAME TO written1;
${WRITTEN}
INSERT INTO written SELECT generation, ino, 1, version, NULL, NULL, sec, nsec, clear_privileges, NULL FROM written1;
INSERT INTO pieces SELECT generation, ino, 1, pieces FROM written1;
DROP TABLE written1;
`;

export function openMountDatabase(cacheDir: string): Database {
  return openDatabase({
    path: join(cacheDir, 'journal.db'),
    applicationId: APPLICATION_ID,
    formatVersion: FORMAT_VERSION,
    migrate: (db, from) => db.exec(from === 0 ? `${TABLES}${WRITTEN}` : FROM_1),
    create: true,
  });
}
