/** Modes, owners, link counts, sizes and inode numbers. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, needsRoot } from '../check.js';
import { succeed } from '../children.js';

const mode = (path: string): number => fs.lstatSync(path).mode & 0o7777;

export const attributeChecks: Checks = {
  'the umask is applied to what is created': (dir) => {
    const before = process.umask(0o027);
    try {
      fs.closeSync(fs.openSync(join(dir, 'f'), 'w', 0o777));
      fs.mkdirSync(join(dir, 'd'), 0o777);
    } finally {
      process.umask(before);
    }
    assert.equal(mode(join(dir, 'f')), 0o750);
    assert.equal(mode(join(dir, 'd')), 0o750);
  },
  'a file created without permissions can be written by its creator': (dir) => {
    const fd = fs.openSync(join(dir, 'f'), 'wx', 0);
    fs.writeSync(fd, 'x');
    fs.closeSync(fd);
    assert.equal(mode(join(dir, 'f')), 0);
    assert.equal(fs.statSync(join(dir, 'f')).size, 1);
  },
  'chmod sets every bit': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, '');
    for (const bits of [0o7777, 0o4755, 0o2755, 0o1644, 0o000, 0o644]) {
      fs.chmodSync(path, bits);
      assert.equal(mode(path), bits);
    }
    const fd = fs.openSync(path, 'r');
    fs.fchmodSync(fd, 0o600);
    assert.equal(fs.fstatSync(fd).mode & 0o7777, 0o600);
    fs.closeSync(fd);
    fs.mkdirSync(join(dir, 'd'));
    fs.chmodSync(join(dir, 'd'), 0o3770);
    assert.equal(mode(join(dir, 'd')), 0o3770);
  },
  'chown sets owner and group, one, both or none': (dir, host) => {
    needsRoot(host);
    const path = join(dir, 'f');
    const ids = (): number[] => [fs.lstatSync(path).uid, fs.lstatSync(path).gid];
    fs.writeFileSync(path, '');
    fs.chownSync(path, 1234, 2345);
    assert.deepEqual(ids(), [1234, 2345]);
    fs.chownSync(path, 2 ** 32 - 1, 7);
    assert.deepEqual(ids(), [1234, 7]);
    fs.chownSync(path, 2 ** 32 - 2, 2 ** 32 - 1);
    assert.deepEqual(ids(), [2 ** 32 - 2, 7]);
    fs.symlinkSync('f', join(dir, 'l'));
    fs.lchownSync(join(dir, 'l'), 5, 6);
    assert.deepEqual(ids(), [2 ** 32 - 2, 7]);
    assert.equal(fs.lstatSync(join(dir, 'l')).uid, 5);
  },
  'chown to nobody takes setuid as well': (dir, host) => {
    needsRoot(host);
    const path = join(dir, 'f');
    fs.writeFileSync(path, 'x');
    for (const [before, after] of [
      [0o4755, 0o755],
      [0o6711, 0o711],
      [0o2644, 0o2644],
    ] as const) {
      fs.chmodSync(path, before);
      fs.chownSync(path, 2 ** 32 - 1, 2 ** 32 - 1);
      assert.equal(fs.statSync(path).mode & 0o7777, after);
    }
    fs.chmodSync(dir, 0o2755);
    fs.chownSync(dir, 2 ** 32 - 1, 2 ** 32 - 1);
    assert.equal(fs.statSync(dir).mode & 0o7777, 0o2755, 'a directory keeps it');
  },
  'chown takes setuid and executable setgid, even from root': (dir, host) => {
    needsRoot(host);
    const path = join(dir, 'f');
    fs.writeFileSync(path, '');
    fs.chmodSync(path, 0o6755);
    fs.chownSync(path, 0, 0);
    assert.equal(mode(path), 0o755);
    fs.mkdirSync(join(dir, 'd'));
    fs.chmodSync(join(dir, 'd'), 0o6755);
    fs.chownSync(join(dir, 'd'), 1, 1);
    assert.equal(mode(join(dir, 'd')), 0o6755, 'a directory keeps them');
  },
  'new entries belong to who made them': (dir) => {
    const ids = { uid: process.geteuid?.(), gid: process.getegid?.() };
    fs.writeFileSync(join(dir, 'f'), '');
    fs.mkdirSync(join(dir, 'd'));
    fs.symlinkSync('f', join(dir, 'l'));
    for (const name of ['f', 'd', 'l']) {
      const { uid, gid } = fs.lstatSync(join(dir, name));
      assert.deepEqual({ uid, gid }, ids, name);
    }
  },
  'link counts are exact': (dir) => {
    const nlink = (path: string): number => fs.lstatSync(path).nlink;
    fs.mkdirSync(join(dir, 'd'));
    assert.equal(nlink(join(dir, 'd')), 2);
    for (const name of ['x', 'y', 'z']) fs.mkdirSync(join(dir, 'd', name));
    assert.equal(nlink(join(dir, 'd')), 5);
    fs.rmdirSync(join(dir, 'd', 'x'));
    fs.renameSync(join(dir, 'd', 'y'), join(dir, 'y'));
    assert.equal(nlink(join(dir, 'd')), 3);
    fs.writeFileSync(join(dir, 'f'), '');
    for (let index = 0; index < 20; index++) fs.linkSync(join(dir, 'f'), join(dir, `l${index}`));
    assert.equal(nlink(join(dir, 'f')), 21);
    for (let index = 0; index < 20; index++) fs.unlinkSync(join(dir, `l${index}`));
    assert.equal(nlink(join(dir, 'f')), 1);
  },
  'the type is what was made': (dir) => {
    fs.writeFileSync(join(dir, 'f'), '');
    fs.mkdirSync(join(dir, 'd'));
    fs.symlinkSync('d', join(dir, 'l'));
    const types = fs.readdirSync(dir, { withFileTypes: true }).map((entry) => {
      return [entry.name, entry.isFile(), entry.isDirectory(), entry.isSymbolicLink()];
    });
    assert.deepEqual(types.sort(), [
      ['d', false, true, false],
      ['f', true, false, false],
      ['l', false, false, true],
    ]);
    assert.ok(fs.statSync(join(dir, 'l')).isDirectory());
    assert.ok(fs.lstatSync(join(dir, 'l')).isSymbolicLink());
  },
  'inode numbers are distinct, stable, and the same in a listing': async (dir) => {
    const names = Array.from({ length: 50 }, (_, index) => `f${index}`);
    for (const name of names) fs.writeFileSync(join(dir, name), name);
    const inos = new Map(names.map((name) => [name, fs.statSync(join(dir, name)).ino]));
    assert.equal(new Set(inos.values()).size, names.length);
    for (const line of (await succeed(dir, ['ls', '-i1'])).trim().split('\n')) {
      const [ino, name = ''] = line.trim().split(' ');
      assert.equal(Number(ino), inos.get(name), name);
    }
    fs.renameSync(join(dir, 'f0'), join(dir, 'moved'));
    fs.appendFileSync(join(dir, 'moved'), 'more');
    assert.equal(fs.statSync(join(dir, 'moved')).ino, inos.get('f0'));
  },
  'all of it is one device': (dir) => {
    fs.mkdirSync(join(dir, 'd'));
    fs.writeFileSync(join(dir, 'd', 'f'), '');
    const dev = fs.statSync(dir).dev;
    assert.equal(fs.statSync(join(dir, 'd')).dev, dev);
    assert.equal(fs.statSync(join(dir, 'd', 'f')).dev, dev);
  },
  'stat by descriptor and by path agree while writing': (dir) => {
    const path = join(dir, 'f');
    const fd = fs.openSync(path, 'w+');
    for (let index = 1; index <= 20; index++) {
      fs.writeSync(fd, Buffer.alloc(777, index));
      const [open, named] = [fs.fstatSync(fd), fs.statSync(path)];
      assert.equal(open.size, index * 777);
      assert.deepEqual([named.size, named.mtimeMs, named.ino], [open.size, open.mtimeMs, open.ino]);
    }
    fs.closeSync(fd);
  },
  'blocks count what is there, not what is a hole': (dir) => {
    const path = join(dir, 'f');
    const fd = fs.openSync(path, 'w');
    fs.writeSync(fd, Buffer.alloc(1 << 20, 1));
    fs.ftruncateSync(fd, 1 << 30);
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    const { blocks, size } = fs.statSync(path);
    assert.equal(size, 1 << 30);
    assert.ok(blocks * 512 >= 1 << 20, `${blocks} blocks hold a MiB`);
    assert.ok(blocks * 512 < 2 << 20, `${blocks} blocks do not hold the hole`);
  },
};
