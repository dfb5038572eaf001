import t from 'tap';
import { asClusterId } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { CLUSTER, type Client, Rig, registration, serverId } from './rig.js';

const A = serverId(1);
const B = serverId(2);
const disk = { capacityBytes: 1000, usedBytes: 10, full: false };

const states = async (rig: Rig): Promise<Record<string, string>> => {
  const { servers } = await rig.connect().call('map', {});
  return Object.fromEntries(servers.map((server) => [server.id, server.state]));
};

async function beats(rig: Rig, servers: readonly Client[], forMs: number): Promise<void> {
  for (let passed = 0; passed < forMs; passed += limits.serverHeartbeatMs) {
    await rig.pass(limits.serverHeartbeatMs);
    for (const server of servers) await server.call('serverHeartbeat', disk);
  }
}

t.test('servers join, and each change of membership or state raises the epoch', async (t) => {
  const rig = new Rig(t);
  const client = rig.connect();
  const first = (await client.call('map', {})).epoch;
  const reply = await rig.connect().call('registerServer', registration(A));
  t.match(reply, { clusterId: CLUSTER, heartbeatMs: limits.serverHeartbeatMs, map: { epoch: first + 1 } });
  const b = await rig.chunkServer(B);
  t.equal((await client.call('map', {})).epoch, first + 2);
  await b.call('serverHeartbeat', { ...disk, usedBytes: 500 });
  const map = await client.call('map', {});
  t.equal(map.epoch, first + 2, 'how full it is, is no change');
  t.match(
    map.servers.find((server) => server.id === B),
    { usedBytes: 500 },
  );
  await b.call('serverHeartbeat', { ...disk, full: true });
  t.match(await client.call('map', {}), { epoch: first + 3, servers: [{ state: 'up' }, { state: 'full' }] });
  await b.call('serverHeartbeat', disk);
  t.equal((await states(rig))[B], 'up');
});

t.test('a server whose connection is lost is down, and up when it is back elsewhere', async (t) => {
  const rig = new Rig(t);
  const a = await rig.chunkServer(A);
  a.peer.close('gone');
  await rig.pass(1);
  t.strictSame(await states(rig), { [A]: 'down' });
  const reply = await rig
    .connect()
    .call('registerServer', { ...registration(A), clusterId: CLUSTER, url: 'ws://127.0.0.1:77' });
  t.match(reply.map.servers, [{ id: A, state: 'up', url: 'ws://127.0.0.1:77' }]);
});

t.test('a server that falls silent is down', async (t) => {
  const rig = new Rig(t);
  const [a, b] = [await rig.chunkServer(A), await rig.chunkServer(B)];
  await beats(rig, [a], limits.serverDownMs + 2 * limits.serverHeartbeatMs);
  t.strictSame(await states(rig), { [A]: 'up', [B]: 'down' });
  t.ok(b.peer.closed, 'and has to register again');
});

t.test('of two connections for one server the later one counts', async (t) => {
  const rig = new Rig(t);
  const old = await rig.chunkServer(A);
  const next = await rig.chunkServer(A, { url: 'ws://127.0.0.1:78' });
  await old.gone();
  await rig.pass(1);
  t.strictSame(await states(rig), { [A]: 'up' });
  await next.call('serverHeartbeat', disk);
});

t.test('another filesystem’s server is refused', async (t) => {
  const rig = new Rig(t);
  const clusterId = asClusterId('99999999-2222-4333-8444-555555555555');
  await t.rejects(rig.connect().call('registerServer', { ...registration(A), clusterId }), {
    code: 'wrongCluster',
  });
  t.strictSame(await states(rig), {});
});

t.test('mounts and chunk servers are told of changes, observers are not', async (t) => {
  const rig = new Rig(t);
  const [mount, observer] = [await rig.mount(), rig.connect()];
  await observer.call('map', {});
  const a = await rig.chunkServer(A);
  const [b] = [await rig.chunkServer(B)];
  await rig.pass(50);
  t.equal(mount.maps.length, 1, 'two changes close together are one message');
  t.match(mount.maps[0], { servers: { length: 2 } });
  t.equal(a.maps.length, 1);
  t.equal(observer.maps.length, 0);
  b.peer.close('gone');
  await rig.pass(1);
  await rig.pass(50);
  t.match(
    mount.maps[1]?.servers.map((server) => server.state),
    ['up', 'down'],
  );
});

t.test(
  'after a restart the map is as it was, epoch included, and servers have time to come back',
  async (t) => {
    const rig = new Rig(t);
    await rig.chunkServer(A);
    await rig.chunkServer(B);
    const before = await rig.connect().call('map', {});
    await rig.restart();
    t.strictSame(await rig.connect().call('map', {}), before);
    const a = await rig.chunkServer(A);
    t.equal((await rig.connect().call('map', {})).epoch, before.epoch, 'nothing has changed');
    await beats(rig, [a], limits.serverDownMs + 2 * limits.serverHeartbeatMs);
    t.strictSame(await states(rig), { [A]: 'up', [B]: 'down' });
  },
);

t.test('statfs counts one replica, and as free only where something can be stored', async (t) => {
  const rig = new Rig(t);
  const [a] = [await rig.chunkServer(A), await rig.chunkServer(B)];
  t.match(await rig.connect().call('statfs', {}), { totalBytes: 1000, freeBytes: 990 });
  await a.call('serverHeartbeat', { ...disk, full: true });
  t.match(await rig.connect().call('statfs', {}), { totalBytes: 1000, freeBytes: 0 });
});

t.test('what is free on a disk that two servers share counts once', async (t) => {
  const rig = new Rig(t);
  const [a, b] = [await rig.chunkServer(A), await rig.chunkServer(B)];
  const shared = { ...disk, capacityBytes: 1000, usedBytes: 100, disk: { name: 'host 8', freeBytes: 900 } };
  await a.call('serverHeartbeat', shared);
  await b.call('serverHeartbeat', shared);
  t.match(await rig.connect().call('statfs', {}), { totalBytes: 550, freeBytes: 450 });
  await b.call('serverHeartbeat', { ...shared, disk: { name: 'host 9', freeBytes: 900 } });
  t.match(await rig.connect().call('statfs', {}), { totalBytes: 1000, freeBytes: 900 });
});

t.test('a mount is no chunk server and the other way round', async (t) => {
  const rig = new Rig(t);
  const [mount, a] = [await rig.mount(), await rig.chunkServer(A)];
  await t.rejects(mount.call('registerServer', registration(B)), { code: 'notAllowed' });
  await t.rejects(mount.call('serverHeartbeat', disk), { code: 'notAllowed' });
  await t.rejects(mount.call('findGarbage', { chunks: [] }), { code: 'notAllowed' });
  await t.rejects(mount.call('reportTask', { id: 1, state: 'done', done: 0, total: 0, message: '' }), {
    code: 'notAllowed',
  });
  await t.rejects(a.call('openSession', { host: 'h', pid: 1, mountpoint: '/' }), { code: 'notAllowed' });
  await t.rejects(a.call('registerServer', registration(B)), { code: 'notAllowed' });
  t.strictSame(Object.keys(await states(rig)), [A]);
});
