/** Locks as a driver asks for them, with a network that loses answers and a server that comes back. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { LOCK_END } from '../../src/lease/lock-ranges.js';
import { FsError } from '../../src/proto/errno.js';
import { asLockOwner, type Ino, ROOT_INO } from '../../src/proto/ids.js';
import type { FileLock } from '../../src/vfs/operations.js';
import { bytesOf, LocalCluster, root, type TestMount, writeFile } from './local-cluster.js';
import { TestRequest } from './test-request.js';

const owner = asLockOwner('00000000000000aa');
const lock = (more: Partial<FileLock> = {}): FileLock => ({
  ...{ space: 'fcntl', owner, start: 0, end: LOCK_END, type: 'write', pid: 1 },
  ...more,
});

interface Opened extends TestMount {
  readonly fh: number;
  /** The errno of a lock request, or `ok`. */
  set(more?: Partial<FileLock>, options?: { wait?: boolean; request?: TestRequest }): Promise<string>;
}

async function open(mount: TestMount, ino: Ino): Promise<Opened> {
  const { fh } = await mount.vfs.open(root, ino, 2);
  return {
    ...mount,
    fh,
    set: async (more, { wait = false, request = root } = {}) => {
      try {
        await mount.vfs.setlk(request, ino, fh, lock(more), wait);
        return 'ok';
      } catch (error) {
        if (error instanceof FsError) return error.code;
        throw error;
      }
    },
  };
}

async function two(t: Parameters<typeof LocalCluster.start>[0]) {
  const cluster = await LocalCluster.start(t);
  const [first, second] = [await cluster.mount(), await cluster.mount()];
  const ino = await writeFile(first.vfs, 'f', bytesOf('0'));
  await second.vfs.lookup(root, ROOT_INO, bytesOf('f'));
  return { cluster, ino, a: await open(first, ino), b: await open(second, ino) };
}

t.test('a close without locks asks nobody, one with locks lets go', async (t) => {
  const { cluster, ino, a, b } = await two(t);
  t.equal(a.vfs.flush(root, ino, a.fh, owner), undefined, 'answered at once');
  t.equal(await a.set(), 'ok');
  t.equal(a.vfs.flush(root, ino, a.fh, asLockOwner('00000000000000bb')), undefined, "another's close");
  t.equal(await b.set(), 'EAGAIN');
  await a.vfs.flush(root, ino, a.fh, owner);
  t.equal(await b.set(), 'ok');
  t.equal(a.vfs.flush(root, ino, a.fh, owner), undefined);
  a.network.refuse(cluster.metaUrl);
  t.equal(await a.set({ type: 'unlock' }), 'ok', 'what is not held is unlocked without a server');
  a.network.allow(cluster.metaUrl);
});

t.test('the last close of a description lets go of flock and OFD locks', async (t) => {
  const { ino, a, b } = await two(t);
  t.equal(await a.set(), 'ok');
  t.equal(await a.set({ space: 'flock' }), 'ok');
  await a.vfs.release(ino, a.fh, owner);
  t.equal(await b.set({}, { wait: true }), 'ok');
  t.equal(await b.set({ space: 'flock' }, { wait: true }), 'ok');
});

t.test('a lock whose answer was lost is held once', async (t) => {
  const { cluster, a, b } = await two(t);
  a.network.loseNextAnswer(cluster.metaUrl);
  t.equal(await a.set(), 'ok');
  t.equal(await b.set(), 'EAGAIN');
  t.equal(await a.set({ type: 'unlock' }), 'ok');
  t.equal(await b.set(), 'ok');
});

t.test('a lock that is granted to nobody is taken back, and what was held before is left', async (t) => {
  const { cluster, a, b } = await two(t);
  t.equal(await a.set({ type: 'read', start: 5, end: 5 }), 'ok');
  const request = new TestRequest();
  // The server grants it; the answer is lost, and the mount cannot ask again.
  a.network.loseNextAnswer(cluster.metaUrl, { refuse: true });
  const asked = a.set({ start: 0, end: 9 }, { wait: true, request });
  await sleep(80);
  request.interrupt();
  t.equal(await asked, 'EINTR');
  t.equal(request.listeners, 0);
  t.equal(await b.set({ start: 0, end: 0 }), 'EAGAIN', 'until the mount is back');
  a.network.allow(cluster.metaUrl);
  t.equal(await b.set({ start: 0, end: 4 }, { wait: true }), 'ok');
  t.equal(await b.set({ start: 6, end: 9 }, { wait: true }), 'ok');
  t.equal(await b.set({ type: 'read', start: 5, end: 5 }, { wait: true }), 'ok');
  t.equal(await b.set({ start: 5, end: 5 }), 'EAGAIN', 'the read lock is still there');
});

t.test('a wait goes on over a restart of the server, and an interrupted one leaves nothing', async (t) => {
  const { cluster, a, b } = await two(t);
  await a.set();
  const waiting = b.set({}, { wait: true });
  const request = new TestRequest();
  const other = asLockOwner('00000000000000cc');
  const interrupted = b.set({ owner: other }, { wait: true, request });
  await sleep(50);
  await cluster.restartMeta(async () => {
    request.interrupt();
    t.equal(await interrupted, 'EINTR', 'though the server is away');
  });
  t.equal(await a.set({ type: 'unlock' }), 'ok');
  t.equal(await waiting, 'ok');
  t.equal(await b.set({ type: 'unlock' }), 'ok');
  t.equal(await a.set(), 'ok');
});
