import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { crc32c } from '../../src/base/crc32c.js';
import { setLogLevel } from '../../src/base/log.js';
import { Prng } from '../../src/base/prng.js';
import { type ChunkServer, type ChunkServerOptions, startChunkServer } from '../../src/chunk/server.js';
import { chunkMethods } from '../../src/proto/chunk-methods.js';
import { asChunkId, asClusterId } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { Peer } from '../../src/rpc/peer.js';
import { connectWebSocket } from '../../src/rpc/websocket.js';
import { CLUSTER, FakeMeta } from './fake-meta.js';
import { scratch } from './scratch.js';

// Lost connections are what these tests are about.
setLogLevel('error');

const noise = new Prng(3).bytes(limits.chunkBytes);
const OTHER_CLUSTER = asClusterId('99999999-2222-3333-4444-555555555555');

async function until(is: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < 1000; tries++) {
    if (is()) return true;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return false;
}

async function fakeMeta(t: Test): Promise<FakeMeta> {
  const meta = new FakeMeta();
  await meta.start();
  t.teardown(() => meta.stop());
  return meta;
}

async function started(
  t: Test,
  options: Partial<ChunkServerOptions> & { metaUrl: string },
): Promise<ChunkServer> {
  const server = await startChunkServer({
    dataDir: options.dataDir ?? scratch(t),
    host: '127.0.0.1',
    port: 0,
    hostLabel: 'host-a',
    rack: 'rack-1',
    ...options,
  });
  t.teardown(() => server.stop());
  return server;
}

type Client = Peer<typeof chunkMethods, Record<string, never>>;

async function connected(t: Test, url: string): Promise<Client> {
  const transport = await connectWebSocket(url, { timeoutMs: 5000 });
  const client: Client = new Peer(transport, {
    remote: chunkMethods,
    local: {},
    handlers: {},
    name: 'chunk server',
  });
  t.teardown(() => client.close('the test is over'));
  return client;
}

const put = (client: Client, id: number, bytes: Uint8Array, clusterId = CLUSTER) =>
  client.call('put', { id: asChunkId(id), crc: crc32c(bytes), clusterId }, { bulk: bytes });

t.test('a new server registers, writes its cluster down and serves chunks', async (t) => {
  const meta = await fakeMeta(t);
  const dataDir = scratch(t);
  const server = await started(t, { dataDir, metaUrl: meta.url, capacityBytes: 1e9, weight: 2 });
  t.match(meta.registrations, [
    {
      id: server.id,
      clusterId: null,
      url: server.url,
      host: 'host-a',
      rack: 'rack-1',
      weight: 2,
      capacityBytes: 1e9,
      usedBytes: 0,
      full: false,
    },
  ]);
  t.match(JSON.parse(readFileSync(join(dataDir, 'identity.json'), 'utf8')), {
    serverId: server.id,
    clusterId: CLUSTER,
  });
  const client = await connected(t, server.url);
  t.same(await client.call('identify', {}), { id: server.id, clusterId: CLUSTER });
  t.same(await put(client, 1, noise), {});
  t.same(await put(client, 2, noise.subarray(0, 1000)), {});
  const { bulk } = await client.callForBulk('get', { id: asChunkId(1), offset: 70_000, length: 100_000 });
  t.ok(bulk.equals(noise.subarray(70_000, 170_000)));
  t.match(await client.call('list', { after: 0, last: 100, limit: 10 }), {
    chunks: [
      { id: 1, length: noise.length, crc: crc32c(noise) },
      { id: 2, length: 1000 },
    ],
    end: true,
  });
  t.same(await client.call('delete', { chunks: [asChunkId(1), asChunkId(5)] }), { deleted: 1 });
  t.match(await client.call('usage', {}), { chunks: 1, usedBytes: 1000, full: false });
  t.ok(await until(() => meta.heartbeats.at(-1)?.usedBytes === 1000), 'heartbeats say what is stored');
});

t.test('bad requests are refused, each with its code', async (t) => {
  const meta = await fakeMeta(t);
  const server = await started(t, { metaUrl: meta.url, capacityBytes: 5 * 1024 * 1024 });
  const client = await connected(t, server.url);
  const id = asChunkId(1);
  const bytes = noise.subarray(0, 5000);
  await t.rejects(put(client, 1, bytes, OTHER_CLUSTER), { code: 'wrongCluster' });
  const crc = crc32c(bytes) ^ 1;
  const damaged = client.call('put', { id, crc: crc >>> 0, clusterId: CLUSTER }, { bulk: bytes });
  await t.rejects(damaged, { code: 'corrupt' }, 'bytes that were damaged on their way');
  await t.rejects(put(client, 1, new Uint8Array(0)), { code: 'badMessage' });
  await t.rejects(client.callForBulk('get', { id, offset: 0, length: 1 }), { code: 'noChunk' });
  await put(client, 1, bytes);
  await t.rejects(put(client, 1, noise.subarray(1, 5001)), { code: 'chunkConflict' });
  await t.rejects(client.callForBulk('get', { id, offset: 4999, length: 2 }), { code: 'badMessage' });
  await put(client, 2, noise);
  await t.rejects(put(client, 3, noise), { code: 'serverFull' });
  t.ok(
    await until(() => meta.heartbeats.at(-1)?.full === true),
    'the metadata server learns that it is full',
  );
  t.equal(
    (await client.callForBulk('get', { id, offset: 0, length: 5000 })).bulk.length,
    5000,
    'reads go on',
  );
});

t.test('it serves reads without its metadata server, and registers when that is there', async (t) => {
  const meta = await fakeMeta(t);
  const dataDir = scratch(t);
  const first = await started(t, { dataDir, metaUrl: meta.url });
  await put(await connected(t, first.url), 1, noise);
  await first.stop();
  const { url } = meta;
  await meta.stop();
  const server = await started(t, { dataDir, metaUrl: url });
  t.equal(server.id, first.id, 'it is the same server after a restart');
  const client = await connected(t, server.url);
  const { bulk } = await client.callForBulk('get', { id: asChunkId(1), offset: 0, length: noise.length });
  t.ok(bulk.equals(noise));
  await put(client, 2, noise.subarray(9));
  t.pass('it takes writes of its cluster');
  await meta.start(Number(new URL(url).port));
  t.ok(await until(() => meta.registrations.length === 2), 'it registers at last');
  t.match(meta.registrations[1], { clusterId: CLUSTER, id: first.id });
});

t.test('a new server without a metadata server takes no writes', async (t) => {
  const meta = await fakeMeta(t);
  const { url } = meta;
  await meta.stop();
  const server = await started(t, { metaUrl: url });
  const client = await connected(t, server.url);
  t.same(await client.call('identify', {}), { id: server.id, clusterId: null });
  await t.rejects(put(client, 1, noise), { code: 'busy' });
});

t.test('it comes back when the connection is cut, or when its heartbeats are refused', async (t) => {
  const meta = await fakeMeta(t);
  const server = await started(t, { metaUrl: meta.url });
  meta.dropConnections();
  t.ok(await until(() => meta.registrations.length === 2), 'after a cut');
  meta.refuseHeartbeats = true;
  t.ok(await until(() => meta.registrations.length === 3), 'after a refused heartbeat');
  meta.refuseHeartbeats = false;
  const before = meta.heartbeats.length;
  t.ok(await until(() => meta.heartbeats.length > before + 2), 'heartbeats go on');
  t.equal(meta.connections, 1, 'over one connection');
  await server.stop();
  t.ok(await until(() => meta.connections === 0), 'a server that stops leaves');
});

t.test('delete and sweep tasks are run and reported', async (t) => {
  const meta = await fakeMeta(t);
  const server = await started(t, { metaUrl: meta.url });
  const client = await connected(t, server.url);
  const ids = Array.from({ length: 40 }, (_, index) => asChunkId(index + 1));
  await Promise.all(ids.map((id) => put(client, id, noise.subarray(id, id + 500))));
  const [one, two] = ids;
  if (one === undefined || two === undefined) throw new Error('there are ids');
  meta.garbage = new Set([asChunkId(12), asChunkId(15), asChunkId(30)]);
  meta.tasks.push(
    { id: 1, leaseMs: 60_000, work: { kind: 'delete', chunks: [one, two, asChunkId(900)] } },
    { id: 2, leaseMs: 60_000, work: { kind: 'sweep', first: asChunkId(10), last: asChunkId(20) } },
    { id: 2, leaseMs: 60_000, work: { kind: 'sweep', first: asChunkId(10), last: asChunkId(20) } },
  );
  t.ok(await until(() => meta.reports.filter((report) => report.state === 'done').length === 2));
  t.match(meta.reports, [
    { id: 1, state: 'done', done: 3, total: 3 },
    { id: 2, state: 'done', done: 11, total: 11 },
  ]);
  const { chunks } = await client.call('list', { after: 0, last: 1000, limit: 100 });
  t.same(
    chunks.map((chunk) => Number(chunk.id)),
    ids.map(Number).filter((id) => ![1, 2, 12, 15].includes(id)),
    'garbage outside the range of the sweep stays',
  );
  meta.tasks.push({ id: 1, leaseMs: 60_000, work: { kind: 'delete', chunks: [one] } });
  t.ok(await until(() => meta.reports.length === 3), 'a task handed out again is done again');
});

t.test('a server of another cluster stops and says so', async (t) => {
  const meta = await fakeMeta(t);
  const dataDir = scratch(t);
  const server = await started(t, { dataDir, metaUrl: meta.url });
  meta.clusterId = OTHER_CLUSTER;
  meta.dropConnections();
  const error = await server.failed;
  t.match(error.message, /wrongCluster/, 'a running one');
  t.match(error.message, dataDir, 'names its directory');
  await t.rejects(
    connectWebSocket(server.url, { timeoutMs: 1000 }),
    { name: 'ProtocolError' },
    'and serves no more',
  );
  await t.rejects(started(t, { dataDir, metaUrl: meta.url }), { message: /wrongCluster/ }, 'a starting one');
  meta.clusterId = CLUSTER;
  const again = await started(t, { dataDir, metaUrl: meta.url });
  t.equal(again.id, server.id, 'the directory is unharmed');
});

t.test('a port that is taken is named, and the directory is free again', async (t) => {
  const meta = await fakeMeta(t);
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.teardown(() => taken.close());
  const address = taken.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const dataDir = scratch(t);
  await t.rejects(started(t, { dataDir, port, metaUrl: meta.url }), { message: new RegExp(String(port)) });
  t.equal(meta.registrations.length, 0);
  await started(t, { dataDir, metaUrl: meta.url });
});

t.test('stopping is quick, also while the metadata server is away, and may be repeated', async (t) => {
  const meta = await fakeMeta(t);
  const server = await started(t, { metaUrl: meta.url });
  const client = await connected(t, server.url);
  await meta.stop();
  const startMs = performance.now();
  await Promise.all([server.stop(), server.stop()]);
  await server.stop();
  t.ok(performance.now() - startMs < 1000, `it took ${performance.now() - startMs} ms`);
  await t.rejects(client.call('usage', {}), { code: 'disconnected' });
});
