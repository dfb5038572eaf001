/** Which reads move access times: what the mount's own options say, on the host and on every other mount. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, tick } from '../check.js';
import { utimensat } from '../libc.js';

const { O_NOATIME, O_RDONLY } = fs.constants;
const DAY_SEC = 24 * 60 * 60;

type Mode = 'noatime' | 'relatime' | 'strictatime';

/** What is in force where `dir` is. **Source:** proc_pid_mountinfo(5). */
function modeOf(dir: string): { mode: Mode; directories: boolean } {
  const path = fs.realpathSync(dir);
  const mounts = fs
    .readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, , , , at = '/none']) => path === at || at === '/' || path.startsWith(`${at}/`));
  // The longest is the innermost, and of those the last one lies on top.
  const depth = Math.max(...mounts.map(([, , , , at = '']) => at.length));
  const words = (mounts.filter(([, , , , at = '']) => at.length === depth).at(-1)?.[5] ?? '').split(',');
  const mode = (['noatime', 'relatime'] as const).find((word) => words.includes(word)) ?? 'strictatime';
  return { mode, directories: mode !== 'noatime' && !words.includes('nodiratime') };
}

/** Whether an action moves the access time; nothing else may move, and it never goes back. */
async function moves(path: string, action: () => unknown): Promise<boolean> {
  const before = fs.lstatSync(path, { bigint: true });
  await tick();
  action();
  const after = fs.lstatSync(path, { bigint: true });
  assert.deepEqual(
    [after.mtimeNs, after.ctimeNs],
    [before.mtimeNs, before.ctimeNs],
    'a read changes nothing',
  );
  assert.ok(after.atimeNs >= before.atimeNs, 'an access time does not go back');
  return after.atimeNs > before.atimeNs;
}

function file(dir: string): string {
  const path = join(dir, 'f');
  fs.writeFileSync(path, 'content');
  return path;
}

export const accessTimeChecks: Checks = {
  'a file’s moves with the first read, and later as the options say': async (dir) => {
    const { mode } = modeOf(dir);
    const path = file(dir);
    const read = () => fs.readFileSync(path);
    assert.equal(await moves(path, read), mode !== 'noatime', 'the first read');
    assert.equal(await moves(path, read), mode === 'strictatime', 'the second');
    await tick();
    fs.chmodSync(path, 0o600);
    assert.equal(await moves(path, read), mode !== 'noatime', 'after a change of mode');
    await tick();
    fs.appendFileSync(path, 'more');
    assert.equal(await moves(path, read), mode !== 'noatime', 'after a write');
    assert.equal(await moves(path, read), mode === 'strictatime');
  },
  'O_NOATIME moves none': async (dir) => {
    const path = file(dir);
    const fd = fs.openSync(path, O_RDONLY | O_NOATIME);
    assert.equal(await moves(path, () => fs.readSync(fd, Buffer.alloc(10))), false);
    fs.closeSync(fd);
  },
  'open, stat, write and rename move none': async (dir) => {
    const path = file(dir);
    const { atimeNs } = fs.statSync(path, { bigint: true });
    await tick();
    fs.closeSync(fs.openSync(path, 'r+'));
    fs.appendFileSync(path, 'x');
    fs.renameSync(path, `${path}2`);
    fs.chmodSync(`${path}2`, 0o640);
    assert.equal(fs.statSync(`${path}2`, { bigint: true }).atimeNs, atimeNs);
  },
  'a directory’s moves when it is listed': async (dir) => {
    const { mode, directories } = modeOf(dir);
    const path = join(dir, 'd');
    fs.mkdirSync(path);
    const list = () => fs.readdirSync(path);
    assert.equal(await moves(path, list), directories, 'the first time');
    assert.equal(await moves(path, list), directories && mode === 'strictatime', 'the second');
    await tick();
    fs.writeFileSync(join(path, 'new'), '');
    assert.equal(await moves(path, list), directories, 'after an entry was made');
    assert.equal(await moves(path, () => fs.statSync(join(path, 'new'))), false, 'a lookup is no listing');
  },
  'a symlink’s moves when it is read': async (dir) => {
    const { mode } = modeOf(dir);
    const path = join(dir, 'l');
    fs.symlinkSync('nowhere', path);
    assert.equal(await moves(path, () => fs.readlinkSync(path)), mode !== 'noatime');
  },
  'one that was set stays until a read that is due': async (dir) => {
    const { mode } = modeOf(dir);
    const path = file(dir);
    const now = Math.floor(Date.now() / 1000);
    for (const sec of [now - 2 * DAY_SEC, now + 1000]) {
      fs.readFileSync(path);
      utimensat(path, [
        [sec, 5_000_000],
        [now, 6_000_000],
      ]);
      const want = BigInt(sec) * 1_000_000_000n + 5_000_000n;
      assert.equal(fs.statSync(path, { bigint: true }).atimeNs, want, 'at once');
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      assert.equal(fs.statSync(path, { bigint: true }).atimeNs, want, 'and later');
    }
    utimensat(path, [
      [now - 2 * DAY_SEC, 5_000_000],
      [now, 6_000_000],
    ]);
    assert.equal(await moves(path, () => fs.readFileSync(path)), mode !== 'noatime');
  },
};
