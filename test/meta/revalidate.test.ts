/** The server's answer to what a mount remembers from before: what is unchanged, and leases on it. */
import t from 'tap';
import type { Attr } from '../../src/proto/attr.js';
import { asIno, type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { type Client, name, owner, Rig } from './rig.js';

const leases = { leases: true };

const seenOf = ({ ino, version, ctime }: Attr): [Ino, number, Attr['ctime']] => [ino, version, ctime];

async function attrOf(mount: Client, ino: Ino): Promise<Attr> {
  return await mount.call('getattr', { ino });
}

async function unchanged(mount: Client, attrs: readonly Attr[]): Promise<Ino[]> {
  const reply = await mount.call('revalidate', { inodes: attrs.map(seenOf) });
  return reply.unchanged.map(([ino]) => ino);
}

/** A mount without leases makes files; another one comes later and remembers them. */
async function files(rig: Rig, ...names: string[]): Promise<{ maker: Client; attrs: Attr[] }> {
  const maker = await rig.mount('/maker');
  for (const each of names) await maker.create(each);
  const attrs = await Promise.all(
    names.map((each) => maker.call('lookup', { parent: ROOT_INO, name: name(each) })),
  );
  return { maker, attrs };
}

t.test('what is as it was gets leases, which are recalled as any; what is not does not', async (t) => {
  const rig = new Rig(t);
  const { maker, attrs } = await files(rig, 'same', 'changed', 'removed', 'renamed', 'linked');
  const [same, changed, removed, renamed, linked] = attrs.map(({ ino }) => ino) as [Ino, Ino, Ino, Ino, Ino];
  const root = await attrOf(maker, ROOT_INO);
  await maker.do('setattr', { ino: changed, set: { mode: 0o600 } });
  await maker.unlink('removed');
  const to = { newParent: ROOT_INO, newName: name('other') };
  await maker.do('rename', { parent: ROOT_INO, name: name('renamed'), ...to, mode: 'replace' });
  await maker.do('link', { ino: linked, parent: ROOT_INO, name: name('second') });
  const mount = await rig.mount('/back', leases);
  const reply = await mount.call('revalidate', { inodes: [root, ...attrs].map(seenOf) });
  t.strictSame(
    reply.unchanged.map(([ino]) => ino),
    [same],
    `not ${[changed, removed, renamed, linked]}, nor the directory`,
  );
  const [[, epoch, atime] = []] = reply.unchanged;
  t.strictSame(atime, attrs[0]?.atime);
  const changing = maker.do('setattr', { ino: same, set: { mode: 0o640 } });
  await rig.pass(100);
  t.strictSame(mount.recalls, [{ ino: same, epoch }]);
  await mount.call('returnLeases', { leases: [{ ino: same, epoch: epoch ?? 0 }] });
  await changing;
  rig.server.checkInvariants();
});

t.test('what another mount has to itself is said to be the same, and not leased', async (t) => {
  const rig = new Rig(t);
  const maker = await rig.mount('/maker', leases);
  const attr = await attrOf(maker, await maker.create('mine'));
  const mount = await rig.mount('/back', leases);
  const other = { ...attr, ino: asIno(attr.ino + 1) };
  const reply = await mount.call('revalidate', { inodes: [attr, other].map(seenOf) });
  t.strictSame(reply, { unchanged: [], unleased: [attr.ino] });
  t.strictSame(maker.recalls, [], 'nobody is asked for it');
});

t.test('every change of the entries of a directory makes it another', async (t) => {
  const rig = new Rig(t);
  const { maker, attrs } = await files(rig, 'a', 'b');
  const [a = asIno(9)] = attrs.map(({ ino }) => ino);
  await maker.do('mkdir', { parent: ROOT_INO, name: name('d'), owner, mode: 0o755 });
  const { ino: d } = await maker.call('lookup', { parent: ROOT_INO, name: name('d') });
  const mount = await rig.mount('/back');
  const [parent, newParent] = [ROOT_INO, ROOT_INO];
  const place = (text: string) => ({ parent, name: name(text) });
  const changes: Record<string, () => Promise<unknown>> = {
    create: () => maker.create('new'),
    mknod: () => maker.do('mknod', { ...place('fifo'), owner, mode: 0o010644, rdev: 0 }),
    symlink: () => maker.do('symlink', { ...place('sym'), owner, target: name('a') }),
    link: () => maker.do('link', { ino: a, ...place('link') }),
    mkdir: () => maker.do('mkdir', { ...place('e'), owner, mode: 0o755 }),
    rmdir: () => maker.do('rmdir', place('e')),
    unlink: () => maker.unlink('link'),
    'rename within': () =>
      maker.do('rename', { ...place('new'), newParent, newName: name('newer'), mode: 'replace' }),
    'rename over': () =>
      maker.do('rename', { ...place('newer'), newParent, newName: name('b'), mode: 'replace' }),
    exchange: () => maker.do('rename', { ...place('a'), newParent, newName: name('b'), mode: 'exchange' }),
    'rename out': () =>
      maker.do('rename', { ...place('b'), newParent: d, newName: name('b'), mode: 'replace' }),
    whiteout: () =>
      maker.do('rename', {
        ...place('sym'),
        newParent,
        newName: name('sym2'),
        mode: 'replace',
        whiteout: owner,
      }),
  };
  for (const [what, change] of Object.entries(changes)) {
    const before = await attrOf(mount, ROOT_INO);
    await change();
    const after = await attrOf(mount, ROOT_INO);
    t.ok(after.version > before.version, what);
  }
});

t.test('a version with another time of change is another', async (t) => {
  const rig = new Rig(t);
  const { attrs } = await files(rig, 'f');
  const mount = await rig.mount('/back', leases);
  const [attr] = attrs as [Attr];
  const { sec, nsec } = attr.ctime;
  t.strictSame(await unchanged(mount, [{ ...attr, ctime: { sec, nsec: nsec + 1 } }]), []);
  t.strictSame(await unchanged(mount, [{ ...attr, version: attr.version + 1 }]), []);
  t.strictSame(await unchanged(mount, [{ ...attr, ino: asIno(4_000_000) }]), []);
  t.strictSame(await unchanged(mount, [attr]), [attr.ino]);
});

t.test('what another mount has to itself is not waited for', async (t) => {
  const rig = new Rig(t);
  const other = await rig.mount('/other', leases);
  const ino = await other.create('own');
  const watcher = await rig.mount('/watcher');
  const looking = watcher.call('getattr', { ino });
  await rig.pass(100);
  const [lease] = other.recalls;
  t.ok(lease, 'it is exclusive');
  await other.call('returnLeases', { leases: [{ ino, epoch: lease?.epoch ?? 0, keep: 'shared' }] });
  const attr = await looking;
  const again = await other.create('again');
  const exclusive = await attrOf(other, again);
  const mount = await rig.mount('/back', leases);
  const { length } = other.recalls;
  t.strictSame(await unchanged(mount, [exclusive, attr]), [ino], 'the one that is shared now, at once');
  await rig.pass(100);
  t.equal(other.recalls.length, length, 'and nobody is asked to give anything up');
});

t.test('whoever takes no leases gets none, and what is gone but open is not unchanged', async (t) => {
  const rig = new Rig(t);
  const { maker, attrs } = await files(rig, 'f', 'open');
  const [f, open] = attrs as [Attr, Attr];
  const mount = await rig.mount('/back', leases);
  t.strictSame(await unchanged(maker, attrs), []);
  await maker.do('open', { ino: open.ino, truncate: false });
  await maker.unlink('open');
  const unlinked = await attrOf(maker, open.ino);
  t.equal(unlinked.nlink, 0);
  t.strictSame(await unchanged(mount, [unlinked, f]), [f.ino]);
});

t.test('after a start it waits until leases of before are known', async (t) => {
  const rig = new Rig(t);
  const { attrs } = await files(rig, 'f');
  const holder = await rig.mount('/holder', leases);
  await holder.call('getattr', { ino: ROOT_INO });
  await rig.restart();
  const mount = await rig.mount('/back', leases);
  const asking = unchanged(mount, attrs);
  let isDone = false;
  void asking.then(() => {
    isDone = true;
  });
  await rig.pass(1000);
  t.notOk(isDone);
  await (await rig.resume(holder)).call('returnLeases', { leases: [], all: true });
  t.strictSame(
    await asking,
    attrs.map(({ ino }) => ino),
  );
});

t.test('questions are bounded, and need a session', async (t) => {
  const rig = new Rig(t);
  const { attrs } = await files(rig, 'f');
  const mount = await rig.mount('/back', leases);
  const [attr] = attrs as [Attr];
  const many = (count: number) =>
    Array.from({ length: count }, (_, index) => ({ ...attr, ino: asIno(index + 2) }));
  t.strictSame(await unchanged(mount, many(limits.revalidatedAtOnce)), [attr.ino]);
  await t.rejects(unchanged(mount, many(limits.revalidatedAtOnce + 1)));
  await t.rejects(unchanged(rig.connect(), attrs));
});
