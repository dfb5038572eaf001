import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import { BLOCK_BYTES, BlockCache } from '../../src/client/block-cache.js';
import { asChunkId } from '../../src/proto/ids.js';

const id = asChunkId(1);

t.test('a block is answered from the segment it came in, up to what came', (t) => {
  const cache = new BlockCache(1 << 20);
  const bytes = new Prng(1).bytes(BLOCK_BYTES + 100);
  cache.insert(id, 2, bytes);
  t.ok(cache.block(id, 2)?.equals(bytes.subarray(0, BLOCK_BYTES)));
  t.ok(cache.block(id, 3)?.equals(bytes.subarray(BLOCK_BYTES)));
  t.equal(cache.block(id, 4), undefined);
  t.equal(cache.block(asChunkId(2), 2), undefined);
  t.end();
});

t.test('the least recently used segment goes first, and what is too large is not kept', (t) => {
  const cache = new BlockCache(3 * BLOCK_BYTES);
  for (const chunk of [1, 2, 3]) cache.insert(asChunkId(chunk), 0, Buffer.alloc(BLOCK_BYTES, chunk));
  t.ok(cache.block(asChunkId(1), 0), 'used again');
  cache.insert(asChunkId(4), 0, Buffer.alloc(BLOCK_BYTES));
  t.equal(cache.block(asChunkId(2), 0), undefined);
  t.ok(cache.block(asChunkId(1), 0));
  cache.insert(asChunkId(5), 0, Buffer.alloc(4 * BLOCK_BYTES));
  t.equal(cache.block(asChunkId(5), 0), undefined);
  cache.clear();
  t.equal(cache.bytes, 0);
  t.end();
});

t.test('random insertions keep every count right', (t) => {
  const prng = new Prng(7);
  const cache = new BlockCache(20 * BLOCK_BYTES);
  for (let step = 0; step < 500; step++) {
    const blocks = prng.int(1, 6);
    const short = prng.next() < 0.3 ? prng.int(1, BLOCK_BYTES - 1) : 0;
    cache.insert(asChunkId(prng.int(1, 5)), prng.int(0, 10), Buffer.alloc(blocks * BLOCK_BYTES - short));
    cache.block(asChunkId(prng.int(1, 5)), prng.int(0, 15));
    cache.checkInvariants();
  }
  t.ok(cache.bytes <= 20 * BLOCK_BYTES);
  t.end();
});
