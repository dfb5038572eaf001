import t from 'tap';
import { LOCK_END } from '../../src/lease/lock-ranges.js';
import { asIno, asLockOwner } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import type { MetaMethods } from '../../src/proto/meta-methods.js';
import type { ArgsOf } from '../../src/proto/method.js';
import { type Client, Rig } from './rig.js';

function lock(more: Partial<ArgsOf<MetaMethods['setlk']>> = {}): ArgsOf<MetaMethods['setlk']> {
  return {
    ino: asIno(5),
    space: 'fcntl',
    owner: asLockOwner('00000000000000aa'),
    start: 0,
    end: LOCK_END,
    type: 'write',
    pid: 9,
    ...more,
  };
}

const outcome = async (client: Client, more?: Parameters<typeof lock>[0]): Promise<string> =>
  (await client.do('setlk', lock(more))).outcome;

t.test('a lock outlives a restart of the server, and ends with its session', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  t.equal(await outcome(mount), 'granted');
  t.equal(await outcome(mount, { type: 'unlock', start: 10, end: 19 }), 'granted');
  await rig.restart();
  const other = await rig.mount('/n');
  t.equal(await outcome(other), 'conflict');
  t.equal(await outcome(other, { start: 10, end: 19 }), 'granted');
  rig.server.checkInvariants();
  await rig.pass(limits.sessionTtlMs - 1000);
  await other.call('heartbeat', { finishedBelow: 0 });
  await rig.pass(2000);
  t.equal(await outcome(other), 'granted', 'the session that held it has expired');
  await other.call('closeSession', {});
  await rig.pass(0);
  t.same(rig.store.locks(), []);
  rig.server.checkInvariants();
});

t.test('a lost answer is given again, and nothing is done twice', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const first = await mount.call('setlk', lock(), { sequence: 1 });
  await mount.call('setlk', lock({ type: 'unlock' }), { sequence: 2 });
  t.same(await mount.call('setlk', lock(), { sequence: 1 }), first);
  t.same(rig.store.locks(), [], 'it was not taken again');
});

t.test('who waits is told, and has the lock kept for him', async (t) => {
  const rig = new Rig(t);
  const [a, b, c] = [await rig.mount('/a'), await rig.mount('/b'), await rig.mount('/c')];
  await outcome(a);
  t.equal(await outcome(b, { wait: 1 }), 'waiting');
  t.equal(await outcome(c, { wait: 1 }), 'waiting');
  t.match((await c.call('getlk', { ...withoutPid(), type: 'read' })).lock, { pid: 9, type: 'write' });
  await outcome(a, { type: 'unlock' });
  await rig.pass(0);
  t.same([b.readyLocks, c.readyLocks], [[1], []]);
  t.equal(await outcome(a), 'conflict');
  t.equal(await outcome(b, { wait: 1 }), 'granted');
  await b.call('closeSession', {});
  await rig.pass(0);
  t.same(c.readyLocks, [1]);
  await c.call('cancelLock', { wait: 1 });
  await c.call('cancelLock', { wait: 77 });
  t.equal(await outcome(a), 'granted');
  rig.server.checkInvariants();
});

t.test('a wait ends with its connection, and can be taken over by the next', async (t) => {
  const rig = new Rig(t);
  const [a, b, c] = [await rig.mount('/a'), await rig.mount('/b'), await rig.mount('/c')];
  await outcome(a);
  await outcome(b, { wait: 1 });
  await outcome(c, { wait: 1 });
  const next = rig.connect();
  await next.call('openSession', { host: 'h', pid: 7, mountpoint: '/b', resume: b.ticket });
  await b.gone();
  await rig.pass(0);
  rig.server.checkInvariants();
  next.nextSequence = 2;
  t.equal(await outcome(next, { wait: 1 }), 'waiting');
  await outcome(a, { type: 'unlock' });
  await rig.pass(0);
  t.same([c.readyLocks, next.readyLocks], [[1], []], 'it has come back to the end of the queue');
  c.peer.close('gone');
  await rig.pass(0);
  t.same(next.readyLocks, [1], 'a reservation ends with the connection as well');
  rig.server.checkInvariants();
});

t.test('circles are found over sessions, and bad ranges refused', async (t) => {
  const rig = new Rig(t);
  const [a, b] = [await rig.mount('/a'), await rig.mount('/b')];
  await outcome(a, { start: 0, end: 0 });
  await outcome(b, { start: 1, end: 1 });
  t.equal(await outcome(a, { start: 1, end: 1, wait: 1 }), 'waiting');
  await t.rejects(outcome(b, { start: 0, end: 0, wait: 1 }), { code: 'EDEADLK' });
  await t.rejects(outcome(b, { start: 1, end: 0 }), { code: 'EINVAL' });
  await t.rejects(rig.connect().call('setlk', lock(), { sequence: 1 }), { code: 'notAllowed' });
});

function withoutPid(): Omit<ArgsOf<MetaMethods['getlk']>, 'type'> {
  const { pid: _pid, type: _type, ...rest } = lock();
  return rest;
}
