import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ClusterDirectory } from '../../src/cmd/cluster-directory.js';
import { type ClusterFile, readClusterFile, writeClusterFile } from '../../src/cmd/cluster-file.js';
import { CommandError } from '../../src/cmd/command-error.js';

const example: ClusterFile = {
  metaUrl: 'ws://127.0.0.1:9400',
  mountpoint: '/mnt/x',
  processes: [
    { role: 'up', pid: 10, start: 'a/1' },
    { role: 'meta', pid: 11, start: 'a/2', url: 'ws://127.0.0.1:9400' },
  ],
  ports: [9400, 0],
};

t.test('what is written is read back, and replaced in one step', async (t) => {
  const dir = t.testdir();
  t.equal(readClusterFile(dir), undefined);
  writeClusterFile(dir, example);
  t.same(readClusterFile(dir), example);
  writeClusterFile(dir, { ...example, processes: [] });
  t.same(readClusterFile(dir)?.processes, []);
  t.same(readdirSync(dir), ['cluster.json']);
});

t.test('a file that is no cluster file is refused', async (t) => {
  const bad = [
    '',
    '{',
    '[]',
    '{}',
    JSON.stringify({ ...example, processes: [{ role: 'x', pid: 1, start: '' }] }),
    JSON.stringify({ ...example, ports: [70_000] }),
  ];
  for (const text of bad) {
    const dir = t.testdir({ 'cluster.json': text });
    t.throws(() => readClusterFile(dir), CommandError, text);
  }
});

t.test('a data directory is new, a cluster, or refused', async (t) => {
  const dir = t.testdir({ mine: { 'letter.txt': 'dear' }, empty: {}, file: '' });
  const check = (name: string) => new ClusterDirectory(join(dir, name)).check();
  t.equal(check('missing'), 'new');
  t.equal(check('empty'), 'new');
  t.throws(() => check('mine'), CommandError);
  t.throws(() => check('file'), CommandError);
  writeClusterFile(join(dir, 'empty'), example);
  t.equal(check('empty'), 'cluster');
});

t.test('chunk servers are counted without a gap', async (t) => {
  const dir = t.testdir();
  const directory = new ClusterDirectory(dir);
  directory.prepare();
  t.equal(directory.countChunkDirs(), 0);
  for (const number of [1, 2, 4]) mkdirSync(directory.chunkDir(number));
  t.equal(directory.countChunkDirs(), 2);
});

t.test('a data directory in use is refused with its holder', async (t) => {
  const directory = new ClusterDirectory(t.testdir());
  const lock = directory.lock();
  t.equal(directory.lockHolder()?.pid, process.pid);
  t.throws(() => directory.lock(), { name: 'CommandError', message: new RegExp(`process ${process.pid}`) });
  lock.release();
  t.equal(directory.lockHolder(), undefined);
  writeFileSync(join(directory.path, 'up.lock'), '');
  t.doesNotThrow(() => directory.lock().release());
});
