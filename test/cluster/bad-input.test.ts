/**
 * Garbage, oversized and truncated frames on every port of a cluster, while a program works on its mount: each
 * such connection is closed, with a line in the log, and nobody else notices.
 */
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import t from 'tap';
import { limits } from '../../src/proto/limits.js';
import { Cluster } from './cluster.js';
import { sh, startScript } from './on-mount.js';

const TIMEOUT_MS = 100_000;
t.setTimeout(TIMEOUT_MS);
/** A connection that never becomes a WebSocket is cut after the handshake's time. */
const CLOSED_MS = limits.handshakeMs + 5_000;

const HANDSHAKE = Buffer.from(
  [
    'GET / HTTP/1.1',
    'Host: x',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    '\r\n',
  ].join('\r\n'),
);
const FIN = 0x80;
const MASKED = 0x80;
const TEXT = 1;
const BINARY = 2;

/** A WebSocket frame that says it is `length` bytes long, whatever follows. */
function frame(opcode: number, payload: Buffer, length = payload.length): Buffer {
  const head = Buffer.alloc(10);
  head[0] = FIN | opcode;
  head[1] = MASKED | 127;
  head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, Buffer.alloc(4), payload]);
}

interface Attack {
  readonly name: string;
  readonly bytes: Buffer;
  /** It goes on sending nothing: the server has to notice by itself. Else it hangs up. */
  readonly waits: boolean;
}

const nested = Buffer.alloc(100_000, 0x91);
const attacks: readonly Attack[] = [
  { name: 'random bytes', bytes: randomBytes(4096), waits: true },
  { name: 'nothing at all', bytes: Buffer.alloc(0), waits: true },
  {
    name: 'an endless HTTP header',
    bytes: Buffer.from(`GET / HTTP/1.1\r\nX: ${'x'.repeat(200_000)}`),
    waits: true,
  },
  { name: 'half a handshake', bytes: HANDSHAKE.subarray(0, 40), waits: true },
  { name: 'another protocol', bytes: Buffer.from('GET /etc/passwd HTTP/1.0\r\n\r\n'), waits: true },
  { name: 'text', bytes: Buffer.concat([HANDSHAKE, frame(TEXT, Buffer.from('hello'))]), waits: true },
  {
    name: 'a binary frame of noise',
    bytes: Buffer.concat([HANDSHAKE, frame(BINARY, randomBytes(1000))]),
    waits: true,
  },
  { name: 'an empty frame', bytes: Buffer.concat([HANDSHAKE, frame(BINARY, Buffer.alloc(0))]), waits: true },
  { name: 'a deep header', bytes: Buffer.concat([HANDSHAKE, frame(BINARY, nested)]), waits: true },
  {
    name: 'a frame that says it is enormous',
    bytes: Buffer.concat([HANDSHAKE, frame(BINARY, Buffer.alloc(100), 2 ** 52)]),
    waits: true,
  },
  {
    name: 'a frame one byte too long',
    bytes: Buffer.concat([HANDSHAKE, frame(BINARY, Buffer.alloc(0), limits.frameBytes + 1)]),
    waits: true,
  },
  {
    name: 'a truncated frame, and hanging up',
    bytes: Buffer.concat([HANDSHAKE, frame(BINARY, Buffer.alloc(500), 100_000)]),
    waits: false,
  },
  { name: 'a wrong opcode', bytes: Buffer.concat([HANDSHAKE, frame(11, Buffer.alloc(5))]), waits: true },
];

/** Sends and waits until the connection is over; how long that took, or undefined when it went on. */
function attack(url: string, { bytes, waits }: Attack): Promise<number | undefined> {
  const { hostname, port } = new URL(url);
  const startMs = performance.now();
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port) });
    const timer = setTimeout(() => {
      socket.destroy();
      resolve(undefined);
    }, CLOSED_MS);
    socket.on('connect', () => {
      socket.write(bytes);
      if (!waits) setTimeout(() => socket.destroy(), 300);
    });
    socket.on('error', () => {});
    socket.resume();
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(performance.now() - startMs);
    });
  });
}

t.test('bad input on every port', { timeout: TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'bad' });
  const mount = await cluster.mount();
  const work = startScript(
    `i=0; while [ ! -e stop ]; do i=$((i+1)); head -c $((i * 997 % 50000)) /dev/urandom > f; cp f g; sync g; cmp f g; done
     echo "$i rounds"`,
    { cwd: mount.path, timeoutMs: 90_000 },
  );
  const servers = { 'metadata server': cluster.meta, 'chunk server': cluster.chunks[0] };
  for (const [name, server] of Object.entries(servers)) {
    if (server === undefined) throw new Error(`no ${name}`);
    const { pid } = server;
    const results = await Promise.all(
      attacks.map(async (each) => [each.name, await attack(server.url, each)] as const),
    );
    for (const [attackName, ms] of results)
      t.ok(ms !== undefined, `${name}: ${attackName}: closed after ${Math.round(ms ?? -1)} ms`);
    t.equal(server.pid, pid, `the ${name} runs on`);
    t.match(server.log, /clos|refus|malformed|bad/i, `the ${name} says so in its log`);
    // Many connections that say nothing, which are all cut, and one that works meanwhile.
    const idle = attacks.filter((each) => each.name === 'nothing at all');
    const crowd = Array.from({ length: 50 }, () => idle).flat();
    const crowdDone = Promise.all(crowd.map((each) => attack(server.url, each)));
    t.ok((await cluster.status()).healthy, 'the cluster answers');
    t.notOk((await crowdDone).includes(undefined), 'silent connections are cut');
  }
  await sh('touch stop', { cwd: mount.path });
  const outcome = await work.outcome;
  t.equal(outcome.status, 0, `the program on the mount never noticed: ${outcome.stdout}${outcome.stderr}`);
});
