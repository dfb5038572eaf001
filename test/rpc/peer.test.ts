import { execFile } from 'node:child_process';
import t, { type Test } from 'tap';
import { Prng } from '../../src/base/prng.js';
import { FsError } from '../../src/proto/errno.js';
import { limits } from '../../src/proto/limits.js';
import { ProtocolError } from '../../src/proto/protocol-error.js';
import { encodeReply, encodeRequest } from '../../src/rpc/frame.js';
import { type MemoryTransport, memoryTransportPair } from '../../src/rpc/memory-transport.js';
import { type CallContext, Peer, WithBulk } from '../../src/rpc/peer.js';
import { ManualClock } from './manual-clock.js';
import { type TestMethods, testHandlers, testMethods } from './test-methods.js';

type NoMethods = Record<string, never>;

interface Connection {
  readonly caller: Peer<TestMethods, NoMethods>;
  readonly server: Peer<NoMethods, TestMethods>;
  readonly callerEnd: MemoryTransport;
  readonly serverEnd: MemoryTransport;
  /** Contexts of the calls of `never`. */
  readonly seen: CallContext[];
  readonly closes: string[];
}

function connect(options: { clock?: ManualClock } = {}): Connection {
  const [callerEnd, serverEnd] = memoryTransportPair();
  const seen: CallContext[] = [];
  const closes: string[] = [];
  const caller = new Peer<TestMethods, NoMethods>(callerEnd, {
    remote: testMethods,
    local: {},
    handlers: {},
    name: 'server',
    ...options,
  });
  const server = new Peer<NoMethods, TestMethods>(serverEnd, {
    remote: {},
    local: testMethods,
    handlers: testHandlers(seen),
    name: 'caller',
    ...options,
  });
  caller.onClose = (reason) => closes.push(`caller: ${reason}`);
  server.onClose = (reason) => closes.push(`server: ${reason}`);
  return { caller, server, callerEnd, serverEnd, seen, closes };
}

const turns = async (count = 4): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
};

/** Lines on standard error while the test runs. */
function captureLog(t: Test): () => string[] {
  const calls = t.capture(process.stderr, 'write', () => true);
  const lines: string[] = [];
  return () => {
    for (const call of calls()) lines.push(String(call.args[0]));
    return lines;
  };
}

/** Both ends of a connection on which this side says whatever it likes. */
function rawCaller(): { end: MemoryTransport; server: Peer<NoMethods, TestMethods>; seen: CallContext[] } {
  const [end, serverEnd] = memoryTransportPair();
  const seen: CallContext[] = [];
  const handlers = testHandlers(seen);
  const server = new Peer<NoMethods, TestMethods>(serverEnd, {
    remote: {},
    local: testMethods,
    handlers,
    name: 'raw',
  });
  end.onFrame = () => {};
  end.onClose = () => {};
  return { end, server, seen };
}

t.test('calls are answered, many at once', async (t) => {
  const { caller } = connect();
  const sums = await Promise.all(
    Array.from({ length: 100 }, (_unused, index) => caller.call('add', { a: index, b: 1 })),
  );
  t.strictSame(
    sums.map(({ sum }) => sum),
    Array.from({ length: 100 }, (_unused, index) => index + 1),
  );
  t.equal(caller.outstanding, 0);
});

t.test('bytes, absent properties and sequence numbers travel', async (t) => {
  const { caller } = connect();
  const name = Buffer.from([0x66, 0xff, 0x00, 0x2e]);
  t.match(await caller.call('echo', { name }), { name, sequence: null, finishedBelow: null, hasNote: false });
  const options = { sequence: 2 ** 40, finishedBelow: 7 };
  t.match(await caller.call('echo', { name, note: 'ä' }, options), { ...options, hasNote: true });
  t.match(await caller.call('echo', { name }, { finishedBelow: 3 }), { sequence: null, finishedBelow: 3 });
  t.match(await caller.call('echo', { name }, { sequence: 0 }), { sequence: 0, finishedBelow: null });
});

t.test('bulk travels where the method has it', async (t) => {
  const { caller } = connect();
  const chunk = Buffer.alloc(limits.chunkBytes, 9);
  t.strictSame(await caller.call('upload', {}, { bulk: chunk }), { bytes: chunk.length });
  t.strictSame(await caller.call('upload', {}, { bulk: [chunk.subarray(5), Buffer.alloc(5)] }), {
    bytes: chunk.length,
  });
  t.strictSame(await caller.call('upload', {}), { bytes: 0 });
  const { reply, bulk } = await caller.callForBulk('download', { bytes: 3 });
  t.strictSame([reply, [...bulk]], [{}, [1, 1, 1, 2, 2, 2]]);
  t.strictSame((await caller.callForBulk('download', { bytes: 0 })).bulk.length, 0);
  const misplaced = { bulk: Buffer.from('x') };
  await t.rejects(caller.call('add', { a: 1, b: 2 }, misplaced), { code: 'badMessage' });
  const tooLarge = { bulk: Buffer.alloc(limits.frameBytes) };
  await t.rejects(caller.call('upload', {}, tooLarge), { code: 'badMessage', message: /larger than/ });
  t.equal(caller.outstanding, 0);
  t.equal(caller.closed, false);
});

t.test('an FsError and a ProtocolError reach the caller unchanged', async (t) => {
  const { caller } = connect();
  for (const later of [false, true]) {
    const fs = await caller.call('fail', { how: 'fs', later }).catch((error: unknown) => error);
    t.ok(fs instanceof FsError);
    t.match(fs, { code: 'ENOENT', op: 'lookup', message: 'lookup: ENOENT (no such entry)' });
    const plain = await caller
      .call('fail', { how: 'fs without detail', later })
      .catch((error: unknown) => error);
    t.match(plain, { code: 'EISDIR', op: 'open', message: 'open: EISDIR' });
    const protocol = await caller.call('fail', { how: 'protocol', later }).catch((error: unknown) => error);
    t.ok(protocol instanceof ProtocolError);
    t.match(protocol, { code: 'staleMap', message: 'staleMap: epoch 3 is gone' });
  }
});

t.test('any other exception is EIO at the caller and a full line in the log', async (t) => {
  const lines = captureLog(t);
  const { caller } = connect();
  for (const how of ['type', 'text']) {
    for (const later of [false, true]) {
      await t.rejects(caller.call('fail', { how, later }), { name: 'FsError', code: 'EIO', op: 'fail' });
    }
  }
  t.equal(lines().length, 4);
  t.match(lines()[0], /TypeError: unexpected type\\n +at /, 'with its stack');
  t.match(lines()[0], /"method":"fail"/);
  t.match(lines()[2], /just text/);
});

t.test('a broken invariant in a handler stops the process', async (t) => {
  for (const later of [false, true]) {
    const script = `
      const [{ Peer }, { memoryTransportPair }, { testMethods, testHandlers }] = await Promise.all([
        ${['../../src/rpc/peer.js', '../../src/rpc/memory-transport.js', './test-methods.js']
          .map((path) => `import(${JSON.stringify(new URL(path, import.meta.url).href)})`)
          .join(', ')}
      ]);
      const [a, b] = memoryTransportPair();
      const caller = new Peer(a, { remote: testMethods, local: {}, handlers: {}, name: 'server' });
      new Peer(b, { remote: {}, local: testMethods, handlers: testHandlers(), name: 'caller' });
      setTimeout(() => {}, 5000);
      await caller.call('fail', { how: 'invariant', later: ${later} }).catch(() => console.log('answered'));
    `;
    const { code, output } = await new Promise<{ code: unknown; output: string }>((resolve) => {
      execFile(process.execPath, ['--input-type=module', '-e', script], (error, stdout, stderr) =>
        resolve({ code: error?.code, output: stdout + stderr }),
      );
    });
    t.equal(code, 1);
    t.match(output, /InvariantError: invariant broken: on purpose/);
    t.notMatch(output, /answered/);
  }
});

t.test('a call without an answer times out, and its server is told', async (t) => {
  const clock = new ManualClock();
  const { caller, server, seen } = connect({ clock });
  const short = caller.call('never', {}, { timeoutMs: 100 });
  const long = caller.call('never', {});
  const outcomes: string[] = [];
  short.catch((error: ProtocolError) => outcomes.push(`short ${error.code}`));
  long.catch((error: ProtocolError) => outcomes.push(`long ${error.code}`));
  await turns();
  await clock.advance(99);
  t.strictSame(outcomes, []);
  await clock.advance(1);
  await turns();
  t.strictSame(outcomes, ['short timeout']);
  t.strictSame(
    seen.map((context) => context.aborted),
    [true, false],
  );
  await clock.advance(limits.callTimeoutMs);
  await turns();
  t.strictSame(outcomes, ['short timeout', 'long timeout']);
  t.equal(caller.outstanding, 0);
  t.equal(server.serving, 2, 'the handlers still run');
  t.equal(clock.pending, 0);
});

t.test('an answer in time leaves no timer behind once it is due', async (t) => {
  const clock = new ManualClock();
  const { caller } = connect({ clock });
  await caller.call('add', { a: 1, b: 1 }, { timeoutMs: 50 });
  await caller.call('add', { a: 1, b: 1 });
  t.equal(clock.pending, 1);
  await clock.advance(limits.callTimeoutMs * 2);
  t.equal(clock.pending, 0);
});

t.test(
  'a withdrawn call rejects at once, fires the signal of its handler, and is not answered',
  async (t) => {
    const { caller, seen } = connect();
    const controller = new AbortController();
    const call = caller.call('never', {}, { signal: controller.signal });
    await turns();
    let fired = 0;
    seen[0]?.signal.addEventListener('abort', () => {
      fired += 1;
    });
    t.equal(seen[0]?.aborted, false);
    controller.abort();
    await t.rejects(call, { code: 'cancelled' });
    await turns();
    t.equal(fired, 1);
    t.equal(seen[0]?.aborted, true);
    await t.rejects(caller.call('never', {}, { signal: controller.signal }), { code: 'cancelled' });
    t.equal(seen.length, 1, 'a call that is withdrawn before it begins is not sent');
    t.strictSame(await caller.call('add', { a: 1, b: 1 }), { sum: 2 });
  },
);

t.test('the signal of a call that is over already is aborted when it is asked for', async (t) => {
  const { caller, seen } = connect();
  const controller = new AbortController();
  const call = caller.call('never', {}, { signal: controller.signal });
  await turns();
  controller.abort();
  await t.rejects(call, { code: 'cancelled' });
  await turns();
  t.equal(seen[0]?.signal.aborted, true);
});

t.test('an answer that crosses its cancellation is passed over', async (t) => {
  const { caller } = connect();
  const controller = new AbortController();
  const call = caller.call('add', { a: 1, b: 1 }, { signal: controller.signal });
  const rejected = t.rejects(call, { code: 'cancelled' });
  await new Promise((resolve) => setImmediate(resolve));
  controller.abort();
  await rejected;
  await turns();
  t.equal(caller.closed, false);
  t.strictSame(await caller.call('add', { a: 2, b: 2 }), { sum: 4 });
});

t.test('the end of the connection settles everything, on both sides, once', async (t) => {
  for (const how of ['cut', 'caller closes', 'server closes'] as const) {
    const { caller, server, callerEnd, seen, closes } = connect();
    const calls = [caller.call('never', {}), caller.call('add', { a: 1, b: 1 })].map((call) =>
      call.catch((error: ProtocolError) => error.code),
    );
    if (how !== 'cut') await turns();
    const late = caller.call('never', {}).catch((error: ProtocolError) => error.code);
    if (how === 'cut') callerEnd.cut('the cable is out');
    if (how === 'caller closes') caller.close('enough');
    if (how === 'server closes') server.close('enough');
    const answered = how === 'cut' ? 'disconnected' : { sum: 2 };
    t.strictSame(await Promise.all([...calls, late]), ['disconnected', answered, 'disconnected'], how);
    await turns();
    t.strictSame([caller.closed, server.closed], [true, true]);
    t.equal(closes.length, 2);
    t.ok(seen.every((context) => context.aborted));
    await t.rejects(caller.call('add', { a: 1, b: 1 }), { code: 'disconnected' });
    caller.close('again');
    await turns();
    t.equal(closes.length, 2);
    t.equal(caller.outstanding, 0);
  }
});

t.test('arguments and replies that do not have their shape fail that call alone', async (t) => {
  const lines = captureLog(t);
  const { caller, server } = connect();
  await t.rejects(caller.call('add', { a: 1.5, b: 1 }), { code: 'badMessage', message: /arguments: \/a/ });
  await t.rejects(caller.call('lie', {}), { code: 'badMessage', message: /\/truth/ });
  t.match(lines(), [/reply does not have the shape/]);
  t.strictSame(await caller.call('add', { a: 1, b: 1 }), { sum: 2 });
  t.strictSame([caller.closed, server.closed], [false, false]);
});

t.test('methods that are not in the table are unknown, those of Object too', async (t) => {
  const { end, server } = rawCaller();
  const answers: string[] = [];
  end.onFrame = (frame) => answers.push(frame.toString('latin1'));
  const methods = ['toString', '__proto__', 'constructor', 'hasOwnProperty', 'other', ''];
  for (const [id, method] of methods.entries()) end.send(encodeRequest({ id, method, args: {} }));
  await turns();
  t.equal(answers.length, methods.length);
  t.ok(answers.every((answer) => answer.includes('unknownMethod')));
  t.equal(server.closed, false);
});

t.test('bulk where none belongs is refused, and the handler does not run', async (t) => {
  const { end, seen } = rawCaller();
  const answers: string[] = [];
  end.onFrame = (frame) => answers.push(frame.toString('latin1'));
  end.send(encodeRequest({ id: 1, method: 'never', args: {}, bulk: Buffer.from('x') }));
  await turns();
  t.match(answers, [/badMessage/]);
  t.equal(seen.length, 0);
});

t.test('a call id that is in use closes the connection', async (t) => {
  const lines = captureLog(t);
  const { end, server, seen } = rawCaller();
  for (let again = 0; again < 2; again++) end.send(encodeRequest({ id: 1, method: 'never', args: {} }));
  await turns();
  t.equal(server.closed, true);
  t.equal(seen[0]?.aborted, true);
  t.equal(lines().length, 1);
});

t.test('answers and cancellations of unknown calls are passed over', async (t) => {
  const { end, server } = rawCaller();
  end.send(encodeReply(77, { sum: 1 }));
  end.send([Buffer.from('4c01000000000003920309', 'hex')]);
  await turns();
  t.equal(server.closed, false);
});

t.test('garbage closes the connection, with one log line', async (t) => {
  const lines = captureLog(t);
  const { end, server } = rawCaller();
  end.send([Buffer.from('garbage')]);
  end.send([Buffer.from('more garbage')]);
  await turns();
  t.equal(server.closed, true);
  t.equal(lines().length, 1);
});

t.test('more calls than a connection may have are refused as busy, by either side', async (t) => {
  const { end, server } = rawCaller();
  const answers: string[] = [];
  end.onFrame = (frame) => answers.push(frame.toString('latin1'));
  for (let id = 0; id <= limits.callsPerConnection; id++) {
    end.send(encodeRequest({ id, method: 'never', args: {} }));
  }
  await turns();
  t.equal(server.serving, limits.callsPerConnection);
  t.match(answers, [/busy/]);
  const { caller } = connect();
  const calls = Array.from({ length: limits.callsPerConnection }, () => caller.call('never', {}));
  const settled = Promise.allSettled(calls);
  await t.rejects(caller.call('never', {}), { code: 'busy' });
  caller.close('enough');
  t.ok((await settled).every((outcome) => outcome.status === 'rejected'));
});

t.test('bulk that a connection may hold is bounded, and freed with the call', async (t) => {
  const [end, serverEnd] = memoryTransportPair();
  const waiting: ((reply: WithBulk<object>) => void)[] = [];
  const { download, add } = testMethods;
  const server = new Peer(serverEnd, {
    remote: {},
    local: { download, add },
    handlers: {
      download: () => new Promise<WithBulk<object>>((resolve) => waiting.push(resolve)),
      add: ({ a, b }) => ({ sum: a + b }),
    },
    name: 'raw',
  });
  const caller = new Peer(end, { remote: { download, add }, local: {}, handlers: {}, name: 'server' });
  const fits = Math.floor(limits.connectionBulkBytes / limits.chunkBytes);
  const calls = Array.from({ length: fits }, () => caller.callForBulk('download', { bytes: 1 }));
  await turns();
  t.equal(server.serving, fits);
  await t.rejects(caller.callForBulk('download', { bytes: 1 }), { code: 'busy' });
  t.strictSame(await caller.call('add', { a: 1, b: 1 }), { sum: 2 }, 'calls without bulk go on');
  const answer = new WithBulk({}, Buffer.from('x'));
  waiting.shift()?.(answer);
  await calls.shift();
  const another = caller.callForBulk('download', { bytes: 1 });
  await turns();
  t.equal(server.serving, fits);
  for (const resolve of waiting) resolve(answer);
  await Promise.all([...calls, another]);
});

t.test('whatever the network does, every call is settled, and what was answered is right', async (t) => {
  for (let seed = 1; seed <= 30; seed++) {
    const clock = new ManualClock();
    const prng = new Prng(seed);
    const [a, b] = memoryTransportPair({ clock, prng, delayMs: { min: 0, max: 50 }, cutProbability: 0.02 });
    const caller = new Peer(a, { remote: testMethods, local: {}, handlers: {}, name: 'server', clock });
    const handlers = testHandlers();
    const server = new Peer(b, { remote: {}, local: testMethods, handlers, name: 'caller', clock });
    const outcomes = Array.from({ length: 60 }, (_unused, index) =>
      caller.call('add', { a: index, b: seed }, { timeoutMs: 40 + (index % 60) }).then(
        ({ sum }) => (sum === index + seed ? 'right' : `wrong ${sum}`),
        (error: ProtocolError) => error.code,
      ),
    );
    await clock.advance(1000);
    const allowed = new Set(['right', 'timeout', 'disconnected']);
    t.strictSame(
      (await Promise.all(outcomes)).filter((outcome) => !allowed.has(outcome)),
      [],
      `seed ${seed}`,
    );
    t.equal(caller.closed, server.closed, `seed ${seed}: both know of the end, or neither`);
    t.equal(caller.outstanding, 0);
  }
});
