import t from 'tap';
import { S_IFREG } from '../../src/proto/attr.js';
import { asIno } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import type { DirEntry } from '../../src/proto/meta-methods.js';
import { attrOf, directory, RememberedRig } from './remembered.js';

const DIR = asIno(2);
const named = (number: number): Buffer => Buffer.from(`n${number}`);

const entryOf = (number: number): DirEntry => ({
  name: named(number),
  ino: asIno(number),
  kind: S_IFREG,
  cookie: number * 16,
  attr: attrOf(number, 1, { lease: 1000 + number }),
});

/** The reply to a page of a directory with these in it. */
const pageOf = (numbers: readonly number[], end: boolean) => ({
  entries: numbers.map(entryOf),
  parent: asIno(1),
  end,
});

const ask = (after: number, limit = 2, plus = true) => ({ ino: DIR, after, limit, plus });

function rigWith(dir: string): RememberedRig {
  const rig = new RememberedRig(dir);
  rig.leases.attr({ ...directory(2), lease: 7 });
  return rig;
}

/** A page comes, as a call brings it. */
function learn(
  rig: RememberedRig,
  after: number,
  numbers: readonly number[],
  end: boolean,
  between = () => {},
) {
  const { moment } = rig.leases;
  const seen = rig.contents.seen('readdir', ask(after));
  between();
  const reply = pageOf(numbers, end);
  rig.leases.learn('readdir', ask(after), reply, moment);
  rig.contents.learn('readdir', ask(after), reply, seen);
  rig.contents.checkInvariants();
}

t.test(
  'a listing that came in pages is answered, in any pages, and what is not in it is known',
  async (t) => {
    const rig = rigWith(t.testdir());
    learn(rig, 0, [10, 11], false);
    t.equal(rig.contents.answer('readdir', ask(0)), undefined, 'a part is not all');
    learn(rig, 11 * 16, [12], true);
    const page = (after: number, limit: number, plus = true) => {
      const reply = rig.contents.answer('readdir', ask(after, limit, plus));
      return reply && { names: reply.entries.map(({ ino }) => ino), end: reply.end };
    };
    t.strictSame(page(0, 10), { names: [10, 11, 12], end: true });
    t.strictSame(page(0, 2), { names: [10, 11], end: false });
    t.strictSame(page(11 * 16, 2), { names: [12], end: true });
    t.strictSame(page(10 * 16 + 3, 2), { names: [11, 12], end: true }, 'behind a name that is gone');
    t.strictSame(page(12 * 16, 2), { names: [], end: true });
    t.throws(() => rig.leases.answer('lookup', { parent: DIR, name: named(13) }), { code: 'ENOENT' });
    rig.leases.recalled([{ ino: asIno(11), epoch: 1011 }]);
    t.equal(page(0, 10), undefined, 'no attributes without a lease');
    t.strictSame(page(0, 10, false)?.names, [10, 11, 12]);
    rig.leases.changed(DIR);
    t.equal(page(0, 10, false), undefined);
    rig.leases.attr({ ...directory(2, 2), lease: 7 });
    t.equal(page(0, 10, false), undefined, 'another version has another listing');
  },
);

t.test('pages of different versions are no listing', async (t) => {
  const rig = rigWith(t.testdir());
  const answered = () => rig.contents.answer('readdir', ask(0, 10));
  learn(rig, 0, [10], true, () => rig.leases.attr({ ...directory(2, 2), lease: 7 }));
  t.equal(answered(), undefined, 'changed between call and reply');
  learn(rig, 0, [10], false);
  rig.leases.attr({ ...directory(2, 3), lease: 7 });
  learn(rig, 10 * 16, [11], true);
  t.equal(answered(), undefined, 'changed between two pages');
  rig.isQuiet = false;
  learn(rig, 0, [10], true);
  t.equal(answered(), undefined, 'a change is under way');
  rig.isQuiet = true;
  learn(rig, 0, [10], true, () => rig.leases.recalled([{ ino: DIR, epoch: 7 }]));
  t.equal(answered(), undefined, 'no lease any more');
  rig.leases.attr({ ...directory(2, 3), lease: 8 });
  learn(rig, 10 * 16, [11], true);
  t.equal(answered(), undefined, 'the beginning is missing');
  learn(rig, 0, [10], true);
  t.ok(answered());
});

t.test('extents are answered at their version alone', async (t) => {
  const rig = new RememberedRig(t.testdir());
  const args = { ino: asIno(3), offset: 0, length: 100 };
  const extents = [{ offset: 0, length: 5, chunk: 1 as never, chunkOffset: 0 }];
  const attr = attrOf(3, 4, { lease: 7 });
  rig.leases.attr(attr);
  rig.contents.learn('extents', args, { attr, extents, next: 5 }, undefined);
  t.equal(rig.contents.answer('extents', args), undefined, 'these were not all');
  rig.contents.learn('extents', args, { attr, extents, next: null }, undefined);
  t.strictSame(rig.contents.answer('extents', args), { attr, extents, next: null });
  t.equal(rig.contents.answer('extents', { ...args, offset: 1 }), undefined);
  rig.leases.attr({ ...attr, ctime: { sec: 1, nsec: 1 } });
  t.equal(rig.contents.answer('extents', args), undefined, 'the same number, given anew');
});

t.test('memory is bounded', async (t) => {
  const rig = new RememberedRig(t.testdir());
  const many = Array.from({ length: limits.hintNames - 1 }, (_, index) => entryOf(index + 10));
  const count = Math.ceil(limits.contentsRemembered / many.length) + 5;
  for (let number = 1; number <= count; number++)
    rig.contents.put(asIno(number), directory(number), { kind: 'listing', parent: asIno(1), entries: many });
  rig.contents.checkInvariants();
  t.equal(rig.contents.of(asIno(1), directory(1)), undefined, 'the oldest goes');
  t.ok(rig.contents.of(asIno(count), directory(count)));
  const tooMany = { kind: 'listing', parent: asIno(1), entries: [...many, ...many] } as const;
  rig.contents.put(asIno(5000), directory(5000), tooMany);
  t.equal(rig.contents.of(asIno(5000), directory(5000)), undefined);
});
