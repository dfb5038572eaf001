import t from 'tap';
import { asChunkId, type ChunkId } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import type { Task } from '../../src/proto/meta-methods.js';
import { type Client, commitArgs, Rig, serverId } from './rig.js';

const A = serverId(1);
const B = serverId(2);
/** More than housekeeping waits between two rounds. */
const ROUND_MS = 600;

const deleted = (tasks: readonly Task[]): ChunkId[] =>
  tasks.flatMap(({ work }) => (work.kind === 'delete' ? work.chunks : [])).sort((a, b) => a - b);

/** A mount with `count` one-chunk files that are named and closed, and their chunks. */
async function mountWithFiles(rig: Rig, count: number): Promise<{ mount: Client; first: ChunkId }> {
  const mount = await rig.mount();
  const first = await mount.reserveChunks(count + 10);
  for (let index = 0; index < count; index++) {
    const ino = await mount.create(`f${index}`);
    await mount.write(ino, asChunkId(first + index));
    await mount.do('release', { inos: [ino] });
  }
  return { mount, first };
}

t.test('chunks of removed files are deleted on every server, several in one task', async (t) => {
  const rig = new Rig(t);
  const servers = [await rig.chunkServer(A), await rig.chunkServer(B)];
  const { mount, first } = await mountWithFiles(rig, 3);
  t.match(await rig.status(), { chunks: 3, referencedBytes: 3000, chunkBytes: 3000, tasks: [] });
  await mount.unlink('f0');
  await mount.unlink('f2');
  await rig.pass(ROUND_MS);
  t.match(await rig.status(), { chunks: 1, referencedBytes: 1000, chunkBytes: 1000, tasks: { length: 2 } });
  for (const server of servers) {
    const tasks = await server.tasks();
    t.equal(tasks.length, 1);
    t.strictSame(deleted(tasks), [first, first + 2]);
    for (const task of tasks) await server.report(task, 'done');
  }
  t.strictSame((await rig.status()).tasks, []);
});

t.test('a task is leased, kept by progress, given again when the lease runs out', async (t) => {
  const rig = new Rig(t);
  const a = await rig.chunkServer(A);
  const { mount } = await mountWithFiles(rig, 1);
  await mount.unlink('f0');
  await rig.pass(ROUND_MS);
  const [task] = await a.tasks();
  if (task === undefined) throw new Error('no task');
  t.strictSame(await a.tasks(), [], 'it is leased');
  const beat = async (): Promise<Task[]> => {
    await rig.pass(limits.serverHeartbeatMs);
    await mount.call('heartbeat', { finishedBelow: 0 });
    return a.tasks();
  };
  for (let passed = 0; passed + limits.serverHeartbeatMs < task.leaseMs; passed += limits.serverHeartbeatMs)
    t.strictSame(await beat(), []);
  await a.report(task, 'running');
  t.match((await rig.status()).tasks, [{ id: task.id, state: 'running', done: 1, total: 2, kind: 'delete' }]);
  for (let passed = 0; passed + limits.serverHeartbeatMs < task.leaseMs; passed += limits.serverHeartbeatMs)
    t.strictSame(await beat(), []);
  t.match([...(await beat()), ...(await beat())], [{ id: task.id }]);
});

t.test('a failed task is tried again later and later, and shows in the status', async (t) => {
  const rig = new Rig(t);
  const a = await rig.chunkServer(A);
  const { mount } = await mountWithFiles(rig, 1);
  await mount.unlink('f0');
  await rig.pass(ROUND_MS);
  const pauses: number[] = [];
  for (let attempt = 1; attempt <= 4; attempt++) {
    let pauseMs = 0;
    let task: Task | undefined;
    for (; task === undefined; pauseMs += 500) {
      [task] = await a.tasks();
      if (task === undefined) await rig.pass(500);
    }
    pauses.push(pauseMs);
    await a.report(task, 'failed');
    t.match((await rig.status()).tasks, [{ state: 'failed', attempts: attempt }]);
  }
  t.strictSame(
    pauses,
    [...pauses].sort((x, y) => x - y),
  );
  t.ok((pauses[3] ?? 0) > (pauses[1] ?? 0));
  await rig.restart();
  t.match((await rig.status()).tasks, [{ state: 'failed', attempts: 4 }]);
});

t.test('a server that comes back, and a restart, find the task again', async (t) => {
  const rig = new Rig(t);
  const a = await rig.chunkServer(A);
  const { mount, first } = await mountWithFiles(rig, 1);
  await mount.unlink('f0');
  await rig.pass(ROUND_MS);
  t.equal((await a.tasks()).length, 1);
  const back = await rig.chunkServer(A);
  t.strictSame(deleted(await back.tasks()), [first]);
  await rig.restart();
  const again = await rig.chunkServer(A);
  t.strictSame(deleted(await again.tasks()), [first]);
});

t.test('a server that is down finds its work when it is back', async (t) => {
  const rig = new Rig(t);
  const [a] = [await rig.chunkServer(A), await rig.chunkServer(B)];
  const { mount, first } = await mountWithFiles(rig, 1);
  a.peer.close('gone');
  await mount.unlink('f0');
  await rig.pass(ROUND_MS);
  const back = await rig.chunkServer(A);
  t.strictSame(deleted(await back.tasks()), [first]);
});

t.test('a large orphan is taken apart in steps after its last close', async (t) => {
  const rig = new Rig(t);
  const a = await rig.chunkServer(A);
  const mount = await rig.mount();
  const ino = await mount.create('big');
  const first = await mount.reserveChunks(100);
  for (let index = 0; index < 100; index++) {
    const args = commitArgs(ino, asChunkId(first + index), 1000);
    // Two extents apart in each chunk, so that none is joined with its neighbour.
    const extents = [0, 1].map((half) => ({
      offset: index * 4000 + half * 2000,
      length: 400,
      chunk: asChunkId(first + index),
      chunkOffset: half * 500,
    }));
    await mount.do('commit', { ...args, files: args.files.map((file) => ({ ...file, extents })) });
  }
  await mount.unlink('big');
  t.match(await rig.status(), { orphans: 1, referencedBytes: 80_000 });
  await mount.do('release', { inos: [ino] });
  await rig.pass(2 * ROUND_MS);
  t.match(await rig.status(), { inodes: 1, orphans: 0, referencedBytes: 0, chunkBytes: 0, chunks: 0 });
  t.equal(deleted(await a.tasks()).length, 100);
});

t.test('what the end of a session leaves unknown is swept', async (t) => {
  const rig = new Rig(t);
  const a = await rig.chunkServer(A);
  const { mount, first } = await mountWithFiles(rig, 2);
  const other = await rig.mount('/other');
  const others = await other.reserveChunks(5);
  await mount.unlink('f0');
  await rig.pass(ROUND_MS);
  for (const task of await a.tasks()) await a.report(task, 'done');
  const stored = [first, first + 1, first + 5, others, others + 2000].map(asChunkId);
  t.strictSame((await a.call('findGarbage', { chunks: stored })).garbage, [first], 'retired already');
  await mount.call('closeSession', {});
  const tasks = await a.tasks();
  t.match(tasks, [{ work: { kind: 'sweep', first, last: first + 11 } }]);
  const { garbage } = await a.call('findGarbage', { chunks: stored });
  t.strictSame(garbage, [first, first + 5], 'not what is referenced, another’s, or was never given out');
});

t.test('an abandoned chunk is deleted, a committed one stays whatever is said of it', async (t) => {
  const rig = new Rig(t);
  const a = await rig.chunkServer(A);
  const { mount, first } = await mountWithFiles(rig, 1);
  const other = await rig.mount('/other');
  const chunks = [first, first + 1, first + 2].map(asChunkId);
  await mount.do('abandonChunks', { chunks });
  t.strictSame(deleted(await a.tasks()), [first + 1, first + 2]);
  t.match(await rig.status(), { chunks: 1 });
  await t.rejects(other.do('abandonChunks', { chunks: [asChunkId(first + 3)] }), { code: 'notAllowed' });
  const ino = await mount.create('late');
  await t.rejects(mount.write(ino, asChunkId(first + 1)), { code: 'EINVAL' }, 'never committed afterwards');
});

t.test('a chunk whose deletion may be under way is not committed again', async (t) => {
  const rig = new Rig(t);
  await rig.chunkServer(A);
  const { mount, first } = await mountWithFiles(rig, 1);
  const ino = await mount.create('next');
  await mount.unlink('f0');
  await t.rejects(mount.write(ino, first), { code: 'EINVAL' }, 'garbage, not collected yet');
  await rig.pass(ROUND_MS);
  await t.rejects(mount.write(ino, first), { code: 'EINVAL' }, 'collected');
  await rig.restart();
  const back = rig.connect();
  await back.call('openSession', { host: 'h', pid: 1, mountpoint: '/', resume: mount.ticket });
  await t.rejects(back.call('commit', commitArgs(ino, first, 1000), { sequence: 900 }), { code: 'EINVAL' });
});

t.test('a session commits only chunks that were given to it', async (t) => {
  const rig = new Rig(t);
  const { mount } = await mountWithFiles(rig, 1);
  const other = await rig.mount('/other');
  const theirs = await other.reserveChunks(5);
  const ino = await mount.create('x');
  for (const chunk of [theirs, asChunkId(2 ** 40)])
    await t.rejects(mount.write(ino, chunk), { code: 'EINVAL' });
  await other.write(ino, theirs);
});

t.test('a server that is away for very long gets one sweep instead of a queue without end', async (t) => {
  const rig = new Rig(t);
  const a = await rig.chunkServer(A);
  const mount = await rig.mount();
  const first = await mount.reserveChunks(600);
  a.peer.close('gone');
  for (let index = 0; index < 600; index++)
    await mount.do('abandonChunks', { chunks: [asChunkId(first + index)] });
  const { tasks } = await rig.status();
  t.ok(tasks.length <= 256, `${tasks.length} tasks`);
  t.ok(tasks.some((task) => task.kind === 'sweep'));
  const back = await rig.chunkServer(A);
  const seen = new Set<number>();
  for (let round = 0; round < 20; round++) {
    for (const task of await back.tasks()) {
      const stored = Array.from({ length: 600 }, (_, index) => asChunkId(first + index));
      const chunks =
        task.work.kind === 'delete'
          ? task.work.chunks
          : (await back.call('findGarbage', { chunks: stored })).garbage;
      for (const id of chunks) seen.add(id);
      await back.report(task, 'done');
    }
  }
  t.equal(seen.size, 600, 'nothing is forgotten');
  t.strictSame((await rig.status()).tasks, []);
});
