/**
 * What programs get when servers are away, slow, full or damaged, and that nothing acknowledged is lost.
 */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import { ROOT_INO } from '../../src/proto/ids.js';
import { asked, bytesOf, LocalCluster, readAll, readFile, root, writeFile } from './local-cluster.js';
import { TestRequest } from './test-request.js';

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function open(mount: Awaited<ReturnType<LocalCluster['mount']>>, name: string) {
  const { entry, open: opened } = await mount.vfs.create(root, ROOT_INO, bytesOf(name), 0o644, 0o102);
  return { ino: entry.attr.ino, fh: opened.fh };
}

t.test('a replica that is dead at put is replaced by another, and nothing is lost', async (t) => {
  const cluster = await LocalCluster.start(t);
  const mount = await cluster.mount();
  const dead = cluster.chunkServers[0];
  mount.network.refuse(dead?.url ?? '');
  for (let index = 0; index < 5; index++) await writeFile(mount.vfs, `f${index}`, bytesOf(`text ${index}`));
  const other = await cluster.mount();
  for (let index = 0; index < 5; index++)
    t.equal((await readFile(other.vfs, `f${index}`)).toString(), `text ${index}`);
});

t.test('a replica that is dead or frozen at get costs a moment, and the next one answers', async (t) => {
  const cluster = await LocalCluster.start(t);
  const writer = await cluster.mount();
  const data = new Prng(1).bytes(3_000_000);
  await writeFile(writer.vfs, 'f', data);
  for (const server of cluster.chunkServers) {
    const mount = await cluster.mount();
    mount.network.refuse(server.url);
    t.ok((await readFile(mount.vfs, 'f')).equals(data), 'dead');
  }
  for (const server of cluster.chunkServers) {
    const mount = await cluster.mount({ timeoutMs: 20_000 });
    mount.network.freeze(server.url);
    const startedMs = performance.now();
    t.ok((await readFile(mount.vfs, 'f')).equals(data), 'frozen');
    t.ok(performance.now() - startedMs < 4_000, 'without waiting for the frozen one each time');
    mount.network.thaw(server.url);
  }
});

t.test('a damaged replica is passed over; wrong bytes are never answered', async (t) => {
  const cluster = await LocalCluster.start(t, { chunkServers: 2 });
  const writer = await cluster.mount();
  const data = new Prng(2).bytes(3_500_000);
  await writeFile(writer.vfs, 'f', data);
  const files = (dir: string): string[] =>
    readdirSync(dir, { recursive: true, encoding: 'utf8' })
      .map((name) => join(dir, name))
      .filter((path) => statSync(path).isFile() && statSync(path).size >= data.length);
  const damage = (dir: string): void => {
    for (const path of files(dir)) {
      const bytes = readFileSync(path);
      for (let at = 1000; at < bytes.length; at += 50_000) bytes[at] = (bytes[at] ?? 0) ^ 0xff;
      writeFileSync(path, bytes);
    }
  };
  damage(join(cluster.dir, 'chunk0'));
  const reader = await cluster.mount();
  t.ok((await readFile(reader.vfs, 'f')).equals(data));
  damage(join(cluster.dir, 'chunk1'));
  const last = await cluster.mount({ timeoutMs: 1_000 });
  await t.rejects(readFile(last.vfs, 'f'), { code: 'EIO' }, 'with no good copy it is EIO');
});

t.test('calls wait for a metadata server that restarts, and commits are carried out once', async (t) => {
  const cluster = await LocalCluster.start(t);
  const mount = await cluster.mount({ timeoutMs: 10_000 });
  const { ino, fh } = await open(mount, 'f');
  await mount.vfs.write(root, ino, fh, 0, bytesOf('before the restart'), false);
  const calls: Promise<unknown>[] = [];
  await cluster.restartMeta(async () => {
    calls.push(Promise.resolve(mount.vfs.fsync(root, ino, fh, false)));
    calls.push(Promise.resolve(mount.vfs.mkdir(root, ROOT_INO, bytesOf('d'), 0o755)));
    calls.push(Promise.resolve(mount.vfs.getattr(root, ino, fh)));
    await sleep(100);
  });
  await Promise.all(calls);
  t.equal(mount.fs.generation, 0, 'the session went on');
  const other = await cluster.mount();
  t.equal((await readFile(other.vfs, 'f')).toString(), 'before the restart');
});

t.test('a mutation whose answer was lost is not carried out twice', async (t) => {
  const cluster = await LocalCluster.start(t);
  const mount = await cluster.mount();
  for (let round = 0; round < 5; round++) {
    mount.network.loseNextAnswer(cluster.metaUrl);
    const { attr } = await mount.vfs.mkdir(root, ROOT_INO, bytesOf(`d${round}`), 0o755);
    t.equal(attr.nlink, 2, 'no EEXIST from a second execution');
    mount.network.loseNextAnswer(cluster.metaUrl);
    await writeFile(mount.vfs, `f${round}`, bytesOf('text'));
    mount.network.loseNextAnswer(cluster.metaUrl);
    await mount.vfs.unlink(root, ROOT_INO, bytesOf(`f${round}`));
  }
  t.equal(mount.fs.generation, 0);
});

t.test('a resume whose answer was lost does not fence the mount off its own session', async (t) => {
  const cluster = await LocalCluster.start(t);
  const mount = await cluster.mount();
  const { ino, fh } = await open(mount, 'f');
  await mount.vfs.write(root, ino, fh, 0, bytesOf('kept'), false);
  mount.network.loseNextAnswer(cluster.metaUrl);
  mount.network.cut(cluster.metaUrl);
  // The cut connection has no answer to lose: the resume's is the next one.
  await mount.vfs.fsync(root, ino, fh, false);
  t.equal(mount.fs.generation, 0);
  t.equal((await readAll(mount.vfs, ino, fh)).toString(), 'kept');
});

t.test('without a metadata server calls end with an errno, and work again when it is back', async (t) => {
  const cluster = await LocalCluster.start(t);
  const mount = await cluster.mount({ timeoutMs: 600 });
  const { ino, fh } = await open(mount, 'f');
  await mount.vfs.write(root, ino, fh, 0, bytesOf('acknowledged'), false);
  mount.network.refuse(cluster.metaUrl);
  await sleep(10);
  const startedMs = performance.now();
  await t.rejects(
    asked(() => mount.vfs.lookup(root, ROOT_INO, bytesOf('f'))),
    {
      code: /^(EIO|ETIMEDOUT)$/,
    },
  );
  await t.rejects(
    asked(() => mount.vfs.fsync(root, ino, fh, false)),
    { name: 'FsError' },
  );
  t.ok(performance.now() - startedMs < 3_000);
  mount.network.allow(cluster.metaUrl);
  while (!mount.fs.isUp) await sleep(20);
  mount.network.freeze(cluster.metaUrl);
  await t.rejects(
    asked(() => mount.vfs.getattr(root, ino, fh)),
    { code: 'ETIMEDOUT' },
  );
  mount.network.thaw(cluster.metaUrl);
  await mount.vfs.fsync(root, ino, fh, false);
  const other = await cluster.mount();
  t.equal((await readFile(other.vfs, 'f')).toString(), 'acknowledged', 'nothing acknowledged is lost');
});

t.test('an interrupted call answers EINTR at once while its server is away', async (t) => {
  const cluster = await LocalCluster.start(t);
  const mount = await cluster.mount({ timeoutMs: 60_000, dirtyBytes: 4 * 1024 * 1024 });
  await writeFile(mount.vfs, 'stored', new Prng(3).bytes(100_000));
  await mount.fs.writer.flushAll();
  const { ino, fh } = await open(mount, 'f');
  for (const server of cluster.chunkServers) mount.network.freeze(server.url);
  const full = Buffer.alloc(1 << 20);
  for (let index = 0; index < 4; index++) await mount.vfs.write(root, ino, fh, index << 20, full, false);
  mount.network.refuse(cluster.metaUrl);
  await sleep(10);
  const request = new TestRequest();
  const calls = [
    mount.vfs.lookup(request, ROOT_INO, bytesOf('stored')),
    mount.vfs.mkdir(request, ROOT_INO, bytesOf('d'), 0o755),
    mount.vfs.fsync(request, ino, fh, false),
    mount.vfs.write(request, ino, fh, 4 << 20, full, false),
  ].map((call) => Promise.resolve(call));
  const settled = Promise.allSettled(calls);
  const startedMs = performance.now();
  await sleep(50);
  request.interrupt();
  for (const outcome of await settled) t.match(outcome, { status: 'rejected', reason: { code: 'EINTR' } });
  t.ok(performance.now() - startedMs < 1_000);
  t.equal(request.listeners, 0, 'nobody goes on listening');
  mount.network.allow(cluster.metaUrl);
  for (const server of cluster.chunkServers) mount.network.thaw(server.url);
  await mount.vfs.fsync(root, ino, fh, false);
});

t.test('an interrupted call that is on its way gets a moment to finish', async (t) => {
  const cluster = await LocalCluster.start(t, { chunkServers: 0 });
  const mount = await cluster.mount({ timeoutMs: 60_000, asksAlways: true });
  const request = new TestRequest();
  const made = mount.vfs.mkdir(request, ROOT_INO, bytesOf('d'), 0o755);
  request.interrupt();
  t.ok((await made).attr.ino, 'its answer counts when it comes in time');
  mount.network.freeze(cluster.metaUrl);
  const late = new TestRequest();
  const created = Promise.resolve(mount.vfs.create(late, ROOT_INO, bytesOf('f'), 0o644, 0o302));
  late.interrupt();
  await t.rejects(created, { code: 'EINTR' });
  mount.network.thaw(cluster.metaUrl);
  await mount.vfs.unlink(root, ROOT_INO, bytesOf('f'));
  await sleep(400);
  t.equal((await mount.fs.call('status', {})).orphans, 0, 'a file that a late create opened is let go');
});

t.test('a lost session fails what was uncommitted, once to each handle, and the mount goes on', async (t) => {
  const cluster = await LocalCluster.start(t);
  const mount = await cluster.mount();
  await writeFile(mount.vfs, 'other', bytesOf('text'));
  const dirty = await open(mount, 'dirty');
  const second = await mount.vfs.open(root, dirty.ino, 2);
  const clean = await mount.vfs.lookup(root, ROOT_INO, bytesOf('other'));
  const cleanHandle = await mount.vfs.open(root, clean.attr.ino, 2);
  mount.network.refuse(cluster.chunkServers[0]?.url ?? '');
  mount.network.refuse(cluster.chunkServers[1]?.url ?? '');
  await mount.vfs.write(root, dirty.ino, dirty.fh, 0, bytesOf('never stored'), false);
  await (async () => await mount.fs.call('closeSession', {}))().catch(() => {});
  mount.network.cut(cluster.metaUrl);
  mount.network.allow(cluster.chunkServers[0]?.url ?? '');
  mount.network.allow(cluster.chunkServers[1]?.url ?? '');
  await mount.vfs.getattr(root, clean.attr.ino, cleanHandle.fh);
  t.equal(
    (await readAll(mount.vfs, clean.attr.ino, cleanHandle.fh)).toString(),
    'text',
    'a clean handle goes on',
  );
  await mount.vfs.statfs(root, ROOT_INO);
  t.equal(mount.fs.generation, 1);
  await t.rejects(
    asked(() => mount.vfs.flush(root, dirty.ino, dirty.fh)),
    { code: 'EIO' },
  );
  await mount.vfs.flush(root, dirty.ino, dirty.fh);
  await t.rejects(
    asked(() => mount.vfs.fsync(root, dirty.ino, second.fh, false)),
    { code: 'EIO' },
  );
  await mount.vfs.fsync(root, dirty.ino, second.fh, false);
  await mount.fs.writer.flushAll();
  t.equal(mount.fs.writer.dirtyBytes, 0);
  await mount.vfs.write(root, dirty.ino, dirty.fh, 0, bytesOf('stored'), false);
  await mount.vfs.flush(root, dirty.ino, dirty.fh);
  t.equal((await readFile(mount.vfs, 'dirty')).toString(), 'stored');
  await mount.vfs.unlink(root, ROOT_INO, bytesOf('other'));
  t.equal(
    (await readAll(mount.vfs, clean.attr.ino, cleanHandle.fh)).toString(),
    'text',
    'and is open at the server',
  );
});

t.test('writers wait when too much is uncommitted, and go on when there is room', async (t) => {
  const cluster = await LocalCluster.start(t);
  const mount = await cluster.mount({ dirtyBytes: 4 * 1024 * 1024, timeoutMs: 30_000 });
  const { ino, fh } = await open(mount, 'f');
  for (const server of cluster.chunkServers) mount.network.refuse(server.url);
  const data = new Prng(4).bytes(1 << 20);
  const writes = [0, 1, 2, 3, 4, 5].map((index) => mount.vfs.write(root, ino, fh, index << 20, data, false));
  t.equal(writes.filter((write) => write instanceof Promise).length, 2, 'four fit');
  await sleep(50);
  t.ok(mount.fs.writer.dirtyBytes <= 4 << 20);
  for (const server of cluster.chunkServers) mount.network.allow(server.url);
  t.same(
    await Promise.all(writes),
    writes.map(() => 1 << 20),
  );
  await mount.vfs.fsync(root, ino, fh, false);
  t.ok((await readFile(mount.vfs, 'f')).equals(Buffer.concat([data, data, data, data, data, data])));
});

t.test('data that cannot be stored is reported, kept, and stored when that is possible again', async (t) => {
  const cluster = await LocalCluster.start(t);
  const mount = await cluster.mount({ timeoutMs: 800 });
  const { ino, fh } = await open(mount, 'f');
  for (const server of cluster.chunkServers) mount.network.refuse(server.url);
  await mount.vfs.write(root, ino, fh, 0, bytesOf('kept'), false);
  await t.rejects(
    asked(() => mount.vfs.fsync(root, ino, fh, false)),
    { name: 'FsError' },
  );
  await sleep(500);
  await t.rejects(
    asked(() => mount.vfs.fsync(root, ino, fh, false)),
    { code: 'EIO' },
  );
  t.equal((await readAll(mount.vfs, ino, fh)).toString(), 'kept', 'it is still readable here');
  for (const server of cluster.chunkServers) mount.network.allow(server.url);
  // Avoided servers are tried again after a while.
  let stored = false;
  for (let attempt = 0; attempt < 100 && !stored; attempt++) {
    await sleep(100);
    stored = await Promise.resolve(mount.vfs.fsync(root, ino, fh, false)).then(
      () => true,
      () => false,
    );
  }
  const other = await cluster.mount();
  t.equal((await readFile(other.vfs, 'f')).toString(), 'kept');
});

t.test('full chunk servers are ENOSPC, and what was written goes on when there is room again', async (t) => {
  const cluster = await LocalCluster.start(t, { chunkServers: 0 });
  for (let index = 0; index < 2; index++) await cluster.startChunkServer(index, 24 << 20);
  const mount = await cluster.mount({ timeoutMs: 2_500, dirtyBytes: 4 << 20 });
  const { ino, fh } = await open(mount, 'f');
  const data = new Prng(5).bytes(1 << 20);
  const filling = async (): Promise<void> => {
    for (let index = 0; index < 64; index++) await mount.vfs.write(root, ino, fh, index << 20, data, false);
  };
  await t.rejects(filling(), { code: 'ENOSPC' });
  await t.rejects(
    asked(() => mount.vfs.fsync(root, ino, fh, false)),
    { code: 'ENOSPC' },
  );
  const other = await cluster.mount();
  t.ok((await readFile(other.vfs, 'f')).subarray(0, 1 << 20).equals(data), 'what was stored before is there');
  await cluster.startChunkServer(2, 64 << 20);
  await cluster.startChunkServer(3, 64 << 20);
  let stored = false;
  for (let attempt = 0; attempt < 20 && !stored; attempt++)
    stored = await Promise.resolve(mount.vfs.fsync(root, ino, fh, false)).then(
      () => true,
      () => false,
    );
  t.ok(stored, 'other servers take it');
});

t.test('many small files flushed at once share chunks and commits', async (t) => {
  const cluster = await LocalCluster.start(t);
  const mount = await cluster.mount({ timeoutMs: 30_000 });
  const before = (await mount.fs.call('status', {})).chunks;
  const files = Array.from({ length: 200 }, (_, index) => `small${index}`);
  await Promise.all(files.map((name) => writeFile(mount.vfs, name, bytesOf(`content of ${name}`))));
  const chunks = (await mount.fs.call('status', {})).chunks - before;
  t.ok(chunks <= 40, `${chunks} chunks for 200 files`);
  const other = await cluster.mount();
  for (const name of files) t.equal((await readFile(other.vfs, name)).toString(), `content of ${name}`);
});

t.test(
  'unmounting makes everything durable and ends the session; the next daemon starts clean',
  async (t) => {
    const cluster = await LocalCluster.start(t);
    const first = await cluster.mount({ cacheDir: join(cluster.dir, 'own') });
    const { ino, fh } = await open(first, 'f');
    await first.vfs.write(root, ino, fh, 0, bytesOf('flushed by unmount'), false);
    await first.vfs.close();
    const second = await cluster.mount({ cacheDir: join(cluster.dir, 'own') });
    t.equal((await readFile(second.vfs, 'f')).toString(), 'flushed by unmount');
    t.equal((await second.fs.call('status', {})).sessions.length, 1);
    t.ok(readFileSync(join(cluster.dir, 'own', 'session.json')).length > 0);
    // As if that daemon had been killed: its session stays at the server until the next one closes it.
    second.network.refuse(cluster.metaUrl);
    second.fs.abandon();
    const third = await cluster.mount({ cacheDir: join(cluster.dir, 'own') });
    t.equal((await third.fs.call('status', {})).sessions.length, 1, 'the session left behind was closed');
  },
);

t.test('a filesystem that cannot be reached is an errno within the time allowed', async (t) => {
  const cluster = await LocalCluster.start(t, { chunkServers: 0 });
  const url = cluster.metaUrl;
  await cluster.restartMeta(async () => {
    const startedMs = performance.now();
    await t.rejects(cluster.mount({ timeoutMs: 300, metaUrl: url }), { code: 'EIO' });
    t.ok(performance.now() - startedMs < 2_000);
  });
});
