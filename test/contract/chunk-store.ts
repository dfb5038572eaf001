/**
 * The contract of src/chunk/store.ts as a suite. Every store runs it; a store that can do more (damage on
 * disk, reopening) tests that beside it.
 */
import type { Test } from 'tap';
import { crc32c } from '../../src/base/crc32c.js';
import { Prng } from '../../src/base/prng.js';
import type { ChunkStore } from '../../src/chunk/store.js';
import { asChunkId, type ChunkId } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';

export interface StoreUnderTest {
  /** The store as it is now; `damage` may have closed and reopened it. */
  readonly store: ChunkStore;
  /** Flips a bit of what is stored of chunk `id`, whose bytes are `bytes`, behind the store's back. */
  damage(id: ChunkId, bytes: Buffer, offset: number): Promise<void>;
}

/** Makes an empty store for the test `t`, which closes it; whatever else it needs ends with `t`. */
export type StoreFactory = (t: Test, options: { capacityBytes: number }) => Promise<StoreUnderTest>;

const BLOCK = limits.checksumBlockBytes;
const ROOMY = 64 * limits.chunkBytes;
const SIZES = [1, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77, 1024 * 1024, limits.chunkBytes];

const prng = new Prng(20_240_601);
const noise = prng.bytes(limits.chunkBytes + 64 * 1024);
/** Bytes that no other call returned (by their start in the noise). */
function someBytes(length: number): Buffer {
  const start = prng.int(0, 64 * 1024 - 1);
  return noise.subarray(start, start + length);
}

async function opened(t: Test, factory: StoreFactory, capacityBytes = ROOMY): Promise<StoreUnderTest> {
  const under = await factory(t, { capacityBytes });
  t.teardown(() => under.store.close());
  return under;
}

const put = (store: ChunkStore, id: number, bytes: Uint8Array): Promise<void> =>
  store.put(asChunkId(id), crc32c(bytes), bytes);

async function refuses(t: Test, call: Promise<unknown>, code: string, what: string): Promise<void> {
  await t.rejects(call, { name: 'ProtocolError', code }, what);
}

async function readsBack(t: Test, factory: StoreFactory): Promise<void> {
  const { store } = await opened(t, factory);
  for (const [index, size] of SIZES.entries()) {
    const bytes = someBytes(size);
    await put(store, index + 1, bytes);
    const whole = await store.get(asChunkId(index + 1), 0, size);
    t.ok(whole.equals(bytes), `${size} bytes come back`);
    for (let round = 0; round < 8; round++) {
      const offset = prng.int(0, size - 1);
      const length = prng.int(1, size - offset);
      const part = await store.get(asChunkId(index + 1), offset, length);
      t.ok(part.equals(bytes.subarray(offset, offset + length)), `bytes ${offset}+${length} of ${size}`);
    }
  }
  const first = await store.get(asChunkId(2), 0, 10);
  first.fill(0);
  t.notOk((await store.get(asChunkId(2), 0, 10)).equals(first), 'a reply is the caller’s own to change');
}

async function refusesBadRanges(t: Test, factory: StoreFactory): Promise<void> {
  const { store } = await opened(t, factory);
  for (const [id, size] of [
    [1, 1000],
    [2, 1024 * 1024],
  ] as const) {
    await put(store, id, someBytes(size));
    await refuses(t, store.get(asChunkId(id), 0, size + 1), 'badMessage', 'one byte too long');
    await refuses(t, store.get(asChunkId(id), size, 1), 'badMessage', 'behind the end');
    await refuses(t, store.get(asChunkId(id), 0, 0), 'badMessage', 'no bytes');
    t.equal((await store.get(asChunkId(id), size - 1, 1)).length, 1, 'the last byte is there');
  }
  await refuses(t, store.get(asChunkId(3), 0, 1), 'noChunk', 'an id never stored');
  await refuses(t, put(store, 4, new Uint8Array(0)), 'badMessage', 'an empty chunk');
  const tooLong = new Uint8Array(limits.chunkBytes + 1);
  await refuses(t, put(store, 4, tooLong), 'badMessage', 'a chunk beyond the limit');
  await refuses(t, store.get(asChunkId(4), 0, 1), 'noChunk', 'nothing of what was refused is there');
}

async function putsAreIdempotent(t: Test, factory: StoreFactory): Promise<void> {
  const { store } = await opened(t, factory);
  for (const [id, size] of [
    [1, 5000],
    [2, 700_000],
  ] as const) {
    const bytes = someBytes(size);
    await put(store, id, bytes);
    const before = await store.usage();
    await put(store, id, Buffer.from(bytes));
    t.same(await store.usage(), before, 'the same again changes nothing');
    const other = Buffer.from(bytes);
    other[17] = (other[17] ?? 0) ^ 1;
    await refuses(t, put(store, id, other), 'chunkConflict', 'other bytes of that length');
    await refuses(t, put(store, id, bytes.subarray(1)), 'chunkConflict', 'another length');
    t.ok((await store.get(asChunkId(id), 0, size)).equals(bytes), 'the first bytes stay');
  }
}

async function putsOfOneIdRace(t: Test, factory: StoreFactory): Promise<void> {
  const { store } = await opened(t, factory);
  for (const [id, size] of [
    [1, 5000],
    [2, 700_000],
  ] as const) {
    const bytes = someBytes(size);
    const other = Buffer.from(bytes);
    other[0] = (other[0] ?? 0) ^ 1;
    const results = await Promise.allSettled([
      put(store, id, bytes),
      put(store, id, Buffer.from(bytes)),
      put(store, id, other),
    ]);
    t.same(
      results.map((result) => (result.status === 'rejected' ? result.reason.code : 'ok')),
      ['ok', 'ok', 'chunkConflict'],
      'the first wins, the same joins it, the other is refused',
    );
    t.ok((await store.get(asChunkId(id), 0, size)).equals(bytes));
  }
  t.equal((await store.usage()).chunks, 2);
}

async function deletes(t: Test, factory: StoreFactory): Promise<void> {
  const { store } = await opened(t, factory);
  const small = someBytes(2000);
  const large = someBytes(900_000);
  await Promise.all([put(store, 1, small), put(store, 2, large), put(store, 3, someBytes(10))]);
  t.match(await store.usage(), { chunks: 3, usedBytes: 902_010 });
  const ids = [1, 2, 7, 1].map(asChunkId);
  t.equal(await store.delete(ids), 2, 'what is there is counted once, what is not is passed over');
  t.equal(await store.delete(ids), 0, 'again: nothing is left');
  t.equal(await store.delete([]), 0);
  await refuses(t, store.get(asChunkId(1), 0, 1), 'noChunk', 'the small one is gone');
  await refuses(t, store.get(asChunkId(2), 0, 1), 'noChunk', 'the large one is gone');
  t.match(await store.usage(), { chunks: 1, usedBytes: 10 });
  await Promise.all([put(store, 1, small), put(store, 2, large)]);
  t.ok((await store.get(asChunkId(2), 0, large.length)).equals(large), 'it can be stored again');
}

async function deleteAndPutRace(t: Test, factory: StoreFactory): Promise<void> {
  const { store } = await opened(t, factory);
  const bytes = someBytes(500_000);
  for (let round = 0; round < 20; round++) {
    const size = round % 2 === 0 ? 500_000 : 3000;
    const id = asChunkId(round + 1);
    await store.put(id, crc32c(bytes.subarray(0, size)), bytes.subarray(0, size));
    const removal = store.delete([id]);
    const again = store.put(id, crc32c(bytes.subarray(0, size)), bytes.subarray(0, size));
    await Promise.all([removal, again]);
    const present = await store.get(id, 0, size).then(
      (read) => (read.equals(bytes.subarray(0, size)) ? 'whole' : 'wrong'),
      (error) => error.code,
    );
    t.ok(present === 'whole' || present === 'noChunk', `round ${round}: ${present}`);
  }
}

async function lists(t: Test, factory: StoreFactory): Promise<void> {
  const { store } = await opened(t, factory);
  const ids = [5, 3, 900, 17, 2 ** 40, 11];
  for (const id of ids) await put(store, id, Buffer.from(`chunk ${id}`));
  const all = await store.list(0, Number.MAX_SAFE_INTEGER, 100);
  t.same(
    all.chunks.map((chunk) => chunk.id),
    [3, 5, 11, 17, 900, 2 ** 40],
  );
  t.equal(all.end, true);
  t.same(all.chunks[0], { id: 3, length: 7, crc: crc32c(Buffer.from('chunk 3')) });
  const page = await store.list(3, 900, 2);
  t.same(
    page.chunks.map((chunk) => chunk.id),
    [5, 11],
    'behind `after`, at most `limit`',
  );
  t.equal(page.end, false);
  const rest = await store.list(11, 900, 2);
  t.same(
    rest.chunks.map((chunk) => chunk.id),
    [17, 900],
    '`last` is included',
  );
  t.equal(rest.end, true, 'nothing follows up to `last`, though chunks lie beyond');
  t.same(await store.list(2 ** 40, Number.MAX_SAFE_INTEGER, 5), { chunks: [], end: true });
}

async function findsDamage(t: Test, factory: StoreFactory): Promise<void> {
  const under = await opened(t, factory);
  for (const [number, size] of [
    [1, 3000],
    [2, BLOCK + 3000],
    [3, 1024 * 1024],
  ] as const) {
    const id = asChunkId(number);
    const bytes = someBytes(size);
    await put(under.store, id, bytes);
    await under.damage(id, bytes, size - 1);
    await refuses(t, under.store.get(id, 0, size), 'corrupt', `${size} bytes: the whole`);
    await refuses(t, under.store.get(id, size - 1, 1), 'corrupt', 'the damaged byte');
    await refuses(t, under.store.get(id, size - 100, 1), 'corrupt', 'a sound byte of the damaged block');
    if (size > BLOCK)
      t.ok((await under.store.get(id, 0, BLOCK)).equals(bytes.subarray(0, BLOCK)), 'sound blocks go on');
    await put(under.store, id, bytes);
    t.ok((await under.store.get(id, 0, size)).equals(bytes), 'a put of the same bytes heals it');
  }
  t.match(await under.store.usage(), { chunks: 3, usedBytes: 3000 + BLOCK + 3000 + 1024 * 1024 });
}

async function isFull(t: Test, factory: StoreFactory): Promise<void> {
  const { store } = await opened(t, factory, 2 * limits.chunkBytes);
  t.match(await store.usage(), { capacityBytes: 2 * limits.chunkBytes, full: false });
  const whole = someBytes(limits.chunkBytes);
  await put(store, 1, whole);
  const small = someBytes(100_000);
  await put(store, 2, small);
  t.match(await store.usage(), { full: true, usedBytes: limits.chunkBytes + 100_000 });
  await refuses(t, put(store, 3, someBytes(limits.chunkBytes)), 'serverFull', 'what does not fit');
  const results = await Promise.allSettled(
    Array.from({ length: 50 }, (_, index) => put(store, 10 + index, someBytes(120_000))),
  );
  const stored = results.filter((result) => result.status === 'fulfilled').length;
  t.equal(stored, Math.floor((limits.chunkBytes - 100_000) / 120_000), 'together they stop at the capacity');
  await refuses(t, store.get(asChunkId(3), 0, 1), 'noChunk', 'nothing of the refused one is there');
  t.ok((await store.get(asChunkId(1), 0, whole.length)).equals(whole), 'reads go on');
  await put(store, 2, small);
  t.pass('a chunk that is there is acknowledged again, though nothing more fits');
  await store.delete([asChunkId(1)]);
  t.match(await store.usage(), { full: false });
  await put(store, 4, someBytes(1_000_000));
  t.pass('deleted space is given out again');
}

async function manyAtOnce(t: Test, factory: StoreFactory): Promise<void> {
  const { store } = await opened(t, factory);
  const sizes = Array.from({ length: 60 }, (_, index) => (index % 10 === 0 ? 400_000 : 100 + index * 50));
  const chunks = sizes.map((size) => someBytes(size));
  await Promise.all(chunks.map((bytes, index) => put(store, index + 1, bytes)));
  const read = await Promise.all(
    chunks.map((bytes, index) => store.get(asChunkId(index + 1), 0, bytes.length)),
  );
  t.ok(read.every((bytes, index) => bytes.equals(chunks[index] ?? Buffer.alloc(0))));
  t.match(await store.usage(), { chunks: 60, usedBytes: sizes.reduce((sum, size) => sum + size, 0) });
}

async function answersAfterClose(t: Test, factory: StoreFactory): Promise<void> {
  const { store } = await factory(t, { capacityBytes: ROOMY });
  const before = [put(store, 1, someBytes(10)), put(store, 2, someBytes(400_000))];
  const closing = store.close();
  const during = [put(store, 3, someBytes(10)), store.get(asChunkId(1), 0, 1), store.delete([asChunkId(1)])];
  for (const call of during) await refuses(t, call, 'busy', 'while it closes');
  t.same(
    (await Promise.allSettled(before)).map((result) => result.status),
    ['fulfilled', 'fulfilled'],
    'what was accepted before is done',
  );
  await closing;
  await store.close();
  await refuses(t, put(store, 4, someBytes(10)), 'busy', 'put');
  await refuses(t, store.get(asChunkId(1), 0, 1), 'busy', 'get');
  await refuses(t, store.delete([asChunkId(1)]), 'busy', 'delete');
  await refuses(t, store.list(0, 10, 10), 'busy', 'list');
  await refuses(t, store.usage(), 'busy', 'usage');
}

/** Runs the whole contract over stores from `factory`, as subtests of `t`. */
export async function suite(t: Test, factory: StoreFactory): Promise<void> {
  const parts: [string, (t: Test, factory: StoreFactory) => Promise<void>][] = [
    ['bytes of every size come back, whole and in ranges', readsBack],
    ['ranges and lengths that cannot be are refused', refusesBadRanges],
    ['a put may be repeated, but an id never gets other bytes', putsAreIdempotent],
    ['concurrent puts of one id agree on one content', putsOfOneIdRace],
    ['deleting removes what is there and passes over the rest', deletes],
    ['a delete and a put of one id leave it whole or absent', deleteAndPutRace],
    ['listing goes by id, in pages, within its bounds', lists],
    ['damage is reported, never returned, and healed by a put', findsDamage],
    ['a full store refuses puts and goes on reading', isFull],
    ['many puts at once are all stored', manyAtOnce],
    ['a closing or closed store answers everything with an error', answersAfterClose],
  ];
  for (const [name, part] of parts) await t.test(name, (t) => part(t, factory));
}
