/**
 * The metadata server's side of leases: who waits for whom, and how long: for a mount that answers, for one
 * that does not, and after a restart for those that were there before.
 */
import t from 'tap';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { type Client, name, Rig } from './rig.js';

const TTL_MS = limits.leaseTtlMs;
const leases = { leases: true };

/** Looks at an inode, and has a lease for it from then on; its epoch. */
async function look(mount: Client, ino: Ino): Promise<number | undefined> {
  return (await mount.call('getattr', { ino })).lease;
}

async function lease(mount: Client, ino: Ino): Promise<{ ino: Ino; epoch: number }> {
  const epoch = await look(mount, ino);
  if (epoch === undefined) throw new Error('no lease was granted');
  return { ino, epoch };
}

/** A change of the inode; `isDone` tells whether it was carried out. */
function change(mount: Client, ino: Ino): { readonly done: Promise<unknown>; isDone: boolean } {
  const done = mount.do('setattr', { ino, set: { mode: 0o600 } });
  const state = { done, isDone: false };
  done.then(
    () => {
      state.isDone = true;
    },
    () => {},
  );
  return state;
}

/** Time passes while these mounts renew their sessions. */
async function pass(rig: Rig, ms: number, renewing: readonly Client[]): Promise<void> {
  for (let left = ms; left > 0; left -= 1000) {
    await rig.pass(Math.min(left, 1000));
    for (const mount of renewing) if (!mount.peer.closed) await mount.call('heartbeat', { finishedBelow: 0 });
  }
}

const returnAll = (mount: Client): Promise<unknown> => mount.call('returnLeases', { leases: [], all: true });

/** Two mounts with leases; the holder has one for a file. */
async function twoMounts(rig: Rig): Promise<{ holder: Client; other: Client; ino: Ino }> {
  const holder = await rig.mount('/holder', leases);
  const other = await rig.mount('/other', leases);
  // Who makes a file has it to itself at first.
  const ino = await (await rig.mount('/maker')).create('f');
  await lease(holder, ino);
  return { holder, other, ino };
}

t.test('a change waits for the holder’s answer, and no longer', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  const held = await lease(holder, ino);
  const changing = change(other, ino);
  await rig.pass(500);
  t.strictSame(holder.recalls, [held]);
  t.notOk(changing.isDone);
  t.equal(await look(other, ino), undefined, 'nobody is granted one meanwhile');
  await holder.call('setattr', { ino, set: { mode: 0o640 } }, { sequence: 50 });
  t.notOk(changing.isDone, 'the holder’s own requests go ahead');
  await holder.call('returnLeases', { leases: [held] });
  await changing.done;
  rig.server.checkInvariants();
});

t.test('a mount that falls silent keeps others waiting until its leases are void', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  await rig.pass(2000);
  const changing = change(other, ino);
  await pass(rig, TTL_MS - 2100, [other]);
  t.notOk(changing.isDone, 'its time is counted from its last heartbeat');
  t.notOk(holder.peer.closed);
  await pass(rig, 200, [other]);
  t.ok(changing.isDone);
  t.ok(holder.peer.closed, 'its next heartbeat must not make it trust them again');
  t.notOk(other.peer.closed);
  const back = await rig.resume(holder);
  await lease(back, ino);
  rig.server.checkInvariants();
});

t.test(
  'a mount that renews and never answers is disconnected in time, and waited for no longer',
  async (t) => {
    const rig = new Rig(t);
    const { holder, other, ino } = await twoMounts(rig);
    const changing = change(other, ino);
    await rig.pass(0);
    await pass(rig, TTL_MS - 100, [holder, other]);
    t.notOk(holder.peer.closed);
    await pass(rig, 200, [holder, other]);
    t.ok(holder.peer.closed);
    t.notOk(changing.isDone, 'it may not have noticed yet');
    await pass(rig, TTL_MS, [other]);
    t.ok(changing.isDone);
    t.notOk(other.peer.closed);
  },
);

t.test('nor does coming back help it, again and again', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  const changing = change(other, ino);
  let mount = holder;
  let waitedMs = 0;
  for (; !changing.isDone && waitedMs < 10 * TTL_MS; waitedMs += 1000) {
    await pass(rig, 1000, [mount, other]);
    if (mount.peer.closed || waitedMs % 4000 === 0) mount = await rig.resume(mount);
  }
  t.ok(waitedMs <= 2 * TTL_MS + 1000, `done after ${waitedMs} ms`);
});

t.test('nor does coming back at the last moment', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  const changing = change(other, ino);
  await rig.pass(0);
  await pass(rig, 2 * TTL_MS - 1500, [holder, other]);
  t.ok(holder.peer.closed);
  const back = await rig.resume(holder);
  t.notOk(changing.isDone);
  await pass(rig, 1600, [back, other]);
  t.ok(changing.isDone);
  await lease(await rig.resume(back), await (await rig.mount('/another')).create('g'));
});

t.test('who came back has not given up what it had before it says so', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  const back = await rig.resume(holder);
  const changing = change(other, ino);
  await pass(rig, 2000, [back, other]);
  t.notOk(changing.isDone);
  t.equal(await look(back, ino), undefined, 'and gets no new one');
  await returnAll(back);
  await changing.done;
  await rig.pass(limits.leaseBackoffMs);
  await lease(back, ino);
});

t.test('who comes back a second time has its whole time again to say so', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  const second = await rig.resume(holder);
  await returnAll(second);
  await lease(second, ino);
  await pass(rig, 6000, [second, other]);
  const third = await rig.resume(second);
  const changing = change(other, ino);
  await pass(rig, TTL_MS - 100, [third, other]);
  t.notOk(changing.isDone, 'the end of the first time is not that of the second');
  await pass(rig, 200, [third, other]);
  t.ok(changing.isDone);
});

t.test('who comes back twice without a word has the time of once', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  const second = await rig.resume(holder);
  await pass(rig, 6000, [second, other]);
  const third = await rig.resume(second);
  const changing = change(other, ino);
  await pass(rig, TTL_MS - 6100, [third, other]);
  t.notOk(changing.isDone);
  await pass(rig, 200, [third, other]);
  t.ok(changing.isDone);
});

t.test('a session that is closed, or expires, is in nobody’s way', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  const changing = change(other, ino);
  await rig.pass(100);
  t.notOk(changing.isDone);
  await holder.call('closeSession', {});
  await changing.done;
});

t.test('after a restart nothing is answered before every mount of before is back', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  const third = await rig.mount('/third', leases);
  await rig.restart();
  const [otherBack, stranger] = [await rig.resume(other), await rig.mount('/new', leases)];
  await returnAll(otherBack);
  const changes = [change(otherBack, ino), change(stranger, ino)];
  const creating = stranger.create('g');
  // Somebody who is missing may have changed it under an exclusive lease, and has not said so.
  const reading = stranger.call('getattr', { ino });
  let isOneDone = false;
  for (const asked of [creating, reading])
    asked.then(
      () => {
        isOneDone = true;
      },
      () => {},
    );
  await pass(rig, 3000, [otherBack, stranger]);
  const isAnyDone = (): boolean => isOneDone || changes.some(({ isDone }) => isDone);
  t.notOk(isAnyDone(), 'two are missing');
  const holderBack = await rig.resume(holder);
  await returnAll(holderBack);
  await pass(rig, 1000, [otherBack, stranger, holderBack]);
  t.notOk(isAnyDone(), 'one is missing');
  const thirdBack = await rig.resume(third);
  await pass(rig, 1000, [otherBack, stranger, holderBack]);
  t.notOk(isAnyDone(), 'it is back, and has not said that nothing is left');
  await returnAll(thirdBack);
  await rig.pass(10);
  for (const mount of [otherBack, stranger, holderBack, thirdBack])
    for (const recalled of mount.recalls)
      await mount.call('returnLeases', { leases: [{ ...recalled, ino }] });
  await Promise.all([creating, reading, ...changes.map(({ done }) => done)]);
});

t.test(
  'after a restart a mount that does not come back is waited for until its leases are void',
  async (t) => {
    const rig = new Rig(t);
    const { other, ino } = await twoMounts(rig);
    await rig.restart();
    const otherBack = await rig.resume(other);
    await returnAll(otherBack);
    const changing = change(otherBack, ino);
    await pass(rig, TTL_MS - 100, [otherBack]);
    t.notOk(changing.isDone);
    await pass(rig, 200, [otherBack]);
    t.ok(changing.isDone);
  },
);

t.test('after a restart one that comes back late and says nothing gets no more time', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  await rig.restart();
  const otherBack = await rig.resume(other);
  await returnAll(otherBack);
  const changing = change(otherBack, ino);
  await pass(rig, TTL_MS - 1000, [otherBack]);
  const holderBack = await rig.resume(holder);
  await pass(rig, 1100, [otherBack, holderBack]);
  t.ok(changing.isDone);
});

t.test(
  'after a restart a mount’s own leases are not in its way, nor are mounts without leases',
  async (t) => {
    const rig = new Rig(t);
    const holder = await rig.mount('/holder', leases);
    await rig.mount('/plain');
    // Who makes a file has it to itself at first.
    const ino = await (await rig.mount('/maker')).create('f');
    await rig.restart();
    const back = await rig.resume(holder);
    await change(back, ino).done;
  },
);

t.test('after a restart a session that was closed is not waited for', async (t) => {
  const rig = new Rig(t);
  const { holder, other, ino } = await twoMounts(rig);
  await rig.restart();
  const [otherBack, holderBack] = [await rig.resume(other), await rig.resume(holder)];
  await returnAll(otherBack);
  const changing = change(otherBack, ino);
  await rig.pass(100);
  t.notOk(changing.isDone);
  await holderBack.call('closeSession', {});
  await changing.done;
});

t.test('an answer that was meant for the server before ends no lease of this one', async (t) => {
  const rig = new Rig(t);
  const holder = await rig.mount('/holder', leases);
  const other = await rig.mount('/other', leases);
  // Who makes a file has it to itself at first.
  const ino = await (await rig.mount('/maker')).create('f');
  const old = await lease(holder, ino);
  await rig.pass(1);
  await rig.restart();
  const [back, otherBack] = [await rig.resume(holder), await rig.resume(other)];
  await returnAll(back);
  await returnAll(otherBack);
  const held = await lease(back, ino);
  await t.rejects(back.call('returnLeases', { leases: [old] }), { code: 'leaseGone' });
  const changing = change(otherBack, ino);
  await rig.pass(1000);
  t.notOk(changing.isDone);
  await back.call('returnLeases', { leases: [held] });
  await changing.done;
});

t.test('mounts are told what others have removed for good', async (t) => {
  const rig = new Rig(t);
  const [a, b] = [await rig.mount('/a', leases), await rig.mount('/b', leases)];
  const plain = await rig.mount('/plain');
  const [f, g, h] = [await plain.create('f'), await plain.create('g'), await plain.create('h')];
  await plain.do('link', { ino: f, parent: ROOT_INO, name: name('link') });
  await a.do('unlink', { parent: ROOT_INO, name: name('link') });
  await a.do('unlink', { parent: ROOT_INO, name: name('f') });
  const to = { newParent: ROOT_INO, newName: name('h'), mode: 'replace' } as const;
  await plain.do('rename', { parent: ROOT_INO, name: name('g'), ...to });
  await rig.pass(0);
  const [first, second] = [
    { parent: ROOT_INO, name: name('f'), ino: f },
    { parent: ROOT_INO, name: name('h'), ino: h },
  ];
  t.match(b.removals, [first, second]);
  t.match(a.removals, [second], 'nobody of his own doing');
  t.strictSame([a.removals.length, b.removals.length, plain.removals.length], [1, 2, 0]);
  t.match(await plain.call('getattr', { ino: g }), { nlink: 1 });
});
