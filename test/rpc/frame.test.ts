import { readFileSync } from 'node:fs';
import t from 'tap';
import { limits } from '../../src/proto/limits.js';
import { ProtocolError } from '../../src/proto/protocol-error.js';
import {
  decodeFrame,
  encodeCancel,
  encodeError,
  encodeReply,
  encodeRequest,
  FRAME_VERSION,
  type Frame,
  PREAMBLE_BYTES,
} from '../../src/rpc/frame.js';
import { scanMsgpack } from '../../src/rpc/msgpack-scan.js';

/** A frame around any header bytes. */
function framed(header: Uint8Array, bulk: Uint8Array = Buffer.alloc(0)): Buffer {
  const preamble = Buffer.alloc(PREAMBLE_BYTES);
  preamble.set([0x4c, FRAME_VERSION]);
  preamble.writeUInt32BE(header.length, 4);
  return Buffer.concat([preamble, header, bulk]);
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

function thrownBy(bytes: Buffer): string {
  try {
    decodeFrame(bytes);
  } catch (error) {
    if (error instanceof ProtocolError) return error.message;
    throw error;
  }
  return 'nothing';
}

interface Golden {
  readonly what: string;
  /** Spaces between preamble, header and bulk. */
  readonly hex: string;
}

/** What the frames in test/fixtures/frames.json mean. A new version of the protocol adds frames there. */
const meanings: Record<string, { parts: Uint8Array[]; frame: Frame }> = {
  'request: lookup': {
    parts: encodeRequest({ id: 1, method: 'lookup', args: { parent: 1, name: Buffer.from('a.txt') } }),
    frame: {
      kind: 'request',
      id: 1,
      method: 'lookup',
      args: { parent: 1, name: Buffer.from('a.txt') },
      sequence: undefined,
      finishedBelow: undefined,
      bulk: Buffer.alloc(0),
    },
  },
  'request: a mutation with sequence numbers': {
    parts: encodeRequest({
      id: 300,
      method: 'truncate',
      args: { size: 2 ** 40, nothing: null, flag: true },
      sequence: 2 ** 33,
      finishedBelow: 12,
    }),
    frame: {
      kind: 'request',
      id: 300,
      method: 'truncate',
      args: { size: 2 ** 40, nothing: null, flag: true },
      sequence: 2 ** 33,
      finishedBelow: 12,
      bulk: Buffer.alloc(0),
    },
  },
  'request: a bulk in two parts': {
    parts: encodeRequest({
      id: 2,
      method: 'put',
      args: { id: 7, crc: 0xdeadbeef },
      bulk: [Buffer.from('bulk '), Buffer.alloc(0), Buffer.from('bytes')],
    }),
    frame: {
      kind: 'request',
      id: 2,
      method: 'put',
      args: { id: 7, crc: 0xdeadbeef },
      sequence: undefined,
      finishedBelow: undefined,
      bulk: Buffer.from('bulk bytes'),
    },
  },
  'reply: attributes with a time before 1970': {
    parts: encodeReply(1, { ino: 2, mtime: { sec: -1, nsec: 999_999_999 }, weight: 1.5 }),
    frame: {
      kind: 'reply',
      id: 1,
      result: { ino: 2, mtime: { sec: -1, nsec: 999_999_999 }, weight: 1.5 },
      bulk: Buffer.alloc(0),
    },
  },
  'reply: bulk alone': {
    parts: encodeReply(2, {}, Buffer.from([0, 255])),
    frame: { kind: 'reply', id: 2, result: {}, bulk: Buffer.from([0, 255]) },
  },
  'error: errno': {
    parts: encodeError(3, { fs: 'ENOENT', op: 'lookup', message: '' }),
    frame: { kind: 'error', id: 3, failure: { fs: 'ENOENT', op: 'lookup', message: '' } },
  },
  'error: protocol code': {
    parts: encodeError(3, { code: 'busy', op: 'add', message: 'später' }),
    frame: { kind: 'error', id: 3, failure: { code: 'busy', op: 'add', message: 'später' } },
  },
  cancel: { parts: encodeCancel(70_000), frame: { kind: 'cancel', id: 70_000 } },
};

t.test('frames are on the wire as they always were', async (t) => {
  // Tests run from the build folder; the fixtures stay where they are.
  const path = new URL('../../../test/fixtures/frames.json', import.meta.url);
  const golden: Golden[] = JSON.parse(readFileSync(path, 'utf8'));
  t.strictSame(golden.map(({ what }) => what).sort(), Object.keys(meanings).sort());
  for (const { what, hex: expected } of golden) {
    const meaning = meanings[what];
    const bytes = hex(expected);
    t.equal(Buffer.concat(meaning?.parts ?? []).toString('hex'), bytes.toString('hex'), `${what}: encoded`);
    t.strictSame(decodeFrame(bytes), meaning?.frame, `${what}: decoded`);
  }
});

t.test('another version is badVersion, and says which', async (t) => {
  const bytes = framed(hex('92 03 01'));
  bytes[1] = 9;
  t.throws(() => decodeFrame(bytes), { code: 'badVersion', message: /version 9, this one 1/ });
});

t.test('what is no frame is badMessage', async (t) => {
  const nested = (depth: number): Buffer => Buffer.concat([Buffer.alloc(depth, 0x91), hex('c0')]);
  const cases: [string, Buffer, RegExp][] = [
    ['nothing', Buffer.alloc(0), /no preamble/],
    ['seven bytes', Buffer.from([0x4c, 1, 0, 0, 0, 0, 0]), /no preamble/],
    ['another magic', hex('4d 01 0000 00000003 92 03 01'), /not a leasefs frame/],
    ['flags', hex('4c 01 0001 00000003 92 03 01'), /flags/],
    ['a header longer than the frame', hex('4c 01 0000 00000004 92 03 01'), /truncated header/],
    ['a header of 4 GiB', hex('4c 01 0000 ffffffff 92 03 01'), /header of 4294967295/],
    ['an empty header', framed(hex('')), /passes the end/],
    ['a number', framed(hex('05')), /no array/],
    ['a map', framed(hex('80')), /no array/],
    ['an empty array', framed(hex('90')), /call id/],
    ['an unknown kind', framed(hex('92 04 01')), /unknown kind/],
    ['a call id below 0', framed(hex('92 03 ff')), /call id/],
    ['a call id that is no integer', framed(hex('92 03 cb 3ff8000000000000')), /call id/],
    ['a call id above 2^53', framed(hex('92 03 cf ffffffffffffffff')), /call id/],
    ['a request without arguments', framed(hex('93 00 01 a161')), /request/],
    ['a request with too much', framed(hex('97 00 01 a161 80 01 01 01')), /request/],
    ['a method that is a number', framed(hex('94 00 01 05 80')), /request/],
    ['a sequence that is a string', framed(hex('95 00 01 a161 80 a131')), /sequence/],
    ['a sequence below 0', framed(hex('95 00 01 a161 80 ff')), /sequence/],
    ['a reply without a result', framed(hex('92 01 01')), /reply/],
    ['an error that is no map', framed(hex('93 02 01 c0')), /error/],
    ['an error without a code', framed(hex('93 02 01 82 a26f70 a0 a76d657373616765 a0')), /known code/],
    ['a cancellation with more', framed(hex('93 03 01 01')), /cancel/],
    ['bulk behind a cancellation', framed(hex('92 03 01'), hex('00')), /bulk out of place/],
    ['bytes behind the header', framed(hex('92 03 01 c0')), /bytes behind/],
    ['an extension', framed(hex('93 01 01 d4 00 00')), /refused type 0xd4/],
    ['a record definition', framed(hex('93 01 01 d4 72 40 91 a161 01')), /refused type 0xd4/],
    ['a timestamp', framed(hex('93 01 01 d6 ff 00000000')), /refused type 0xd6/],
    ['the unused type', framed(hex('93 01 01 c1')), /refused type 0xc1/],
    ['a map key that is a number', framed(hex('93 01 01 81 01 01')), /map key/],
    ['a map key that is an array', framed(hex('93 01 01 81 90 01')), /map key/],
    ['an array of 2^32 - 1', framed(hex('93 01 01 dd ffffffff')), /passes the end/],
    ['a map of 2^32 - 1', framed(hex('93 01 01 df ffffffff')), /passes the end/],
    ['a string of 2^32 - 1', framed(hex('93 01 01 db ffffffff')), /passes the end/],
    ['a binary that ends early', framed(hex('93 01 01 c4 05 00')), /passes the end/],
    ['a number that ends early', framed(hex('93 01 01 cb 00')), /passes the end/],
    ['a length that ends early', framed(hex('93 01 01 c6 00')), /passes the end/],
    ['arrays 17 deep', framed(nested(17)), /too deeply/],
    ['arrays a million deep', framed(nested(1_000_000)), /too deeply/],
    ['too large a frame', Buffer.alloc(limits.frameBytes + 1), /frame of/],
    ['too many values', framed(manyValues(limits.frameHeaderElements)), /too many/],
  ];
  for (const [what, bytes, expected] of cases) t.match(thrownBy(bytes), expected, what);
});

/** A reply whose result is an array of so many nils. */
function manyValues(count: number): Buffer {
  const head = hex('93 01 01 dd 00000000');
  head.writeUInt32BE(count, 4);
  return Buffer.concat([head, Buffer.alloc(count, 0xc0)]);
}

t.test('what is just within the limits is read', async (t) => {
  const deep = Buffer.concat([hex('93 01 01'), Buffer.alloc(limits.frameHeaderDepth - 1, 0x91)]);
  deep[deep.length - 1] = 0x90;
  t.equal(decodeFrame(framed(deep)).kind, 'reply');
  t.equal(decodeFrame(framed(manyValues(limits.frameHeaderElements - 4))).kind, 'reply');
  const reply = encodeReply(1, {}, Buffer.alloc(limits.chunkBytes));
  const frame = decodeFrame(Buffer.concat(reply));
  t.equal(frame.kind === 'reply' && frame.bulk.length, limits.chunkBytes);
});

t.test('a request that does not fit is refused before it is sent', async (t) => {
  const args = { value: Buffer.alloc(limits.frameHeaderBytes) };
  t.throws(() => encodeRequest({ id: 1, method: 'm', args }), { code: 'badMessage', message: /header of/ });
  const bulk = [Buffer.alloc(limits.chunkBytes), Buffer.alloc(512 * 1024)];
  t.throws(() => encodeRequest({ id: 1, method: 'm', args: {}, bulk }), { code: 'badMessage' });
});

t.test('keys that mean something to JavaScript mean nothing here', async (t) => {
  const names = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty'];
  const map = Buffer.concat(
    names.map((name) =>
      Buffer.concat([Buffer.from([0xa0 | name.length]), Buffer.from(name), hex('81 a178 01')]),
    ),
  );
  const frame = decodeFrame(
    framed(Buffer.concat([hex('93 01 01'), Buffer.from([0x80 | names.length]), map])),
  );
  const result = frame.kind === 'reply' ? frame.result : undefined;
  t.equal(Object.getPrototypeOf(result), Object.prototype);
  t.equal(Reflect.get(Object.prototype, 'x'), undefined);
  t.strictSame(Object.keys(Object(result)), ['__proto_', ...names.slice(1)]);
});

t.test('only binaries of the header are copies; bulk is a view of the frame', async (t) => {
  const parts = encodeRequest({
    id: 1,
    method: 'm',
    args: { name: Buffer.from('name') },
    bulk: Buffer.from('bulk'),
  });
  const bytes = Buffer.concat(parts);
  const frame = decodeFrame(bytes);
  bytes.fill(0, PREAMBLE_BYTES);
  t.match(frame, { args: { name: Buffer.from('name') }, bulk: Buffer.alloc(4) });
});

t.test('every type of msgpack is scanned to its very end', async (t) => {
  const values = [
    ...['00', '7f', 'e0', 'ff', 'c0', 'c2', 'c3', 'cc 01', 'cd 0001', 'ce 00000001', 'cf 0000000000000001'],
    ...['d0 01', 'd1 0001', 'd2 00000001', 'd3 0000000000000001', 'ca 00000000', 'cb 0000000000000000'],
    ...[
      'a0',
      'a1 61',
      'd9 01 61',
      'da 0001 61',
      'db 00000001 61',
      'c4 01 00',
      'c5 0001 00',
      'c6 00000001 00',
    ],
    ...[
      '90',
      '91 c0',
      'dc 0001 c0',
      'dd 00000001 c0',
      '80',
      '81 a161 c0',
      'de 0001 a161 c0',
      'df 00000001 a161 c0',
    ],
    ...['82 a161 91 81 d901 62 90 a163 c4 00'],
  ].map(hex);
  for (const value of values) {
    const name = value.toString('hex');
    t.equal(scanMsgpack(value, 0, value.length), undefined, name);
    for (let end = 0; end < value.length; end++)
      t.type(scanMsgpack(value, 0, end), 'string', `${name} to ${end}`);
    const longer = Buffer.concat([value, hex('c0')]);
    t.match(scanMsgpack(longer, 0, longer.length), /bytes behind/, `${name} and more`);
  }
});
