/** What a leasefs of an earlier format has left in `journal.db` is there for this one. */
import { join } from 'node:path';
import { Packr } from 'msgpackr';
import t, { type Test } from 'tap';
import { KEPT_BEFORE, KeptWrites } from '../../src/client/kept-writes.js';
import { openMountDatabase } from '../../src/client/mount-database.js';
import { type Database, openDatabase } from '../../src/sqlite/database.js';

/** As format 1, and then 2, made it. */
const COMMON = `
CREATE TABLE entries(number INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
CREATE TABLE owner(id INTEGER PRIMARY KEY CHECK(id = 1), session INTEGER NOT NULL) STRICT;
INSERT INTO entries VALUES (4, x'90');
INSERT INTO owner VALUES (1, 77);`;
const SCHEMAS: Readonly<Record<number, string>> = {
  1: `${COMMON}
CREATE TABLE written(generation INTEGER NOT NULL, ino INTEGER NOT NULL, version INTEGER NOT NULL,
  sec INTEGER NOT NULL, nsec INTEGER NOT NULL, clear_privileges INTEGER NOT NULL, pieces BLOB NOT NULL,
  PRIMARY KEY(ino, generation)) STRICT;`,
  2: `${COMMON}
CREATE TABLE written(generation INTEGER NOT NULL, ino INTEGER NOT NULL, part INTEGER NOT NULL,
  version INTEGER NOT NULL, ctime_sec INTEGER, ctime_nsec INTEGER, mtime_sec INTEGER NOT NULL,
  mtime_nsec INTEGER NOT NULL, clear_privileges INTEGER NOT NULL, entry INTEGER,
  PRIMARY KEY(ino, generation, part)) STRICT;
CREATE TABLE pieces(generation INTEGER NOT NULL, ino INTEGER NOT NULL, part INTEGER NOT NULL,
  pieces BLOB NOT NULL, PRIMARY KEY(ino, generation, part)) STRICT;`,
};

const packr = new Packr({ useRecords: false });
const packed = (text: string): Buffer => packr.pack([{ offset: 3, bytes: Buffer.from(text) }]);

/** The cache directory of an earlier leasefs, with what `fill` puts into its database. */
function leftBy(t: Test, format: number, fill: (db: Database) => void): string {
  const dir = t.testdir();
  const db = openDatabase({
    path: join(dir, 'journal.db'),
    applicationId: 0x6c66_6a6e,
    formatVersion: format,
    migrate: (made) => made.exec(SCHEMAS[format] ?? ''),
    create: true,
  });
  fill(db);
  db.close();
  return dir;
}

/** What is left, and what of the rest there is, before and after all of it is brought to the servers. */
function found(dir: string) {
  const db = openMountDatabase(dir);
  const kept = new KeptWrites(db, KEPT_BEFORE);
  const left = kept.leftovers();
  for (const write of left) kept.forget(write);
  const rows = (table: 'written' | 'pieces'): number =>
    db.prepare<{ count: number }>(`SELECT count(*) AS count FROM ${table}`).get()?.count ?? -1;
  const entries = db.prepare<{ number: number }>('SELECT number FROM entries').all();
  const owner = db.prepare<{ session: number }>('SELECT session FROM owner').get()?.session;
  const result = { left, entries, owner, rows: rows('written') + rows('pieces') };
  db.close();
  return result;
}

const texts = (left: ReturnType<KeptWrites['leftovers']>) =>
  left.map(({ ino, version, ctime, mtime, clearPrivileges, pieces }) => ({
    ino,
    version,
    ctime,
    mtime,
    clearPrivileges,
    pieces: pieces.map(({ offset, bytes }) => `${offset}:${bytes}`),
  }));

t.test('format 1', (t) => {
  const dir = leftBy(t, 1, (db) => {
    db.run('INSERT INTO written VALUES (2, 11, 5, 100, 7, 1, ?)', packed('newer'));
    db.run('INSERT INTO written VALUES (1, 12, 6, 101, 8, 0, ?)', packed('older'));
  });
  const { left, ...rest } = found(dir);
  const ctime = undefined;
  t.strictSame(texts(left), [
    { ino: 12, version: 6, ctime, mtime: { sec: 101, nsec: 8 }, clearPrivileges: false, pieces: ['3:older'] },
    { ino: 11, version: 5, ctime, mtime: { sec: 100, nsec: 7 }, clearPrivileges: true, pieces: ['3:newer'] },
  ]);
  t.strictSame(rest, { entries: [{ number: 4 }], owner: 77, rows: 0 });
  t.end();
});

t.test('format 2, with several parts of a file', (t) => {
  const dir = leftBy(t, 2, (db) => {
    const put = (generation: number, ino: number, part: number, entry: number | null, text: string): void => {
      db.run(
        'INSERT INTO written VALUES (?, ?, ?, 9, 50, 1, 60, 2, 0, ?)',
        ...[generation, ino, part, entry],
      );
      db.run('INSERT INTO pieces VALUES (?, ?, ?, ?)', generation, ino, part, packed(text));
    };
    put(2, 11, 1, null, 'of a later daemon');
    put(1, 11, 2, null, 'second');
    put(1, 11, 1, 4, 'first');
    put(1, 10, 1, 4, 'committed');
  });
  const { left, ...rest } = found(dir);
  const common = { version: 9, ctime: { sec: 50, nsec: 1 }, clearPrivileges: false };
  const mtime = { sec: 60, nsec: 2 };
  t.strictSame(texts(left), [
    { ...common, ino: 10, mtime: undefined, pieces: ['3:committed'] },
    { ...common, ino: 11, mtime, pieces: ['3:first', '3:second'] },
    { ...common, ino: 11, mtime, pieces: ['3:of a later daemon'] },
  ]);
  t.strictSame(rest, { entries: [{ number: 4 }], owner: 77, rows: 0 });
  t.end();
});
