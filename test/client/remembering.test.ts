import t from 'tap';
import { Remembering } from '../../src/client/remembering.js';
import { S_IFLNK } from '../../src/proto/attr.js';
import { asIno, type Ino } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { ManualClock } from '../rpc/manual-clock.js';
import { attrOf, directory, RememberedRig } from './remembered.js';

const [DIR, FILE] = [asIno(2), asIno(3)];

/** What a rig knows, written down on a clock moved by hand. */
function rigWith(dir: string) {
  const rig = new RememberedRig(dir);
  const clock = new ManualClock();
  const ownInodes = new Set<Ino>();
  const { leases, contents, xattrs, hints } = rig;
  const remembering = new Remembering({
    ...{ clock, hints, leases, contents, xattrs },
    own: {
      get isQuiet() {
        return rig.isQuiet;
      },
      isOwn: (ino) => ownInodes.has(ino),
      run: ((method: string) => {
        if (method === 'readlink') return { target: Buffer.from('there') };
        return method === 'listxattr' ? { names: [] } : undefined;
      }) as never,
    },
    journal: { isDirty: (ino) => rig.dirty.has(ino) },
  });
  leases.attr({ ...directory(2), lease: 7 });
  leases.attr(attrOf(3, 1, { lease: 8, exclusive: true }));
  leases.ownEntry(DIR, Buffer.from('f'), FILE);
  leases.ownEntry(DIR, Buffer.from('gone'), null);
  remembering.learned(DIR);
  remembering.learned(FILE);
  const pass = (): Promise<void> => clock.advance(limits.hintDelayMs + 10);
  return { rig, clock, remembering, ownInodes, pass };
}

t.test('what is known is written a moment later, without its lease', async (t) => {
  const { rig, clock, pass } = rigWith(t.testdir());
  await clock.advance(limits.hintDelayMs / 2);
  t.equal(rig.hints.get(DIR), undefined);
  await pass();
  t.strictSame(rig.hints.get(DIR)?.names, [
    ['f', FILE],
    ['gone', null],
  ]);
  t.equal(rig.hints.get(DIR)?.isComplete, false);
  const file = rig.hints.get(FILE);
  t.strictSame(file?.attr, attrOf(3));
});

t.test('what only the journal knows is written once the server has it', async (t) => {
  const { rig, pass } = rigWith(t.testdir());
  rig.dirty.add(FILE);
  await pass();
  t.ok(rig.hints.get(DIR));
  t.equal(rig.hints.get(FILE), undefined);
  rig.dirty.clear();
  await pass();
  t.ok(rig.hints.get(FILE));
});

t.test('names are not written while a change is on its way', async (t) => {
  const { rig, pass } = rigWith(t.testdir());
  rig.isQuiet = false;
  await pass();
  t.equal(rig.hints.get(DIR), undefined);
  t.ok(rig.hints.get(FILE));
  rig.isQuiet = true;
  await pass();
  t.ok(rig.hints.get(DIR));
});

t.test('nothing is written without a lease in force, in doubt, or of what has no name', async (t) => {
  const { rig, remembering, pass } = rigWith(t.testdir());
  rig.isTrusted = false;
  await pass();
  t.strictSame(rig.hints.inodes(), []);
  rig.isTrusted = true;
  rig.leases.attr(attrOf(4, 1, { lease: 9, nlink: 0 }));
  rig.leases.changed(FILE);
  for (const ino of [asIno(4), FILE]) remembering.learned(ino);
  await pass();
  t.strictSame(rig.hints.inodes(), []);
  rig.leases.doubt();
  for (const ino of [DIR, FILE]) remembering.learned(ino);
  await pass();
  t.strictSame(rig.hints.inodes(), []);
});

t.test('of what this mount has to itself it knows all', async (t) => {
  const { rig, ownInodes, remembering, pass } = rigWith(t.testdir());
  rig.leases.attr(attrOf(5, 1, { lease: 9, mode: S_IFLNK | 0o777 }));
  ownInodes.add(asIno(5));
  remembering.learned(asIno(5));
  await pass();
  t.match(rig.hints.get(asIno(5)), {
    content: { kind: 'target', target: Buffer.from('there') },
    xattrs: { values: [], names: [] },
  });
});

t.test('a large directory is written in part, and is not complete then', async (t) => {
  const { rig, remembering, pass } = rigWith(t.testdir());
  rig.leases.attr({ ...directory(6), lease: 9 });
  const names = Array.from({ length: limits.hintNames + 10 }, (_, index): [string, Ino] => [
    `${index}`,
    FILE,
  ]);
  rig.leases.adopt(asIno(6), directory(6), { children: new Map(names), isComplete: true });
  remembering.learned(asIno(6));
  await pass();
  const hint = rig.hints.get(asIno(6));
  t.equal(hint?.names.length, limits.hintNames);
  t.equal(hint?.isComplete, false);
});

t.test('it is written a little at a time, and all of it at the end', async (t) => {
  const { rig, clock, remembering, pass } = rigWith(t.testdir());
  const count = 5 * limits.hintsPerSlice;
  rig.dirty.add(DIR);
  for (let number = 100; number < 100 + count; number++) {
    rig.leases.attr(attrOf(number, 1, { lease: number }));
    remembering.learned(asIno(number));
  }
  await pass();
  t.equal(rig.hints.inodes().length, limits.hintsPerSlice);
  await clock.advance(limits.hintPauseMs + 1);
  t.equal(rig.hints.inodes().length, 2 * limits.hintsPerSlice);
  await remembering.close();
  t.equal(rig.hints.inodes().length, count + 1, 'but for what the server does not have');
});
