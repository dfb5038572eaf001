/**
 * A mount daemon that is stopped (SIGSTOP) for longer than its leases, or its session, last, and goes on: it
 * changes nothing any more on the strength of what it had, programs are told by the descriptors whose promises
 * were broken, and the mount works on.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Answer, Locker } from '../posix/locker.js';
import { Cluster, type ClusterMount } from './cluster.js';
import { sh } from './on-mount.js';

const TIMEOUT_MS = 150_000;
t.setTimeout(2 * TIMEOUT_MS);

/** What programs do with a descriptor, and what comes of it. */
async function uses(locker: Locker, fd: number): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (const call of [
    ['pread', fd],
    ['pwrite', fd, 'more'],
    ['fsync', fd],
    ['close', fd],
  ])
    answers.push(await locker.ask(...call));
  return answers;
}

const ALL_EIO = ['EIO', 'EIO', 'EIO', 'EIO'];

async function lockers(t: Test, ...mounts: ClusterMount[]): Promise<Locker[]> {
  const all = await Promise.all(mounts.map((mount) => Locker.start(mount.path)));
  t.teardown(() => Promise.all(all.map((locker) => locker.kill())));
  return all;
}

/** Frees the mount even if the test fails, so that it can be unmounted. */
async function frozen(mount: ClusterMount, body: () => Promise<void>): Promise<void> {
  mount.process.freeze();
  try {
    await body();
  } finally {
    mount.process.thaw();
  }
}

t.test('a frozen mount', { timeout: 2 * TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'frozen' });
  const [mount, other] = [await cluster.mount(), await cluster.mount()];
  const [here, there] = [{ cwd: mount.path }, { cwd: other.path, timeoutMs: 60_000 }];

  await t.test('for longer than its session lasts', { timeout: TIMEOUT_MS }, async (t) => {
    const [a, b] = await lockers(t, mount, other);
    if (a === undefined || b === undefined) throw new Error('two are started');
    await sh('for f in flocked fcntled orphan removed dirty clean; do echo before > $f; done', here);
    const open = (path: string): Promise<number> => a.open(path);
    const [flocked, fcntled, again] = [await open('flocked'), await open('fcntled'), await open('fcntled')];
    const [orphan, removed] = [await open('orphan'), await open('removed')];
    const [dirty, reader, clean] = [await open('dirty'), await a.open('dirty', 'r'), await open('clean')];
    t.equal(await a.flock(flocked, 'write'), 'ok');
    t.equal(await a.fcntl(fcntled, 'setlk', 'write', 0, 10), 'ok');
    for (const fd of [flocked, fcntled, orphan, removed, dirty, clean]) await a.ask('pread', fd);
    await sh('rm orphan', here);
    await sh('rm removed', there);
    t.equal(await a.ask('pread', removed), 'before\n', 'it lives while it is open');
    const [x, y] = [await b.open('flocked'), await b.open('fcntled')];
    await a.ask('pwrite', flocked, 'under the lock');
    await a.ask('pwrite', dirty, 'never stored');
    await frozen(mount, async () => {
      await cluster.until(
        'its session has expired',
        async () => (await b.flock(x, 'write')) === 'ok',
        60_000,
      );
      t.equal(await b.fcntl(y, 'setlk', 'write', 0, 10), 'ok');
      for (const fd of [x, y]) t.equal(await b.ask('pwrite', fd, 'theirs'), 6);
      await sh('echo theirs > clean; sync clean flocked fcntled', there);
    });

    // Straight away, while it may not know yet.
    t.equal(await a.ask('pwrite', flocked, 'late'), 'EIO');
    t.match(await sh('cat clean', here), 'theirs');
    t.strictSame(await uses(a, flocked), ALL_EIO);
    t.equal(await a.flock(fcntled, 'write'), 'EIO');
    t.equal(await a.fcntl(fcntled, 'setlk', 'unlock', 0, 10), 'ok');
    t.strictSame(await uses(a, fcntled), ALL_EIO);
    t.strictSame(await uses(a, orphan), ALL_EIO);
    t.strictSame(await uses(a, removed), ALL_EIO);
    t.strictSame(await uses(a, reader), ['EIO', 'EBADF', 'EIO', 'ok']);
    t.strictSame(await uses(a, dirty), ['EIO', 'EIO', 'EIO', 'ok']);
    t.strictSame(await uses(a, clean), ['theirs\n', 4, 'ok', 'ok'], 'what was not promised goes on');
    t.match(await a.ask('pread', again), /^theirs/, 'another descriptor has locked nothing');

    const fresh = await a.open('flocked');
    t.match(await a.ask('pread', fresh), /^theirs/);
    t.equal(await a.flock(fresh, 'write'), 'EAGAIN', 'the lock is the other mount’s');
    t.equal(await b.flock(x, 'unlock'), 'ok');
    t.equal(await a.flock(fresh, 'write'), 'ok');
    t.equal(await sh('cat dirty', there), 'before\n', 'nothing of it has come later');
    await sh('mkdir new; echo here > new/f; mv new/f new/g; rm clean', here);
    t.equal(await sh('cat new/g; ls new; ls clean 2>/dev/null || echo gone', there), 'here\ng\ngone\n');
    await sh('echo there > new/h', there);
    t.equal(await sh('cat new/h', here), 'there\n');
  });

  await t.test('for longer than its leases last', { timeout: TIMEOUT_MS }, async (t) => {
    const [a, b] = await lockers(t, mount, other);
    if (a === undefined || b === undefined) throw new Error('two are started');
    await sh('echo 0 > lock; sync lock', here);
    const [lock, wanted] = [await a.open('lock'), await b.open('lock')];
    t.equal(await a.flock(lock, 'write'), 'ok');
    await sh('mkdir own; sleep 0.5; for f in alone closed; do echo before > own/$f; done', here);
    // Until the servers have everything; then long enough for names, not for bytes.
    await sleep(2000);
    const [told, alone] = [await a.open('own/closed'), await a.open('own/alone')];
    await sh('echo a file made here and closed > own/made; sleep 0.4', here);
    const closed = await a.open('own/closed');
    await a.ask('pwrite', closed, 'mine, and older');
    await a.ask('pwrite', alone, 'mine');
    t.equal(await a.ask('close', closed), 'ok');
    await frozen(mount, async () => {
      await sh('echo theirs > own/closed; sync own/closed', there);
    });
    t.equal(await a.ask('fsync', told), 'EIO');
    t.equal(await a.ask('fsync', told), 'ok', 'once');
    t.equal(await a.ask('fsync', alone), 'ok');
    t.equal(await sh('cat own/closed own/alone', there), 'theirs\nminere\n');
    t.equal(await sh('cat own/closed own/alone', here), 'theirs\nminere\n');
    t.equal(await sh('cat own/made', there), 'a file made here and closed\n', 'nobody has touched it');
    t.equal(await b.flock(wanted, 'write'), 'EAGAIN', 'locks are the session’s, which goes on');
    t.strictSame(await uses(a, lock), ['0\n', 4, 'ok', 'ok']);
    const found = join(cluster.scratch.path, 'cache-1/lost+found');
    const texts = readdirSync(found).map((name) => readFileSync(join(found, name), 'utf8'));
    t.ok(texts.includes('mine, and older'), 'what was closed is kept');
  });
});
