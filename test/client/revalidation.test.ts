import t from 'tap';
import { setLogLevel } from '../../src/base/log.js';
import { FsError } from '../../src/proto/errno.js';
import { asIno } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { attrOf, directory, directoryHint, fileHint, RememberedRig } from './remembered.js';

setLogLevel('none');

const [ROOT, SUB, FILE] = [asIno(1), asIno(2), asIno(3)];
const named = (number: number): Buffer => Buffer.from(`n${number}`);

/** A root with a directory and a file, and two files in the directory. */
function tree(rig: RememberedRig): void {
  rig.remember([directoryHint(1, [2, 3]), directoryHint(2, [4, 5]), fileHint(3), fileHint(4), fileHint(5)]);
}

t.test('one question brings a whole tree back, under leases', async (t) => {
  const rig = new RememberedRig(t.testdir());
  tree(rig);
  t.equal(rig.leases.answer('getattr', { ino: ROOT }), undefined, 'nothing is answered unasked');
  await rig.revalidation.before('getattr', { ino: ROOT });
  t.strictSame(rig.asked, [[1, 2, 3, 4, 5]]);
  t.match(rig.leases.answer('lookup', { parent: SUB, name: named(5) }), {
    ino: 5,
    lease: 1005,
    atime: { sec: 5 },
  });
  t.throws(() => rig.leases.answer('lookup', { parent: SUB, name: named(6) }), { code: 'ENOENT' });
  const reply = rig.contents.answer('extents', { ino: FILE, offset: 0, length: 100 });
  t.match(reply, { attr: { ino: 3, lease: 1003 }, extents: [{ chunk: 3 }], next: null });
  t.match(rig.xattrs.answer('getxattr', { ino: FILE, name: Buffer.from('user.a') }), {
    value: Buffer.from('b'),
  });
  t.equal(rig.revalidation.before('getattr', { ino: FILE }), undefined, 'each is tried once');
  rig.isTrusted = false;
  t.equal(rig.leases.answer('getattr', { ino: ROOT }), undefined);
  t.equal(rig.contents.answer('extents', { ino: FILE, offset: 0, length: 100 }), undefined);
});

t.test('what has changed is dropped for good, names with their directory', async (t) => {
  const rig = new RememberedRig(t.testdir());
  tree(rig);
  rig.versions.set(SUB, 2);
  rig.versions.delete(FILE);
  await rig.revalidation.before('lookup', { parent: ROOT, name: named(2) });
  for (const ino of [SUB, FILE]) {
    t.equal(rig.leases.answer('getattr', { ino }), undefined);
    t.equal(rig.hints.get(ino), undefined);
  }
  t.equal(rig.leases.known(SUB, named(4)), undefined);
  rig.leases.attr({ ...directory(2, 2), lease: 9 });
  t.equal(rig.leases.known(SUB, named(4)), undefined, 'nor are they once it is known as it is');
  t.ok(rig.hints.get(asIno(4)), 'what is in it may be as it was');
});

t.test('a lease that there is already is as good as an answer', async (t) => {
  const rig = new RememberedRig(t.testdir());
  tree(rig);
  rig.leases.attr({ ...directory(1), lease: 7 });
  rig.leases.attr({ ...directory(2, 2), lease: 8 });
  await rig.revalidation.before('lookup', { parent: ROOT, name: named(3) });
  t.strictSame(rig.asked, [[3]], 'the root is not asked about, nor what is in a directory that is another');
  t.equal(rig.leases.known(ROOT, named(3)), FILE);
  t.equal(rig.hints.get(SUB), undefined);
});

t.test(
  'what another mount has to itself is used once its version is known, if that is the one',
  async (t) => {
    const rig = new RememberedRig(t.testdir());
    tree(rig);
    rig.elsewhere.add(SUB).add(FILE);
    await rig.revalidation.before('getattr', { ino: ROOT });
    t.equal(rig.leases.answer('getattr', { ino: SUB }), undefined);
    t.equal(rig.revalidation.before('getattr', { ino: SUB }), undefined, 'it is asked about once');
    rig.leases.attr({ ...directory(2), lease: 8 });
    await rig.revalidation.before('lookup', { parent: SUB, name: named(4) });
    t.equal(rig.leases.known(SUB, named(4)), asIno(4));
    rig.leases.attr({ ...attrOf(3, 7), lease: 9 });
    t.equal(rig.revalidation.before('extents', { ino: FILE, offset: 0, length: 1 }), undefined);
    t.equal(rig.hints.get(FILE), undefined, 'it has changed');
  },
);

t.test('what was changed here, and nobody else knows, is not compared', async (t) => {
  const rig = new RememberedRig(t.testdir());
  tree(rig);
  rig.dirty.add(FILE);
  const asking = rig.revalidation.before('getattr', { ino: ROOT });
  rig.dirty.add(asIno(4));
  await asking;
  t.notOk(rig.asked.flat().includes(FILE));
  t.equal(rig.leases.answer('getattr', { ino: asIno(4) }), undefined);
});

t.test('what overtakes the answer counts', async (t) => {
  const rig = new RememberedRig(t.testdir());
  tree(rig);
  rig.answer = async (asked) => {
    rig.leases.attr({ ...directory(2, 5), lease: 1002 });
    rig.leases.attr({ ...attrOf(3, 1, { ctime: { sec: 9, nsec: 9 } }), lease: 55 });
    return rig.unchanged(asked);
  };
  await rig.revalidation.before('getattr', { ino: ROOT });
  t.equal(rig.leases.answer('getattr', { ino: SUB })?.version, 5);
  t.equal(rig.leases.known(SUB, named(4)), undefined);
});

t.test(
  'a change of this mount that began before, and was carried out after, is not covered up',
  async (t) => {
    const rig = new RememberedRig(t.testdir());
    tree(rig);
    const { moment } = rig.leases;
    await rig.revalidation.before('getattr', { ino: ROOT });
    const args = { parent: SUB, owner: { uid: 0, gid: 0 }, mode: 0o755 };
    for (const name of [Buffer.from('new'), named(4)])
      rig.leases.learn('mkdir', { ...args, name }, { ...directory(9), lease: 70 }, moment);
    t.equal(rig.leases.known(SUB, Buffer.from('new')), undefined, 'not: there is none');
    t.equal(rig.leases.known(SUB, named(4)), undefined);
    t.equal(rig.leases.known(SUB, named(5)), asIno(5));
  },
);

t.test('while a change is in doubt nothing is learned', async (t) => {
  const rig = new RememberedRig(t.testdir());
  tree(rig);
  rig.leases.doubt();
  await rig.revalidation.before('getattr', { ino: ROOT });
  t.equal(rig.leases.size, 0);
  t.equal(rig.leases.known(ROOT, named(3)), undefined);
});

t.test('calls about the same wait for one question, and one that fails is no error', async (t) => {
  const rig = new RememberedRig(t.testdir());
  tree(rig);
  let fail = (_error: Error): void => {};
  rig.answer = () =>
    new Promise((_, reject) => {
      fail = reject;
    });
  const first = rig.revalidation.before('getattr', { ino: ROOT });
  const second = rig.revalidation.before('readdir', { ino: SUB, after: 0, limit: 10, plus: true });
  t.ok(first && second);
  fail(new FsError('EIO', 'revalidate'));
  await Promise.all([first, second]);
  t.equal(rig.asked.length, 1);
  t.equal(rig.leases.size, 0);
  t.ok(rig.hints.get(ROOT), 'it may be true all the same');
  t.equal(rig.revalidation.before('getattr', { ino: ROOT }), undefined, 'the call goes its own way');
  rig.revalidation.restart();
  t.ok(rig.revalidation.before('getattr', { ino: ROOT }), 'another connection, another try');
});

t.test('questions are bounded: they grow with use, and a large directory comes in several', async (t) => {
  const rig = new RememberedRig(t.testdir());
  const files = Array.from({ length: 3500 }, (_, index) => index + 100);
  const middle = directoryHint(2, files);
  rig.remember([directoryHint(1, [2, 3]), fileHint(3), middle, ...files.map((file) => fileHint(file))]);
  const call = { parent: SUB, name: named(3599) };
  await rig.revalidation.before('getattr', { ino: ROOT });
  t.equal(rig.asked[0]?.length, limits.revalidatedAtFirst);
  while (rig.leases.answer('lookup', call) === undefined) {
    const waiting = rig.revalidation.before('lookup', call);
    if (waiting === undefined) break;
    await waiting;
  }
  t.ok(rig.leases.answer('lookup', call), 'whichever is asked for is among them');
  t.ok(rig.asked.every((inodes) => inodes.length <= limits.revalidatedAtOnce));
  t.equal(new Set(rig.asked.flat()).size, rig.asked.flat().length, 'none is asked about twice');
});

t.test('calls that change something, and those that hints do not answer, wait for nothing', async (t) => {
  const rig = new RememberedRig(t.testdir());
  tree(rig);
  t.equal(rig.revalidation.before('unlink', { parent: ROOT, name: named(3) }), undefined);
  t.equal(rig.revalidation.before('open', { ino: ROOT, truncate: false }), undefined);
  t.equal(rig.revalidation.before('getattr', { ino: asIno(77) }), undefined);
});
