/**
 * One image: what one mount writes and closes, renames, removes or changes, the other sees from its next call
 * on. No waiting between the two, ever.
 */
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Cluster, type ClusterMount } from './cluster.js';
import { isInstalled, node, sh } from './on-mount.js';

const TIMEOUT_MS = 200_000;
t.setTimeout(2 * TIMEOUT_MS);

/**
 * Writes on one mount and at once reads on the other, by one process that has both: its two system calls are
 * in order, so any difference is a stale answer. Sizes and contents change each time, and every third version
 * replaces the file by a rename.
 */
const PING_PONG = `
import fs from 'node:fs';
const [a, b, count] = [process.env.A, process.env.B, Number(process.env.COUNT)];
const name = (dir, file) => dir + '/' + file;
fs.writeFileSync(name(a, 'f'), '');
let stale = 0, first = '';
const check = (what, wanted, found) => {
  if (wanted === found) return;
  stale += 1;
  first ||= what + ': wanted ' + wanted.slice(0, 80) + ', found ' + String(found).slice(0, 80);
};
for (let i = 0; i < count; i++) {
  const [from, to] = i % 2 === 0 ? [a, b] : [b, a];
  const content = 'version ' + i + ' ' + 'x'.repeat((i * 7919) % 9000);
  const target = i % 3 === 2 ? 'new' : 'f';
  const fd = fs.openSync(name(from, target), 'w');
  fs.writeSync(fd, content);
  fs.closeSync(fd);
  if (target === 'new') fs.renameSync(name(from, 'new'), name(from, 'f'));
  check(i + ' size', String(Buffer.byteLength(content)), String(fs.statSync(name(to, 'f')).size));
  check(i + ' content', content, fs.readFileSync(name(to, 'f'), 'latin1'));
}
console.log(stale === 0 ? 'never stale' : stale + ' stale answers; first at ' + first);
`;

/** Everything that a directory and its inodes can show, changed on one side and looked at on the other. */
const ATTRIBUTES = `
import fs from 'node:fs';
const [a, b] = [process.env.A, process.env.B];
const wrong = [];
const same = (what, found, wanted) => { if (found !== wanted) wrong.push(what + ': ' + found + ' not ' + wanted); };
const list = (dir) => fs.readdirSync(dir).sort().join();
for (let round = 0; round < 20; round++) {
  const [x, y] = round % 2 === 0 ? [a, b] : [b, a];
  const d = '/d' + round;
  fs.mkdirSync(x + d); same('mkdir', list(y).includes('d' + round), true);
  fs.writeFileSync(x + d + '/one', '1'); same('create', list(y + d), 'one');
  fs.chmodSync(x + d + '/one', 0o640); same('chmod', fs.statSync(y + d + '/one').mode & 0o777, 0o640);
  fs.utimesSync(x + d + '/one', 1, 1000 + round); same('utimes', fs.statSync(y + d + '/one').mtimeMs, (1000 + round) * 1000);
  fs.linkSync(x + d + '/one', x + d + '/two'); same('link', fs.statSync(y + d + '/one').nlink, 2);
  fs.symlinkSync('one', x + d + '/s'); same('symlink', fs.readlinkSync(y + d + '/s'), 'one');
  fs.truncateSync(x + d + '/one', 100); same('truncate', fs.statSync(y + d + '/two').size, 100);
  fs.renameSync(x + d + '/one', x + d + '/three'); same('rename', list(y + d), 's,three,two');
  same('old name', fs.existsSync(y + d + '/one'), false);
  fs.unlinkSync(x + d + '/two'); same('unlink', list(y + d), 's,three'); same('nlink', fs.statSync(y + d + '/three').nlink, 1);
  fs.rmSync(x + d, { recursive: true }); same('rm', fs.existsSync(y + d), false);
  const fd = fs.openSync(x + '/again', 'w'); fs.writeSync(fd, 'first'); fs.closeSync(fd);
  same('first', fs.readFileSync(y + '/again', 'latin1'), 'first');
  fs.unlinkSync(x + '/again'); fs.writeFileSync(x + '/again', 'second one');
  same('made again', fs.readFileSync(y + '/again', 'latin1'), 'second one');
}
console.log(wrong.length === 0 ? 'all seen' : wrong.slice(0, 5).join('; '));
`;

/** A descriptor that stays open on one mount shows what the other has written and synced since. */
const HELD_OPEN = `
import fs from 'node:fs';
const [a, b] = [process.env.A, process.env.B];
fs.writeFileSync(a + '/held', 'aaaa');
const reader = fs.openSync(b + '/held', 'r');
const writer = fs.openSync(a + '/held', 'r+');
const read = () => { const buffer = Buffer.alloc(20); return buffer.toString('latin1', 0, fs.readSync(reader, buffer, 0, 20, 0)); };
const seen = [read()];
fs.writeSync(writer, 'bbbb', 0); fs.fsyncSync(writer); seen.push(read());
fs.writeSync(writer, 'cccccc', 0); fs.fsyncSync(writer); seen.push(read());
fs.ftruncateSync(writer, 2); seen.push(read());
console.log(seen.join());
`;

/** The same past the page cache: the kernel asks nothing but the bytes. */
const HELD_OPEN_DIRECT = `
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
const [a, b] = [process.env.A, process.env.B];
const page = (letter) => Buffer.alloc(4096, letter);
fs.writeFileSync(a + '/direct', page('a'));
const reader = fs.openSync(b + '/direct', fs.constants.O_RDONLY | fs.constants.O_DIRECT);
const writer = fs.openSync(a + '/direct', 'r+');
const read = () => { const buffer = page('-'); fs.readSync(reader, buffer, 0, 4096, 0); return String.fromCharCode(buffer[0]); };
const seen = [read()];
for (const letter of 'bcd') { fs.writeSync(writer, page(letter), 0, 4096, 0); fs.fsyncSync(writer); seen.push(read()); }
console.log(seen.join(''));
`;

/** Two programs that append in turn to one file, each through a descriptor that it keeps open: a shared log. */
const APPEND = `
import fs from 'node:fs';
const [a, b] = [process.env.A, process.env.B];
fs.writeFileSync(a + '/log', '');
const logs = [a, b].map((dir) => fs.openSync(dir + '/log', 'a'));
let wanted = '';
for (let line = 0; line < 20; line++) {
  const fd = logs[line % 2];
  fs.writeSync(fd, 'line ' + line + '\\n');
  fs.fsyncSync(fd);
  wanted += 'line ' + line + '\\n';
}
const found = fs.readFileSync(a + '/log', 'latin1');
console.log(found === wanted ? 'complete' : JSON.stringify(found.slice(0, 80)));
`;

/** Four programs, two on each mount, append records of many sizes at the same time; every record arrives whole. */
const APPEND_TOGETHER = `
import { spawn } from 'node:child_process';
import fs from 'node:fs';
const [a, b] = [process.env.A, process.env.B];
const WRITER = \`
const fs = require('fs');
const [path, letter] = process.argv.slice(1);
const fd = fs.openSync(path, 'a');
for (let n = 0; n < 60; n++) {
  const record = letter + n + ':' + letter.repeat((n * 7919) % 20000) + String.fromCharCode(10);
  if (fs.writeSync(fd, record) !== record.length) throw new Error('a short write');
  if (n % 20 === 7) fs.fsyncSync(fd);
}
fs.closeSync(fd);
\`;
fs.writeFileSync(a + '/records', '');
const writers = ['p', 'q', 'r', 's'].map((letter, index) => {
  const child = spawn(process.execPath, ['-e', WRITER, (index % 2 === 0 ? a : b) + '/records', letter], { stdio: 'inherit' });
  return new Promise((resolve) => child.on('exit', resolve));
});
const codes = await Promise.all(writers);
for (const dir of [a, b]) {
  const lines = fs.readFileSync(dir + '/records', 'latin1').split(String.fromCharCode(10)).slice(0, -1);
  const seen = new Map();
  let torn = 0;
  for (const line of lines) {
    const [, letter, n, rest] = /^([p-s])([0-9]+):(.*)$/.exec(line) ?? [];
    if (letter === undefined || rest !== letter.repeat((Number(n) * 7919) % 20000)) torn++;
    else if ((seen.get(letter) ?? -1) + 1 === Number(n)) seen.set(letter, Number(n));
  }
  const whole = ['p', 'q', 'r', 's'].every((letter) => seen.get(letter) === 59);
  console.log(codes.join() + ' ' + lines.length + ' lines, ' + torn + ' torn, ' + (whole ? 'all in order' : 'some lost'));
}
`;

/** Two at once on each mount, so that one's close may come in the middle of the other's write; the records then. */
const APPEND_UNPAGED = `
cc -o append "$SOURCE"; : > "$A/unpaged"; jobs=()
for letter in a b; do ./append "$A/unpaged" $letter "$A/source-$letter" 50 & jobs+=($!); done
for letter in c d; do ./append "$B/unpaged" $letter "$B/source-$letter" 50 & jobs+=($!); done
for job in "\${jobs[@]}"; do wait "$job"; done
sort "$A/unpaged" | uniq -c | awk '{ print $1, substr($2, 1, 1), length($2) }'
`;
const APPEND_UNPAGED_SOURCE = fileURLToPath(
  new URL('../../../test/fixtures/append-unpaged.c', import.meta.url),
);

const pairs: readonly [
  name: string,
  drivers: readonly ['kernel' | 'fuse-native', 'kernel' | 'fuse-native'],
  count: number,
][] = [
  ['two kernel mounts', ['kernel', 'kernel'], 1000],
  ['a kernel mount and a fuse-native mount', ['kernel', 'fuse-native'], 200],
];

for (const [name, [first, second], count] of pairs) {
  t.test(name, { timeout: TIMEOUT_MS }, async (t) => {
    const cluster = await Cluster.start(t, { name: 'two' });
    const a: ClusterMount = await cluster.mount({ driver: first });
    const b: ClusterMount = await cluster.mount({ driver: second });
    const env = { A: a.path, B: b.path, COUNT: String(count) };
    const run = (script: string): Promise<string> =>
      node(script, { cwd: cluster.scratch.path, env, timeoutMs: TIMEOUT_MS }).catch((error: unknown) => {
        throw new Error(`${String(error)}\n${cluster.logs()}`);
      });
    await t.test(`${count} times both ways, never stale`, { timeout: TIMEOUT_MS }, async (t) => {
      t.equal(await run(PING_PONG), 'never stale\n');
    });
    await t.test('names and attributes are seen at once', async (t) => {
      t.equal(await run(ATTRIBUTES), 'all seen\n');
    });
    await t.test('a file that stays open shows what the other mount synced', async (t) => {
      t.equal(await run(HELD_OPEN), 'aaaa,bbbb,cccccc,cc\n');
    });
    await t.test('so does one that bypasses the page cache', async (t) => {
      t.equal(await run(HELD_OPEN_DIRECT), 'abcd\n');
    });
    await t.test('two programs append to one log in turn', async (t) => {
      t.equal(await run(APPEND), 'complete\n');
    });
    await t.test('records that four programs on both mounts append at once arrive whole', async (t) => {
      const told = '0,0,0,0 240 lines, 0 torn, all in order\n';
      t.equal(await run(APPEND_TOGETHER), told + told);
    });
    const skip =
      second !== 'kernel' ? 'the driver cannot keep them in one piece' : !isInstalled('cc') && 'no cc';
    await t.test('appends arrive whole out of memory whose pages come late', { skip }, async (t) => {
      const options = { cwd: cluster.scratch.path, env: { ...env, SOURCE: APPEND_UNPAGED_SOURCE } };
      t.equal(await sh(APPEND_UNPAGED, options), '50 a 19999\n50 b 19999\n50 c 19999\n50 d 19999\n');
    });
    await t.test('the cluster is healthy afterwards', async (t) => {
      t.same((await cluster.status()).problems, []);
    });
  });
}
