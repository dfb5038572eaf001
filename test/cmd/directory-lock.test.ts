import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { DirectoryLock, LockHeld } from '../../src/cmd/directory-lock.js';

t.test('a directory has one holder at a time', async (t) => {
  const dir = t.testdir();
  const lock = DirectoryLock.acquire(dir, 'x.lock');
  t.equal(DirectoryLock.holder(dir, 'x.lock')?.pid, process.pid);
  t.throws(() => DirectoryLock.acquire(dir, 'x.lock'), LockHeld);
  lock.release();
  t.equal(DirectoryLock.holder(dir, 'x.lock'), undefined);
  DirectoryLock.acquire(dir, 'x.lock').release();
  t.same(readdirSync(dir), [], 'nothing is left behind');
});

t.test('locks of one directory with other names are others', async (t) => {
  const dir = t.testdir();
  DirectoryLock.acquire(dir, 'x.lock');
  t.doesNotThrow(() => DirectoryLock.acquire(dir, 'y.lock'));
});

t.test('a lock of a dead process, or a damaged one, counts for nothing', async (t) => {
  for (const text of [
    '{"pid":4194999,"start":"gone/1"}',
    `{"pid":${process.pid},"start":"earlier/1"}`,
    '',
    'garbage',
    '7',
  ]) {
    const dir = t.testdir({ 'x.lock': text });
    const lock = DirectoryLock.acquire(dir, 'x.lock');
    t.match(JSON.parse(readFileSync(join(dir, 'x.lock'), 'utf8')), { pid: process.pid }, `after '${text}'`);
    t.same(readdirSync(dir), ['x.lock']);
    lock.release();
  }
});

t.test('a lock that cannot be written fails with its reason', async (t) => {
  const dir = t.testdir({ file: '' });
  writeFileSync(join(dir, 'file'), '');
  t.throws(() => DirectoryLock.acquire(join(dir, 'file'), 'x.lock'), { code: 'ENOTDIR' });
});
