/** Exclusive leases on what is there already: who is given them, with what, and who is not. */
import t from 'tap';
import { asIno, type Ino, ROOT_INO } from '../../src/proto/ids.js';
import type { Taken } from '../../src/proto/lease-methods.js';
import { limits } from '../../src/proto/limits.js';
import { type Client, createArgs, name, owner, Rig } from './rig.js';

const leases = { leases: true };

async function take(mount: Client, ...inos: Ino[]): Promise<readonly Taken[]> {
  return (await mount.call('takeLeases', { inos })).taken;
}

const taken = async (mount: Client, ...inos: Ino[]): Promise<Ino[]> =>
  (await take(mount, ...inos)).map(({ attr }) => attr.ino);

/** A directory with files, made by a mount without leases. */
async function tree(rig: Rig, files: readonly string[]): Promise<{ maker: Client; dir: Ino; files: Ino[] }> {
  const maker = await rig.mount('/maker');
  const { ino: dir } = await maker.do('mkdir', { parent: ROOT_INO, name: name('d'), owner, mode: 0o755 });
  const made: Ino[] = [];
  for (const file of files)
    made.push((await maker.do('create', { ...createArgs(file), parent: dir })).attr.ino);
  await maker.do('release', { inos: made });
  return { maker, dir, files: made };
}

t.test('a mount is given what nobody else has, with all that the rules go by', async (t) => {
  const rig = new Rig(t);
  const { maker, dir, files } = await tree(rig, ['a', 'b']);
  const [file = ROOT_INO] = files;
  await maker.write(file, await maker.reserveChunks(1), 1000);
  await maker.do('setxattr', { ino: file, name: name('user.x'), value: name('1'), mode: 'any' });
  const mount = await rig.mount('/m', leases);
  const { lease: shared } = await mount.call('getattr', { ino: file });
  const [ofDir, ofFile, ...more] = await take(mount, dir, file, dir);
  t.strictSame(more, [], 'each once');
  t.match(ofDir, { parent: ROOT_INO, was: undefined, isOpen: false });
  t.strictSame(
    ofDir?.entries?.map(({ name, ino }) => [Buffer.from(name).toString(), ino]).sort(),
    ['a', 'b'].map((text, at) => [text, files[at]]),
  );
  t.match(ofFile, { was: shared, extents: [{ offset: 0, length: 1000 }], parent: null, entries: undefined });
  t.strictSame(
    ofFile?.xattrs.map((xattr) => Buffer.from(xattr.value).toString()),
    ['1'],
  );
  const again = await take(mount, file);
  t.equal(again[0]?.attr.lease, ofFile?.attr.lease, 'what is its own already stays so');
  rig.server.checkInvariants();
});

t.test('what it did under them is carried out, and others wait for that', async (t) => {
  const rig = new Rig(t);
  const { maker, dir, files } = await tree(rig, ['a']);
  const [file = ROOT_INO] = files;
  const mount = await rig.mount('/m', leases);
  const held = await take(mount, dir, file);
  const looking = maker.call('lookup', { parent: dir, name: name('a') });
  await rig.pass(10);
  t.strictSame(
    mount.recalls.map(({ ino }) => ino).sort(),
    [dir, file].sort(),
    'reading is enough for a recall',
  );
  const entry = {
    method: 'unlink' as const,
    args: { parent: dir, name: name('a') },
    now: rig.clock.now(),
    saw: held.map(({ attr }): [Ino, number, typeof attr.ctime] => [attr.ino, attr.version, attr.ctime]),
  };
  const { refused } = await mount.call('journal', { first: 1, durable: false, entries: [entry] });
  t.strictSame(refused, []);
  await mount.call('returnLeases', {
    leases: held.map(({ attr }) => ({ ino: attr.ino, epoch: attr.lease ?? 0 })),
  });
  await t.rejects(looking, { code: 'ENOENT' });
  rig.server.checkInvariants();
});

t.test(
  'what others have a lease on, or open, is not taken, and nobody is asked to give it back',
  async (t) => {
    const rig = new Rig(t);
    const { maker, dir, files } = await tree(rig, ['leased', 'open', 'free']);
    const [leased = ROOT_INO, open = ROOT_INO, free = ROOT_INO] = files;
    const other = await rig.mount('/other', leases);
    await other.call('getattr', { ino: leased });
    await maker.do('open', { ino: open, truncate: false });
    const mount = await rig.mount('/m', leases);
    t.strictSame(await taken(mount, dir, leased, open, free), [dir, free]);
    await rig.pass(10);
    t.strictSame(other.recalls, []);
    t.strictSame(await taken(maker, free), [], 'a session without leases gets none');
    rig.server.checkInvariants();
  },
);

t.test('what is gone, or too much to say, is left out', async (t) => {
  const rig = new Rig(t);
  const files = Array.from({ length: limits.takenEntries }, (_, index) => `f${index}`);
  const { maker, dir, files: made } = await tree(rig, files);
  const [many = ROOT_INO, large = ROOT_INO, plain = ROOT_INO] = made;
  for (let index = 0; index <= limits.takenXattrs; index++)
    await maker.do('setxattr', { ino: many, name: name(`user.${index}`), value: name('1'), mode: 'any' });
  const value = Buffer.alloc(limits.takenXattrBytes);
  await maker.do('setxattr', { ino: large, name: name('user.x'), value, mode: 'any' });
  const mount = await rig.mount('/m', leases);
  const unknown = asIno(999_999);
  t.strictSame(await taken(mount, unknown, many, large, plain), [plain]);
  const [whole] = await take(mount, dir);
  t.equal(whole?.entries?.length, limits.takenEntries);
  await mount.call('returnLeases', { leases: [{ ino: dir, epoch: whole?.attr.lease ?? 0 }] });
  await maker.do('create', { ...createArgs('one more'), parent: dir });
  const [partly] = await take(mount, dir);
  t.match(partly, { attr: { ino: dir }, entries: undefined }, 'its rows, without the entries');
  rig.server.checkInvariants();
});

/** A mount wants exclusive leases, also from others. */
const recalling = async (mount: Client, ...inos: Ino[]): Promise<Ino[]> =>
  (await mount.call('takeLeases', { inos, recall: inos.length })).taken.map(({ attr }) => attr.ino);

/** What has been recalled from a mount is given back. */
async function giveBack(mount: Client): Promise<Ino[]> {
  const recalled = mount.recalls.splice(0).map(({ ino, epoch }) => ({ ino: asIno(ino), epoch }));
  await mount.call('returnLeases', { leases: recalled });
  return recalled.map(({ ino }) => ino).sort((a, b) => a - b);
}

t.test('what others have is recalled in one message, and given to who asked', async (t) => {
  const rig = new Rig(t);
  const { maker, files } = await tree(rig, ['a', 'b', 'open', 'free']);
  const [a = ROOT_INO, b = ROOT_INO, open = ROOT_INO, free = ROOT_INO] = files;
  const other = await rig.mount('/other', leases);
  for (const ino of [a, b, open]) await other.call('getattr', { ino });
  await maker.do('open', { ino: open, truncate: false });
  const mount = await rig.mount('/m', leases);
  const asking = recalling(mount, a, b, open, free);
  await rig.pass(10);
  t.strictSame(
    await giveBack(other),
    [a, b].sort((x, y) => x - y),
    'not what is open: it would not be given',
  );
  t.strictSame(await asking, [a, b, free]);
  t.strictSame(await taken(mount, a, b), [a, b], 'they are its own now');
  rig.server.checkInvariants();
});

t.test('the rest of them is given only if nobody has it', async (t) => {
  const rig = new Rig(t);
  const { files } = await tree(rig, ['a', 'b', 'free']);
  const [a = ROOT_INO, b = ROOT_INO, free = ROOT_INO] = files;
  const other = await rig.mount('/other', leases);
  for (const ino of [a, b]) await other.call('getattr', { ino });
  const mount = await rig.mount('/m', leases);
  const asking = mount.call('takeLeases', { inos: [a, b, free], recall: 1 });
  await rig.pass(10);
  t.strictSame(await giveBack(other), [a]);
  t.strictSame(
    (await asking).taken.map(({ attr }) => attr.ino),
    [a, free],
  );
  rig.server.checkInvariants();
});

t.test('what another changes by itself, or what goes back and forth, is not recalled for that', async (t) => {
  const rig = new Rig(t);
  const { files } = await tree(rig, ['a']);
  const [a = ROOT_INO] = files;
  const one = await rig.mount('/one', leases);
  const two = await rig.mount('/two', leases);
  t.strictSame(await recalling(one, a), [a]);
  t.strictSame(await recalling(two, a), []);
  t.strictSame(one.recalls, [], 'it may have much to bring here first');
  const changing = two.do('setattr', { ino: a, set: { mode: 0o600 } });
  await rig.pass(10);
  t.strictSame(await giveBack(one), [a]);
  await changing;
  t.strictSame(await recalling(one, a), [], 'the other one has asked last');
  t.strictSame(await recalling(two, a), [a], 'and gets it');
  rig.server.checkInvariants();
});

t.test('whoever does not answer keeps nobody waiting for longer than a lease', async (t) => {
  const rig = new Rig(t);
  const { files } = await tree(rig, ['a']);
  const [a = ROOT_INO] = files;
  const silent = await rig.mount('/silent', leases);
  await silent.call('getattr', { ino: a });
  const mount = await rig.mount('/m', leases);
  const asking = recalling(mount, a);
  await rig.pass(limits.leaseTtlMs + limits.heartbeatMs);
  t.strictSame(await asking, [a]);
  rig.server.checkInvariants();
});

t.test('too many at once are refused', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount('/m', leases);
  const inos = Array.from({ length: limits.takenPerMessage + 1 }, (_, index) => asIno(index + 1));
  await t.rejects(mount.call('takeLeases', { inos }), { code: 'badMessage' });
});

t.test('nothing is taken while the leases of before a restart are not settled', async (t) => {
  const rig = new Rig(t);
  const { dir } = await tree(rig, []);
  const holder = await rig.mount('/holder', leases);
  t.strictSame(await taken(holder, dir), [dir]);
  await rig.restart();
  const mount = await rig.mount('/m', leases);
  t.strictSame(await taken(mount, dir), []);
  await rig.pass(limits.leaseTtlMs);
  const late = await rig.mount('/late', leases);
  t.strictSame(await taken(late, dir), [dir]);
});
