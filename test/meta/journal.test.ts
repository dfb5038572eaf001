import t from 'tap';
import type { Attr } from '../../src/proto/attr.js';
import { asIno, ROOT_INO } from '../../src/proto/ids.js';
import { commitArgs, createArgs, name, owner, Rig } from './rig.js';

/** What a mount remembers of an inode that it goes by. */
const saw = ({ ino, version, ctime }: Attr): [Attr['ino'], number, Attr['ctime']] => [ino, version, ctime];

t.test('what was done on the basis of a refused entry is refused, whatever the versions', async (t) => {
  const rig = new Rig(t);
  const [mount, other] = [await rig.mount(), await rig.mount()];
  const made = await mount.call(
    'mkdir',
    { parent: ROOT_INO, name: name('d'), owner, mode: 0o755 },
    { sequence: 1 },
  );
  const { first } = await mount.call('reserveIds', { kind: 'inode', count: 1 }, { sequence: 2 });
  // Others make a version 2 of the directory while this mount makes its own.
  await other.call('create', { ...createArgs('a'), parent: made.ino }, { sequence: 1 });
  const theirs = await mount.call('getattr', { ino: made.ino });
  const now = rig.clock.now();
  const ours = { ...made, version: theirs.version, ctime: { ...now, sec: now.sec + 1 } };
  const create = { ...createArgs('a'), parent: made.ino };
  const { refused } = await mount.call('journal', {
    first: 1,
    durable: false,
    entries: [
      { method: 'create', args: create, now: ours.ctime, ino: asIno(first), saw: [saw(made)] },
      { method: 'unlink', args: { parent: made.ino, name: name('a') }, now, saw: [saw(ours)] },
    ],
  });
  t.strictSame(
    refused.map(({ number }) => number),
    [1, 2],
  );
  t.match(await other.call('lookup', { parent: made.ino, name: name('a') }), { nlink: 1 });
});

t.test('an entry that comes again is not carried out again', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const made = await mount.call(
    'mkdir',
    { parent: ROOT_INO, name: name('d'), owner, mode: 0o755 },
    { sequence: 1 },
  );
  const { first } = await mount.call('reserveIds', { kind: 'inode', count: 1 }, { sequence: 2 });
  const args = { ...createArgs('a'), parent: made.ino };
  const entry = {
    method: 'create' as const,
    args,
    now: rig.clock.now(),
    ino: asIno(first),
    saw: [saw(made)],
  };
  for (let attempt = 0; attempt < 2; attempt++)
    t.strictSame(
      (await mount.call('journal', { first: 1, durable: false, entries: [entry] })).refused,
      [],
      'it is answered as before',
    );
  t.match(await mount.call('getattr', { ino: made.ino }), { version: made.version + 1 });
});

t.test('that an entry was refused is said again to whoever may not have heard it', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const entries = ['x', 'y', 'z'].map((text) => ({
    method: 'unlink' as const,
    args: { parent: ROOT_INO, name: name(text) },
    now: rig.clock.now(),
    saw: [],
  }));
  const numbers = async (first: number): Promise<number[]> => {
    const args = { first, durable: false, entries: entries.slice(first - 1) };
    return (await mount.call('journal', args)).refused.map(({ number }) => number);
  };
  t.strictSame(await numbers(1), [1, 2, 3]);
  t.strictSame(await numbers(1), [1, 2, 3], 'the answer was lost');
  t.strictSame(await numbers(3), [3], 'those before are known');
  t.strictSame(await numbers(1), [3], 'and are not kept any longer');
});

t.test('a commit is refused file by file', async (t) => {
  const rig = new Rig(t);
  const [mount, other] = [await rig.mount(), await rig.mount()];
  const make = async (text: string): Promise<Attr> =>
    (await mount.do('create', { ...createArgs(text), parent: ROOT_INO })).attr;
  const [kept, changed] = [await make('kept'), await make('changed')];
  const chunk = await mount.reserveChunks(2);
  await other.do('setattr', { ino: changed.ino, set: { mode: 0o600 } });
  const commit = (files: readonly Attr[]) => {
    const [first] = files;
    const args = commitArgs(first?.ino ?? ROOT_INO, chunk, 100);
    const parts = files.flatMap(({ ino }) => args.files.map((file) => ({ ...file, ino })));
    return {
      method: 'commit' as const,
      args: { ...args, files: parts },
      now: rig.clock.now(),
      saw: files.map(saw),
    };
  };
  const entries = [commit([changed]), commit([kept, changed])];
  const { refused } = await mount.call('journal', { first: 1, durable: false, entries });
  t.match(refused, [{ number: 1 }, { number: 2, inos: [changed.ino] }]);
  t.notOk(refused[0]?.inos, 'nothing is left of the first');
  t.match(await other.call('getattr', { ino: kept.ino }), { size: 100 });
  t.match(await other.call('getattr', { ino: changed.ino }), { size: 0 });
});
