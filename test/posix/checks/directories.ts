/** Listing directories: completely, once, while they change. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails } from '../check.js';
import { inside, succeed } from '../children.js';
import { DirectoryStream } from '../libc.js';

const ENTRIES = 1500;

function fill(dir: string, prefix: string, count: number): string[] {
  const names = Array.from({ length: count }, (_, index) => `${prefix}${index}`);
  for (const name of names) fs.closeSync(fs.openSync(join(dir, name), 'wx'));
  return names;
}

/** Lists a directory in small portions; `between` runs after each. */
async function stream(dir: string, between: () => void): Promise<string[]> {
  const names: string[] = [];
  const handle = await fs.promises.opendir(dir, { bufferSize: 32 });
  for await (const entry of handle) {
    names.push(entry.name);
    if (names.length % 32 === 0) between();
  }
  return names;
}

export const directoryChecks: Checks = {
  'a directory of 1,500 entries is listed completely and once': async (dir) => {
    const names = fill(dir, 'entry-number-', ENTRIES);
    assert.deepEqual((await stream(dir, () => {})).sort(), names.sort());
    assert.deepEqual(fs.readdirSync(dir).sort(), names);
    const all = (await succeed(dir, ['ls', '-a', '-U', '-1'])).trim().split('\n');
    assert.equal(all.length, ENTRIES + 2, 'with dot and dot-dot');
    assert.ok(all.includes('.') && all.includes('..'));
  },
  'entries that stay are listed once while others come and go': async (dir) => {
    const stay = fill(dir, 'stay', ENTRIES);
    const busy = inside(dir, null, ({ fs }) => {
      for (let round = 0; round < 3; round++) {
        for (let index = 0; index < 500; index++) fs.closeSync(fs.openSync(`go${index}`, 'w'));
        for (let index = 0; index < 500; index++) fs.unlinkSync(`go${index}`);
      }
    });
    for (let round = 0; round < 3; round++) {
      const listed = await stream(dir, () => {});
      assert.equal(new Set(listed).size, listed.length, 'nothing twice');
      const seen = listed.filter((name) => name.startsWith('stay'));
      assert.equal(seen.length, stay.length);
    }
    await busy;
    assert.equal(fs.readdirSync(dir).length, ENTRIES);
  },
  'removing what was just listed removes everything': (dir) => {
    const target = join(dir, 'd');
    fs.mkdirSync(target);
    fill(target, 'x', 1500);
    const handle = fs.opendirSync(target, { bufferSize: 16 });
    let removed = 0;
    for (let entry = handle.readSync(); entry !== null; entry = handle.readSync()) {
      fs.unlinkSync(join(target, entry.name));
      removed += 1;
    }
    handle.closeSync();
    assert.equal(removed, 1500);
    fs.rmdirSync(target);
  },
  'telldir and seekdir lead back to the same entry': (dir) => {
    fill(dir, 'e', 600);
    const stream = new DirectoryStream(dir);
    const order: string[] = [];
    const places: unknown[] = [];
    for (;;) {
      places.push(stream.tell());
      const name = stream.next();
      if (name === undefined) break;
      order.push(name);
    }
    assert.equal(order.length, 602);
    for (const index of [0, 1, 2, 3, 100, 301, 599, 601]) {
      stream.seek(places[index]);
      assert.equal(stream.next(), order[index], `entry ${index}`);
    }
    stream.close();
  },
  'a listing opened before sees what is created when it starts over': (dir) => {
    const stream = new DirectoryStream(dir);
    const first = stream.tell();
    while (stream.next() !== undefined);
    fill(dir, 'new', 3);
    stream.seek(first);
    const names: string[] = [];
    for (let name = stream.next(); name !== undefined; name = stream.next()) names.push(name);
    stream.close();
    assert.deepEqual(names.sort(), ['.', '..', 'new0', 'new1', 'new2']);
  },
  'a removed working directory is empty and takes nothing': async (dir) => {
    fs.mkdirSync(join(dir, 'd'));
    const results = await inside(join(dir, 'd'), null, ({ fs, attempt }) => {
      fs.rmdirSync('../d');
      return [
        attempt(() => fs.writeFileSync('x', '')),
        attempt(() => fs.mkdirSync('y')),
        attempt(() => fs.symlinkSync('t', 'z')),
        attempt(() => fs.statSync('x')),
      ];
    });
    assert.deepEqual(results, ['ENOENT', 'ENOENT', 'ENOENT', 'ENOENT']);
  },
  'an open directory that is removed lists nothing': (dir) => {
    const path = join(dir, 'd');
    fs.mkdirSync(path);
    const stream = new DirectoryStream(path);
    fs.rmdirSync(path);
    assert.equal(stream.next(), undefined);
    stream.close();
    fails('ENOENT', () => fs.readdirSync(path));
  },
  'a deep tree is made and removed by programs': async (dir) => {
    const deep = Array.from({ length: 25 }, (_, index) => `level${index}`).join('/');
    await succeed(dir, ['mkdir', '-p', deep]);
    fs.writeFileSync(join(dir, deep, 'leaf'), 'leaf');
    assert.equal((await succeed(dir, ['find', '.', '-type', 'd'])).trim().split('\n').length, 26);
    await succeed(dir, ['cp', '-a', 'level0', 'copy']);
    await succeed(dir, ['diff', '-r', 'level0', 'copy']);
    await succeed(dir, ['rm', '-r', 'level0', 'copy']);
    assert.deepEqual(fs.readdirSync(dir), []);
  },
  'many subdirectories count as links, and go again': (dir) => {
    for (let index = 0; index < 500; index++) fs.mkdirSync(join(dir, `d${index}`));
    assert.equal(fs.statSync(dir).nlink, 502);
    for (let index = 0; index < 500; index++) fs.rmdirSync(join(dir, `d${index}`));
    assert.equal(fs.statSync(dir).nlink, 2);
  },
};
