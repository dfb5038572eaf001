/**
 * Locks between mounts: they exclude, wake, and notice circles as between processes of one machine, they
 * outlive the metadata server, and they end with the process, the mount or the session that held them.
 */
import t, { type Test } from 'tap';
import { type Answer, Locker, waits } from '../posix/locker.js';
import { Cluster, type ClusterMount } from './cluster.js';
import { sh } from './on-mount.js';

const TIMEOUT_MS = 100_000;
t.setTimeout(280_000);

interface Two {
  readonly a: Locker;
  readonly b: Locker;
  readonly x: number;
  readonly y: number;
}

t.test('locks between two mounts', { timeout: 270_000 }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'locks' });
  const first = await cluster.mount();
  const second = await cluster.mount();
  let files = 0;

  /** A process on each mount with one new file open. */
  const open = async (t: Test): Promise<Two & { file: string }> => {
    const file = `f${files++}`;
    await sh(`echo 0 > ${file}`, { cwd: first.path });
    const [a, b] = await Promise.all([first, second].map((mount) => Locker.start(mount.path)));
    if (a === undefined || b === undefined) throw new Error('two are started');
    t.teardown(() => Promise.all([a.kill(), b.kill()]));
    return { a, b, file, x: await a.open(file), y: await b.open(file) };
  };
  const free = async (t: Test, locker: Locker, fd: number, how: string): Promise<void> => {
    let last: Answer = '';
    await cluster.until(`${how} is free`, async () => {
      last =
        how === 'flock' ? await locker.flock(fd, 'write') : await locker.fcntl(fd, 'setlk', 'write', 0, 1);
      return last === 'ok';
    });
    t.equal(last, 'ok');
  };
  const lockBoth = async ({ a, x }: Two): Promise<void> => {
    t.equal(await a.fcntl(x, 'setlk', 'write', 0, 1), 'ok');
    t.equal(await a.flock(x, 'write'), 'ok');
  };

  for (const how of ['flock', 'fcntl'])
    await t.test(`a counter under ${how} misses nothing`, { timeout: TIMEOUT_MS }, async (t) => {
      const { a, b, file } = await open(t);
      const counted = [a, b].map((locker) => locker.ask('count', file, how, 200));
      t.same(await Promise.all(counted), ['ok', 'ok']);
      t.equal(Number(await b.ask('read', file)), 400);
    });

  await t.test('whoever waits is woken by the other mount, and reads what was written', async (t) => {
    const { a, b, x, y } = await open(t);
    await a.fcntl(x, 'setlk', 'write');
    t.same(await b.fcntl(y, 'getlk', 'read'), ['write', 0, 0, 0], 'a holder elsewhere has no pid here');
    const waiting = b.fcntl(y, 'setlkw', 'write');
    t.ok(await waits(waiting));
    await a.ask('pwrite', x, 'new');
    await a.fcntl(x, 'setlk', 'unlock');
    t.equal(await waiting, 'ok');
    t.equal(await b.ask('pread', y), 'new', 'though it was not closed or synced');
  });

  await t.test('a circle over both mounts is EDEADLK; flock never is', async (t) => {
    const { a, b, x, y } = await open(t);
    await a.fcntl(x, 'setlk', 'write', 0, 1);
    await b.fcntl(y, 'setlk', 'write', 1, 1);
    const waiting = a.fcntl(x, 'setlkw', 'write', 1, 1);
    t.ok(await waits(waiting));
    t.equal(await b.fcntl(y, 'setlkw', 'write', 0, 1), 'EDEADLK');
    await b.fcntl(y, 'setlk', 'unlock', 1, 1);
    t.equal(await waiting, 'ok');
    const again = b.fcntl(y, 'setlkw', 'write', 0, 1);
    t.ok(await waits(again));
    b.signal('SIGUSR2');
    t.equal(await again, 'EINTR');
    t.equal(await b.fcntl(y, 'setlk', 'write', 0, 1), 'EAGAIN');
    await a.fcntl(x, 'setlk', 'unlock');
    t.equal(await a.fcntl(x, 'getlk', 'write'), 'none', 'the interrupted wait left nothing');
  });

  await t.test('kill -9 of the holder', async (t) => {
    const two = await open(t);
    await lockBoth(two);
    const waiting = two.b.fcntl(two.y, 'setlkw', 'write', 0, 1);
    t.ok(await waits(waiting));
    await two.a.kill();
    t.equal(await waiting, 'ok');
    await free(t, two.b, two.y, 'flock');
  });

  await t.test('locks and waits outlive a restart of the metadata server', async (t) => {
    const two = await open(t);
    await lockBoth(two);
    const waiting = two.b.fcntl(two.y, 'setlkw', 'write', 0, 1);
    t.ok(await waits(waiting));
    await cluster.meta.kill();
    await cluster.meta.start();
    await cluster.untilHealthy();
    // Another one beside `b`, which is inside its system call.
    const third = await Locker.start(second.path);
    t.teardown(() => third.kill());
    t.equal(await third.flock(await third.open(two.file), 'write'), 'EAGAIN');
    t.ok(await waits(waiting, 1_500), 'it still waits');
    t.equal(await two.a.fcntl(two.x, 'setlk', 'unlock', 0, 1), 'ok');
    t.equal(await waiting, 'ok');
    await two.a.flock(two.x, 'unlock');
    t.equal(await two.b.flock(two.y, 'write'), 'ok');
  });

  await t.test('a waiter can be killed while the metadata server is away', async (t) => {
    const two = await open(t);
    await lockBoth(two);
    const waiting = two.b.fcntl(two.y, 'setlkw', 'write', 0, 1);
    t.ok(await waits(waiting));
    waiting.catch(() => {});
    await cluster.meta.kill();
    const killingMs = performance.now();
    await two.b.kill();
    t.ok(performance.now() - killingMs < 3_000, 'at once');
    await cluster.meta.start();
    await cluster.untilHealthy();
    t.equal(await two.a.fcntl(two.x, 'setlk', 'unlock', 0, 1), 'ok');
    t.equal(await two.a.fcntl(two.x, 'getlk', 'write', 0, 1), 'none');
  });

  await t.test('kill -9 of the mount daemon, which is started again', { timeout: TIMEOUT_MS }, async (t) => {
    const two = await open(t);
    await lockBoth(two);
    t.equal(await two.b.flock(two.y, 'write'), 'EAGAIN');
    await remount(first, two.a);
    await free(t, two.b, two.y, 'flock');
    await free(t, two.b, two.y, 'fcntl');
  });

  await t.test(
    'kill -9 of the mount daemon, which does not come back',
    { timeout: TIMEOUT_MS },
    async (t) => {
      const two = await open(t);
      await lockBoth(two);
      await first.process.kill();
      await two.a.kill();
      await cluster.until(
        'the session has expired',
        async () => (await two.b.flock(two.y, 'write')) === 'ok',
        60_000,
      );
      await first.process.start();
    },
  );

  await t.test('SQLite from both mounts at once', { timeout: TIMEOUT_MS }, async (t) => {
    await sh('sqlite3 shared.db "CREATE TABLE rows(who, number)"', { cwd: first.path });
    const insert = (mount: ClusterMount, who: string): Promise<string> =>
      sh(
        `for number in $(seq 100); do
           echo "INSERT INTO rows VALUES ('${who}', $number);"
         done | sqlite3 -bail -cmd '.timeout 60000' shared.db`,
        { cwd: mount.path, timeoutMs: 80_000 },
      );
    await Promise.all([insert(first, 'a'), insert(second, 'b')]);
    const query = 'PRAGMA integrity_check; SELECT who, count(DISTINCT number) FROM rows GROUP BY who';
    for (const mount of [first, second])
      t.equal(await sh(`sqlite3 shared.db "${query}"`, { cwd: mount.path }), 'ok\na|100\nb|100\n');
  });
});

/** Kills the daemon of a mount and its process, and mounts again with the same cache directory. */
async function remount(mount: ClusterMount, locker: Locker): Promise<void> {
  await mount.process.kill();
  await locker.kill();
  await mount.process.start();
}
