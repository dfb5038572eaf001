import { closeSync, openSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { setLogLevel } from '../../src/base/log.js';
import { Prng } from '../../src/base/prng.js';
import { BLOCK_BYTES } from '../../src/client/block-cache.js';
import { BlockStore } from '../../src/client/block-store.js';
import { CacheDatabase } from '../../src/client/cache-database.js';
import { asChunkId, asClusterId } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';

setLogLevel('none');

const CLUSTER = asClusterId('11111111-2222-4333-8444-555555555555');
const OTHER = asClusterId('22222222-2222-4333-8444-555555555555');
const id = asChunkId;
const bytesOf = (seed: number, length = BLOCK_BYTES): Buffer => new Prng(seed).bytes(length);

interface Opened {
  readonly store: BlockStore;
  readonly cache: CacheDatabase;
  /** As at an unmount. */
  close(): Promise<void>;
}

function open(
  directory: string,
  {
    blocks = 8,
    disk = 1e9,
    cluster = CLUSTER,
  }: { blocks?: number; disk?: number; cluster?: typeof CLUSTER } = {},
): Opened {
  const cache = CacheDatabase.open(directory, cluster);
  const options = {
    cache,
    clock: systemClock,
    capacityBytes: blocks * BLOCK_BYTES,
    freeBytes: () => disk * BLOCK_BYTES - statSync(cache.dataPath).size,
  };
  const store = new BlockStore(options);
  const close = async (): Promise<void> => {
    await store.close({ drains: true });
    store.checkInvariants();
    cache.close();
  };
  return { store, cache, close };
}

/** Puts these and has them written. */
async function kept(
  t: Test,
  numbers: readonly number[],
  options: Parameters<typeof open>[1] = {},
): Promise<string> {
  const directory = t.testdir();
  const { store, close } = open(directory, options);
  for (const number of numbers) store.put(id(number), 0, bytesOf(number));
  await close();
  return directory;
}

const written = (store: BlockStore, number: number): Promise<void> =>
  new Promise((resolve) => {
    const look = (): void => {
      if (store.has(id(number), 0) > 0) resolve();
      else setTimeout(look, 10);
    };
    look();
  });

t.test('blocks are there again, byte for byte, as far as they were', async (t) => {
  const directory = t.testdir();
  const first = open(directory);
  first.store.put(id(7), 2, bytesOf(1, BLOCK_BYTES + 100));
  t.equal(first.store.has(id(7), 2), 0, 'nobody waits for the disk');
  await first.close();
  t.equal(first.store.has(id(7), 2), 0, 'a closed one has nothing');
  const { store, close } = open(directory);
  t.equal(store.has(id(7), 2), BLOCK_BYTES);
  t.equal(store.has(id(7), 3), 100);
  t.equal(store.has(id(7), 4), 0);
  t.ok((await store.read(id(7), 2))?.equals(bytesOf(1, BLOCK_BYTES + 100).subarray(0, BLOCK_BYTES)));
  t.ok((await store.read(id(7), 3))?.equals(bytesOf(1, BLOCK_BYTES + 100).subarray(BLOCK_BYTES)));
  t.equal(await store.read(id(7), 4), undefined);
  await close();
});

t.test('more of a block takes the place of less, and never the other way round', async (t) => {
  const directory = await kept(t, []);
  const whole = bytesOf(3);
  for (const length of [1000, BLOCK_BYTES, 500]) {
    const { store, close } = open(directory);
    store.put(id(3), 0, whole.subarray(0, length));
    await close();
  }
  const { store, close } = open(directory);
  t.equal(store.has(id(3), 0), BLOCK_BYTES);
  t.ok((await store.read(id(3), 0))?.equals(whole));
  await close();
});

t.test('the least recently used block makes room, and the file keeps to its bound', async (t) => {
  const directory = await kept(t, [1, 2, 3, 4], { blocks: 4 });
  const second = open(directory, { blocks: 4 });
  t.ok(await second.store.read(id(1), 0), 'used again');
  await second.close();
  const third = open(directory, { blocks: 4 });
  third.store.put(id(5), 0, bytesOf(5));
  await third.close();
  const { store, close } = open(directory, { blocks: 4 });
  const there = [1, 2, 3, 4, 5].filter((number) => store.has(id(number), 0) > 0);
  t.equal(there.length, 4);
  t.ok(there.includes(1) && there.includes(5));
  t.ok((await store.read(id(5), 0))?.equals(bytesOf(5)));
  t.equal(statSync(join(directory, 'blocks.data')).size, 4 * BLOCK_BYTES);
  await close();
});

t.test('random puts and reads keep every slot counted, and every byte right', async (t) => {
  const directory = t.testdir();
  const prng = new Prng(11);
  for (let round = 0; round < 4; round++) {
    const { store, close } = open(directory, { blocks: 12 });
    for (let step = 0; step < 40; step++) {
      const [number, block] = [prng.int(1, 4), prng.int(0, 5)];
      const length = prng.next() < 0.5 ? BLOCK_BYTES : prng.int(1, BLOCK_BYTES);
      store.put(id(number), block, bytesOf(100 * number + block).subarray(0, length));
      if (step % 10 === 9) await new Promise((resolve) => setTimeout(resolve, limits.cacheWriteDelayMs + 30));
      const [other, at] = [prng.int(1, 4), prng.int(0, 5)];
      const got = await store.read(id(other), at);
      if (got !== undefined && !got.equals(bytesOf(100 * other + at).subarray(0, got.length)))
        t.fail(`chunk ${other}, block ${at}`);
    }
    await close();
  }
  t.ok(statSync(join(directory, 'blocks.data')).size <= 12 * BLOCK_BYTES);
});

t.test('it takes no more than half of what would be free without it', async (t) => {
  const numbers = [1, 2, 3, 4, 5, 6];
  const directory = await kept(t, numbers, { blocks: 100, disk: 8 });
  const size = (): number => statSync(join(directory, 'blocks.data')).size / BLOCK_BYTES;
  t.equal(size(), 4);
  const { store, close } = open(directory, { blocks: 100, disk: 4 });
  t.equal(size(), 2, 'and gives back what is too much');
  t.equal(numbers.filter((number) => store.has(id(number), 0) > 0).length, 2);
  store.put(id(9), 0, bytesOf(9));
  await close();
  t.equal(size(), 2);
  const none = open(directory, { blocks: 0 });
  t.equal(size(), 0, 'a size of 0 is none');
  await none.close();
});

t.test('a block that the disk has damaged is dropped, and the others stay', async (t) => {
  const directory = await kept(t, [1, 2]);
  const fd = openSync(join(directory, 'blocks.data'), 'r+');
  const { store, close } = open(directory);
  for (const slot of [0, 1]) {
    const number = (await store.read(id(1), 0)) === undefined ? 2 : 1;
    writeSync(fd, Buffer.from('xx'), 0, 2, slot * BLOCK_BYTES + 77);
    t.equal(number, slot + 1, 'written in order');
    t.equal(await store.read(id(number), 0), undefined);
    t.equal(store.has(id(number), 0), 0, 'it is dropped');
  }
  closeSync(fd);
  store.put(id(1), 0, bytesOf(1));
  await written(store, 1);
  t.ok((await store.read(id(1), 0))?.equals(bytesOf(1)), 'and can be kept again');
  await close();
});

t.test('blocks of another filesystem are not here', async (t) => {
  const directory = await kept(t, [1, 2]);
  const other = open(directory, { cluster: OTHER });
  t.equal(other.store.has(id(1), 0), 0);
  await other.close();
  const again = open(directory);
  t.equal(again.store.has(id(1), 0), 0, 'nor do they come back');
  await again.close();
});

for (const [what, offset] of [
  ['header', 0],
  ['pages', 4096],
] as const)
  t.test(`a database with damaged ${what} is thrown away, and a new one is used`, async (t) => {
    const directory = await kept(t, [1, 2]);
    const fd = openSync(join(directory, 'cache.db'), 'r+');
    writeSync(fd, bytesOf(1, 20_000), 0, 20_000, offset);
    closeSync(fd);
    const { store, cache, close } = open(directory);
    t.ok(cache.isUsable);
    t.equal(store.has(id(1), 0), 0);
    store.put(id(1), 0, bytesOf(1));
    await written(store, 1);
    t.ok((await store.read(id(1), 0))?.equals(bytesOf(1)));
    await close();
  });

t.test('without a place for it nothing is kept, and nothing fails', async (t) => {
  const { store, cache, close } = open(join(t.testdir(), 'missing'));
  t.notOk(cache.isUsable);
  store.put(id(1), 0, bytesOf(1));
  t.equal(store.has(id(1), 0), 0);
  t.equal(await store.read(id(1), 0), undefined);
  await close();
});

t.test('what comes faster than it can be written is not kept', async (t) => {
  const { store, close } = open(t.testdir(), { blocks: 2000 });
  const chunk = Buffer.alloc(limits.chunkBytes);
  for (let number = 1; number <= 20; number++) store.put(id(number), 0, chunk);
  await close();
  t.equal(store.bytes, limits.cachePendingBytes);
});
