/** Which names there are, and what paths mean. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails } from '../check.js';

const LONG = 'n'.repeat(255);
const O = fs.constants;

const make = (path: fs.PathLike, content: string | Uint8Array = ''): void => fs.writeFileSync(path, content);

/** Every byte that can stand in a name, each as a name with a letter before it. */
function byteNames(): Buffer[] {
  const bytes = Array.from({ length: 255 }, (_, index) => index + 1).filter((byte) => byte !== 0x2f);
  return bytes.map((byte) => Buffer.from([0x61, byte]));
}

export const nameChecks: Checks = {
  'a name of 255 bytes works everywhere': (dir) => {
    const path = join(dir, LONG);
    make(path, 'x');
    fs.renameSync(path, join(dir, LONG.replace('n', 'm')));
    fs.linkSync(join(dir, LONG.replace('n', 'm')), path);
    assert.equal(fs.statSync(path).nlink, 2);
    fs.unlinkSync(path);
    fs.mkdirSync(path);
    fs.rmdirSync(path);
    fs.symlinkSync('t', path);
    assert.equal(fs.readlinkSync(path), 't');
    assert.equal(fs.readdirSync(dir).length, 2);
  },
  'a name of 256 bytes is ENAMETOOLONG everywhere': (dir) => {
    const path = join(dir, `${LONG}n`);
    const file = join(dir, 'f');
    make(file);
    fails('ENAMETOOLONG', () => make(path));
    fails('ENAMETOOLONG', () => fs.statSync(path));
    fails('ENAMETOOLONG', () => fs.mkdirSync(path));
    fails('ENAMETOOLONG', () => fs.unlinkSync(path));
    fails('ENAMETOOLONG', () => fs.rmdirSync(path));
    fails('ENAMETOOLONG', () => fs.symlinkSync('t', path));
    fails('ENAMETOOLONG', () => fs.linkSync(file, path));
    fails('ENAMETOOLONG', () => fs.renameSync(file, path));
    fails('ENAMETOOLONG', () => fs.renameSync(path, file));
  },
  'any bytes but slash and NUL make a name': (dir) => {
    const names = byteNames();
    const at = (name: Buffer): Buffer => Buffer.concat([Buffer.from(`${dir}/`), name]);
    for (const name of names) make(at(name), name);
    const listed = fs.readdirSync(dir, { encoding: 'buffer' });
    assert.deepEqual(listed.sort(Buffer.compare), [...names].sort(Buffer.compare));
    for (const name of names) assert.deepEqual(fs.readFileSync(at(name)), name);
    for (const name of names) fs.unlinkSync(at(name));
    assert.deepEqual(fs.readdirSync(dir), []);
  },
  'names that begin with dots, blanks and dashes are names': (dir) => {
    const names = ['...', '.hidden', ' ', ' x ', '-rf', '~', '\n', 'ä', '名前', '🙂'];
    for (const name of names) make(`${dir}/${name}`, name);
    assert.deepEqual(fs.readdirSync(dir).sort(), [...names].sort());
    for (const name of names) assert.equal(fs.readFileSync(`${dir}/${name}`, 'utf8'), name);
  },
  'names differ by case and by normal form': (dir) => {
    for (const name of ['a', 'A', 'é', 'e\u0301']) make(`${dir}/${name}`, name);
    assert.equal(fs.readdirSync(dir).length, 4);
    assert.equal(fs.readFileSync(`${dir}/A`, 'utf8'), 'A');
  },
  'a path that is not there says what is missing': (dir) => {
    make(join(dir, 'f'));
    fails('ENOENT', () => fs.statSync(join(dir, 'none')));
    fails('ENOENT', () => make(join(dir, 'none', 'x')));
    fails('ENOENT', () => fs.mkdirSync(join(dir, 'none', 'x')));
    fails('ENOTDIR', () => fs.statSync(join(dir, 'f', 'x')));
    fails('ENOTDIR', () => fs.statSync(`${dir}/f/`));
    fails('ENOTDIR', () => make(join(dir, 'f', 'x')));
    fails('ENOTDIR', () => fs.readdirSync(join(dir, 'f')));
    fails('ENOENT', () => fs.unlinkSync(join(dir, 'none')));
    fails('ENOENT', () => fs.rmdirSync(join(dir, 'none')));
  },
  'a name that was missed exists once it is created': (dir) => {
    for (let index = 0; index < 50; index++) {
      const path = join(dir, `f${index}`);
      fails('ENOENT', () => fs.statSync(path));
      make(path, 'x');
      assert.equal(fs.statSync(path).size, 1);
      fs.unlinkSync(path);
      fails('ENOENT', () => fs.statSync(path));
    }
  },
  'dot and dot-dot lead where they should': (dir) => {
    fs.mkdirSync(join(dir, 'a'));
    fs.mkdirSync(join(dir, 'a', 'b'));
    const ino = (path: string): number => fs.statSync(path).ino;
    assert.equal(ino(`${dir}/a/b/..`), ino(`${dir}/a`));
    assert.equal(ino(`${dir}/a/b/../..`), ino(dir));
    assert.equal(ino(`${dir}/a/.`), ino(`${dir}/a`));
    fails('EEXIST', () => fs.mkdirSync(`${dir}/a/.`));
    fails('EEXIST', () => fs.mkdirSync(`${dir}/a/b/..`));
    fails('EINVAL', () => fs.rmdirSync(`${dir}/a/b/.`));
    fails('ENOTEMPTY', () => fs.rmdirSync(`${dir}/a/b/..`));
    fails('EBUSY', () => fs.renameSync(`${dir}/a/.`, `${dir}/x`));
  },
  'O_EXCL refuses what exists, dangling symlinks too': (dir) => {
    const path = join(dir, 'f');
    fs.closeSync(fs.openSync(path, 'wx'));
    fails('EEXIST', () => fs.openSync(path, 'wx'));
    fs.symlinkSync('nowhere', join(dir, 'l'));
    fails('EEXIST', () => fs.openSync(join(dir, 'l'), 'wx'));
    fs.mkdirSync(join(dir, 'd'));
    fails('EEXIST', () => fs.openSync(join(dir, 'd'), 'wx'));
    fails('EEXIST', () => fs.mkdirSync(path));
    fails('EEXIST', () => fs.symlinkSync('t', path));
  },
  'open flags are heeded': (dir) => {
    const path = join(dir, 'f');
    make(path, 'content');
    fs.mkdirSync(join(dir, 'd'));
    fs.symlinkSync('f', join(dir, 'l'));
    fails('EISDIR', () => fs.openSync(join(dir, 'd'), 'r+'));
    fails('EISDIR', () => fs.openSync(join(dir, 'd'), O.O_CREAT | O.O_RDWR));
    fails('ENOTDIR', () => fs.openSync(path, O.O_RDONLY | O.O_DIRECTORY));
    fails('ELOOP', () => fs.openSync(join(dir, 'l'), O.O_RDONLY | O.O_NOFOLLOW));
    const reader = fs.openSync(path, 'r');
    fails('EBADF', () => fs.writeSync(reader, 'x'));
    fs.closeSync(reader);
    const writer = fs.openSync(path, O.O_WRONLY);
    fails('EBADF', () => fs.readSync(writer, Buffer.alloc(1)));
    fs.closeSync(writer);
    fs.closeSync(fs.openSync(path, 'w'));
    assert.equal(fs.statSync(path).size, 0);
  },
  'unlink and rmdir take only what is theirs': (dir) => {
    fs.mkdirSync(join(dir, 'd'));
    make(join(dir, 'd', 'f'));
    fails('EISDIR', () => fs.unlinkSync(join(dir, 'd')));
    fails('ENOTDIR', () => fs.rmdirSync(join(dir, 'd', 'f')));
    fails('ENOTEMPTY', () => fs.rmdirSync(join(dir, 'd')));
    fs.unlinkSync(join(dir, 'd', 'f'));
    fs.rmdirSync(join(dir, 'd'));
    assert.deepEqual(fs.readdirSync(dir), []);
  },
  'paths go up to 4095 bytes': (dir) => {
    const deep: string[] = [];
    let path = dir;
    while (path.length + 101 < 4000) {
      path = `${path}/${'d'.repeat(100)}`;
      fs.mkdirSync(path);
      deep.push(path);
    }
    const last = `${path}/${'f'.repeat(4095 - path.length - 1)}`;
    make(last, 'deep');
    assert.equal(fs.readFileSync(last, 'utf8'), 'deep');
    fails('ENAMETOOLONG', () => make(`${last}f`));
    fs.unlinkSync(last);
    for (const directory of deep.reverse()) fs.rmdirSync(directory);
  },
};
