import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { limits } from '../../src/proto/limits.js';
import { Peer } from '../../src/rpc/peer.js';
import type { Transport } from '../../src/rpc/transport.js';
import { connectWebSocket, listenWebSocket, type WebSocketListener } from '../../src/rpc/websocket.js';
import { type TestMethods, testHandlers, testMethods } from './test-methods.js';

type Listening = { readonly listener: WebSocketListener; readonly peers: Peer<NoMethods, TestMethods>[] };
type NoMethods = Record<string, never>;

/** Lines on standard error while the test runs. */
function captureLog(t: Test): () => string[] {
  const calls = t.capture(process.stderr, 'write', () => true);
  const lines: string[] = [];
  return () => {
    for (const call of calls()) lines.push(String(call.args[0]));
    return lines;
  };
}

async function listen(
  t: Test,
  options: { handshakeMs?: number; pingIntervalMs?: number } = {},
): Promise<Listening> {
  const peers: Listening['peers'] = [];
  const listener = await listenWebSocket({
    host: '127.0.0.1',
    port: 0,
    ...options,
    onTransport: (transport) =>
      peers.push(
        new Peer(transport, { remote: {}, local: testMethods, handlers: testHandlers(), name: 'test' }),
      ),
  });
  t.teardown(() => listener.close());
  return { listener, peers };
}

async function callers(t: Test, url: string): Promise<Peer<TestMethods, NoMethods>> {
  const transport = await connectWebSocket(url, { timeoutMs: 5000 });
  const peer = new Peer(transport, { remote: testMethods, local: {}, handlers: {}, name: 'server' });
  t.teardown(() => peer.close('test over'));
  return peer;
}

/** A TCP connection that speaks for itself, and all that comes back. */
class RawClient {
  received = Buffer.alloc(0);
  readonly socket: Socket;
  readonly ended: Promise<void>;

  constructor(port: number) {
    this.socket = connect(port, '127.0.0.1');
    this.socket.on('data', (data) => {
      this.received = Buffer.concat([this.received, data]);
    });
    this.socket.on('error', () => {});
    this.ended = new Promise((resolve) => this.socket.once('close', () => resolve()));
  }

  async until(pattern: string): Promise<void> {
    while (!this.received.includes(pattern)) await new Promise((resolve) => setTimeout(resolve, 2));
  }

  /** Becomes a WebSocket; what comes back afterwards begins at `received`. */
  async upgrade(headers = ''): Promise<void> {
    this.socket.write(
      'GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${'A'.repeat(22)}==\r\n${headers}\r\n`,
    );
    await this.until('\r\n\r\n');
    this.received = this.received.subarray(this.received.indexOf('\r\n\r\n') + 4);
  }

  /** The code of the close frame that comes back. */
  async closeCode(): Promise<number> {
    while (this.received.length < 4) await new Promise((resolve) => setTimeout(resolve, 2));
    return this.received[0] === 0x88 ? this.received.readUInt16BE(2) : -1;
  }
}

/** A masked message with an all-zero mask, for lengths below 126. */
const message = (opcode: number, payload: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([0x80 | opcode, 0x80 | payload.length, 0, 0, 0, 0]), payload]);

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

const violations: { what: string; bytes: Buffer; code: number }[] = [
  { what: 'text', bytes: message(1, Buffer.from('hello')), code: 1003 },
  { what: 'text that is not UTF-8', bytes: message(1, hex('ff fe')), code: 1007 },
  { what: 'a message that is not masked', bytes: hex('82 01 00'), code: 1002 },
  { what: 'a reserved opcode', bytes: message(3, hex('00')), code: 1002 },
  { what: 'a compressed message', bytes: hex('c2 81 00 00 00 00 00'), code: 1002 },
  { what: 'a message of 2^40 bytes', bytes: hex('82 ff 00 00 01 00 00 00 00 00 00 00 00 00'), code: 1009 },
  { what: 'a continuation of nothing', bytes: message(0, hex('00')), code: 1002 },
  { what: 'an empty message', bytes: message(2, hex('')), code: 1007 },
  { what: 'garbage in a message', bytes: message(2, hex('de ad be ef 00 11 22 33 44')), code: 1007 },
  { what: 'another version', bytes: message(2, hex('4c 63 00 00 00 00 00 03 93 01 c0')), code: 1002 },
  { what: 'a truncated header', bytes: message(2, hex('4c 01 00 00 00 00 00 09 94 00 01')), code: 1007 },
  { what: 'an extension type', bytes: message(2, hex('4c 01 00 00 00 00 00 03 d4 72 40')), code: 1007 },
];

for (const { what, bytes, code } of violations) {
  t.test(`${what} closes that connection with ${code} and one log line, and no other`, async (t) => {
    const lines = captureLog(t);
    const { listener } = await listen(t);
    const bystander = await callers(t, listener.url);
    const raw = new RawClient(listener.port);
    await raw.upgrade();
    raw.socket.write(bytes);
    t.equal(await raw.closeCode(), code);
    raw.socket.destroy();
    t.equal(lines().length, 1, lines().join(''));
    t.strictSame(await bystander.call('add', { a: 1, b: 2 }), { sum: 3 });
  });
}

t.test('a message that is cut off in the middle harms nobody', async (t) => {
  const { listener, peers } = await listen(t);
  const bystander = await callers(t, listener.url);
  const raw = new RawClient(listener.port);
  await raw.upgrade();
  const ended = new Promise((resolve) => {
    const peer = peers[1];
    if (peer !== undefined) peer.onClose = resolve;
  });
  raw.socket.end(hex('82 fe 10 00 00 00 00 00 4c 01 00'));
  await ended;
  t.equal(peers[1]?.closed, true);
  t.strictSame(await bystander.call('add', { a: 1, b: 2 }), { sum: 3 });
});

t.test('a frame that arrives byte by byte is answered', async (t) => {
  const { listener } = await listen(t);
  const raw = new RawClient(listener.port);
  await raw.upgrade();
  raw.socket.setNoDelay(true);
  const request = hex('4c 01 0000 0000000e 94 00 07 a3616464 82 a161 01 a162 02');
  for (const byte of message(2, request)) {
    raw.socket.write(Buffer.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await raw.until('sum');
  t.equal(raw.received.toString('hex'), '82114c01000000000009930107' + '81a373756d03');
  raw.socket.destroy();
});

t.test('what is no WebSocket is refused, with a code', async (t) => {
  const lines = captureLog(t);
  const { listener } = await listen(t, { handshakeMs: 100 });
  const plain = await fetch(listener.url.replace('ws:', 'http:'));
  t.equal(plain.status, 426);
  await plain.text();
  const answers: [string, string, RegExp][] = [
    ['garbage', '\u0000\u0001\u0002 nonsense\r\n\r\n', /^HTTP\/1.1 400 /],
    ['an endless header', `GET / HTTP/1.1\r\nX: ${'x'.repeat(100_000)}`, /^HTTP\/1.1 (400|431) /],
    [
      'another upgrade',
      'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n',
      /^HTTP\/1.1 400 /,
    ],
    ['silence', '', /^HTTP\/1.1 400 /],
    ['half a request', 'GET / HT', /^HTTP\/1.1 400 /],
  ];
  for (const [what, text, answer] of answers) {
    const raw = new RawClient(listener.port);
    raw.socket.write(text);
    await raw.ended;
    t.match(raw.received.toString(), answer, what);
  }
  t.match(lines(), [/no WebSocket/]);
  t.strictSame(await (await callers(t, listener.url)).call('add', { a: 2, b: 2 }), { sum: 4 });
});

t.test('a browser is refused', async (t) => {
  const { listener, peers } = await listen(t);
  const raw = new RawClient(listener.port);
  raw.socket.write(
    'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: http://example.com\r\n' +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${'A'.repeat(22)}==\r\n\r\n`,
  );
  await raw.ended;
  t.match(raw.received.toString(), /^HTTP\/1.1 403 /);
  t.equal(peers.length, 0);
});

t.test('a peer that falls silent is cut, a quiet one is not', async (t) => {
  const lines = captureLog(t);
  const { listener, peers } = await listen(t, { pingIntervalMs: 20 });
  const quiet = await callers(t, listener.url);
  const silent = new RawClient(listener.port);
  await silent.upgrade();
  const startMs = performance.now();
  await silent.ended;
  const tookMs = performance.now() - startMs;
  t.ok(tookMs > 20 * limits.silentPings - 5, `${tookMs} ms`);
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.strictSame(
    peers.map((peer) => peer.closed),
    [false, true],
  );
  t.strictSame(await quiet.call('add', { a: 1, b: 1 }), { sum: 2 });
  t.equal(lines().length, 1);
  t.match(lines()[0], /silent/);
});

t.test('a client notices a server that falls silent', async (t) => {
  captureLog(t);
  const { server, port } = await tcpServer(t, (socket) => {
    // The accept value belongs to the key; ws picks the key, so it is computed from the request.
    socket.once('data', async (data) => {
      const { createHash } = await import('node:crypto');
      const key = /sec-websocket-key: (.*)\r\n/i.exec(data.toString())?.[1] ?? '';
      const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
          `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
      );
    });
  });
  t.ok(server.listening);
  const transport = await connectWebSocket(`ws://127.0.0.1:${port}`, { timeoutMs: 1000, pingIntervalMs: 10 });
  const peer = new Peer(transport, { remote: testMethods, local: {}, handlers: {}, name: 'server' });
  await t.rejects(peer.call('add', { a: 1, b: 2 }), { code: 'disconnected', message: /nothing heard/ });
});

async function tcpServer(
  t: Test,
  onSocket: (socket: Socket) => void,
): Promise<{ server: Server; port: number }> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { server, port: (server.address() as AddressInfo).port };
}

t.test('connecting fails with disconnected or timeout', async (t) => {
  const { port: mute } = await tcpServer(t, () => {});
  const { port: rude } = await tcpServer(t, (socket) => socket.destroy());
  const http = createHttpServer((_request, response) => response.end('hello'));
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.teardown(() => http.close());
  const httpPort = (http.address() as AddressInfo).port;
  const attempt = (url: string): Promise<Transport> => connectWebSocket(url, { timeoutMs: 50 });
  await t.rejects(attempt(`ws://127.0.0.1:${mute}`), { code: 'timeout', message: /within 50 ms/ });
  await t.rejects(attempt(`ws://127.0.0.1:${rude}`), { code: 'disconnected' });
  await t.rejects(attempt(`ws://127.0.0.1:${httpPort}`), { code: 'disconnected', message: /200/ });
  await t.rejects(attempt('ws://127.0.0.1:1'), { code: 'disconnected', message: /ECONNREFUSED/ });
  await t.rejects(attempt('no url'), { code: 'disconnected', message: /no url/ });
});

t.test('a port that is taken is named', async (t) => {
  const { listener } = await listen(t);
  await t.rejects(listenWebSocket({ host: '127.0.0.1', port: listener.port, onTransport: () => {} }), {
    message: `cannot listen on 127.0.0.1:${listener.port}: the port is taken`,
  });
});

t.test('a listener that closes says goodbye, and cuts those that do not answer', async (t) => {
  captureLog(t);
  const { listener } = await listen(t);
  const polite = await callers(t, listener.url);
  const waiting = polite.call('never', {});
  const rude = new RawClient(listener.port);
  await rude.upgrade();
  const startMs = performance.now();
  await Promise.all([
    listener.close(),
    t.rejects(waiting, { code: 'disconnected', message: /the server is stopping/ }),
    rude.ended,
  ]);
  t.ok(performance.now() - startMs < limits.closeMs + 1000);
  await t.rejects(connectWebSocket(listener.url, { timeoutMs: 1000 }), { code: 'disconnected' });
});
