/**
 * Servers that are away or frozen: calls wait, then go on or end with an errno in bounded time; Ctrl-C and
 * unmounting always work.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Cluster } from './cluster.js';
import { attempt, sh, startScript } from './on-mount.js';

const TIMEOUT_MS = 100_000;
t.setTimeout(2 * TIMEOUT_MS);

t.test('servers that are away or frozen', { timeout: 2 * TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'away' });
  const mount = await cluster.mount({ options: 'timeout=3' });
  const patient = await cluster.mount({ options: 'timeout=20' });
  const here = { cwd: mount.path };
  await sh('echo content > f; sync f', here);

  await t.test('a call during an outage waits, and succeeds when the server is back', async (t) => {
    await cluster.meta.kill();
    const waiting = startScript('echo more > g; sync g; cat f g', { cwd: patient.path, timeoutMs: 25_000 });
    await sleep(1_500);
    await cluster.meta.start();
    const outcome = await waiting.outcome;
    t.equal(outcome.stdout, 'content\nmore\n', outcome.stderr);
  });

  await t.test('a call during a long outage ends with an errno in time', { timeout: 60_000 }, async (t) => {
    await cluster.meta.kill();
    for (const script of ['cat < f', 'mkdir d', 'stat h', 'echo x > i']) {
      const outcome = await attempt(script, { ...here, timeoutMs: 15_000 });
      t.notOk(outcome.late, `${script}: ended by itself after ${Math.round(outcome.elapsedMs)} ms`);
      t.match(outcome.stderr, /timed out|Input\/output error/, outcome.stderr.trim());
    }
    await cluster.meta.start();
    await cluster.until('the mount works again', async () => (await sh('cat f', here)) === 'content\n');
    t.pass('the mount works again');
  });

  await t.test('Ctrl-C ends a program that waits for a frozen metadata server', async (t) => {
    cluster.meta.freeze();
    const program = startScript('cat f; stat /proc/self/cwd/unseen', {
      cwd: patient.path,
      timeoutMs: 15_000,
    });
    await sleep(700);
    program.signal('SIGINT');
    const outcome = await program.outcome;
    cluster.meta.thaw();
    t.notOk(outcome.late);
    t.ok(outcome.elapsedMs < 4_000, `ended ${Math.round(outcome.elapsedMs)} ms after its start`);
  });

  await t.test(
    'with a frozen chunk server, reads and writes go on within seconds',
    { timeout: 60_000 },
    async (t) => {
      await cluster.untilUp(3);
      const big = { cwd: patient.path, timeoutMs: 25_000 };
      await sh('head -c 8000000 /dev/urandom > big; sync big; sha256sum < big > sum', big);
      const reader = await cluster.mount({ options: 'timeout=20' });
      cluster.chunks[0]?.freeze();
      try {
        const read = await attempt('sha256sum < big | cmp - sum', { ...big, cwd: reader.path });
        t.equal(read.status, 0, `read by a mount that has nothing cached: ${read.stderr}`);
        t.ok(read.elapsedMs < 12_000, `in ${Math.round(read.elapsedMs)} ms`);
        const write = await attempt('for i in 1 2 3 4 5; do echo $i > w$i; sync w$i; done; cat w*', big);
        t.equal(write.stdout, '1\n2\n3\n4\n5\n', write.stderr);
        t.ok(write.elapsedMs < 15_000, `wrote in ${Math.round(write.elapsedMs)} ms`);
      } finally {
        cluster.chunks[0]?.thaw();
      }
      await cluster.untilHealthy();
    },
  );

  await t.test('unmounting works with every server away', { timeout: 90_000 }, async (t) => {
    const last = await cluster.mount({ options: 'timeout=3' });
    await sh('ls', { cwd: last.path });
    await Promise.all([cluster.meta, ...cluster.chunks].map((process) => process.kill()));
    const startMs = performance.now();
    await last.process.stop();
    t.ok(performance.now() - startMs < 25_000, `${Math.round(performance.now() - startMs)} ms`);
  });
});
