/**
 * The frame decoder under bytes that nobody meant: mutations of good frames, and msgpack made at random.
 * Seeds are fixed, so that a failure comes again; FUZZ_SEED and FUZZ_ROUNDS ask for others and for more.
 */
import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import { limits } from '../../src/proto/limits.js';
import { ProtocolError } from '../../src/proto/protocol-error.js';
import { decodeFrame, encodeError, encodeReply, encodeRequest, PREAMBLE_BYTES } from '../../src/rpc/frame.js';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
const ROUNDS = Number(process.env.FUZZ_ROUNDS ?? 20_000);

const attr = {
  ino: 2,
  mode: 0o100644,
  size: 2 ** 40,
  mtime: { sec: -5, nsec: 1 },
  name: Buffer.from('name'),
};
const good = [
  encodeRequest({
    id: 1,
    method: 'lookup',
    args: { parent: 1, name: Buffer.from('a') },
    sequence: 4,
    finishedBelow: 2,
  }),
  encodeRequest({ id: 2 ** 33, method: 'put', args: { id: 7, crc: 1 }, bulk: Buffer.alloc(50, 1) }),
  encodeReply(3, { entries: Array.from({ length: 40 }, () => attr), end: true, next: null, weight: 1.25 }),
  encodeError(4, { fs: 'EIO', op: 'write', message: 'disk' }),
].map((parts) => Buffer.concat(parts));

/** Lengths and types that decoders trip over. */
const SPITEFUL = [
  0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc4, 0xc6, 0xc7, 0xc9, 0xd4, 0xd6, 0xd8, 0xd9,
  0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xff,
];

function mutate(prng: Prng): Buffer {
  let bytes = Buffer.from(prng.pick(good));
  for (let count = prng.int(1, 4); count > 0 && bytes.length > 0; count--) {
    const at = prng.int(prng.next() < 0.9 ? Math.min(PREAMBLE_BYTES, bytes.length - 1) : 0, bytes.length - 1);
    const rest = bytes.subarray(at);
    switch (prng.int(0, 5)) {
      case 0:
        bytes[at] = prng.int(0, 255);
        break;
      case 1:
        bytes[at] = prng.pick(SPITEFUL);
        break;
      case 2:
        bytes = Buffer.from(bytes.subarray(0, at));
        break;
      case 3:
        bytes = Buffer.concat([bytes.subarray(0, at), prng.bytes(prng.int(1, 9)), rest]);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), rest.subarray(prng.int(1, 9))]);
        break;
      default:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          Buffer.alloc(prng.int(1, 40), prng.pick(SPITEFUL)),
          rest,
        ]);
    }
  }
  return prng.next() < 0.8 ? withTrueLength(bytes) : bytes;
}

/** With a header length that fits, the mutation gets past the preamble. */
function withTrueLength(bytes: Buffer): Buffer {
  if (bytes.length >= PREAMBLE_BYTES) bytes.writeUInt32BE(bytes.length - PREAMBLE_BYTES, 4);
  return bytes;
}

function randomHeader(prng: Prng): Buffer {
  const tokens = Array.from({ length: prng.int(1, 60) }, () =>
    prng.next() < 0.5 ? prng.pick(SPITEFUL) : prng.int(0, 255),
  );
  return withTrueLength(Buffer.from([0x4c, 1, 0, 0, 0, 0, 0, 0, 0x93, 1, 1, ...tokens]));
}

const PLAIN = new Set(['string', 'number', 'boolean', 'undefined']);

/** Throws when something came out that is no plain data. */
function checkPlain(value: unknown, depth = 0): void {
  if (depth > limits.frameHeaderDepth + 2) throw new Error('too deep');
  if (value === null || PLAIN.has(typeof value) || Buffer.isBuffer(value)) return;
  if (typeof value !== 'object') throw new Error(`a ${typeof value} came out`);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== Array.prototype) throw new Error('a class came out');
  for (const [key, item] of Object.entries(value)) {
    if (key === '__proto__') throw new Error('__proto__ came out');
    checkPlain(item, depth + 1);
  }
}

/** Processor time of this process, which a busy machine does not stretch as it does the clock's. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Whether `bytes` is a frame; throws for anything but a result or a ProtocolError. */
function decodes(bytes: Buffer): boolean {
  try {
    checkPlain(decodeFrame(bytes));
    return true;
  } catch (error) {
    if (error instanceof ProtocolError && ['badMessage', 'badVersion'].includes(error.code)) return false;
    throw new Error(`${String(error)} for ${bytes.toString('hex')}`, { cause: error });
  }
}

for (const [what, make] of [
  ['mutated frames', mutate],
  ['random headers', randomHeader],
] as const) {
  t.test(`${what} are read or refused, with nothing but a ProtocolError`, async (t) => {
    const prng = new Prng(SEED);
    let accepted = 0;
    const startMs = cpuMs();
    for (let round = 0; round < ROUNDS; round++) if (decodes(make(prng))) accepted += 1;
    const tookMs = cpuMs() - startMs;
    t.ok(accepted > 0 && accepted < ROUNDS, `${accepted} of ${ROUNDS} were frames`);
    t.ok(tookMs < ROUNDS, `${Math.round(tookMs)} ms`);
  });
}

t.test('a frame cut off anywhere is refused or, in its bulk, shorter', async (t) => {
  for (const frame of good) {
    const headerEnd = PREAMBLE_BYTES + frame.readUInt32BE(4);
    for (let end = 0; end < frame.length; end++) {
      const cut = Buffer.from(frame.subarray(0, end));
      if (decodes(cut) !== end >= headerEnd) t.fail(`cut at ${end} of ${frame.length}`);
    }
  }
  t.pass();
});

t.test('the worst headers take bounded time and memory', async (t) => {
  const full = limits.frameHeaderBytes;
  const header = (fill: (bytes: Buffer) => void): Buffer => {
    const bytes = Buffer.alloc(PREAMBLE_BYTES + full, 0x80);
    bytes.set([0x4c, 1, 0, 0]);
    bytes.writeUInt32BE(full, 4);
    bytes.set([0x93, 1, 1, 0xdd], PREAMBLE_BYTES);
    fill(bytes);
    return bytes;
  };
  const count = limits.frameHeaderElements - 4;
  const padding = full - 8 - count;
  const worst: [string, Buffer, boolean][] = [
    ['arrays in arrays', header((bytes) => bytes.fill(0x91, PREAMBLE_BYTES + 3)), false],
    ['maps without number', header((bytes) => bytes.writeUInt32BE(full - 8, PREAMBLE_BYTES + 4)), false],
    [
      'as many empty maps as may be',
      header((bytes) => {
        bytes.writeUInt32BE(count, PREAMBLE_BYTES + 4);
        // The last element is a binary that fills the header.
        const at = PREAMBLE_BYTES + 8 + count - 1;
        bytes[at] = 0xc6;
        bytes.writeUInt32BE(padding + 1 - 5, at + 1);
      }),
      true,
    ],
  ];
  for (const [what, bytes, accepted] of worst) {
    const startMs = cpuMs();
    const heapBefore = process.memoryUsage().heapUsed;
    t.equal(decodes(bytes), accepted, what);
    const grownMiB = (process.memoryUsage().heapUsed - heapBefore) / 2 ** 20;
    const tookMs = cpuMs() - startMs;
    t.ok(tookMs < 2000, `${what}: ${Math.round(tookMs)} ms`);
    t.ok(grownMiB < 200, `${what}: ${Math.round(grownMiB)} MiB`);
  }
});
