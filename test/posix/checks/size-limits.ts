/** How large a file may become: the program's own limit (RLIMIT_FSIZE), and the filesystem's. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails } from '../check.js';
import { run, succeed } from '../children.js';
import { fallocate, lseek, pwrite, truncate } from '../libc.js';

const SIGXFSZ_STATUS = 128 + 25;
/** `ulimit -f 8` in bash: 8 KiB. */
const LIMIT = 8192;
/** More than ext4, XFS and leasefs (2^53 - 1) let a file have, less than what the kernel refuses by itself. */
const TOO_FAR = 2 ** 62;

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
