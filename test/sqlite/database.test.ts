import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { InvariantError } from '../../src/base/assert.js';
import { FsError } from '../../src/proto/errno.js';
import { type Database, type DatabaseOptions, openDatabase } from '../../src/sqlite/database.js';

const APPLICATION = 0x6c66_7431;

function open(path: string, more: Partial<DatabaseOptions> = {}): Database {
  return openDatabase({
    path,
    applicationId: APPLICATION,
    formatVersion: 1,
    create: true,
    migrate: (db) => db.exec('CREATE TABLE item(id INTEGER PRIMARY KEY, body BLOB, size INTEGER) STRICT'),
    ...more,
  });
}

const count = (db: Database): number | undefined =>
  db.prepare<{ n: number }>('SELECT count(*) AS n FROM item').get()?.n;

t.test('what was written is there after closing and opening again', async (t) => {
  const path = join(t.testdir(), 'a.db');
  const db = open(path);
  db.transaction(() => db.run('INSERT INTO item VALUES (?, ?, ?)', 1, Buffer.from([0, 255]), 2 ** 53 - 1));
  db.close();
  db.close();
  const again = open(path, { create: false });
  t.strictSame(again.prepare('SELECT * FROM item').all(), [
    { id: 1, body: Buffer.from([0, 255]), size: 2 ** 53 - 1 },
  ]);
  t.equal(again.prepare<{ t: string }>('SELECT typeof(size) AS t FROM item').get()?.t, 'integer');
  again.close();
  t.strictSame(readdirSync(t.testdirName), ['a.db'], 'no draft, no WAL left behind');
});

t.test('a transaction that throws, or returns a promise, changes nothing', async (t) => {
  const db = open(':memory:');
  t.teardown(() => db.close());
  const insert = (): unknown => db.run('INSERT INTO item(id) VALUES (1)');
  t.throws(
    () =>
      db.transaction(() => {
        insert();
        throw new FsError('ENOENT', 'x');
      }),
    { code: 'ENOENT' },
  );
  t.throws(
    () =>
      db.transaction(async () => {
        insert();
      }),
    InvariantError,
  );
  t.throws(() => db.transaction(() => db.transaction(insert)), InvariantError);
  t.equal(count(db), 0);
  t.equal(db.inTransaction, false);
});

t.test('wrong SQL and violated constraints are bugs, not errnos', async (t) => {
  const db = open(':memory:');
  t.teardown(() => db.close());
  t.throws(() => db.prepare('SELECT nothing FROM nowhere'), InvariantError);
  db.run('INSERT INTO item(id) VALUES (1)');
  t.throws(() => db.run('INSERT INTO item(id) VALUES (1)'), InvariantError);
});

t.test('rows can be walked one by one and left early', async (t) => {
  const db = open(':memory:');
  t.teardown(() => db.close());
  for (let id = 1; id <= 5; id++) db.run('INSERT INTO item(id) VALUES (?)', id);
  const seen: number[] = [];
  for (const row of db.prepare<{ id: number }>('SELECT id FROM item ORDER BY id').iterate()) {
    seen.push(row.id);
    if (row.id === 3) break;
  }
  t.strictSame(seen, [1, 2, 3]);
  t.equal(count(db), 5);
});

t.test('a closed database answers EIO', async (t) => {
  const db = open(':memory:');
  db.close();
  t.throws(() => db.run('INSERT INTO item(id) VALUES (1)'), { code: 'EIO' });
  t.throws(() => db.transaction(() => 1), { code: 'EIO' });
});

t.test('a file that is not ours is refused and left as it was', async (t) => {
  const dir = t.testdir({ text: 'hello, this is somebody’s file'.repeat(10), empty: '' });
  for (const name of ['text', 'empty']) {
    const before = readFileSync(join(dir, name));
    t.throws(() => open(join(dir, name)), /not a SQLite database/);
    t.strictSame(readFileSync(join(dir, name)), before);
  }
  const path = join(dir, 'other.db');
  open(path, { applicationId: 77 }).close();
  const before = readFileSync(path);
  t.throws(() => open(path), /belongs to another program/);
  t.strictSame(readFileSync(path), before);
  t.strictSame(readdirSync(dir).sort(), ['empty', 'other.db', 'text']);
  t.throws(() => open(join(dir, 'none.db'), { create: false }), /no database/);
  t.equal(existsSync(join(dir, 'none.db')), false);
});

t.test('a newer format is refused and left as it was', async (t) => {
  const path = join(t.testdir(), 'a.db');
  open(path, { formatVersion: 3 }).close();
  const before = readFileSync(path);
  t.throws(() => open(path, { formatVersion: 2 }), /format 3, newer than format 2/);
  t.strictSame(readFileSync(path), before);
});

t.test('an older format is migrated, all or nothing', async (t) => {
  const path = join(t.testdir(), 'a.db');
  open(path).close();
  const failing = (db: Database): void => {
    db.exec('ALTER TABLE item ADD COLUMN note TEXT');
    throw new Error('half way');
  };
  t.throws(() => open(path, { formatVersion: 2, migrate: failing }), /half way/);
  const from: number[] = [];
  const db = open(path, {
    formatVersion: 2,
    migrate: (db, version) => {
      from.push(version);
      db.exec('ALTER TABLE item ADD COLUMN note TEXT');
    },
  });
  t.strictSame(from, [1]);
  db.close();
  t.throws(() => open(path), /format 2, newer/);
});

t.test('a failed creation leaves nothing', async (t) => {
  const dir = t.testdir();
  const migrate = (): void => {
    throw new Error('no');
  };
  t.throws(() => open(join(dir, 'a.db'), { migrate }), /^no$/);
  t.strictSame(readdirSync(dir), []);
});

t.test('a database that is open is refused to others, in this process and from another', async (t) => {
  const path = join(t.testdir(), 'a.db');
  const db = open(path);
  t.teardown(() => db.close());
  db.run('INSERT INTO item(id) VALUES (1)');
  t.throws(() => open(path), new RegExp(`${path}: another process has this database open`));
  const script = `
    import { openDatabase } from ${JSON.stringify(new URL('../../src/sqlite/database.js', import.meta.url).href)};
    try { openDatabase({ path: ${JSON.stringify(path)}, applicationId: ${APPLICATION}, formatVersion: 1,
      create: true, migrate: () => {} }); console.log('opened'); } catch (error) { console.log(error.message); }`;
  const other = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  t.match(other.stdout, /a\.db: another process has this database open/);
  t.equal(count(db), 1);
});

/** Runs a script in a process of its own, to whose end by SIGKILL it leads; says how it ended otherwise. */
function killed(t: Test, script: string): void {
  const { signal, status, error, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', script],
    {
      encoding: 'utf8',
    },
  );
  t.equal(signal, 'SIGKILL', `status ${status}, ${error ?? 'started'}: ${stderr}`);
}

t.test('a killed process loses no committed transaction', async (t) => {
  const path = join(t.testdir(), 'a.db');
  open(path).close();
  const script = `
    import { openDatabase } from ${JSON.stringify(new URL('../../src/sqlite/database.js', import.meta.url).href)};
    const db = openDatabase({ path: ${JSON.stringify(path)}, applicationId: ${APPLICATION}, formatVersion: 1,
      create: false, migrate: () => {} });
    for (let id = 1; id <= 100; id++) db.transaction(() => { db.run('INSERT INTO item(id) VALUES (?)', id); });
    db.setDurable(true);
    db.transaction(() => db.run('INSERT INTO item(id) VALUES (101)'));
    db.setDurable(false);
    process.kill(process.pid, 'SIGKILL');`;
  killed(t, script);
  t.ok(existsSync(`${path}-wal`));
  t.throws(() => open(path, { applicationId: 5 }), /another program/);
  const db = open(path);
  t.equal(count(db), 101);
  db.close();
});

t.test('a newer version that is only in the WAL is noticed', async (t) => {
  const path = join(t.testdir(), 'a.db');
  open(path).close();
  const script = `
    import { openDatabase } from ${JSON.stringify(new URL('../../src/sqlite/database.js', import.meta.url).href)};
    const db = openDatabase({ path: ${JSON.stringify(path)}, applicationId: ${APPLICATION}, formatVersion: 1,
      create: false, migrate: () => {} });
    db.exec('PRAGMA user_version = 9');
    process.kill(process.pid, 'SIGKILL');`;
  killed(t, script);
  const before = readFileSync(path);
  t.throws(() => open(path), /format 9, newer/);
  t.strictSame(readFileSync(path), before);
});

t.test('a full disk is ENOSPC and rolls back', async (t) => {
  const db = open(':memory:');
  t.teardown(() => db.close());
  db.exec('PRAGMA max_page_count = 20');
  const fill = (): void => {
    for (let id = 1; id < 1000; id++) db.run('INSERT INTO item VALUES (?, ?, 0)', id, Buffer.alloc(1000));
  };
  t.throws(() => db.transaction(fill), { code: 'ENOSPC' });
  t.equal(count(db), 0);
});
