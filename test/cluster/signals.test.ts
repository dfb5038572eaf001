/** Signals to programs whose calls wait for servers: one that kills ends the call, one that is caught does not. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Cluster } from './cluster.js';
import { sh, start } from './on-mount.js';

const TIMEOUT_MS = 180_000;
t.setTimeout(2 * TIMEOUT_MS);
/** Longer than limits.interruptGraceMs, shorter than limits.caughtSignalGraceMs and the mount's timeout. */
const AWAY_MS = 2_500;

const CATCHING = `
process.on('SIGUSR2', () => {});
const fs = require('node:fs');
console.log('begun');
// Asleep until the servers are away.
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
for (let i = 0; i < 3; i++) fs.closeSync(fs.openSync('new' + i, 'wx'));
console.log('made', fs.readFileSync('f', 'latin1').length, fs.readdirSync('.').length);
`;

t.test('signals', { timeout: TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'signals' });
  const mount = await cluster.mount({ options: 'timeout=20' });
  const here = { cwd: mount.path, timeoutMs: 40_000 };
  await sh('head -c 3000000 /dev/urandom > f; sync f', here);

  await t.test('one that is caught ends no call', { timeout: 60_000 }, async (t) => {
    const program = start(process.execPath, ['-e', CATCHING], here);
    await program.printed('begun');
    cluster.meta.freeze();
    try {
      await sleep(500);
      for (let sent = 0; sent < 5; sent++) {
        await sleep(AWAY_MS / 5);
        program.signal('SIGUSR2');
      }
    } finally {
      cluster.meta.thaw();
    }
    const { stdout, stderr } = await program.outcome;
    t.match(stdout, 'made 3000000 4', stderr);
  });

  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    await t.test(
      `${signal} ends a read that waits for frozen chunk servers`,
      { timeout: 60_000 },
      async (t) => {
        const reader = await cluster.mount({ options: 'timeout=20' });
        await sh('ls', { ...here, cwd: reader.path });
        for (const chunk of cluster.chunks) chunk.freeze();
        const program = start('cat', ['f'], { ...here, cwd: reader.path });
        try {
          await sleep(1_500);
          const sentMs = performance.now();
          program.signal(signal);
          const outcome = await program.outcome;
          const tookMs = Math.round(performance.now() - sentMs);
          t.equal(outcome.signal, signal, outcome.stderr);
          t.ok(tookMs < 5_000, `${tookMs} ms after the signal`);
        } finally {
          for (const chunk of cluster.chunks) chunk.thaw();
        }
        await reader.process.stop();
      },
    );
  }
  await cluster.untilHealthy();
});
