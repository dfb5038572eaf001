/** Files that are opened without a name: O_TMPFILE. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails } from '../check.js';
import { linkOpen, O_TMPFILE } from '../libc.js';

const { O_EXCL, O_RDWR, O_WRONLY } = fs.constants;

export const unnamedChecks: Checks = {
  'a file without a name is written and read, and leaves nothing': (dir) => {
    const fd = fs.openSync(dir, O_TMPFILE | O_RDWR, 0o640);
    assert.deepEqual(fs.readdirSync(dir), []);
    fs.writeSync(fd, 'content');
    fs.fsyncSync(fd);
    const { nlink, size, mode } = fs.fstatSync(fd);
    assert.deepEqual([nlink, size, mode & 0o777], [0, 7, 0o640]);
    const buffer = Buffer.alloc(10);
    assert.equal(fs.readSync(fd, buffer, 0, 10, 0), 7);
    fs.closeSync(fd);
    assert.deepEqual(fs.readdirSync(dir), []);
  },
  'a link gives it its first name, with all that was written': (dir) => {
    const fd = fs.openSync(dir, O_TMPFILE | O_WRONLY, 0o600);
    fs.writeSync(fd, 'before ');
    linkOpen(fd, join(dir, 'f'));
    assert.equal(fs.fstatSync(fd).nlink, 1);
    fs.writeSync(fd, 'after');
    fs.closeSync(fd);
    assert.equal(fs.readFileSync(join(dir, 'f'), 'utf8'), 'before after');
    fs.linkSync(join(dir, 'f'), join(dir, 'g'));
    assert.equal(fs.statSync(join(dir, 'g')).nlink, 2);
  },
  'with O_EXCL it never gets a name': (dir) => {
    const fd = fs.openSync(dir, O_TMPFILE | O_RDWR | O_EXCL, 0o600);
    fails('ENOENT', () => linkOpen(fd, join(dir, 'f')));
    fs.closeSync(fd);
    assert.deepEqual(fs.readdirSync(dir), []);
  },
  'what has lost its last name gets none again': (dir) => {
    const path = join(dir, 'f');
    const fd = fs.openSync(path, 'w+');
    fs.unlinkSync(path);
    fails('ENOENT', () => linkOpen(fd, path));
    fs.closeSync(fd);
    const unnamed = fs.openSync(dir, O_TMPFILE | O_RDWR, 0o600);
    linkOpen(unnamed, path);
    fails('EEXIST', () => linkOpen(unnamed, path));
    fs.unlinkSync(path);
    fails('ENOENT', () => linkOpen(unnamed, path));
    fs.closeSync(unnamed);
  },
  'it has to be opened for writing, in a directory': (dir) => {
    fails('EINVAL', () => fs.openSync(dir, O_TMPFILE, 0o600));
    fs.writeFileSync(join(dir, 'f'), '');
    fails('ENOTDIR', () => fs.openSync(join(dir, 'f'), O_TMPFILE | O_RDWR, 0o600));
    fails('ENOENT', () => fs.openSync(join(dir, 'none'), O_TMPFILE | O_RDWR, 0o600));
  },
  'the umask and a setgid directory apply to it': (dir) => {
    fs.chmodSync(dir, 0o2777);
    const before = process.umask(0o027);
    const fd = fs.openSync(dir, O_TMPFILE | O_RDWR, 0o666);
    process.umask(before);
    const { mode, gid } = fs.fstatSync(fd);
    assert.deepEqual([mode & 0o7777, gid], [0o640, fs.statSync(dir).gid]);
    fs.closeSync(fd);
  },
};
