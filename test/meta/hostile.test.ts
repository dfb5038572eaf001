import t from 'tap';
import { asChunkId, asFencingToken, asIno, asSessionId, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { commitArgs, createArgs, name, owner, Rig, registration, serverId } from './rig.js';

const mountInfo = { host: 'h', pid: 1, mountpoint: '/m' };

t.test('sessions that never were, or tokens from the future, open nothing', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const { session, token } = mount.ticket;
  const resume = (ticket: typeof mount.ticket): Promise<unknown> =>
    rig.connect().call('openSession', { ...mountInfo, resume: ticket });
  await t.rejects(resume({ session: asSessionId(999), token }), { code: 'sessionLost' });
  await t.rejects(resume({ session: asSessionId(1), token }), { code: 'sessionLost' }, 'the server’s own');
  await t.rejects(resume({ session, token: asFencingToken(token + 1) }), { code: 'fenced' });
  await mount.create('still here');
});

t.test('commits of what is not there change nothing', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const chunk = await mount.reserveChunks(2);
  const reply = await mount.do('commit', commitArgs(asIno(12_345), chunk, 10));
  t.strictSame(reply, { missing: [12_345], attrs: [] });
  await t.rejects(mount.do('commit', commitArgs(ROOT_INO, asChunkId(chunk + 1), 10)), { code: 'EINVAL' });
  await rig.pass(1000);
  t.match(await rig.status(), { chunks: 0, referencedBytes: 0, inodes: 1 });
});

t.test('a commit as large as may be is carried out whole', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const ino = await mount.create('big');
  const chunk = await mount.reserveChunks(1);
  const args = commitArgs(ino, chunk, limits.chunkBytes);
  const extents = Array.from({ length: limits.extentsPerMessage }, (_, index) => ({
    offset: index * 3,
    length: 1,
    chunk,
    chunkOffset: index * 2,
  }));
  await mount.do('commit', { ...args, files: args.files.map((file) => ({ ...file, extents })) });
  const page = await mount.call('extents', { ino, offset: 0, length: Number.MAX_SAFE_INTEGER });
  t.equal(page.extents.length, limits.extentsPerMessage);
  t.match(await rig.status(), { referencedBytes: limits.extentsPerMessage });
  await mount.unlink('big');
  await mount.do('release', { inos: [ino] });
  // Time for the orphan's many steps, then for its chunk.
  for (let round = 0; round < 3; round++) await rig.pass(1000);
  t.match(await rig.status(), { inodes: 1, chunks: 0, referencedBytes: 0 });
});

t.test('arguments out of bounds are refused before anything runs', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const wrong: Promise<unknown>[] = [
    mount.do('create', { ...createArgs('x'), name: Buffer.alloc(256, 'x') }),
    mount.do('create', { ...createArgs('x'), mode: 0o10000 }),
    mount.do('reserveIds', { kind: 'chunk', count: limits.idRangeSize + 1 }),
    mount.do('setattr', { ino: ROOT_INO, set: { size: -1 } }),
    mount.do('mkdir', {
      parent: asIno(2 ** 53 - 1),
      name: name('x'),
      owner: { ...owner, uid: 2 ** 32 },
      mode: 0,
    }),
  ];
  for (const call of wrong) await t.rejects(call, { code: 'badMessage' });
  for (const bad of ['a/b', 'a\0b', '.', '..'])
    await t.rejects(mount.create(bad), { code: /EINVAL|EEXIST|EISDIR/ }, JSON.stringify(bad));
  t.match(await rig.status(), { inodes: 1 });
});

t.test('reports about tasks of others, or of nobody, change nothing', async (t) => {
  const rig = new Rig(t);
  const [a, b] = [await rig.chunkServer(serverId(1)), await rig.chunkServer(serverId(2))];
  const mount = await rig.mount();
  const first = await mount.reserveChunks(3);
  await mount.do('abandonChunks', { chunks: [first] });
  const [task] = await a.tasks();
  if (task === undefined) throw new Error('no task');
  for (const state of ['running', 'done', 'failed'] as const) await b.report(task, state);
  await a.report({ ...task, id: 4711 }, 'done');
  t.match(
    (await rig.status()).tasks.map(({ id, server, attempts }) => ({ id, server, attempts })),
    [
      { id: task.id, server: serverId(1), attempts: 0 },
      { server: serverId(2), attempts: 0 },
    ],
  );
});

t.test('a connection that vanishes with a full pipe leaves no half work', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const calls = Array.from({ length: 400 }, (_, index) =>
    mount.call('create', createArgs(`f${index}`), { sequence: index + 1 }),
  );
  mount.peer.close('gone');
  await Promise.allSettled(calls);
  await rig.pass(1);
  const back = rig.connect();
  back.session = await back.call('openSession', { ...mountInfo, resume: mount.ticket });
  for (let index = 0; index < 400; index++)
    await back.call('create', createArgs(`f${index}`), { sequence: index + 1 });
  t.match(await rig.status(), { inodes: 401 });
});

t.test('a chunk server that registers twice at once is one server', async (t) => {
  const rig = new Rig(t);
  const client = rig.connect();
  await Promise.all([1, 2].map(() => client.call('registerServer', registration(serverId(1)))));
  t.match(await rig.status(), { map: { servers: { length: 1 } } });
});
