import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { crc32c } from '../../src/base/crc32c.js';
import { Prng } from '../../src/base/prng.js';
import { DiskStore, type DiskStoreOptions } from '../../src/chunk/disk-store.js';
import { asChunkId } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { chunkFilesOf } from './damage.js';
import { chunkBytes, chunkLength } from './numbered-chunk.js';
import { scratch } from './scratch.js';

const PUTTER = fileURLToPath(new URL('./put-until-killed.js', import.meta.url));
const MIB = 1024 * 1024;
const noise = new Prng(5).bytes(limits.chunkBytes);

function opened(t: Test, options: DiskStoreOptions): DiskStore {
  const store = DiskStore.open(options);
  t.teardown(() => store.close());
  return store;
}

const put = (store: DiskStore, id: number, bytes: Uint8Array): Promise<void> =>
  store.put(asChunkId(id), crc32c(bytes), bytes);

/** Waits until `is` holds, at most 10 s. */
async function until(is: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < 1000; tries++) {
    if (is()) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return false;
}

function countFiles(path: string): number {
  return readdirSync(join(path, 'files'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.includes('/'),
  ).length;
}

interface Acknowledged {
  readonly ids: number[];
  readonly stderr: string;
}

/** Runs the putting process until it has acknowledged `enough` puts, then kills it without warning. */
async function killedWhilePutting(path: string, firstId: number, enough: number): Promise<Acknowledged> {
  const child: ChildProcess = spawn(process.execPath, [PUTTER, path, String(firstId)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (data) => {
    stdout += data;
    if (stdout.split('\n').length > enough) child.kill('SIGKILL');
  });
  child.stderr?.on('data', (data) => {
    stderr += data;
  });
  await once(child, 'close');
  const lines = stdout.split('\n').slice(0, -1);
  return { ids: lines.map((line) => Number.parseInt(line, 10)), stderr };
}

t.test('what was acknowledged before kill -9 is there, whole; what was not is whole or absent', async (t) => {
  const path = scratch(t);
  const acknowledged: number[] = [];
  for (let round = 0; round < 3; round++) {
    const { ids, stderr } = await killedWhilePutting(path, round * 100_000 + 1, 60 + round * 37);
    t.ok(ids.length >= 60, `round ${round}: ${ids.length} puts were acknowledged`);
    t.equal(stderr, '', 'the killed process had nothing to complain about');
    acknowledged.push(...ids);
    const store = DiskStore.open({ path });
    const { chunks, end } = await store.list(0, Number.MAX_SAFE_INTEGER, 100_000);
    t.equal(end, true);
    let wrong = 0;
    for (const { id, length } of chunks) {
      const bytes = await store.get(id, 0, length);
      if (length !== chunkLength(id) || !bytes.equals(chunkBytes(id))) wrong++;
    }
    t.equal(wrong, 0, `each of ${chunks.length} chunks is whole`);
    const there = new Set<number>(chunks.map((chunk) => chunk.id));
    t.same(
      acknowledged.filter((id) => id % 7 !== 0 && !there.has(id)),
      [],
      'nothing acknowledged is missing',
    );
    const usage = await store.usage();
    t.equal(usage.chunks, chunks.length);
    t.equal(
      usage.usedBytes,
      chunks.reduce((sum, chunk) => sum + chunk.length, 0),
      'usage is counted anew',
    );
    const large = chunks.filter((chunk) => chunk.length > limits.smallChunkBytes).length;
    t.ok(await until(() => countFiles(path) === large), 'files that no row names are swept away');
    await store.close();
  }
});

t.test('the process that was killed does not keep the directory locked, a living one does', async (t) => {
  const path = scratch(t);
  const store = opened(t, { path });
  t.throws(() => DiskStore.open({ path }), { message: new RegExp(`${path}.*in use|${path}.*open`) });
  const other = spawnSync(process.execPath, [PUTTER, path, '1'], { encoding: 'utf8', timeout: 20_000 });
  t.not(other.status, 0, 'another process is refused');
  t.match(other.stderr, path, 'and the message names the directory');
  await put(store, 1, noise.subarray(0, 100));
  t.pass('the holder is not disturbed');
});

t.test('a chunk whose file is gone or cut short is never answered with other bytes', async (t) => {
  const path = scratch(t);
  const store = opened(t, { path });
  const bytes = noise.subarray(0, MIB);
  await put(store, 1, bytes);
  await put(store, 2, bytes);
  const [first] = chunkFilesOf(path, 1);
  const [second] = chunkFilesOf(path, 2);
  if (first === undefined || second === undefined) throw new Error('large chunks lie in files');
  rmSync(first);
  truncateSync(second, 700_000);
  await t.rejects(store.get(asChunkId(1), 0, 10), { code: 'noChunk' });
  await t.rejects(store.get(asChunkId(2), 0, MIB), { code: 'corrupt' });
  await t.rejects(store.get(asChunkId(2), 690_000, 1), { code: 'corrupt' }, 'a block that is cut');
  t.equal((await store.get(asChunkId(2), 0, 100)).length, 100, 'whole blocks of it go on');
  await put(store, 1, bytes);
  await put(store, 2, bytes);
  t.ok((await store.get(asChunkId(1), 0, MIB)).equals(bytes), 'a put heals the lost one');
  t.ok((await store.get(asChunkId(2), 0, MIB)).equals(bytes), 'and the short one');
  t.equal(chunkFilesOf(path, 2).length, 1, 'the damaged file is removed');
  t.equal((await store.usage()).chunks, 2);
});

t.test('chunk files whose index is gone are not swept away but refused', async (t) => {
  const path = scratch(t);
  const store = DiskStore.open({ path });
  await put(store, 1, noise);
  await store.close();
  for (const name of readdirSync(path)) if (name.startsWith('chunks.db')) rmSync(join(path, name));
  t.throws(() => DiskStore.open({ path }), { message: /chunks\.db is missing/ });
  t.equal(chunkFilesOf(path, 1).length, 1);
});

t.test('files that are not chunks are left alone', async (t) => {
  const path = scratch(t);
  await DiskStore.open({ path }).close();
  writeFileSync(join(path, 'files', '00', 'README'), 'mine');
  writeFileSync(join(path, 'files', '00', '77-0123456789ab-1'), 'left by a crash');
  const store = opened(t, { path });
  t.ok(await until(() => !existsSync(join(path, 'files', '00', '77-0123456789ab-1'))), 'the left one goes');
  t.ok(existsSync(join(path, 'files', '00', 'README')));
  t.match(await store.usage(), { chunks: 0, usedBytes: 0 });
});

t.test('deleted space comes back to the filesystem, small chunks’ too', async (t) => {
  const path = scratch(t);
  const store = opened(t, { path });
  const ids = Array.from({ length: 150 }, (_, index) => index + 1);
  await Promise.all(ids.map((id) => put(store, id, noise.subarray(id, id + 100_000))));
  await put(store, 1000, noise);
  const database = join(path, 'chunks.db');
  const stored = (): number =>
    ['', '-wal'].reduce((sum, suffix) => {
      const file = statSync(database + suffix, { throwIfNoEntry: false });
      return sum + (file?.size ?? 0);
    }, 0);
  t.ok(stored() > 15 * MIB, `the database holds ${stored()} bytes`);
  t.equal(await store.delete([...ids, 1000].map(asChunkId)), 151);
  t.equal(countFiles(path), 0, 'files are gone at once');
  t.ok(await until(() => stored() < 6 * MIB), `of the database ${stored()} bytes stay`);
});

t.test('concurrent puts share commits', async (t) => {
  const path = scratch(t);
  const store = opened(t, { path });
  const before = store.commits;
  await Promise.all(
    Array.from({ length: 200 }, (_, index) => put(store, index + 1, noise.subarray(index, index + 4096))),
  );
  t.ok(store.commits - before <= 2, `200 puts took ${store.commits - before} commits`);
});

/** Fills the filesystem at `path` to the last byte; the store must stay whole. */
async function fillUp(t: Test, path: string, size: number, firstId: number): Promise<number[]> {
  const store = opened(t, { path, reserveBytes: 0 });
  const stored: number[] = [];
  let refused = 0;
  for (let id = firstId; refused < 3 && id < firstId + 5000; id++) {
    const bytes = noise.subarray(id % 1000, (id % 1000) + size);
    try {
      await put(store, id, bytes);
      stored.push(id);
    } catch (error) {
      t.match(error, { code: 'serverFull' }, `chunk ${id} is refused`);
      await t.rejects(store.get(asChunkId(id), 0, 1), { code: 'noChunk' }, 'nothing of it is there');
      t.same(chunkFilesOf(path, id), [], 'no file stays');
      refused++;
    }
  }
  t.equal(refused, 3, `the disk is full after ${stored.length} chunks`);
  for (const id of stored) {
    const bytes = await store.get(asChunkId(id), 0, size);
    if (!bytes.equals(noise.subarray(id % 1000, (id % 1000) + size))) t.fail(`chunk ${id} changed`);
  }
  t.match(await store.usage(), { full: true, chunks: stored.length });
  t.equal(await store.delete(stored.slice(0, 5).map(asChunkId)), 5, 'deleting works on a full disk');
  await put(store, stored[0] ?? 0, noise.subarray((stored[0] ?? 0) % 1000, ((stored[0] ?? 0) % 1000) + size));
  await store.close();
  return stored.slice(5);
}

const withoutRoot = process.getuid?.() === 0 ? false : 'mounting a small filesystem needs root';
t.test('a full disk refuses puts, keeps what it has and reads on', { skip: withoutRoot }, async (t) => {
  for (const size of [300_000, 50_000]) {
    await t.test(`chunks of ${size} bytes`, async (t) => {
      const path = join(scratch(t), 'small-disk');
      mkdirSync(path);
      const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=20m', 'tmpfs', path], {
        encoding: 'utf8',
      });
      t.equal(mounted.status, 0, `a small filesystem is mounted ${mounted.stderr}`);
      t.teardown(() => spawnSync('umount', ['-l', path]));
      const kept = await fillUp(t, path, size, 1);
      const again = opened(t, { path });
      for (const id of kept) await again.get(asChunkId(id), 0, size);
      t.match(await again.usage(), { chunks: kept.length + 1 }, 'and after a restart');
    });
  }
});
