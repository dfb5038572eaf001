/** Chunk servers that are full: another is chosen; when all are, ENOSPC; what is deleted can be used again. */
import t from 'tap';
import { Cluster } from './cluster.js';
import { attempt, sh } from './on-mount.js';

const TIMEOUT_MS = 100_000;
const MIB = 1024 * 1024;
t.setTimeout(2 * TIMEOUT_MS);

t.test('a full chunk server is passed over', { timeout: TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'full-one', capacitiesBytes: [12 * MIB] });
  const mount = await cluster.mount();
  const here = { cwd: mount.path, timeoutMs: 60_000 };
  await sh(
    'for i in $(seq 8); do head -c 8M /dev/urandom > f$i; sync f$i; done; sha256sum f* > sums; sync sums',
    here,
  );
  await cluster.until('one server is full', async () => {
    const { status } = await cluster.status();
    return status.map.servers.some((server) => server.state === 'full');
  });
  const reader = await cluster.mount();
  t.notMatch(await sh('sha256sum -c sums', { ...here, cwd: reader.path }), /FAILED/);
  t.match(await sh('echo still > g; sync g; cat g', here), 'still');
});

t.test('a full filesystem gives ENOSPC, and recovers', { timeout: TIMEOUT_MS }, async (t) => {
  const capacity = 24 * MIB;
  const cluster = await Cluster.start(t, {
    name: 'full-all',
    capacitiesBytes: [capacity, capacity, capacity],
  });
  const mount = await cluster.mount();
  const here = { cwd: mount.path, timeoutMs: 60_000 };
  await sh('head -c 1M /dev/urandom > kept; sync kept; sha256sum kept > sum; sync sum', here);
  const filled = await attempt('for i in $(seq 40); do head -c 2M /dev/urandom > f$i; sync f$i; done', here);
  t.notOk(filled.late, 'writing ends by itself');
  t.match(filled.stderr, /No space left on device/, filled.stderr.trim());
  const df = await sh('df --output=avail -B1 . | tail -1', here);
  t.ok(Number(df) < 8 * MIB, `df says ${df.trim()} bytes are left`);
  t.match(await sh('sha256sum -c sum', here), 'kept: OK', 'what was there is there');
  const reader = await cluster.mount();
  t.match(await sh('sha256sum -c sum', { ...here, cwd: reader.path }), 'kept: OK');
  await sh('ls > /dev/null; rm f*; ls', here);
  await cluster.until('there is room again', async () => {
    const outcome = await attempt('head -c 6M /dev/urandom > again && sync again', here);
    return outcome.status === 0;
  });
  t.equal((await sh('stat -c %s again', { ...here, cwd: reader.path })).trim(), String(6 * MIB));
  await cluster.untilHealthy();
});
