/** What O_SYNC and O_DIRECT writes, large xattrs and full servers mean on a mount: beyond what a host can show. */
import t from 'tap';
import { Cluster } from './cluster.js';
import { attempt, sh, start } from './on-mount.js';

const TIMEOUT_MS = 90_000;
const MIB = 1024 * 1024;
t.setTimeout(2 * TIMEOUT_MS);

const WRITE_AND_HOLD = `
const fs = require('node:fs'), c = fs.constants;
const open = (name, flags) => fs.openSync(name, c.O_WRONLY | c.O_CREAT | flags, 0o644);
const [sync, dsync, append] = [open('sync', c.O_SYNC), open('dsync', c.O_DSYNC), open('append', c.O_SYNC | c.O_APPEND)];
fs.writeSync(sync, 'x'.repeat(70000));
fs.writeSync(dsync, 'y'.repeat(10), 5000);
for (let i = 0; i < 3; i++) fs.writeSync(append, 'line ' + i + '\\n');
console.log('written');
setInterval(() => {}, 1000);
`;

const APPEND_AND_HOLD = `
const fs = require('node:fs');
const log = fs.openSync('log', 'a');
for (const n of [0, 1]) fs.writeSync(log, 'line ' + n + '\\n');
console.log('written');
setInterval(() => {}, 1000);
`;

t.test('durable', { timeout: 2 * TIMEOUT_MS }, async (t) => {
  const capacity = 24 * MIB;
  const cluster = await Cluster.start(t, {
    name: 'durable',
    capacitiesBytes: [capacity, capacity, capacity],
  });
  const mount = await cluster.mount();
  const other = await cluster.mount();
  const here = { cwd: other.path, timeoutMs: 60_000 };

  await t.test('an O_SYNC write is there after kill -9 of the mount, unclosed', async (t) => {
    const program = start(process.execPath, ['-e', WRITE_AND_HOLD], { ...here, cwd: mount.path });
    await program.printed('written');
    await mount.process.kill();
    program.signal('SIGKILL');
    await program.outcome;
    t.equal(await sh('tr -d x < sync | wc -c; wc -c < sync; wc -c < dsync', here), '0\n70000\n5010\n');
    t.equal(await sh('cat append', here), 'line 0\nline 1\nline 2\n');
  });

  await t.test('on a mount with sync so are appends', async (t) => {
    const synced = await cluster.mount({ options: 'sync' });
    const program = start(process.execPath, ['-e', APPEND_AND_HOLD], { ...here, cwd: synced.path });
    await program.printed('written');
    await synced.process.kill();
    program.signal('SIGKILL');
    await program.outcome;
    t.equal(await sh('cat log', here), 'line 0\nline 1\n');
  });

  await t.test('an xattr holds 64 KiB, and no more', async (t) => {
    // setfattr takes the value as an argument, which Linux limits to 128 KiB: base64 of 64 KiB fits.
    const set = (bytes: number): string =>
      `touch x; setfattr -n user.big -v 0s$(head -c ${bytes} /dev/zero | tr '\\0' v | base64 -w0) x`;
    await sh(set(64 * 1024), here);
    t.equal(await sh('getfattr --only-values -n user.big x | tr -d v | wc -c', here), '0\n');
    t.equal(await sh('getfattr --only-values -n user.big x | wc -c', here), '65536\n');
    t.match(await attempt(set(64 * 1024 + 1), here), { status: 1, stderr: /too long|No space left/ });
  });

  await t.test('what does not fit is ENOSPC, at fallocate, at write or at close', async (t) => {
    t.match((await attempt('fallocate -l 1G large', here)).stderr, /No space left/);
    // Neither cp nor cat: they share data instead of writing it.
    const filled = await attempt('for i in $(seq 30); do head -c 3M /dev/urandom > $i || exit 7; done', here);
    t.equal(filled.status, 7, 'writing fails, though nothing is synced');
    t.match(filled.stderr, /No space left/);
    await sh('rm [0-9]*', here);
    await cluster.until('there is room again', async () => {
      const outcome = await attempt('head -c 3M /dev/urandom > again && sync again', here);
      return outcome.status === 0;
    });
    t.pass('there is room again');
  });
});
