import { join } from 'node:path';
import t, { type Test } from 'tap';
import { MemoryStore } from '../../src/meta/memory-store.js';
import { openSqliteStore, type SqliteStore } from '../../src/meta/sqlite-store.js';
import { rootInode } from '../../src/names/inode.js';
import { asSessionId } from '../../src/proto/ids.js';
import { FIRST_IDS, filesystem, session, suite, walkAlike } from './meta-store.js';

function sqliteAt(path: string): SqliteStore {
  return openSqliteStore(path, { ...filesystem, ...FIRST_IDS }, [
    { put: 'inode', row: rootInode(filesystem.createdAt) },
  ]);
}

function sqlite(t: Test): SqliteStore {
  const store = sqliteAt(':memory:');
  t.teardown(() => store.close());
  return store;
}

const memory = (): MemoryStore => new MemoryStore(filesystem, FIRST_IDS);

t.test('the memory store', async (t) => suite(t, memory));
t.test('the SQLite store', async (t) => suite(t, sqlite));

t.test('both stores take the same random walk', async (t) => {
  for (let seed = 1; seed <= 8; seed++) {
    walkAlike([memory(), sqlite(t)], seed, 400);
    t.pass(`seed ${seed}`);
  }
});

t.test('a SQLite store is the same after it was closed and opened', async (t) => {
  const path = join(t.testdir(), 'meta.db');
  const store = sqliteAt(path);
  walkAlike([memory(), store], 99, 200);
  store.transaction(true, () => store.setEpoch(12));
  const before = [store.counters(), store.nextId('inode'), store.nextId('chunk'), store.sessions()];
  store.close();
  const again = openSqliteStore(path, undefined, []);
  t.teardown(() => again.close());
  t.strictSame([again.counters(), again.nextId('inode'), again.nextId('chunk'), again.sessions()], before);
  t.strictSame(again.filesystem, filesystem);
  t.equal(again.epoch, 12);
  again.checkInvariants();
});

t.test('a contradiction in the database is found', async (t) => {
  const store = sqlite(t);
  store.transaction(false, () => store.putSession(session(asSessionId(5))));
  store.checkInvariants();
  store.transaction(false, () =>
    store.apply([{ put: 'inode', row: { ...rootInode(filesystem.createdAt), nlink: 3 } }]),
  );
  t.throws(() => store.checkInvariants(), /links of a directory/);
});
