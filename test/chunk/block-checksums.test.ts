import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import { blockChecksums, blocksMatch, blocksTouched } from '../../src/chunk/block-checksums.js';
import { limits } from '../../src/proto/limits.js';

const BLOCK = limits.checksumBlockBytes;
const prng = new Prng(11);

t.test('a range is widened to the blocks it touches, not further', async (t) => {
  const length = 3 * BLOCK + 10;
  t.same(blocksTouched(length, 0, 1), { start: 0, end: BLOCK });
  t.same(blocksTouched(length, BLOCK - 1, 1), { start: 0, end: BLOCK });
  t.same(blocksTouched(length, BLOCK - 1, 2), { start: 0, end: 2 * BLOCK });
  t.same(blocksTouched(length, BLOCK, BLOCK), { start: BLOCK, end: 2 * BLOCK });
  t.same(blocksTouched(length, 3 * BLOCK, 10), { start: 3 * BLOCK, end: length });
  t.same(blocksTouched(length, 0, length), { start: 0, end: length });
  for (const [offset, size] of [
    [0, length + 1],
    [length, 1],
    [-1, 2],
    [0, 0],
  ] as const)
    t.throws(() => blocksTouched(length, offset, size), { code: 'badMessage' });
});

t.test('every flipped bit is found, in whichever block and stretch', async (t) => {
  const bytes = prng.bytes(2 * BLOCK + 777);
  const sums = blockChecksums(bytes);
  t.equal(sums.length, 12, 'one word per block, the short one too');
  t.ok(blocksMatch(bytes, 0, sums));
  for (let round = 0; round < 50; round++) {
    const at = prng.int(0, bytes.length - 1);
    const damaged = Buffer.from(bytes);
    damaged[at] = (damaged[at] ?? 0) ^ (1 << prng.int(0, 7));
    const { start, end } = blocksTouched(bytes.length, at, 1);
    t.notOk(blocksMatch(damaged, 0, sums), `byte ${at} in the whole`);
    t.notOk(blocksMatch(damaged.subarray(start, end), start, sums), 'and in its block');
    const other = start === 0 ? BLOCK : 0;
    t.ok(blocksMatch(damaged.subarray(other, other + BLOCK), other, sums), 'other blocks match');
  }
});

t.test('a stretch that is cut short, too long or in another place does not match', async (t) => {
  const bytes = prng.bytes(2 * BLOCK);
  const sums = blockChecksums(bytes);
  t.notOk(blocksMatch(bytes.subarray(0, BLOCK - 1), 0, sums));
  t.notOk(blocksMatch(Buffer.concat([bytes, bytes]), 0, sums));
  t.notOk(blocksMatch(bytes.subarray(BLOCK), 0, sums));
});
