/**
 * What a mount has promised and cannot keep, because it was away for too long: the handles of before say so, and
 * programs cannot go on as if nothing had happened; whatever is opened afresh works.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { LOCK_END } from '../../src/lease/lock-ranges.js';
import { FsError } from '../../src/proto/errno.js';
import { asLockOwner, type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { ignoredCallbacks, metaCallbacks, metaMethods } from '../../src/proto/meta-methods.js';
import { Peer } from '../../src/rpc/peer.js';
import { connectWebSocket } from '../../src/rpc/websocket.js';
import type { FileLock } from '../../src/vfs/operations.js';
import {
  bytesOf,
  LocalCluster,
  readAll,
  readFile,
  root,
  type TestMount,
  writeFile,
} from './local-cluster.js';

/** What a call comes to. */
async function errno(call: () => unknown): Promise<string> {
  try {
    await call();
    return 'ok';
  } catch (error) {
    if (error instanceof FsError) return error.code;
    throw error;
  }
}

/** The errnos of what programs do with a descriptor. */
async function uses({ vfs }: TestMount, ino: Ino, fh: number): Promise<Record<string, string>> {
  return {
    read: await errno(() => vfs.read(root, ino, fh, 0, 10)),
    write: await errno(() => vfs.write(root, ino, fh, 0, bytesOf('again'), false)),
    fsync: await errno(() => vfs.fsync(root, ino, fh, false)),
    close: await errno(() => vfs.flush(root, ino, fh)),
  };
}

const ALL_EIO = { read: 'EIO', write: 'EIO', fsync: 'EIO', close: 'EIO' };
const ALL_OK = { read: 'ok', write: 'ok', fsync: 'ok', close: 'ok' };

/** Somebody who knows the mount's token ends its session; for the mount it is as if it had expired. */
async function endSession(cluster: LocalCluster, mount: TestMount): Promise<void> {
  const { session, token } = JSON.parse(readFileSync(join(mount.cacheDir, 'session.json'), 'utf8'));
  const peer = new Peer(await connectWebSocket(cluster.metaUrl, { timeoutMs: 5_000 }), {
    remote: metaMethods,
    local: metaCallbacks,
    handlers: ignoredCallbacks,
    name: 'metadata server',
  });
  await peer.call('openSession', { host: 'h', pid: 1, mountpoint: '/m', resume: { session, token } });
  await peer.call('closeSession', {});
  peer.close('done');
}

/** Ends the mount's session without its doing; it comes back when `whileAway` is over. */
async function loseSession(
  cluster: LocalCluster,
  mount: TestMount,
  whileAway: () => Promise<unknown> = async () => {},
): Promise<void> {
  mount.network.refuse(cluster.metaUrl);
  await endSession(cluster, mount);
  await whileAway();
  mount.network.allow(cluster.metaUrl);
  while (mount.fs.generation === 0 || !mount.fs.isUp) await sleep(20);
}

const lock = (space: FileLock['space'], type: FileLock['type'] = 'write'): FileLock => ({
  ...{ space, owner: asLockOwner('00000000000000aa'), start: 0, end: LOCK_END, type, pid: 1 },
});

for (const space of ['fcntl', 'flock'] as const)
  t.test(`a descriptor whose ${space} lock was lost is of no use until it is opened again`, async (t) => {
    const cluster = await LocalCluster.start(t);
    const [a, b] = [await cluster.mount(), await cluster.mount()];
    const ino = await writeFile(a.vfs, 'f', bytesOf('content'));
    await b.vfs.lookup(root, ROOT_INO, bytesOf('f'));
    const locked = await a.vfs.open(root, ino, 2);
    const unlocked = await a.vfs.open(root, ino, 2);
    const released = await a.vfs.open(root, ino, 2);
    const [set, clear] = [lock(space), lock(space, 'unlock')];
    const [early, elsewhere] = [asLockOwner('00000000000000bb'), await b.vfs.open(root, ino, 2)];
    await a.vfs.setlk(root, ino, released.fh, { ...set, owner: early }, false);
    await a.vfs.setlk(root, ino, released.fh, { ...clear, owner: early }, false);
    await a.vfs.setlk(root, ino, locked.fh, set, false);
    await loseSession(cluster, a, async () => await b.vfs.setlk(root, ino, elsewhere.fh, set, false));

    t.strictSame(await uses(a, ino, locked.fh), ALL_EIO);
    t.strictSame(await uses(a, ino, locked.fh), ALL_EIO, 'however often it is told');
    const size = { size: 0 };
    t.equal(await errno(() => a.vfs.setattr(root, ino, locked.fh, size)), 'EIO');
    t.equal(await errno(() => a.vfs.setlk(root, ino, locked.fh, set, false)), 'EIO');
    t.equal(await errno(() => a.vfs.setlk(root, ino, locked.fh, clear, false)), 'ok', 'unlocking succeeds');
    t.strictSame(await uses(a, ino, locked.fh), ALL_EIO);
    t.strictSame(await uses(a, ino, unlocked.fh), ALL_OK, 'one that has locked nothing goes on');
    t.strictSame(await uses(a, ino, released.fh), ALL_OK, 'so does one that held nothing any more');

    const fresh = await a.vfs.open(root, ino, 2);
    t.strictSame(await uses(a, ino, fresh.fh), ALL_OK);
    t.equal(
      await errno(() => a.vfs.setlk(root, ino, fresh.fh, set, false)),
      'EAGAIN',
      'it is the other mount’s',
    );
    await b.vfs.setlk(root, ino, elsewhere.fh, clear, false);
    t.equal(await errno(() => a.vfs.setlk(root, ino, fresh.fh, set, false)), 'ok');
  });

t.test('an open file that lost its last name, and then its session, is gone', async (t) => {
  const cluster = await LocalCluster.start(t);
  const [a, b] = [await cluster.mount(), await cluster.mount()];
  const ino = await writeFile(a.vfs, 'f', bytesOf('content'));
  const kept = await writeFile(a.vfs, 'kept', bytesOf('content'));
  const { fh } = await a.vfs.open(root, ino, 2);
  const other = await a.vfs.open(root, kept, 2);
  await b.vfs.unlink(root, ROOT_INO, bytesOf('f'));
  t.equal((await readAll(a.vfs, ino, fh)).toString(), 'content');
  await loseSession(cluster, a);
  t.strictSame(await uses(a, ino, fh), ALL_EIO);
  t.equal(await errno(() => a.vfs.getattr(root, ino, fh)), 'EIO');
  t.strictSame(await uses(a, kept, other.fh), ALL_OK);
  await a.vfs.release(ino, fh);
  await writeFile(a.vfs, 'f', bytesOf('another'));
  t.equal((await readFile(b.vfs, 'f')).toString(), 'another');
});

t.test('written data that was lost is an error of every use, until fsync or close has told it', async (t) => {
  const cluster = await LocalCluster.start(t);
  const a = await cluster.mount();
  const ino = await writeFile(a.vfs, 'f', bytesOf('before'));
  const [first, second] = [await a.vfs.open(root, ino, 2), await a.vfs.open(root, ino, 0)];
  for (const { url } of cluster.chunkServers) a.network.refuse(url);
  await a.vfs.write(root, ino, first.fh, 0, bytesOf('never stored'), false);
  await loseSession(cluster, a);
  for (const { url } of cluster.chunkServers) a.network.allow(url);
  const fresh = await a.vfs.open(root, ino, 2);
  t.equal((await readAll(a.vfs, ino, fresh.fh)).toString(), 'before', 'what is opened afresh works');
  t.strictSame(await uses(a, ino, first.fh), { ...ALL_EIO, close: 'ok' });
  t.equal(await errno(() => a.vfs.read(root, ino, second.fh, 0, 10)), 'EIO');
  t.equal(
    await errno(() => a.vfs.read(root, ino, second.fh, 0, 10)),
    'EIO',
    'a read reports nothing for good',
  );
  t.equal(await errno(() => a.vfs.flush(root, ino, second.fh)), 'EIO');
  t.equal((await readAll(a.vfs, ino, second.fh)).toString(), 'before');
  t.strictSame(await uses(a, ino, first.fh), ALL_OK);
});

/** A directory that is the mount's alone, and a file in it. */
async function ownFile(mount: TestMount): Promise<{ dir: Ino; ino: Ino }> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const { attr } = await mount.vfs.mkdir(root, ROOT_INO, bytesOf(`d${attempt}`), 0o755);
    // It may not have numbers for files yet.
    await mount.fs.writer.flushAll();
    const ino = await writeFile(mount.vfs, 'f', bytesOf('content'), attr.ino);
    const isOwn = mount.fs.journal.last > 0;
    await mount.fs.writer.flushAll();
    if (isOwn) return { dir: attr.ino, ino };
  }
  throw new Error('the mount does nothing by itself');
}

t.test('fsync says that a change is refused which was answered here before', async (t) => {
  const cluster = await LocalCluster.start(t);
  const [a, b] = [await cluster.mount({ kernelForgets: true }), await cluster.mount()];
  const { dir, ino } = await ownFile(a);
  const { fh } = await a.vfs.open(root, ino, 2);
  const bystander = await writeFile(a.vfs, 'g', bytesOf('content'), dir);
  await a.fs.writer.flushAll();
  const besides = await a.vfs.open(root, bystander, 2);
  await a.vfs.setattr(root, ino, undefined, { mode: 0o640 });
  t.equal(a.fs.journal.size, 1, 'the mount has done it by itself');
  let synced: Promise<string> | undefined;
  await loseSession(cluster, a, async () => {
    synced = errno(() => a.vfs.fsync(root, ino, fh, false));
    await b.vfs.setattr(root, ino, undefined, { mode: 0o600 });
  });
  t.equal(await synced, 'EIO', 'it was waiting when the session was lost');
  t.equal((await b.vfs.getattr(root, ino, undefined)).attr.mode & 0o777, 0o600, 'nothing of theirs is lost');
  t.strictSame(await uses(a, ino, fh), ALL_OK, 'once');
  t.strictSame(await uses(a, bystander, besides.fh), ALL_OK);
});

t.test('a file that was made here and refused is gone; the directory’s fsync says so, once', async (t) => {
  const cluster = await LocalCluster.start(t);
  const [a, b] = [await cluster.mount({ kernelForgets: true }), await cluster.mount()];
  const { dir } = await ownFile(a);
  const opened = await a.vfs.opendir(root, dir, 0);
  const { entry, open } = await a.vfs.create(root, dir, bytesOf('mine'), 0o644, 0o102);
  t.equal(a.fs.journal.size, 1);
  await loseSession(cluster, a, () => writeFile(b.vfs, 'theirs', bytesOf('text'), dir));
  await a.fs.journal.flush();
  t.strictSame(await uses(a, entry.attr.ino, open.fh), ALL_EIO);
  t.equal(await errno(() => a.vfs.fsyncdir(root, dir, opened.fh, false)), 'EIO');
  t.equal(await errno(() => a.vfs.fsyncdir(root, dir, opened.fh, false)), 'ok');
  t.equal((await readFile(a.vfs, 'theirs', dir)).toString(), 'text');
  await writeFile(a.vfs, 'mine', bytesOf('again'), dir);
  t.equal((await readFile(b.vfs, 'mine', dir)).toString(), 'again');
});

t.test('what was closed outlives the session, and descriptors of the file are told nothing', async (t) => {
  const cluster = await LocalCluster.start(t);
  const a = await cluster.mount({ kernelForgets: true });
  const { dir } = await ownFile(a);
  for (const { url } of cluster.chunkServers) a.network.refuse(url);
  const ino = await writeFile(a.vfs, 'kept', bytesOf('kept here'), dir);
  t.ok(a.fs.writer.dirtyBytes > 0, 'and nowhere else');
  const { fh } = await a.vfs.open(root, ino, 2);
  await loseSession(cluster, a, async () => {
    for (const { url } of cluster.chunkServers) a.network.allow(url);
  });
  t.equal((await readAll(a.vfs, ino, fh)).toString(), 'kept here');
  t.strictSame(await uses(a, ino, fh), ALL_OK);
});

t.test('what a mount wrote before it fell silent does not undo what others wrote since', async (t) => {
  const cluster = await LocalCluster.start(t);
  const a = await cluster.mount({ kernelForgets: true });
  const b = await cluster.mount({ timeoutMs: 40_000 });
  const { dir, ino } = await ownFile(a);
  const untouched = await writeFile(a.vfs, 'untouched', bytesOf('before'), dir);
  await a.fs.writer.flushAll();
  const handles = [await a.vfs.open(root, ino, 2), await a.vfs.open(root, untouched, 2)];
  const [opened, alone] = handles;
  if (opened === undefined || alone === undefined) throw new Error('two were opened');
  // Kept at its close, and pending like the other one when the mount falls silent.
  const closed = await a.vfs.open(root, ino, 1);
  await a.vfs.write(root, ino, closed.fh, 0, bytesOf('mine, and older'), false);
  await a.vfs.flush(root, ino, closed.fh);
  await a.vfs.write(root, untouched, alone.fh, 0, bytesOf('nobody else'), false);
  a.network.freeze(cluster.metaUrl);
  const theirs = await b.vfs.open(root, ino, 2);
  await b.vfs.write(root, ino, theirs.fh, 0, bytesOf('theirs'), false);
  await b.vfs.fsync(root, ino, theirs.fh, false);
  a.network.thaw(cluster.metaUrl);

  t.equal(await errno(() => a.vfs.fsync(root, ino, opened.fh, false)), 'EIO');
  t.equal(a.fs.generation, 0, 'its session goes on');
  t.equal((await readAll(b.vfs, ino, theirs.fh)).toString(), 'theirst');
  t.equal((await readFile(a.vfs, 'f', dir)).toString(), 'theirst');
  t.equal(await errno(() => a.vfs.fsync(root, untouched, alone.fh, false)), 'ok');
  t.equal(
    (await readFile(b.vfs, 'untouched', dir)).toString(),
    'nobody else',
    'what nobody has changed is stored',
  );
  const found = join(a.cacheDir, 'lost+found');
  const texts = readdirSync(found).map((name) => readFileSync(join(found, name), 'utf8'));
  t.ok(texts.includes('mine, and older'), 'what was closed is kept');
});
