import t from 'tap';
import { LeaseCache } from '../../src/client/lease-cache.js';
import { LeaseTaker } from '../../src/client/lease-taker.js';
import { LeasedRows } from '../../src/client/leased-rows.js';
import type { Attr } from '../../src/proto/attr.js';
import { asIno, type Ino, ROOT_INO } from '../../src/proto/ids.js';
import type { Taken } from '../../src/proto/lease-methods.js';
import { limits } from '../../src/proto/limits.js';
import { ManualClock } from '../rpc/manual-clock.js';

const zero = { sec: 0, nsec: 0 };
const attrOf = (ino: Ino, lease: number, mode = 0o40755): Attr => ({
  ...{ ino, lease, version: 1, mode, nlink: 2, uid: 0, gid: 0, rdev: 0, size: 0, allocated: 0 },
  ...{ atime: zero, mtime: zero, ctime: zero, crtime: zero },
});
const name = (text: string): Buffer => Buffer.from(text);
const takenOf = (ino: Ino, lease: number, more: Partial<Taken> = {}): Taken => ({
  attr: attrOf(ino, lease),
  ...{ parent: ROOT_INO, target: null, extents: [], xattrs: [], isOpen: false },
  ...more,
});

const DIR = asIno(10);
const child = (index: number): Ino => asIno(100 + index);

/** A mount with shared leases (epoch: the inode's number) on a directory and its children. */
function rig(children = 3) {
  const clock = new ManualClock();
  const cache = new LeaseCache({
    trustedMs: () => 5000,
    maxLeases: 1000,
    giveBack: () => {},
    onChanged: (ino) => rows.drop(ino),
  });
  const rows: LeasedRows = new LeasedRows({
    namesOf: (ino) => cache.namesOf(ino),
    isExclusive: (ino) => cache.isExclusive(ino),
  });
  const look = (parent: Ino, text: string, ino: Ino): void =>
    cache.learn('lookup', { parent, name: name(text) }, attrOf(ino, ino), cache.moment);
  cache.learn('getattr', { ino: ROOT_INO }, attrOf(ROOT_INO, ROOT_INO), cache.moment);
  look(ROOT_INO, 'd', DIR);
  for (let index = 0; index < children; index++) look(DIR, `f${index}`, child(index));
  const dirty = new Set<Ino>();
  /** What was asked for; behind the bar what is not recalled from others. */
  const asked: (Ino | '|')[][] = [];
  const answers: ((taken: readonly Taken[]) => Promise<void>)[] = [];
  const taker = new LeaseTaker({
    take: ({ inos, recall = 0 }) => {
      asked.push(recall === 0 ? [...inos] : [...inos.slice(0, recall), '|', ...inos.slice(recall)]);
      return new Promise((resolve) => {
        answers.push(async (taken) => {
          resolve({ taken });
          await new Promise((after) => setImmediate(after));
        });
      });
    },
    prepare: () => Promise.resolve(),
    cache,
    rows,
    isDirty: (ino) => dirty.has(ino),
    clock,
    isTrusted: () => true,
  });
  const answer = async (...taken: Taken[]): Promise<void> => answers.shift()?.(taken);
  return { cache, rows, taker, asked, answer, clock, dirty };
}

t.test('what is about to be changed is asked for, with what has the name', async (t) => {
  const { taker, asked, answer, rows, cache } = rig();
  const waiting = taker.prepare({ parent: DIR, name: name('f1') });
  t.ok(waiting);
  t.strictSame(asked, [[DIR, child(1)]]);
  t.ok(taker.prepare({ parent: DIR, name: name('f1') }), 'others wait for the same answer');
  t.equal(asked.length, 1);
  const entries = [{ name: name('f1'), ino: child(1) }];
  await answer(takenOf(DIR, 1000, { was: DIR, entries }), takenOf(child(1), 1001, { was: child(1) }));
  await waiting;
  t.ok(rows.has(DIR) && rows.has(child(1)));
  t.equal(cache.known(DIR, name('f0')), null, 'its entries are all there are');
  t.equal(taker.prepare({ parent: DIR, name: name('f1') }), undefined, 'there is nothing left to ask for');
});

t.test('rows of before a change of this mount’s own are not taken', async (t) => {
  const { taker, answer, rows, cache } = rig();
  const waiting = taker.prepare({ parent: DIR });
  cache.learn(
    'unlink',
    { parent: DIR, name: name('f0'), hold: false },
    { changed: [{ ino: child(0) }] },
    cache.moment,
  );
  const entries = [{ name: name('f0'), ino: child(0) }];
  await answer(takenOf(DIR, 1000, { was: DIR, entries }));
  await waiting;
  t.notOk(rows.has(DIR));
  t.equal(cache.known(DIR, name('f0')), null, 'nor are its entries');
});

t.test('nor when everything is forgotten meanwhile, or it is given up', async (t) => {
  const { taker, answer, rows, cache } = rig();
  const waiting = taker.prepare({ parent: DIR });
  rows.clear();
  cache.clear();
  await answer(takenOf(DIR, 1000, { was: DIR }));
  await waiting;
  t.notOk(rows.has(DIR));
});

t.test('what could not be asked for, because it is in the journal, was not refused', async (t) => {
  const { taker, asked, answer, dirty } = rig();
  dirty.add(DIR);
  const waiting = taker.prepare({ parent: DIR, name: name('f1') });
  t.strictSame(asked, [[child(1)]]);
  await answer(takenOf(child(1), 1001, { was: child(1) }));
  await waiting;
  taker.inVain({ parent: DIR, name: name('f1') });
  dirty.clear();
  t.ok(taker.prepare({ parent: DIR, name: name('f1') }));
  t.equal(asked[1]?.[0], DIR, 'it is asked for once the server knows what was done to it');
});

t.test('what was not given is not asked for again at once', async (t) => {
  const { taker, asked, answer, clock } = rig();
  const waiting = taker.prepare({ ino: child(0) });
  await answer();
  await waiting;
  t.equal(taker.prepare({ ino: child(0) }), undefined);
  await clock.advance(limits.takeAgainMs);
  t.ok(taker.prepare({ ino: child(0) }));
  t.strictSame(asked, [[child(0)], [child(0)]]);
});

t.test('but from who has it, once another change in the directory follows', async (t) => {
  const { taker, asked, answer, clock } = rig(20);
  for (const index of [0, 1, 1, 5]) {
    const waiting = taker.prepare({ parent: DIR, name: name(`f${index}`) });
    await answer();
    await waiting;
    taker.inVain({ parent: DIR, name: name(`f${index}`) });
  }
  t.strictSame(asked, [
    [DIR, child(0)],
    [
      DIR,
      child(1),
      child(0),
      child(2),
      child(3),
      '|',
      ...Array.from({ length: 16 }, (_, at) => child(4 + at)),
    ],
    [child(5), child(4), child(6), child(7), child(8), child(9), child(10), child(11), '|'],
  ]);
  t.equal(taker.prepare({ parent: DIR, name: name('f1') }), undefined, 'nor then at once');
  await clock.advance(limits.takeAgainMs);
  t.ok(taker.prepare({ parent: DIR, name: name('f1') }));
  t.strictSame(asked.at(-1), [DIR, child(1)], 'a new run begins');
});

t.test('what is changed again and again takes nothing else along', async (t) => {
  const { taker, asked, answer, cache, rows } = rig(20);
  for (let round = 0; round < 3; round++) {
    const waiting = taker.prepare({ ino: child(0) });
    await answer(takenOf(child(0), 1000 + round, { was: round === 0 ? child(0) : 999 + round }));
    await waiting;
    // Somebody else wants to see it.
    cache.shared(child(0));
    rows.drop(child(0));
  }
  t.strictSame(asked, [[child(0)], [child(0)], [child(0)]]);
});

t.test('nor what helped nothing', async (t) => {
  const { taker, answer } = rig();
  const args = { parent: DIR, name: name('f0') };
  const waiting = taker.prepare(args);
  await answer(takenOf(DIR, 1000, { was: DIR }), takenOf(child(0), 1001, { was: child(0) }));
  await waiting;
  taker.inVain(args);
  t.equal(taker.prepare({ parent: DIR, name: name('f0') }), undefined);
});

t.test('the second change in a directory asks for everything in it', async (t) => {
  const { taker, asked, answer, clock } = rig(5);
  const first = taker.prepare({ ino: child(0) });
  await answer(takenOf(child(0), 1000, { was: child(0) }));
  await first;
  t.ok(taker.prepare({ ino: child(3) }));
  t.strictSame(asked[1], [child(3), DIR, child(1), child(2), child(4), '|']);
  await clock.advance(60_000);
  const other = rig(5);
  void other.taker.prepare({ ino: child(0) });
  await other.clock.advance(limits.takeAgainMs);
  void other.taker.prepare({ ino: child(1) });
  t.strictSame(other.asked, [[child(0)], [child(1)]], 'not when they are far apart');
});

t.test('the recall of a lease ends the one that it stands in for, although nobody said so', (t) => {
  const { cache } = rig();
  t.equal(cache.recalled([{ ino: DIR, epoch: 5 }]).length, 0, 'an older one is not meant');
  t.equal(cache.heldForMs(DIR), 5000);
  t.equal(cache.recalled([{ ino: DIR, epoch: 1000 }]).length, 1);
  t.equal(cache.heldForMs(DIR), 0);
  t.end();
});
