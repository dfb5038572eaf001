/** When the loop polls, and how request memory is kept and used again. */
import t from 'tap';
import { REQUEST_BYTES } from '../../src/fuse/abi.js';
import { RequestSlabs } from '../../src/fuse/request-slabs.js';
import { WaitPolicy } from '../../src/fuse/wait-policy.js';

t.test('requests are dense after several short waits, and no longer after long ones', (t) => {
  const policy = new WaitPolicy();
  t.equal(policy.dense, false);
  for (let waits = 0; waits < 99; waits++) policy.waited(waits % 3 === 2 ? 5 : 0.1);
  t.equal(policy.dense, false, 'one long wait in three');
  for (let waits = 0; waits < 6; waits++) policy.waited(0.1);
  t.equal(policy.dense, true);
  policy.waited(5);
  t.equal(policy.dense, true, 'one long wait alone');
  for (let waits = 0; waits < 3; waits++) policy.waited(5);
  t.equal(policy.dense, false);
  t.end();
});

t.test('polling is kept where it makes the waits shorter, and only there', (t) => {
  const waits: [number, number, boolean][] = [
    [0.03, 0.09, true],
    [0.06, 0.02, false],
  ];
  for (const [spinning, sleeping, expected] of waits) {
    const policy = new WaitPolicy();
    let right = 0;
    for (let request = 0; request < 20_000; request++) {
      if (policy.spins === expected) right += 1;
      policy.waited(policy.spins ? spinning : sleeping);
    }
    t.ok(right > 19_000, `${right} of 20,000 waits were of the better kind`);
  }
  t.end();
});

t.test('memory is used again at once when nothing is pinned', (t) => {
  const slabs = new RequestSlabs();
  const room = slabs.room();
  t.equal(room.length, REQUEST_BYTES);
  t.equal(slabs.room(), room);
  t.end();
});

t.test('pinned bytes are left alone until they are let go, however many requests follow', (t) => {
  const slabs = new RequestSlabs();
  const kept: { bytes: Buffer; mark: number; letGo: () => void }[] = [];
  for (let index = 0; index < 300; index++) {
    const length = index % 7 === 0 ? REQUEST_BYTES : 40 + index;
    const room = slabs.room();
    t.equal(room.length, REQUEST_BYTES);
    room.fill(index & 0xff, 0, length);
    kept.push({ bytes: room.subarray(0, length), mark: index & 0xff, letGo: slabs.pin(length) });
    if (index % 5 === 4) kept.splice(index % kept.length, 1)[0]?.letGo();
    if (index % 50 === 49) for (const one of kept.splice(0, 30)) one.letGo();
  }
  slabs.room().fill(0);
  const mixed = kept.filter(({ bytes, mark }) => bytes.some((byte) => byte !== mark));
  t.equal(mixed.length, 0);
  for (const one of kept) one.letGo();
  t.end();
});

t.test('letting go of the last pin gives the same memory again', (t) => {
  const slabs = new RequestSlabs();
  const first = slabs.room();
  const letGo = slabs.pin(100);
  const second = slabs.room();
  t.equal(second.byteOffset - first.byteOffset, 128, 'the next request is read right behind');
  letGo();
  t.equal(slabs.room().byteOffset, first.byteOffset);
  t.throws(letGo, /invariant broken/);
  t.end();
});
