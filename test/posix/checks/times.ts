/** When timestamps move, and to where. Which reads move access times is access-times.ts's. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Check, type Checks, tick } from '../check.js';
import { AT_SYMLINK_NOFOLLOW, truncate, UTIME_NOW, UTIME_OMIT, utimensat } from '../libc.js';

const stat = (path: string): fs.BigIntStats => fs.lstatSync(path, { bigint: true });

/** Which of mtime and ctime of `path` an action moves. */
async function moves(path: string, action: () => unknown): Promise<string> {
  const before = stat(path);
  await tick();
  action();
  const after = stat(path);
  assert.ok(after.mtimeNs >= before.mtimeNs && after.ctimeNs >= before.ctimeNs, 'time does not go back');
  const moved = [
    after.mtimeNs !== before.mtimeNs ? 'mtime' : '',
    after.ctimeNs !== before.ctimeNs ? 'ctime' : '',
  ];
  return moved.filter((name) => name !== '').join(' ');
}

/** A check that entry operations move the times of the directories they change. */
const entriesMoveTheirDirectory: Check = async (dir) => {
  const [a, b] = [join(dir, 'a'), join(dir, 'b')];
  for (const path of [a, b]) fs.mkdirSync(path);
  const f = join(a, 'f');
  assert.equal(await moves(a, () => fs.writeFileSync(f, '')), 'mtime ctime', 'create');
  assert.equal(await moves(a, () => fs.writeFileSync(f, 'x')), '', 'write');
  assert.equal(await moves(a, () => fs.chmodSync(f, 0o600)), '', 'chmod of an entry');
  assert.equal(await moves(a, () => fs.linkSync(f, join(a, 'l'))), 'mtime ctime', 'link');
  assert.equal(await moves(a, () => fs.symlinkSync('f', join(a, 's'))), 'mtime ctime', 'symlink');
  assert.equal(await moves(a, () => fs.mkdirSync(join(a, 'd'))), 'mtime ctime', 'mkdir');
  assert.equal(await moves(a, () => fs.renameSync(join(a, 'l'), join(a, 'm'))), 'mtime ctime', 'rename');
  assert.equal(await moves(a, () => fs.renameSync(join(a, 'm'), join(b, 'm'))), 'mtime ctime', 'out');
  assert.equal(await moves(a, () => fs.renameSync(join(b, 'm'), join(a, 'm'))), 'mtime ctime', 'in');
  assert.equal(await moves(a, () => fs.unlinkSync(join(a, 'm'))), 'mtime ctime', 'unlink');
  assert.equal(await moves(a, () => fs.rmdirSync(join(a, 'd'))), 'mtime ctime', 'rmdir');
  assert.equal(await moves(a, () => fs.readdirSync(a)), '', 'readdir');
};

export const timeChecks: Checks = {
  'a new file is from now, all its times alike': (dir) => {
    const path = join(dir, 'f');
    const before = Date.now();
    fs.writeFileSync(path, '');
    const { mtimeMs, ctimeMs, atimeMs } = fs.statSync(path);
    for (const time of [mtimeMs, ctimeMs, atimeMs]) {
      assert.ok(time > before - 2000 && time < Date.now() + 2000, `${time} is about now`);
    }
    assert.equal(mtimeMs, ctimeMs);
  },
  'writing moves mtime and ctime at once': async (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, 'x');
    const fd = fs.openSync(path, 'r+');
    assert.equal(await moves(path, () => fs.writeSync(fd, 'y')), 'mtime ctime');
    const seen = stat(path);
    assert.equal(await moves(path, () => fs.fsyncSync(fd)), '', 'fsync changes no time');
    assert.equal(await moves(path, () => fs.readSync(fd, Buffer.alloc(1))), '', 'nor does reading');
    assert.equal(await moves(path, () => fs.closeSync(fd)), '', 'nor closing');
    assert.equal(stat(path).mtimeNs, seen.mtimeNs);
  },
  'truncation moves mtime and ctime': async (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, 'content');
    assert.equal(await moves(path, () => truncate(path, 3)), 'mtime ctime');
    assert.equal(await moves(path, () => truncate(path, 3)), 'mtime ctime', 'to the same size');
    assert.equal(await moves(path, () => fs.truncateSync(path, 3)), 'mtime ctime', 'by descriptor');
    assert.equal(await moves(path, () => fs.truncateSync(path, 30)), 'mtime ctime');
    assert.equal(await moves(path, () => fs.closeSync(fs.openSync(path, 'w'))), 'mtime ctime', 'O_TRUNC');
    const empty = () => fs.closeSync(fs.openSync(path, 'w'));
    assert.equal(await moves(path, empty), 'mtime ctime', 'O_TRUNC of an empty file');
    assert.equal(await moves(path, () => fs.closeSync(fs.openSync(path, 'r+'))), '', 'a plain open');
  },
  'chmod, chown, link and rename move ctime alone': async (dir) => {
    const path = join(dir, 'f');
    const other = join(dir, 'g');
    fs.writeFileSync(path, 'x');
    assert.equal(await moves(path, () => fs.chmodSync(path, 0o600)), 'ctime');
    const { uid, gid } = fs.statSync(path);
    assert.equal(await moves(path, () => fs.chownSync(path, uid, gid)), 'ctime');
    assert.equal(await moves(path, () => fs.linkSync(path, other)), 'ctime', 'link');
    assert.equal(await moves(path, () => fs.unlinkSync(other)), 'ctime', 'unlink of another name');
    const swing = () => {
      fs.renameSync(path, other);
      fs.renameSync(other, path);
    };
    assert.equal(await moves(path, swing), 'ctime', 'rename');
  },
  'a chown that names neither owner nor group moves ctime': async (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, 'x');
    assert.equal(await moves(path, () => fs.chownSync(path, -1, -1)), 'ctime');
  },
  'entries move the times of their directory': entriesMoveTheirDirectory,
  'times are set to the nanosecond': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, '');
    utimensat(path, [
      [1_000_000_001, 123_456_789],
      [1_500_000_002, 987_654_321],
    ]);
    assert.equal(stat(path).atimeNs, 1_000_000_001_123_456_789n);
    assert.equal(stat(path).mtimeNs, 1_500_000_002_987_654_321n);
  },
  'times before 1970 and after 2038 are kept': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, '');
    for (const seconds of [-1_500_000_000, -1, 0, 2 ** 31, 2 ** 32 + 5, 4_102_444_800]) {
      utimensat(path, [
        [seconds, 500],
        [seconds, 500],
      ]);
      const want = BigInt(seconds) * 1_000_000_000n + 500n;
      assert.deepEqual([stat(path).atimeNs, stat(path).mtimeNs], [want, want]);
    }
  },
  'UTIME_OMIT leaves a time and UTIME_NOW sets it to now': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, '');
    utimensat(path, [
      [1000, 1],
      [2000, 2],
    ]);
    utimensat(path, [
      [0, UTIME_OMIT],
      [3000, 3],
    ]);
    assert.deepEqual([stat(path).atimeNs, stat(path).mtimeNs], [1_000_000_000_001n, 3_000_000_000_003n]);
    utimensat(path, [
      [4000, 4],
      [0, UTIME_OMIT],
    ]);
    assert.deepEqual([stat(path).atimeNs, stat(path).mtimeNs], [4_000_000_000_004n, 3_000_000_000_003n]);
    utimensat(path, [
      [0, UTIME_OMIT],
      [0, UTIME_NOW],
    ]);
    assert.equal(stat(path).atimeNs, 4_000_000_000_004n);
    assert.ok(Math.abs(Number(stat(path).mtimeMs) - Date.now()) < 2000);
  },
  'setting times moves ctime, and a later write moves mtime again': async (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, '');
    const set = () => fs.utimesSync(path, 10, 20);
    const before = stat(path);
    await tick();
    set();
    assert.ok(stat(path).ctimeNs > before.ctimeNs);
    assert.equal(await moves(path, () => fs.appendFileSync(path, 'x')), 'mtime ctime');
  },
  'times set on an open file that was written survive its close': (dir) => {
    const path = join(dir, 'f');
    const fd = fs.openSync(path, 'w');
    fs.writeSync(fd, 'content');
    fs.futimesSync(fd, 1111, 2222);
    fs.closeSync(fd);
    assert.equal(stat(path).mtimeNs, 2222n * 1_000_000_000n);
    assert.equal(fs.readFileSync(path, 'utf8'), 'content');
    assert.equal(stat(path).mtimeNs, 2222n * 1_000_000_000n);
  },
  'a symlink has times of its own': (dir) => {
    const [path, link] = [join(dir, 'f'), join(dir, 'l')];
    fs.writeFileSync(path, '');
    fs.symlinkSync('f', link);
    const before = stat(path).mtimeNs;
    utimensat(
      link,
      [
        [77, 7],
        [88, 8],
      ],
      AT_SYMLINK_NOFOLLOW,
    );
    assert.equal(stat(link).mtimeNs, 88_000_000_008n);
    assert.equal(stat(path).mtimeNs, before);
  },
  'a time set before a written file is closed stays out of ctime': async (dir) => {
    const f = join(dir, 'f');
    const future = 4_000_000_000;
    const fd = fs.openSync(f, 'w');
    fs.writeSync(fd, 'content');
    fs.futimesSync(fd, future, future);
    const before = stat(f).ctimeNs;
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    const after = stat(f);
    assert.equal(after.mtimeNs, BigInt(future) * 1_000_000_000n);
    assert.equal(after.ctimeNs, before);
    await tick();
    fs.truncateSync(f, 0);
    assert.ok(stat(f).ctimeNs > before);
  },
};
