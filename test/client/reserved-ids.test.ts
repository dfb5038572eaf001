import t from 'tap';
import { reservedChunkIds, reservedInodes } from '../../src/client/reserved-ids.js';
import { FsError } from '../../src/proto/errno.js';
import { limits } from '../../src/proto/limits.js';

/** Identifiers in ascending ranges, and how many ranges were asked for. */
function source() {
  const state = { next: 1, asked: 0, fails: false };
  const reserve = async (count: number) => {
    state.asked++;
    if (state.fails) throw new FsError('ETIMEDOUT', 'reserveIds');
    const first = state.next;
    state.next += count;
    return { first, count };
  };
  return { state, ids: reservedChunkIds(reserve), inodes: reservedInodes(reserve) };
}

/** What was asked for has come. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test(
  'each identifier is given out once, and the next range is fetched before the last one ends',
  async (t) => {
    const { state, ids } = source();
    const taken = new Set<number | undefined>();
    for (let count = 0; count < 3 * limits.chunkIdsReserved; count++) taken.add(await ids.take(() => true));
    t.equal(taken.size, 3 * limits.chunkIdsReserved);
    t.notOk(taken.has(undefined));
    t.ok(ids.free >= limits.chunkIdsLow);
    t.equal(state.asked, 4);
  },
);

t.test('identifiers that do not suit stay for later', async (t) => {
  const { ids } = source();
  t.equal(await ids.take((id) => id % 10 === 0), 10);
  t.equal(await ids.take(() => true), 1);
  t.equal(await ids.take(() => false), undefined, 'a wish that nothing meets is given up');
});

t.test('callers at once share one fetch, a failure is theirs, and a cleared range is void', async (t) => {
  const { state, ids } = source();
  t.same((await Promise.all([ids.take(() => true), ids.take(() => true)])).sort(), [1, 2]);
  t.equal(state.asked, 1);
  ids.clear();
  t.equal(await ids.take(() => true), limits.chunkIdsReserved + 1);
  state.fails = true;
  ids.clear();
  await t.rejects(
    ids.take(() => true),
    { code: 'ETIMEDOUT' },
  );
});

t.test('who cannot wait gets what there is, in order, and more is on its way', async (t) => {
  const { state, inodes } = source();
  t.equal(inodes.takeNow(), undefined, 'there is none yet');
  await settled();
  const taken: (number | undefined)[] = [];
  for (let count = 0; count <= limits.inodesReserved - limits.inodesLow; count++)
    taken.push(inodes.takeNow());
  t.same(taken.slice(0, 3), [1, 2, 3]);
  t.equal(new Set(taken).size, taken.length);
  t.equal(state.asked, 2, 'one more range was asked for, once');
  await settled();
  t.ok(inodes.free > limits.inodesReserved);
  state.fails = true;
  inodes.clear();
  t.equal(inodes.takeNow(), undefined);
  await settled();
  state.fails = false;
  inodes.prepare();
  await settled();
  t.equal(inodes.takeNow(), 2 * limits.inodesReserved + 1, 'a failure is nobody’s, and is tried again');
});
