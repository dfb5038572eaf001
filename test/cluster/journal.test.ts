/**
 * What a mount has done by itself under exclusive leases: it outlives `kill -9` of the daemon, and others wait for it
 * rather than see what was before. What others have changed meanwhile: see lost-and-found.test.ts.
 */
import t from 'tap';
import { Cluster } from './cluster.js';
import { sh, start } from './on-mount.js';

const TIMEOUT_MS = 120_000;
t.setTimeout(2 * TIMEOUT_MS);

/** Makes files as an untar does, says so, and goes on until it is killed. */
const MAKE = `
const fs = require('node:fs');
fs.mkdirSync('tree');
for (let n = 0; ; n++) {
  if (n % 20 === 0) fs.mkdirSync('tree/' + n / 20);
  const path = 'tree/' + Math.floor(n / 20) + '/' + n;
  fs.writeFileSync(path, 'content of ' + n + '\\n', { mode: 0o640 });
  fs.utimesSync(path, 1000000 + n, 1000000 + n);
  if (n % 3 === 0) { fs.renameSync(path, path + '.moved'); fs.symlinkSync(n + '.moved', path + '.link'); }
  if (n % 5 === 1 && n % 3 !== 0) fs.unlinkSync(path);
  console.log(n);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
}
`;

/** What is there of number n once that program has said so, as \`stat\` and \`cat\` have it; empty: nothing. */
function expected(n: number): string {
  if (n % 5 === 1 && n % 3 !== 0) return '';
  return `640 ${1_000_000 + n} content of ${n}`;
}

const SHOW = `
for f in tree/*/*; do
  [ -L "$f" ] && continue
  echo "\${f##*/} $(stat -c '%a %Y' "$f") $(cat "$f")"
done
`;

t.test('journal', { timeout: 2 * TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'journal' });
  const mount = await cluster.mount();
  const other = await cluster.mount();
  const here = { cwd: other.path, timeoutMs: 60_000 };

  await t.test('what was acknowledged is there after kill -9 of the daemon and a new mount', async (t) => {
    const program = start(process.execPath, ['-e', MAKE], { cwd: mount.path, timeoutMs: 60_000 });
    await program.printed('\n120\n');
    await mount.process.kill();
    const said = (await program.outcome).stdout.trim().split('\n').map(Number);
    await mount.process.start();
    const lines = (await sh(SHOW, here)).trim().split('\n');
    const shown = new Map(
      lines.map((line) => [Number.parseInt(line, 10), line.slice(line.indexOf(' ') + 1)]),
    );
    t.ok(said.length > 120, `${said.length} were acknowledged`);
    for (const n of said) {
      const is = shown.get(n) ?? '';
      if (is !== expected(n)) t.equal(is, expected(n), `number ${n}`);
    }
    t.match(await sh('cat tree/*/120.link', here), 'content of 120');
    await sh('rm -r tree', here);
  });

  await t.test('another mount waits for what it does not know, and sees it', async (t) => {
    for (let round = 0; round < 20; round++) {
      await sh(
        `mkdir d${round}; echo ${round} > d${round}/f; chmod 600 d${round}/f; mv d${round}/f d${round}/g`,
        {
          cwd: mount.path,
          timeoutMs: 20_000,
        },
      );
      t.equal(await sh(`ls d${round}; cat d${round}/g; stat -c %a d${round}/g`, here), `g\n${round}\n600\n`);
    }
    await sh('rm -r d*', here);
  });
});
