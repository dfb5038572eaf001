/**
 * What a call costs: round trips and bulk throughput between two processes over loopback, through the whole
 * rpc layer (method checks included). Run: `node dist/bench/rpc.js`. Figures belong in
 * native-notes/websocket.md with the machine they come from.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type ChunkMethods, chunkMethods } from '../src/proto/chunk-methods.js';
import { asChunkId, asClusterId } from '../src/proto/ids.js';
import { type Handlers, Peer, WithBulk } from '../src/rpc/peer.js';
import { connectWebSocket, listenWebSocket } from '../src/rpc/websocket.js';

const MIB = 1024 * 1024;
const SECONDS = Number(process.env.BENCH_SECONDS ?? 1);
const CLUSTER = asClusterId('00000000-0000-4000-8000-000000000000');

const content = Buffer.alloc(4 * MIB, 0x5a);
const nothingElse = (): never => {
  throw new Error('not part of this benchmark');
};
const handlers: Handlers<ChunkMethods> = {
  identify: () => ({ id: nothingElse(), clusterId: null }),
  put: () => ({}),
  get: (args) => new WithBulk({}, content.subarray(args.offset, args.offset + args.length)),
  delete: (args) => ({ deleted: args.chunks.length }),
  list: nothingElse,
  usage: () => ({ chunks: 1, usedBytes: 2, capacityBytes: 3, full: false }),
};

async function serve(): Promise<void> {
  const listener = await listenWebSocket({
    host: '127.0.0.1',
    port: 0,
    onTransport: (transport) =>
      new Peer(transport, { remote: {}, local: chunkMethods, handlers, name: 'bench' }),
  });
  process.send?.(listener.url);
  process.once('disconnect', () => process.exit(0));
}

/** Calls `once` again and again with `width` calls outstanding; how many a second came back. */
async function rate(width: number, once: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  const endMs = startMs + SECONDS * 1000;
  let count = 0;
  const lane = async (): Promise<void> => {
    while (performance.now() < endMs) {
      await once();
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: width }, lane));
  return (count * 1000) / (performance.now() - startMs);
}

async function measure(url: string): Promise<void> {
  const transport = await connectWebSocket(url, { timeoutMs: 5000 });
  const peer = new Peer(transport, { remote: chunkMethods, local: {}, handlers: {}, name: 'server' });
  const usage = (): Promise<unknown> => peer.call('usage', {});
  const get = (length: number) => (): Promise<unknown> =>
    peer.callForBulk('get', { id: asChunkId(1), offset: 0, length });
  const put = (length: number) => (): Promise<unknown> =>
    peer.call('put', { id: asChunkId(1), crc: 0, clusterId: CLUSTER }, { bulk: content.subarray(0, length) });
  await rate(1, usage);
  const row = (what: string, value: number, unit: string): void => {
    console.log(`${what.padEnd(34)} ${Math.round(value).toLocaleString('en').padStart(10)} ${unit}`);
  };
  row('small calls, one at a time', await rate(1, usage), 'calls/s');
  row('small calls, 8 outstanding', await rate(8, usage), 'calls/s');
  row('small calls, 64 outstanding', await rate(64, usage), 'calls/s');
  row('get 4 KiB, one at a time', await rate(1, get(4096)), 'calls/s');
  for (const size of [1, 4]) {
    for (const width of [1, 4]) {
      row(`get ${size} MiB, ${width} outstanding`, size * (await rate(width, get(size * MIB))), 'MiB/s');
      row(`put ${size} MiB, ${width} outstanding`, size * (await rate(width, put(size * MIB))), 'MiB/s');
    }
  }
  peer.close('done');
}

if (process.argv[2] === 'serve') await serve();
else {
  const server = fork(fileURLToPath(import.meta.url), ['serve']);
  const url = await new Promise<string>((resolve) =>
    server.once('message', (message) => resolve(String(message))),
  );
  await measure(url);
  server.disconnect();
}
