/** What is deleted gives its space back: chunk usage and the chunk servers' disks return to where they were. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { Cluster } from './cluster.js';
import { sh } from './on-mount.js';

const TIMEOUT_MS = 120_000;
t.setTimeout(TIMEOUT_MS);
const KIB = 1024;

t.test('rm -rf gives everything back', { timeout: TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'garbage' });
  const mount = await cluster.mount();
  const here = { cwd: mount.path, timeoutMs: 60_000 };
  const diskBytes = (): number => {
    const directories = cluster.chunks.map((_, index) => `${cluster.scratch.path}/chunk-${index + 1}`);
    const output = execFileSync('du', ['-sk', '--total', ...directories], { encoding: 'utf8' });
    return Number(output.trim().split('\n').at(-1)?.split('\t')[0]) * KIB;
  };
  const emptyBytes = diskBytes();

  await sh(
    `mkdir small; for i in $(seq 300); do head -c $((i * 37)) /dev/urandom > small/$i; done
     head -c 30000000 /dev/urandom > large
     head -c 9000000 /dev/urandom > rewritten; for i in 1 2 3; do dd if=/dev/urandom of=rewritten bs=1M count=3 seek=$i conv=notrunc,fsync 2>/dev/null; done
     head -c 5000000 /dev/urandom > cut; truncate -s 100 cut
     sync small/* large rewritten cut`,
    here,
  );
  const full = (await cluster.status()).status;
  t.ok(full.referencedBytes > 39_000_000, `${full.referencedBytes} bytes referenced`);
  t.ok(full.chunks > 0 && full.inodes > 300);
  t.ok(diskBytes() > emptyBytes + 2 * 39_000_000, 'two copies of everything lie on the disks');

  await t.test('a file that is open lives until it is closed', async (t) => {
    const output = await sh('exec 5< large; rm large; ls; head -c 20000000 <&5 | wc -c; exec 5<&-', here);
    t.equal(output, 'cut\nrewritten\nsmall\n20000000\n');
  });

  await sh('rm -rf ./*; ls -A', here);
  await cluster.until('no chunk is used', async () => {
    const { chunks, chunkBytes, referencedBytes, inodes, orphans } = (await cluster.status()).status;
    assert.deepEqual(
      { chunks, chunkBytes, referencedBytes, inodes, orphans },
      { chunks: 0, chunkBytes: 0, referencedBytes: 0, inodes: 1, orphans: 0 },
    );
    return true;
  });
  t.pass('no chunk is used, and the root is left');
  await cluster.until('the chunk servers hold nothing', async () => {
    const now = (await cluster.status()).status;
    return now.map.servers.every((server) => server.usedBytes === 0) && now.tasks.length === 0;
  });
  // Each server keeps 4 MiB of its database for the next small chunks.
  const keptBytes = cluster.chunks.length * 4.5 * KIB * KIB;
  await cluster.until('the disks have their space back', async () => diskBytes() < emptyBytes + keptBytes);
  t.pass('the disks have their space back');
});

t.test('what a killed mount had not finished is collected as well', { timeout: TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'garbage-killed' });
  const mount = await cluster.mount();
  await sh('exec 5> nameless; rm nameless; head -c 10000000 /dev/urandom >&5; sync /proc/self/fd/5', {
    cwd: mount.path,
  });
  await sh('head -c 6000000 /dev/urandom > kept; sync kept; sha256sum kept > sum; sync sum', {
    cwd: mount.path,
  });
  await mount.process.kill();
  await mount.process.start();
  t.equal(await sh('sha256sum -c sum', { cwd: mount.path }), 'kept: OK\n');
  await sh('rm kept sum', { cwd: mount.path });
  await cluster.until(
    'nothing is left',
    async () => {
      const { status } = await cluster.status();
      return (
        status.inodes === 1 &&
        status.orphans === 0 &&
        status.chunks === 0 &&
        status.map.servers.every((server) => server.usedBytes === 0)
      );
    },
    90_000,
  );
  t.pass('nothing is left');
});
