/** Requests of locks, ranges and copies whose numbers are at their limits or make no sense. */
import t from 'tap';
import { conversation } from './conversation.js';
import { goldenFrames } from './golden-frames.js';

const golden = goldenFrames();

t.test('locks: no lock in the way, offsets that no file reaches, and what is no lock', (t) => {
  const { session, recorder, replies, send } = conversation({ begun: true });
  recorder.answer('getlk', () => undefined);
  send('getlk');
  t.equal(replies[0]?.subarray(16).toString('hex'), `${'00'.repeat(16)}02000000${'00'.repeat(4)}`);
  const calls = recorder.calls.length;
  const changed = (change: (frame: Buffer) => void): number | undefined => {
    const frame = Buffer.from(golden.request.get('setlk') ?? Buffer.alloc(0));
    change(frame);
    session.serve(frame);
    return replies.at(-1)?.readInt32LE(4);
  };
  t.equal(
    changed((frame) => frame.writeUInt32LE(3, 72)),
    -22,
    'an unknown type',
  );
  t.equal(
    changed((frame) => frame.writeBigUInt64LE(2n ** 53n, 56)),
    -75,
    'a start above 2^53 - 1',
  );
  t.equal(
    changed((frame) => {
      frame.writeBigUInt64LE(9n, 56);
      frame.writeBigUInt64LE(8n, 64);
    }),
    -22,
    'an end before its start',
  );
  t.equal(recorder.calls.length, calls);
  t.end();
});

t.test('fallocate knows its modes and refuses others, lseek knows holes and data', (t) => {
  const cases: [string, number, number, number][] = [
    ['fallocate', 64, 1, 0],
    ['fallocate', 64, 0x10, 0],
    ['fallocate', 64, 0x11, 0],
    ['fallocate', 64, 2, -95],
    ['fallocate', 64, 0x08, -95],
    ['fallocate', 56, 0, -22],
    ['lseek', 56, 3, 0],
    ['lseek', 56, 0, -22],
    ['copy_file_range', 88, 1, -22],
    ['copy_file_range', 56, 0, -5],
  ];
  for (const [name, at, value, errno] of cases) {
    const { session, replies } = conversation({ begun: true });
    const frame = Buffer.from(golden.request.get(name) ?? Buffer.alloc(0));
    frame.writeUInt32LE(value, at);
    session.serve(frame);
    t.equal(replies[0]?.readInt32LE(4), errno, `${name} with ${value} at ${at}`);
  }
  t.end();
});

t.test('a copy is bounded by what its reply can count', (t) => {
  for (const [name, bytes] of [
    ['copy_file_range', 0xffff_f000],
    ['copy_file_range_64', 2 ** 53 - 1],
  ] as const) {
    const { session, recorder } = conversation({ begun: true });
    const frame = Buffer.from(golden.request.get(name) ?? Buffer.alloc(0));
    frame.writeBigUInt64LE(2n ** 63n - 1n, 80);
    session.serve(frame);
    t.equal(recorder.calls[0]?.[4], bytes);
  }
  t.end();
});
