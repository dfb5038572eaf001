/** Files that are open and have no name any more. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails } from '../check.js';
import { inside } from '../children.js';

function readAll(fd: number): string {
  const buffer = Buffer.alloc(1000);
  return buffer.toString('utf8', 0, fs.readSync(fd, buffer, 0, 1000, 0));
}

export const openUnlinkedChecks: Checks = {
  'an unlinked file is read, written and cut through its descriptor': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, 'before ');
    const fd = fs.openSync(path, 'r+');
    fs.unlinkSync(path);
    fails('ENOENT', () => fs.statSync(path));
    assert.deepEqual(fs.readdirSync(dir), []);
    assert.equal(readAll(fd), 'before ');
    fs.writeSync(fd, 'after', 7);
    assert.equal(readAll(fd), 'before after');
    fs.ftruncateSync(fd, 3);
    fs.fchmodSync(fd, 0o600);
    fs.fsyncSync(fd);
    const { nlink, size, mode } = fs.fstatSync(fd);
    assert.deepEqual([nlink, size, mode & 0o777], [0, 3, 0o600]);
    assert.equal(readAll(fd), 'bef');
    fs.closeSync(fd);
  },
  'its name can be used again, for another file': (dir) => {
    const path = join(dir, 'f');
    const old = fs.openSync(path, 'w+');
    fs.writeSync(old, 'old');
    fs.unlinkSync(path);
    fs.writeFileSync(path, 'new');
    assert.notEqual(fs.fstatSync(old).ino, fs.statSync(path).ino);
    assert.equal(readAll(old), 'old');
    assert.equal(fs.readFileSync(path, 'utf8'), 'new');
    fs.closeSync(old);
    assert.equal(fs.readFileSync(path, 'utf8'), 'new');
  },
  'several descriptors and processes keep it alive': async (dir) => {
    const path = join(dir, 'f');
    const first = fs.openSync(path, 'w+');
    const second = fs.openSync(path, 'r');
    fs.writeSync(first, 'shared');
    await inside(dir, null, ({ fs }) => {
      const fd = fs.openSync('f', 'r+');
      fs.unlinkSync('f');
      fs.writeSync(fd, 'S');
      fs.closeSync(fd);
    });
    fs.closeSync(first);
    assert.equal(readAll(second), 'Shared');
    fs.closeSync(second);
  },
  'it is opened anew through /proc while it is open': (dir) => {
    const path = join(dir, 'f');
    const fd = fs.openSync(path, 'w+');
    fs.writeSync(fd, 'hidden');
    fs.unlinkSync(path);
    const again = fs.openSync(`/proc/self/fd/${fd}`, 'r+');
    fs.closeSync(fd);
    assert.equal(readAll(again), 'hidden');
    fs.closeSync(again);
  },
  'a large unlinked file works to the end': (dir) => {
    const path = join(dir, 'f');
    const fd = fs.openSync(path, 'w+');
    fs.unlinkSync(path);
    const block = Buffer.alloc(1 << 20, 0x5a);
    for (let index = 0; index < 6; index++) fs.writeSync(fd, block, 0, block.length, index * block.length);
    assert.equal(fs.fstatSync(fd).size, 6 << 20);
    const back = Buffer.alloc(1 << 20);
    assert.equal(fs.readSync(fd, back, 0, back.length, 5 << 20), back.length);
    assert.ok(back.equals(block));
    fs.closeSync(fd);
  },
  'a hundred unlinked files at once': (dir) => {
    const fds = Array.from({ length: 100 }, (_, index) => {
      const fd = fs.openSync(join(dir, `f${index}`), 'w+');
      fs.writeSync(fd, `file ${index}`);
      fs.unlinkSync(join(dir, `f${index}`));
      return fd;
    });
    for (const [index, fd] of fds.entries()) assert.equal(readAll(fd), `file ${index}`);
    for (const fd of fds) fs.closeSync(fd);
    assert.deepEqual(fs.readdirSync(dir), []);
  },
};
