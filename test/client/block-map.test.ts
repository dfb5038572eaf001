import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import { BLOCKS_PER_CHUNK } from '../../src/client/block-cache.js';
import { BlockMap } from '../../src/client/block-map.js';
import { asChunkId } from '../../src/proto/ids.js';

t.test('a map of blocks is a set of pairs', async (t) => {
  const prng = new Prng(3);
  const map = new BlockMap();
  const pairs = new Set<string>();
  for (let step = 0; step < 3000; step++) {
    const [chunk, block] = [asChunkId(prng.int(1, 3)), prng.int(0, BLOCKS_PER_CHUNK - 1)];
    if (prng.next() < 0.5) {
      map.add(chunk, block);
      pairs.add(`${chunk} ${block}`);
    } else {
      map.delete(chunk, block);
      pairs.delete(`${chunk} ${block}`);
    }
    if (map.has(chunk, block) !== pairs.has(`${chunk} ${block}`)) t.fail(`${chunk} ${block}`);
  }
  t.equal(map.count, pairs.size);
  map.replace([{ chunk: asChunkId(9), low: 2 ** 31 + 1, high: 2 ** 31 }]);
  t.equal(map.count, 3);
  for (const block of [0, 31, 63]) t.ok(map.has(asChunkId(9), block));
});
