/** Hard links and symbolic links. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails } from '../check.js';
import { symlink } from '../libc.js';

export const linkChecks: Checks = {
  'two names of a file are one file': (dir) => {
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    fs.writeFileSync(a, 'one');
    fs.linkSync(a, b);
    assert.equal(fs.statSync(a).ino, fs.statSync(b).ino);
    fs.appendFileSync(b, ' two');
    fs.chmodSync(b, 0o640);
    assert.equal(fs.readFileSync(a, 'utf8'), 'one two');
    assert.equal(fs.statSync(a).mode & 0o777, 0o640);
    assert.equal(fs.statSync(a).nlink, 2);
    fs.unlinkSync(a);
    assert.equal(fs.readFileSync(b, 'utf8'), 'one two');
    assert.equal(fs.statSync(b).nlink, 1);
  },
  'link refuses directories, existing names and missing files': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, '');
    fs.mkdirSync(join(dir, 'd'));
    fails('EPERM', () => fs.linkSync(join(dir, 'd'), join(dir, 'x')));
    fails('EEXIST', () => fs.linkSync(path, path));
    fails('EEXIST', () => fs.linkSync(path, join(dir, 'd')));
    fails('ENOENT', () => fs.linkSync(join(dir, 'none'), join(dir, 'x')));
    fails('ENOENT', () => fs.linkSync(path, join(dir, 'none', 'x')));
    fails('ENOTDIR', () => fs.linkSync(path, join(path, 'x')));
  },
  'a link to a symlink is the symlink, not its target': (dir) => {
    fs.writeFileSync(join(dir, 'f'), '');
    fs.symlinkSync('f', join(dir, 'l'));
    fs.linkSync(join(dir, 'l'), join(dir, 'm'));
    assert.equal(fs.readlinkSync(join(dir, 'm')), 'f');
    assert.equal(fs.lstatSync(join(dir, 'l')).nlink, 2);
  },
  'a thousand links to one file': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, 'x');
    for (let index = 0; index < 1000; index++) fs.linkSync(path, join(dir, `l${index}`));
    assert.equal(fs.statSync(path).nlink, 1001);
    fs.unlinkSync(path);
    for (let index = 0; index < 999; index++) fs.unlinkSync(join(dir, `l${index}`));
    assert.equal(fs.statSync(join(dir, 'l999')).nlink, 1);
  },
  'a symlink keeps its target byte for byte': (dir) => {
    const targets = [Buffer.from('x'), Buffer.from([0xff, 0xfe, 0x0a]), Buffer.alloc(4095, 0x61)];
    for (const [index, target] of targets.entries()) {
      const path = join(dir, `l${index}`);
      symlink(target, path);
      assert.deepEqual(fs.readlinkSync(path, { encoding: 'buffer' }), target);
      assert.equal(fs.lstatSync(path).size, target.length);
      assert.equal(fs.lstatSync(path).mode & 0o777, 0o777);
    }
    fails('ENAMETOOLONG', () => symlink(Buffer.alloc(4096, 0x61), join(dir, 'x')));
    fails('ENOENT', () => symlink('', join(dir, 'x')));
  },
  'symlinks lead on, relative and absolute, and dangle': (dir) => {
    fs.mkdirSync(join(dir, 'd'));
    fs.writeFileSync(join(dir, 'd', 'f'), 'found');
    fs.symlinkSync('d', join(dir, 'relative'));
    fs.symlinkSync(join(dir, 'd'), join(dir, 'absolute'));
    fs.symlinkSync('../relative/f', join(dir, 'd', 'up'));
    assert.equal(fs.readFileSync(join(dir, 'relative', 'f'), 'utf8'), 'found');
    assert.equal(fs.readFileSync(join(dir, 'absolute', 'up'), 'utf8'), 'found');
    fs.symlinkSync('nothing', join(dir, 'dangling'));
    fails('ENOENT', () => fs.statSync(join(dir, 'dangling')));
    fs.writeFileSync(join(dir, 'dangling'), 'made');
    assert.equal(fs.readFileSync(join(dir, 'nothing'), 'utf8'), 'made');
  },
  'symlinks in a circle are ELOOP': (dir) => {
    fs.symlinkSync('b', join(dir, 'a'));
    fs.symlinkSync('a', join(dir, 'b'));
    fails('ELOOP', () => fs.statSync(join(dir, 'a')));
    fails('ELOOP', () => fs.openSync(join(dir, 'a'), 'w'));
    assert.equal(fs.readlinkSync(join(dir, 'a')), 'b');
  },
  'readlink of what is no symlink is EINVAL': (dir) => {
    fs.writeFileSync(join(dir, 'f'), '');
    fails('EINVAL', () => fs.readlinkSync(join(dir, 'f')));
    fails('EINVAL', () => fs.readlinkSync(dir));
  },
  'a replaced symlink leads to its new target': (dir) => {
    for (let index = 0; index < 30; index++) {
      fs.writeFileSync(join(dir, `v${index}`), `version ${index}`);
      fs.symlinkSync(`v${index}`, join(dir, 'next'));
      fs.renameSync(join(dir, 'next'), join(dir, 'current'));
      assert.equal(fs.readFileSync(join(dir, 'current'), 'utf8'), `version ${index}`);
    }
  },
};
