/** How large a file may become: the program's own limit (RLIMIT_FSIZE), and the filesystem's. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails, outcome, Skip } from '../check.js';
import { run, succeed } from '../children.js';
import { copyFileRange, fallocate, lseek, pwrite, SEEK_DATA, SEEK_HOLE, truncate } from '../libc.js';

const SIGXFSZ_STATUS = 128 + 25;
/** `ulimit -f 8` in bash: 8 KiB. */
const LIMIT = 8192;
/** More than ext4, XFS and leasefs (2^53 - 1) let a file have, less than what the kernel refuses by itself. */
const TOO_FAR = 2 ** 62;

/** The largest size that the filesystem gives a file. */
function largestSize(path: string): number {
  let fits = 0;
  let tooLarge = 2 ** 53;
  if (outcome(() => truncate(path, tooLarge)) === 'ok') throw new Skip('files have no limit below 2^53');
  while (tooLarge - fits > 1) {
    const size = fits + Math.floor((tooLarge - fits) / 2);
    if (outcome(() => truncate(path, size)) === 'ok') fits = size;
    else tooLarge = size;
  }
  return fits;
}

export const sizeLimitChecks: Checks = {
  'a write ends at the program’s limit, the next one is SIGXFSZ': async (dir) => {
    const { status } = await run(dir, ['bash', '-c', 'ulimit -f 8; head -c 20000 /dev/zero > f']);
    assert.equal(status, SIGXFSZ_STATUS);
    assert.equal(fs.statSync(join(dir, 'f')).size, LIMIT);
  },
  'with SIGXFSZ ignored, all that would pass the limit is EFBIG': async (dir) => {
    const limited = (script: string): Promise<string> =>
      succeed(dir, ['bash', '-c', `trap '' XFSZ; ulimit -f 8; ${script}; true`]);
    await succeed(dir, ['bash', '-c', ': > f; head -c 20000 /dev/zero > longer']);
    for (const script of [
      'head -c 20000 /dev/zero 2>&1 > f',
      'truncate -s 20000 f 2>&1',
      'fallocate -l 20000 f 2>&1',
      'printf x | dd of=longer seek=9000 bs=1 conv=notrunc status=none 2>&1',
    ])
      assert.match(await limited(script), /File too large/, script);
    assert.equal(fs.statSync(join(dir, 'f')).size, LIMIT);
    // What is longer already can be written below the limit, and cut.
    await limited('printf y | dd of=longer conv=notrunc status=none && truncate -s 100 longer');
    assert.equal(fs.statSync(join(dir, 'longer')).size, 100);
  },
  'the last byte that a file can have is written, read and cut, the next is EFBIG': (dir) => {
    const path = join(dir, 'f');
    const fd = fs.openSync(path, 'w+');
    fs.writeSync(fd, 'abc');
    const most = largestSize(path);
    const size = (): number => fs.fstatSync(fd).size;
    const read = (file: number, at: number): string => {
      const bytes = Buffer.alloc(16);
      return bytes.subarray(0, fs.readSync(file, bytes, 0, 16, at)).toString('latin1');
    };
    fs.ftruncateSync(fd, 3);
    fails('EFBIG', () => pwrite(fd, 'x', most));
    fails('EFBIG', () => truncate(path, most + 1));
    fails('EFBIG', () => fallocate(fd, 0, most - 1, 2));
    fails('EFBIG', () => fallocate(fd, 0, most, 1));
    assert.equal(size(), 3, 'what is refused changes nothing');

    assert.equal(pwrite(fd, '12345', most - 2), 2, 'as much is written as there is room for');
    assert.equal(size(), most);
    fails('EFBIG', () => pwrite(fd, 'x', most));
    const appending = fs.openSync(path, 'a+');
    fails('EFBIG', () => fs.writeSync(appending, 'x'));
    for (const file of [fd, appending]) {
      assert.equal(read(file, most - 4), '\0\u000012');
      assert.equal(read(file, most), '');
      assert.equal(read(file, 0).slice(0, 4), 'abc\0');
    }
    assert.equal(lseek(fd, most - 1, SEEK_HOLE), most);
    fails('ENXIO', () => lseek(fd, most, SEEK_DATA));

    fs.ftruncateSync(fd, most - 1);
    assert.equal(fs.writeSync(appending, 'APPENDED'), 1);
    fs.fsyncSync(appending);
    assert.equal(read(fd, most - 4), '\0\u00001A');
    const source = fs.openSync(join(dir, 'source'), 'w+');
    fs.writeSync(source, 'source');
    fails('EFBIG', () => copyFileRange(source, 0, fd, most, 6));
    assert.equal(copyFileRange(source, 0, fd, most - 3, 6), 3);
    assert.equal(read(fd, most - 4), '\0sou');
    fs.ftruncateSync(fd, 3);
    assert.equal(read(fd, 0), 'abc');
    for (const file of [fd, appending, source]) fs.closeSync(file);
  },
  'an offset beyond what a file can have is EFBIG': (dir) => {
    const path = join(dir, 'f');
    const fd = fs.openSync(path, 'w+');
    fs.writeSync(fd, 'abc');
    fails('EFBIG', () => pwrite(fd, 'x', TOO_FAR));
    fails('EFBIG', () => truncate(path, TOO_FAR));
    fails('EFBIG', () => fallocate(fd, 0, TOO_FAR, 4096));
    assert.equal(fs.fstatSync(fd).size, 3);
    assert.equal(fs.readSync(fd, Buffer.alloc(4), 0, 4, 2 ** 42), 0, 'reading there finds the end');
    assert.equal(lseek(fd, 2 ** 42, 0), 2 ** 42);
    fs.closeSync(fd);
  },
};
