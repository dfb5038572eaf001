/**
 * The tables of the metadata database. Dentries and extents are kept in the order in which they are read
 * (WITHOUT ROWID: the table is its index), so a listing and a file's map are one range scan each.
 */
import type { Database } from '../sqlite/database.js';

/** "lfmd" in the file's header. */
export const META_APPLICATION_ID = 0x6c66_6d64;
export const META_FORMAT_VERSION = 4;

const TABLES = `
CREATE TABLE filesystem(
  id INTEGER PRIMARY KEY CHECK(id = 1),
  cluster_id TEXT NOT NULL,
  replicas INTEGER NOT NULL,
  placement_groups INTEGER NOT NULL,
  created_sec INTEGER NOT NULL,
  created_nsec INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  next_inode INTEGER NOT NULL,
  next_chunk INTEGER NOT NULL,
  next_session INTEGER NOT NULL,
  next_task INTEGER NOT NULL,
  inodes INTEGER NOT NULL,
  chunks INTEGER NOT NULL,
  referenced_bytes INTEGER NOT NULL,
  chunk_bytes INTEGER NOT NULL,
  syncs INTEGER NOT NULL,
  clean INTEGER NOT NULL CHECK(clean IN (0, 1))
) STRICT;

CREATE TABLE inodes(
  ino INTEGER PRIMARY KEY,
  mode INTEGER NOT NULL,
  nlink INTEGER NOT NULL CHECK(nlink >= 0),
  uid INTEGER NOT NULL,
  gid INTEGER NOT NULL,
  rdev INTEGER NOT NULL,
  size INTEGER NOT NULL CHECK(size >= 0),
  allocated INTEGER NOT NULL CHECK(allocated >= 0),
  atime INTEGER NOT NULL, atime_nsec INTEGER NOT NULL,
  mtime INTEGER NOT NULL, mtime_nsec INTEGER NOT NULL,
  ctime INTEGER NOT NULL, ctime_nsec INTEGER NOT NULL,
  crtime INTEGER NOT NULL, crtime_nsec INTEGER NOT NULL,
  version INTEGER NOT NULL,
  parent INTEGER,
  target BLOB
) STRICT;
CREATE INDEX orphans ON inodes(ino) WHERE nlink = 0;

CREATE TABLE dentries(
  parent INTEGER NOT NULL,
  hash INTEGER NOT NULL,
  name BLOB NOT NULL,
  slot INTEGER NOT NULL,
  ino INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  PRIMARY KEY(parent, hash, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE extents(
  ino INTEGER NOT NULL,
  offset INTEGER NOT NULL CHECK(offset >= 0),
  length INTEGER NOT NULL CHECK(length > 0),
  chunk INTEGER NOT NULL,
  chunk_offset INTEGER NOT NULL CHECK(chunk_offset >= 0),
  PRIMARY KEY(ino, offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE chunks(
  id INTEGER PRIMARY KEY,
  length INTEGER NOT NULL CHECK(length > 0),
  crc INTEGER NOT NULL,
  used INTEGER NOT NULL CHECK(used >= 0)
) STRICT;
CREATE INDEX garbage ON chunks(id) WHERE used = 0;
CREATE TABLE retired(chunk INTEGER PRIMARY KEY) STRICT;

CREATE TABLE xattrs(
  ino INTEGER NOT NULL,
  name BLOB NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY(ino, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE opens(
  ino INTEGER NOT NULL,
  session INTEGER NOT NULL,
  PRIMARY KEY(ino, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX opens_of_session ON opens(session);

CREATE TABLE reapable(ino INTEGER PRIMARY KEY) STRICT;

CREATE TABLE sessions(
  id INTEGER PRIMARY KEY,
  token INTEGER NOT NULL,
  confirmed_token INTEGER NOT NULL,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  mountpoint TEXT NOT NULL,
  finished_below INTEGER NOT NULL
) STRICT;

CREATE TABLE replies(
  session INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  reply BLOB NOT NULL,
  PRIMARY KEY(session, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE ranges(
  first INTEGER PRIMARY KEY,
  last INTEGER NOT NULL CHECK(last >= first),
  session INTEGER NOT NULL
) STRICT;

CREATE TABLE servers(
  id TEXT PRIMARY KEY,
  url TEXT NOT NULL,
  host TEXT NOT NULL,
  rack TEXT NOT NULL,
  weight REAL NOT NULL,
  state TEXT NOT NULL CHECK(state IN ('up', 'down', 'full')),
  capacity_bytes INTEGER NOT NULL,
  used_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks(
  id INTEGER PRIMARY KEY,
  server TEXT NOT NULL,
  work TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  message TEXT NOT NULL
) STRICT;
`;

/** Since version 2. Few rows, and each is written alone: ordered by what is looked up. */
const LOCKS = `
CREATE TABLE locks(
  session INTEGER NOT NULL,
  owner TEXT NOT NULL,
  ino INTEGER NOT NULL,
  space TEXT NOT NULL CHECK(space IN ('fcntl', 'flock')),
  start INTEGER NOT NULL CHECK(start >= 0),
  end INTEGER NOT NULL CHECK(end >= start),
  type TEXT NOT NULL CHECK(type IN ('read', 'write')),
  pid INTEGER NOT NULL,
  PRIMARY KEY(session, owner, ino, space, start)
) STRICT, WITHOUT ROWID;
`;

/** Since version 3: sessions of before have no leases. */
const SESSION_LEASES = 'ALTER TABLE sessions ADD COLUMN leases INTEGER NOT NULL DEFAULT 0';

/** Since version 4. `applied`: the last entry of a session's journal that was carried out. */
const JOURNALS = `
CREATE TABLE journals(
  session INTEGER PRIMARY KEY,
  applied INTEGER NOT NULL
) STRICT;

CREATE TABLE inode_ranges(
  first INTEGER PRIMARY KEY,
  last INTEGER NOT NULL CHECK(last >= first),
  session INTEGER NOT NULL
) STRICT;
`;

/** Brings the schema to META_FORMAT_VERSION, inside the caller's transaction. */
export function migrateSchema(db: Database, fromVersion: number): void {
  if (fromVersion < 1) db.exec(TABLES);
  if (fromVersion < 2) db.exec(LOCKS);
  if (fromVersion < 3) db.exec(SESSION_LEASES);
  if (fromVersion < 4) db.exec(JOURNALS);
}
