/** What is written is what is read: sizes, places, holes, appends. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { join } from 'node:path';
import { Prng } from '../../../src/base/prng.js';
import { type Checks, fails } from '../check.js';
import { succeed, together } from '../children.js';
import { truncate } from '../libc.js';

const MIB = 1 << 20;

/** Bytes that tell where they belong. */
function pattern(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length);
  for (let index = 0; index < length; index++) out[index] = (index * 31 + (index >> 8) * 7 + seed) & 0xff;
  return out;
}

const hash = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

/** Reads exactly `length` bytes at `offset`, or fewer at the end. */
function readAt(fd: number, offset: number, length: number): Buffer {
  const out = Buffer.alloc(length);
  let got = 0;
  while (got < length) {
    const count = fs.readSync(fd, out, got, length - got, offset + got);
    if (count === 0) break;
    got += count;
  }
  return out.subarray(0, got);
}

/** Random writes, truncations and reads against a byte array. */
function randomIo(path: string, seed: number): void {
  const prng = new Prng(seed);
  let model = Buffer.alloc(0);
  let fd = fs.openSync(path, 'w+');
  for (let step = 0; step < 300; step++) {
    const act = prng.int(0, 9);
    if (act < 5) {
      const offset = prng.int(0, 300_000);
      const data = pattern(prng.int(1, 40_000), step);
      fs.writeSync(fd, data, 0, data.length, offset);
      const next = Buffer.alloc(Math.max(model.length, offset + data.length));
      model.copy(next);
      data.copy(next, offset);
      model = next;
    } else if (act === 5) {
      const size = prng.int(0, 350_000);
      fs.ftruncateSync(fd, size);
      const next = Buffer.alloc(size);
      model.copy(next);
      model = next;
    } else if (act === 6) {
      fs.closeSync(fd);
      fd = fs.openSync(path, 'r+');
    } else if (act === 7) fs.fsyncSync(fd);
    else {
      const offset = prng.int(0, 350_000);
      const length = prng.int(1, 60_000);
      const want = model.subarray(offset, offset + length);
      assert.ok(readAt(fd, offset, length).equals(want), `seed ${seed} step ${step}: read at ${offset}`);
    }
    assert.equal(fs.fstatSync(fd).size, model.length, `seed ${seed} step ${step}: size`);
  }
  fs.closeSync(fd);
  assert.ok(fs.readFileSync(path).equals(model), `seed ${seed}: whole file`);
}

export const dataChecks: Checks = {
  'files of awkward sizes come back byte for byte': (dir) => {
    const sizes = [0, 1, 511, 512, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, MIB - 1, MIB, MIB + 1];
    for (const size of sizes) fs.writeFileSync(join(dir, `f${size}`), pattern(size, size));
    for (const size of sizes) {
      assert.ok(fs.readFileSync(join(dir, `f${size}`)).equals(pattern(size, size)), `${size} bytes`);
    }
  },
  'a file of 20 MiB comes back, whole and from anywhere': (dir) => {
    const path = join(dir, 'f');
    const data = pattern(20 * MIB + 12_345);
    fs.writeFileSync(path, data);
    assert.equal(hash(fs.readFileSync(path)), hash(data));
    const fd = fs.openSync(path, 'r');
    for (const offset of [0, 1, 4 * MIB - 7, 4 * MIB, 8 * MIB + 4095, 20 * MIB]) {
      assert.ok(readAt(fd, offset, 70_000).equals(data.subarray(offset, offset + 70_000)), `at ${offset}`);
    }
    fs.closeSync(fd);
  },
  'random writes, truncations and reads agree with a byte array': (dir) => {
    for (const seed of [1, 2, 3]) randomIo(join(dir, `f${seed}`), seed);
  },
  'reading ends at the end': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, 'hello');
    const fd = fs.openSync(path, 'r');
    const buffer = Buffer.alloc(10);
    assert.equal(fs.readSync(fd, buffer, 0, 10, 3), 2);
    assert.equal(fs.readSync(fd, buffer, 0, 10, 5), 0);
    assert.equal(fs.readSync(fd, buffer, 0, 10, 500_000), 0);
    fs.closeSync(fd);
  },
  'descriptors of one file see each other at once': (dir) => {
    const path = join(dir, 'f');
    const writer = fs.openSync(path, 'w');
    const reader = fs.openSync(path, 'r');
    for (let index = 0; index < 50; index++) {
      const text = `line ${index}\n`;
      fs.writeSync(writer, text);
      const buffer = Buffer.alloc(100);
      const count = fs.readSync(reader, buffer);
      assert.equal(buffer.toString('utf8', 0, count), text);
    }
    fs.ftruncateSync(writer, 3);
    assert.equal(readAt(reader, 0, 100).toString(), 'lin');
    fs.closeSync(writer);
    fs.closeSync(reader);
  },
  'appends go to the end, whoever wrote last': (dir) => {
    const path = join(dir, 'f');
    const [a, b] = [fs.openSync(path, 'a'), fs.openSync(path, 'a+')];
    fs.writeSync(a, 'one ');
    fs.writeSync(b, 'two ');
    fs.writeSync(a, Buffer.from('three '), 0, 6, 0);
    fs.writeSync(b, 'four');
    assert.equal(fs.readFileSync(path, 'utf8'), 'one two three four');
    fs.truncateSync(path, 3);
    fs.writeSync(a, '!');
    assert.equal(fs.readFileSync(path, 'utf8'), 'one!');
    fs.closeSync(a);
    fs.closeSync(b);
  },
  'appends of several processes do not overwrite one another': async (dir) => {
    await together(dir, [0, 1, 2, 3], ({ fs, arg }) => {
      const fd = fs.openSync('log', 'a');
      for (let index = 0; index < 100; index++) fs.writeSync(fd, `process ${arg} line ${index}\n`);
      fs.closeSync(fd);
    });
    const lines = fs.readFileSync(join(dir, 'log'), 'utf8').trim().split('\n');
    assert.equal(lines.length, 400);
    assert.equal(new Set(lines).size, 400);
  },
  'a gap reads as zeros': (dir) => {
    const path = join(dir, 'f');
    const fd = fs.openSync(path, 'w+');
    fs.writeSync(fd, pattern(100), 0, 100, 0);
    fs.writeSync(fd, pattern(100), 0, 100, 10 * MIB + 5);
    assert.equal(fs.fstatSync(fd).size, 10 * MIB + 105);
    const gap = readAt(fd, 100, 10 * MIB - 95);
    assert.equal(gap.length, 10 * MIB - 95);
    assert.ok(gap.every((byte) => byte === 0));
    assert.ok(readAt(fd, 10 * MIB + 5, 1000).equals(pattern(100)));
    fs.closeSync(fd);
  },
  'a file that is only a hole reads as zeros and takes no room': (dir) => {
    const path = join(dir, 'f');
    fs.closeSync(fs.openSync(path, 'w'));
    fs.truncateSync(path, 5 * MIB);
    assert.ok(fs.readFileSync(path).equals(Buffer.alloc(5 * MIB)));
    assert.ok(fs.statSync(path).blocks < 64);
  },
  'offsets far beyond 32 bits work': (dir) => {
    const path = join(dir, 'f');
    const fd = fs.openSync(path, 'w+');
    const offsets = [2 ** 31 - 3, 2 ** 32 - 3, 2 ** 40 + 1, 2 ** 43 + 12_345];
    for (const offset of offsets) fs.writeSync(fd, pattern(10, offset % 251), 0, 10, offset);
    fs.fsyncSync(fd);
    for (const offset of offsets) {
      assert.ok(readAt(fd, offset, 10).equals(pattern(10, offset % 251)), `at ${offset}`);
      assert.ok(readAt(fd, offset - 5, 5).equals(Buffer.alloc(5)), `before ${offset}`);
    }
    fs.closeSync(fd);
    assert.equal(fs.statSync(path).size, 2 ** 43 + 12_355);
    assert.ok(fs.statSync(path).blocks < 1024);
  },
  'what was cut off comes back as zeros': (dir) => {
    const path = join(dir, 'f');
    for (const [cut, grown] of [
      [10, 100],
      [4096, 9000],
      [5000, 70_000],
      [0, 1],
    ] as const) {
      fs.writeFileSync(path, Buffer.alloc(200_000, 0xff));
      fs.truncateSync(path, cut);
      fs.truncateSync(path, grown);
      const want = Buffer.concat([Buffer.alloc(cut, 0xff), Buffer.alloc(grown - cut)]);
      assert.ok(fs.readFileSync(path).equals(want), `${cut} then ${grown}`);
    }
  },
  'truncate by path cuts and grows, and only files': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, 'content');
    truncate(path, 3);
    assert.equal(fs.readFileSync(path, 'utf8'), 'con');
    truncate(path, 5);
    assert.equal(fs.readFileSync(path, 'utf8'), 'con\0\0');
    fails('EISDIR', () => truncate(dir, 0));
    fails('EINVAL', () => truncate(path, -1));
    fails('ENOENT', () => truncate(join(dir, 'none'), 0));
  },
  'a cut while open is seen by every descriptor': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, pattern(10_000));
    const fd = fs.openSync(path, 'r+');
    assert.equal(readAt(fd, 0, 10_000).length, 10_000);
    fs.truncateSync(path, 5000);
    assert.equal(readAt(fd, 0, 10_000).length, 5000);
    fs.writeSync(fd, 'end', 9000);
    const tail = readAt(fd, 5000, 4003);
    assert.ok(tail.equals(Buffer.concat([Buffer.alloc(4000), Buffer.from('end')])));
    fs.closeSync(fd);
  },
  'vectored writes and reads keep their order': (dir) => {
    const fd = fs.openSync(join(dir, 'f'), 'w+');
    const parts = [1, 5000, 70_000, 3, 200_000].map((length, index) => pattern(length, index));
    assert.equal(fs.writevSync(fd, parts), 275_004);
    const back = parts.map((part) => Buffer.alloc(part.length));
    assert.equal(fs.readvSync(fd, back, 0), 275_004);
    assert.ok(Buffer.concat(back).equals(Buffer.concat(parts)));
    fs.closeSync(fd);
  },
  'synchronous and direct I/O give the same bytes': async (dir) => {
    fs.writeFileSync(join(dir, 'in'), pattern(3 * MIB));
    await succeed(dir, ['dd', 'if=in', 'of=sync', 'bs=64k', 'oflag=sync', 'status=none']);
    await succeed(dir, ['dd', 'if=in', 'of=direct', 'bs=64k', 'oflag=direct', 'status=none']);
    await succeed(dir, ['dd', 'if=direct', 'of=out', 'bs=128k', 'iflag=direct', 'status=none']);
    for (const name of ['sync', 'direct', 'out']) {
      assert.ok(fs.readFileSync(join(dir, name)).equals(pattern(3 * MIB)), name);
    }
  },
  'fsync works on files, directories and the whole filesystem': async (dir) => {
    const fd = fs.openSync(join(dir, 'f'), 'w');
    fs.writeSync(fd, 'x');
    fs.fsyncSync(fd);
    fs.fdatasyncSync(fd);
    fs.closeSync(fd);
    const directory = fs.openSync(dir, 'r');
    fs.fsyncSync(directory);
    fs.closeSync(directory);
    await succeed(dir, ['sync', '-f', '.']);
  },
  'programs copy files whole': async (dir) => {
    fs.writeFileSync(join(dir, 'a'), pattern(2 * MIB + 77));
    await succeed(dir, ['cp', 'a', 'b']);
    await succeed(dir, ['cp', '--sparse=always', '--preserve=all', 'a', 'c']);
    await succeed(dir, ['sh', '-c', 'cat a > d && cat a a | tail -c +1 > e']);
    fs.copyFileSync(join(dir, 'a'), join(dir, 'f'));
    const data = pattern(2 * MIB + 77);
    for (const name of ['b', 'c', 'd', 'f']) assert.ok(fs.readFileSync(join(dir, name)).equals(data), name);
    assert.ok(fs.readFileSync(join(dir, 'e')).equals(Buffer.concat([data, data])));
    assert.equal(fs.statSync(join(dir, 'c')).mtimeMs, fs.statSync(join(dir, 'a')).mtimeMs);
  },
  'hundreds of open files keep apart': (dir) => {
    const fds = Array.from({ length: 400 }, (_, index) => fs.openSync(join(dir, `f${index}`), 'w+'));
    for (const [index, fd] of fds.entries()) fs.writeSync(fd, `content of ${index}`);
    for (const [index, fd] of fds.entries()) {
      assert.equal(readAt(fd, 0, 100).toString(), `content of ${index}`);
      fs.closeSync(fd);
    }
    for (const index of fds.keys()) {
      assert.equal(fs.readFileSync(join(dir, `f${index}`), 'utf8'), `content of ${index}`);
    }
  },
  'many small writes make one file': (dir) => {
    const fd = fs.openSync(join(dir, 'f'), 'w');
    const want: string[] = [];
    for (let index = 0; index < 3000; index++) {
      want.push(`${index},`);
      fs.writeSync(fd, `${index},`);
    }
    fs.closeSync(fd);
    assert.equal(fs.readFileSync(join(dir, 'f'), 'utf8'), want.join(''));
  },
  'a directory can be neither read nor written as a file': (dir) => {
    fails('EISDIR', () => fs.readFileSync(dir));
    fails('EISDIR', () => fs.truncateSync(dir, 0));
  },
  'reading a program and running it from here works': async (dir) => {
    fs.copyFileSync('/bin/true', join(dir, 'program'));
    fs.chmodSync(join(dir, 'program'), 0o755);
    await succeed(dir, ['./program']);
    fs.writeFileSync(join(dir, 'script'), '#!/bin/sh\necho "ran $1"\n', { mode: 0o755 });
    assert.equal(await succeed(dir, ['./script', 'here']), 'ran here\n');
    fs.chmodSync(join(dir, 'script'), 0o644);
    await assert.rejects(succeed(dir, ['./script']), /EACCES/);
  },
};
