import t from 'tap';
import type { Attr } from '../../src/proto/attr.js';
import { asIno, ROOT_INO } from '../../src/proto/ids.js';
import { createArgs, name, owner, Rig } from './rig.js';

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
