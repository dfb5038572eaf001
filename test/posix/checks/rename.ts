/** rename(2) and renameat2(2). */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails, outcome } from '../check.js';
import { inside } from '../children.js';
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2 } from '../libc.js';

const KINDS = ['file', 'empty', 'full', 'symlink', 'missing'] as const;
type Kind = (typeof KINDS)[number];

/** What renaming a row's kind over a column's kind gives. */
const MATRIX: Record<Kind, Record<Kind, string>> = {
  file: { file: 'ok', empty: 'EISDIR', full: 'EISDIR', symlink: 'ok', missing: 'ok' },
  empty: { file: 'ENOTDIR', empty: 'ok', full: 'ENOTEMPTY', symlink: 'ENOTDIR', missing: 'ok' },
  full: { file: 'ENOTDIR', empty: 'ok', full: 'ENOTEMPTY', symlink: 'ENOTDIR', missing: 'ok' },
  symlink: { file: 'ok', empty: 'EISDIR', full: 'EISDIR', symlink: 'ok', missing: 'ok' },
  missing: { file: 'ENOENT', empty: 'ENOENT', full: 'ENOENT', symlink: 'ENOENT', missing: 'ENOENT' },
};

function makeKind(path: string, kind: Kind): void {
  if (kind === 'file') fs.writeFileSync(path, 'file');
  if (kind === 'empty' || kind === 'full') fs.mkdirSync(path);
  if (kind === 'full') fs.writeFileSync(join(path, 'inside'), '');
  if (kind === 'symlink') fs.symlinkSync('target', path);
}

const ino = (path: string): number => fs.lstatSync(path).ino;

export const renameChecks: Checks = {
  'every kind over every kind, in one directory and across': (dir) => {
    for (const source of KINDS) {
      for (const target of KINDS) {
        for (const across of [false, true]) {
          const base = join(dir, `${source}-${target}-${across}`);
          fs.mkdirSync(base);
          fs.mkdirSync(join(base, 'other'));
          const from = join(base, 'from');
          const to = join(base, across ? 'other/to' : 'to');
          makeKind(from, source);
          makeKind(to, target);
          const before = source === 'missing' ? 0 : ino(from);
          const got = outcome(() => fs.renameSync(from, to));
          assert.equal(got, MATRIX[source][target], `${source} over ${target}`);
          if (got === 'ok') {
            assert.equal(ino(to), before);
            fails('ENOENT', () => fs.lstatSync(from));
          }
        }
      }
    }
  },
  'onto itself and onto another name of itself nothing happens': (dir) => {
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    fs.writeFileSync(a, 'x');
    fs.renameSync(a, a);
    fs.linkSync(a, b);
    fs.renameSync(a, b);
    assert.deepEqual(fs.readdirSync(dir).sort(), ['a', 'b']);
    fs.mkdirSync(join(dir, 'd'));
    fs.renameSync(join(dir, 'd'), join(dir, 'd'));
  },
  'a directory goes neither into itself nor over its ancestor': (dir) => {
    const deep = join(dir, 'a', 'b', 'c');
    fs.mkdirSync(deep, { recursive: true });
    fails('EINVAL', () => fs.renameSync(join(dir, 'a'), join(dir, 'a', 'x')));
    fails('EINVAL', () => fs.renameSync(join(dir, 'a'), join(deep, 'x')));
    fails('ENOTEMPTY', () => fs.renameSync(deep, join(dir, 'a')));
    fails('EINVAL', () => renameat2(deep, join(dir, 'a'), RENAME_EXCHANGE));
  },
  'a moved directory keeps its content and knows where it is': (dir) => {
    fs.mkdirSync(join(dir, 'a', 'sub'), { recursive: true });
    fs.mkdirSync(join(dir, 'b'));
    fs.writeFileSync(join(dir, 'a', 'sub', 'f'), 'content');
    fs.renameSync(join(dir, 'a', 'sub'), join(dir, 'b', 'moved'));
    assert.equal(fs.readFileSync(join(dir, 'b', 'moved', 'f'), 'utf8'), 'content');
    assert.equal(fs.statSync(`${dir}/b/moved/..`).ino, ino(join(dir, 'b')));
    assert.deepEqual([fs.statSync(join(dir, 'a')).nlink, fs.statSync(join(dir, 'b')).nlink], [2, 3]);
    fs.rmdirSync(join(dir, 'a'));
  },
  'a descriptor follows its file': (dir) => {
    const fd = fs.openSync(join(dir, 'a'), 'w+');
    fs.renameSync(join(dir, 'a'), join(dir, 'b'));
    fs.writeSync(fd, 'written after');
    assert.equal(fs.readFileSync(join(dir, 'b'), 'utf8'), 'written after');
    fs.closeSync(fd);
  },
  'a replaced file lives on for who has it open': (dir) => {
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    fs.writeFileSync(a, 'new');
    fs.writeFileSync(b, 'old');
    const fd = fs.openSync(b, 'r');
    fs.renameSync(a, b);
    assert.equal(fs.readFileSync(fd, 'utf8'), 'old');
    assert.equal(fs.fstatSync(fd).nlink, 0);
    assert.equal(fs.readFileSync(b, 'utf8'), 'new');
    fs.closeSync(fd);
  },
  'a replaced name is never missing and never half': async (dir) => {
    const path = join(dir, 'current');
    fs.writeFileSync(path, 'x'.repeat(100));
    const writer = inside(dir, null, ({ fs }) => {
      for (let index = 0; index < 300; index++) {
        fs.writeFileSync('next', String(index % 10).repeat(100));
        fs.renameSync('next', 'current');
      }
    });
    let done = false;
    const ended = writer.finally(() => {
      done = true;
    });
    while (!done) {
      const text = fs.readFileSync(path, 'utf8');
      assert.equal(text, text.slice(0, 1).repeat(100));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await ended;
  },
  'RENAME_NOREPLACE refuses an existing target': (dir) => {
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    fs.writeFileSync(a, 'a');
    fs.writeFileSync(b, 'b');
    fails('EEXIST', () => renameat2(a, b, RENAME_NOREPLACE));
    renameat2(a, join(dir, 'c'), RENAME_NOREPLACE);
    assert.deepEqual(fs.readdirSync(dir).sort(), ['b', 'c']);
  },
  'RENAME_EXCHANGE swaps two names of any kind': (dir) => {
    const [f, d] = [join(dir, 'f'), join(dir, 'x', 'd')];
    fs.mkdirSync(d, { recursive: true });
    fs.writeFileSync(join(d, 'inside'), '');
    fs.writeFileSync(f, 'f');
    const before = [ino(f), ino(d)];
    renameat2(f, d, RENAME_EXCHANGE);
    assert.deepEqual([ino(d), ino(f)], before);
    assert.deepEqual(fs.readdirSync(f), ['inside']);
    assert.equal(fs.readFileSync(d, 'utf8'), 'f');
    assert.equal(fs.statSync(join(dir, 'x')).nlink, 2);
    assert.equal(fs.statSync(`${f}/..`).ino, ino(dir));
    fails('ENOENT', () => renameat2(f, join(dir, 'none'), RENAME_EXCHANGE));
    fails('EINVAL', () => renameat2(f, d, RENAME_EXCHANGE | RENAME_NOREPLACE));
  },
  'RENAME_WHITEOUT leaves a whiteout at the old name': (dir) => {
    const [f, g, d] = [join(dir, 'f'), join(dir, 'g'), join(dir, 'x', 'd')];
    fs.mkdirSync(d, { recursive: true });
    fs.writeFileSync(f, 'f');
    fs.writeFileSync(g, 'g');
    const before = [ino(f), ino(d)];
    renameat2(f, g, RENAME_WHITEOUT);
    renameat2(d, join(dir, 'e'), RENAME_WHITEOUT);
    assert.deepEqual([ino(g), ino(join(dir, 'e'))], before, 'a file over another, a directory elsewhere');
    assert.equal(fs.readFileSync(g, 'utf8'), 'f');
    for (const path of [f, d]) {
      const { mode, rdev, nlink, uid } = fs.lstatSync(path);
      assert.deepEqual([mode, rdev, nlink, uid], [fs.constants.S_IFCHR, 0, 1, process.geteuid?.()]);
    }
    assert.equal(fs.statSync(join(dir, 'x')).nlink, 2, 'which is no directory');
    fails('ENOTDIR', () => fs.readdirSync(d));
    fails('ENOENT', () => renameat2(join(dir, 'none'), join(dir, 'h'), RENAME_WHITEOUT));
    fails('EEXIST', () => renameat2(g, f, RENAME_WHITEOUT | RENAME_NOREPLACE));
    fails('EINVAL', () => renameat2(g, f, RENAME_WHITEOUT | RENAME_EXCHANGE));
    for (const path of [f, d]) fs.unlinkSync(path);
    assert.deepEqual(fs.readdirSync(dir).sort(), ['e', 'g', 'x']);
  },
};
