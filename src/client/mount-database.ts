/**
 * What a mount keeps on this machine's disk so that it outlives the daemon: `journal.db` in its cache directory.
 */
import { join } from 'node:path';
import { type Database, openDatabase } from '../sqlite/database.js';

/** "lfjn" in the file's header. */
const APPLICATION_ID = 0x6c66_6a6e;
const FORMAT_VERSION = 1;

const TABLES = `
CREATE TABLE entries(number INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
CREATE TABLE owner(id INTEGER PRIMARY KEY CHECK(id = 1), session INTEGER NOT NULL) STRICT;
CREATE TABLE written(
  generation INTEGER NOT NULL,
  ino INTEGER NOT NULL,
  version INTEGER NOT NULL,
  sec INTEGER NOT NULL,
  nsec INTEGER NOT NULL,
  clear_privileges INTEGER NOT NULL,
  pieces BLOB NOT NULL,
  PRIMARY KEY(ino, generation)
) STRICT;
`;

export function openMountDatabase(cacheDir: string): Database {
  return openDatabase({
    path: join(cacheDir, 'journal.db'),
    applicationId: APPLICATION_ID,
    formatVersion: FORMAT_VERSION,
    migrate: (db) => db.exec(TABLES),
    create: true,
  });
}
