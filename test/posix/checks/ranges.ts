/** Ranges of files: allocating, making holes, finding them, copying; and I/O that goes past the page cache. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails, needsRoot, outcome, tick } from '../check.js';
import { inside, run, succeed } from '../children.js';
import {
  copyFileRange,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocate,
  lseek,
  Mapping,
  SEEK_DATA,
  SEEK_HOLE,
} from '../libc.js';

const PAGE = 4096;
/** Larger than the blocks of any filesystem that a check runs on. */
const BLOCK = 65_536;
const PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

function pattern(length: number, seed = 1): Buffer {
  const out = Buffer.alloc(length);
  for (let index = 0; index < length; index++)
    out[index] = ((index * 31 + (index >> 8) * 7 + seed) % 255) + 1;
  return out;
}

/** Opens a new file with this content for reading and writing, runs `body`, closes it. */
function withFile<T>(path: string, content: Uint8Array, body: (fd: number) => T): T {
  fs.writeFileSync(path, content);
  const fd = fs.openSync(path, 'r+');
  try {
    return body(fd);
  } finally {
    fs.closeSync(fd);
  }
}

export const rangeChecks: Checks = {
  'fallocate makes a file longer, with zeros, and never shorter': (dir) => {
    const path = join(dir, 'f');
    withFile(path, pattern(1000), (fd) => {
      fallocate(fd, 0, 500, 5000);
      assert.equal(fs.fstatSync(fd).size, 5500);
      fallocate(fd, 0, 0, 10);
      assert.equal(fs.fstatSync(fd).size, 5500);
    });
    assert.ok(fs.readFileSync(path).equals(Buffer.concat([pattern(1000), Buffer.alloc(4500)])));
  },
  'fallocate with KEEP_SIZE keeps the size': (dir) => {
    withFile(join(dir, 'f'), pattern(1000), (fd) => {
      fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100_000);
      assert.equal(fs.fstatSync(fd).size, 1000);
      assert.ok(fs.readFileSync(join(dir, 'f')).equals(pattern(1000)));
    });
  },
  'a punched hole reads as zeros and gives its blocks back': (dir) => {
    const path = join(dir, 'f');
    const want = pattern(5 * BLOCK + 77);
    withFile(path, want, (fd) => {
      fs.fsyncSync(fd);
      const { blocks } = fs.fstatSync(fd);
      fs.writeSync(fd, 'fresh', BLOCK + 5);
      fallocate(fd, PUNCH, BLOCK, 2 * BLOCK);
      want.fill(0, BLOCK, 3 * BLOCK);
      fallocate(fd, PUNCH, 4 * BLOCK + 10, 100);
      want.fill(0, 4 * BLOCK + 10, 4 * BLOCK + 110);
      fallocate(fd, PUNCH, 5 * BLOCK, 10 * BLOCK);
      want.fill(0, 5 * BLOCK);
      assert.ok(fs.readFileSync(path).equals(want));
      fs.fsyncSync(fd);
      assert.ok(fs.fstatSync(fd).blocks <= blocks - (2 * BLOCK) / 512);
      fs.writeSync(fd, 'again', 2 * BLOCK);
      want.write('again', 2 * BLOCK);
    });
    assert.ok(fs.readFileSync(path).equals(want));
  },
  'a zeroed range reads as zeros, and may make the file longer': (dir) => {
    const path = join(dir, 'f');
    withFile(path, pattern(10_000), (fd) => {
      fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 9000, 5000);
      assert.equal(fs.fstatSync(fd).size, 10_000);
      fallocate(fd, FALLOC_FL_ZERO_RANGE, 100, 50);
      fallocate(fd, FALLOC_FL_ZERO_RANGE, 9500, 2500);
    });
    const want = Buffer.concat([pattern(10_000), Buffer.alloc(2000)])
      .fill(0, 100, 150)
      .fill(0, 9000);
    assert.ok(fs.readFileSync(path).equals(want));
  },
  'holes are punched under a mapping, which shows them': (dir) => {
    withFile(join(dir, 'f'), pattern(4 * PAGE), (fd) => {
      const map = new Mapping(fd, 4 * PAGE, { write: true, shared: true });
      map.bytes[PAGE] = 9;
      map.bytes[3 * PAGE] = 9;
      fallocate(fd, PUNCH, PAGE, PAGE);
      assert.deepEqual(
        [map.bytes[PAGE], map.bytes[PAGE - 1], map.bytes[3 * PAGE]],
        [0, pattern(PAGE)[PAGE - 1], 9],
      );
      map.unmap();
    });
    assert.equal(fs.readFileSync(join(dir, 'f'))[3 * PAGE], 9);
  },
  'fallocate moves mtime and ctime': async (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, pattern(10_000));
    const fd = fs.openSync(path, 'r+');
    for (const [mode, offset] of [
      [0, 20_000],
      [PUNCH, 0],
      [FALLOC_FL_ZERO_RANGE, 0],
    ] as const) {
      const before = fs.fstatSync(fd, { bigint: true });
      await tick();
      fallocate(fd, mode, offset, PAGE);
      const after = fs.fstatSync(fd, { bigint: true });
      assert.ok(after.mtimeNs > before.mtimeNs && after.ctimeNs > before.ctimeNs, `mode ${mode}`);
    }
    fs.closeSync(fd);
  },
  'fallocate takes setuid away from who is not privileged': async (dir, host) => {
    needsRoot(host);
    const path = join(dir, 'f');
    fs.writeFileSync(path, pattern(10_000));
    fs.chownSync(path, host.other.uid, host.other.gid);
    fs.chmodSync(path, 0o4755);
    fs.chmodSync(dir, 0o777);
    await succeed(dir, ['fallocate', '-z', '-o', '0', '-l', '4096', 'f']);
    assert.equal(fs.statSync(path).mode & 0o7777, 0o4755);
    await succeed(dir, ['fallocate', '-z', '-o', '0', '-l', '4096', 'f'], { user: host.other });
    assert.equal(fs.statSync(path).mode & 0o7777, 0o755);
  },
  'fallocate refuses what makes no sense': (dir) => {
    withFile(join(dir, 'f'), pattern(10), (fd) => {
      fails('EINVAL', () => fallocate(fd, 0, 0, 0));
      fails('EINVAL', () => fallocate(fd, 0, -1, 10));
      fails('EOPNOTSUPP', () => fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
      fails('EFBIG', () => fallocate(fd, 0, 2 ** 62, 2 ** 62));
    });
    const fd = fs.openSync(join(dir, 'f'), 'r');
    fails('EBADF', () => fallocate(fd, 0, 0, 10));
    fs.closeSync(fd);
  },
  'more than there is room for is refused at once': async (dir) => {
    // More than ext4 lets a file have: of less it would allocate all that is free first, and every program that
    // writes to that disk meanwhile would fail.
    const { status, stderr } = await run(dir, ['fallocate', '-l', '4P', 'f']);
    assert.notEqual(status, 0);
    assert.match(stderr, /No space left on device|File too large/);
  },
  'holes and data are found': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, '');
    const fd = fs.openSync(path, 'r+');
    fs.ftruncateSync(fd, 10 * BLOCK);
    for (const step of ['pending', 'synced']) {
      if (step === 'synced') fs.fsyncSync(fd);
      else for (const at of [2, 3, 7]) fs.writeSync(fd, pattern(BLOCK), 0, BLOCK, at * BLOCK);
      const data = [0, 2, 3, 4, 7].map((at) => lseek(fd, at * BLOCK, SEEK_DATA) / BLOCK);
      assert.deepEqual(data, [2, 2, 3, 7, 7], step);
      const holes = [0, 2, 3, 4, 7, 9].map((at) => lseek(fd, at * BLOCK, SEEK_HOLE) / BLOCK);
      assert.deepEqual(holes, [0, 4, 4, 4, 8, 9], step);
      fails('ENXIO', () => lseek(fd, 8 * BLOCK, SEEK_DATA));
    }
    fallocate(fd, PUNCH, 2 * BLOCK, BLOCK);
    assert.equal(lseek(fd, 0, SEEK_DATA), 3 * BLOCK);
    fs.closeSync(fd);
  },
  'there is a hole at the end, and nothing behind it': (dir) => {
    withFile(join(dir, 'f'), pattern(100), (fd) => {
      assert.equal(lseek(fd, 0, SEEK_HOLE), 100);
      assert.equal(lseek(fd, 99, SEEK_HOLE), 100);
      assert.equal(lseek(fd, 99, SEEK_DATA), 99);
      for (const whence of [SEEK_DATA, SEEK_HOLE])
        for (const offset of [100, 101, 2 ** 40]) fails('ENXIO', () => lseek(fd, offset, whence));
      fails('ENXIO', () => lseek(fd, -1, SEEK_DATA));
      fs.ftruncateSync(fd, 0);
      for (const whence of [SEEK_DATA, SEEK_HOLE]) fails('ENXIO', () => lseek(fd, 0, whence));
    });
  },
  'copy_file_range copies any range to any place': (dir) => {
    const source = pattern(200_000, 3);
    const want = pattern(50_000, 9);
    fs.writeFileSync(join(dir, 'from'), source);
    withFile(join(dir, 'to'), want, (to) => {
      const from = fs.openSync(join(dir, 'from'), 'r');
      assert.equal(copyFileRange(from, 1001, to, 333, 20_000), 20_000);
      source.copy(want, 333, 1001, 21_001);
      assert.ok(fs.readFileSync(join(dir, 'to')).equals(want));
      assert.equal(copyFileRange(from, 199_000, to, 100_000, 50_000), 1000, 'the source ends');
      assert.equal(copyFileRange(from, 200_000, to, 0, 10), 0);
      assert.equal(copyFileRange(from, 300_000, to, 0, 10), 0);
      fs.closeSync(from);
    });
    const grown = Buffer.concat([want, Buffer.alloc(50_000), source.subarray(199_000)]);
    assert.ok(fs.readFileSync(join(dir, 'to')).equals(grown));
    assert.ok(fs.readFileSync(join(dir, 'from')).equals(source));
  },
  'copy_file_range sees what was just written, and is overwritten by what comes after': (dir) => {
    const [from, to] = [fs.openSync(join(dir, 'a'), 'w+'), fs.openSync(join(dir, 'b'), 'w+')];
    fs.writeSync(from, 'copied text');
    fs.writeSync(to, 'old content of it');
    assert.equal(copyFileRange(from, 0, to, 4, 6), 6);
    fs.writeSync(to, 'NEW', 8);
    fs.writeSync(from, 'XXXXXX', 0);
    assert.equal(fs.readFileSync(join(dir, 'b'), 'utf8'), 'old copiNEW of it');
    fs.closeSync(from);
    fs.closeSync(to);
  },
  'copy_file_range within a file needs ranges that do not overlap': (dir) => {
    const want = pattern(100_000);
    withFile(join(dir, 'f'), want, (fd) => {
      fails('EINVAL', () => copyFileRange(fd, 0, fd, 5000, 5001));
      fails('EINVAL', () => copyFileRange(fd, 5000, fd, 0, 5001));
      assert.equal(copyFileRange(fd, 0, fd, 5000, 5000), 5000);
      want.copy(want, 5000, 0, 5000);
      assert.equal(copyFileRange(fd, 90_000, fd, 100_000, 20_000), 10_000);
    });
    assert.ok(fs.readFileSync(join(dir, 'f')).equals(Buffer.concat([want, want.subarray(90_000)])));
  },
  'copy_file_range moves the times of what it writes': async (dir) => {
    fs.writeFileSync(join(dir, 'a'), 'content');
    fs.writeFileSync(join(dir, 'b'), '');
    const before = fs.statSync(join(dir, 'b'), { bigint: true });
    await tick();
    const [from, to] = [fs.openSync(join(dir, 'a'), 'r'), fs.openSync(join(dir, 'b'), 'r+')];
    assert.equal(copyFileRange(from, 0, to, 0, 7), 7);
    const after = fs.fstatSync(to, { bigint: true });
    assert.ok(after.mtimeNs > before.mtimeNs && after.ctimeNs > before.ctimeNs && after.size === 7n);
    fs.closeSync(from);
    fs.closeSync(to);
  },
  'copy_file_range asks for the right descriptors': (dir) => {
    fs.writeFileSync(join(dir, 'a'), 'content');
    const [read, write] = [fs.openSync(join(dir, 'a'), 'r'), fs.openSync(join(dir, 'b'), 'w')];
    const append = fs.openSync(join(dir, 'b'), 'a');
    const directory = fs.openSync(dir, 'r');
    fails('EBADF', () => copyFileRange(read, 0, read, 10, 5));
    fails('EBADF', () => copyFileRange(write, 0, write, 10, 5));
    fails('EBADF', () => copyFileRange(read, 0, append, 0, 5));
    fails('EISDIR', () => copyFileRange(directory, 0, write, 0, 5));
    for (const fd of [read, write, append, directory]) fs.closeSync(fd);
  },
  'a copy of a large file is whole and its own': async (dir) => {
    const data = pattern(9_000_001);
    fs.writeFileSync(join(dir, 'a'), data);
    await succeed(dir, ['cp', 'a', 'b']);
    fs.truncateSync(join(dir, 'a'), 10);
    fs.unlinkSync(join(dir, 'a'));
    assert.ok(fs.readFileSync(join(dir, 'b')).equals(data));
    await succeed(dir, ['dd', 'if=/dev/zero', 'of=b', 'bs=1000', 'count=1', 'conv=notrunc', 'status=none']);
    assert.ok(fs.readFileSync(join(dir, 'b')).equals(Buffer.from(data).fill(0, 0, 1000)));
  },
  'direct and buffered I/O see each other': async (dir) => {
    const path = join(dir, 'f');
    const want = pattern(16 * PAGE);
    fs.writeFileSync(path, want);
    const fd = fs.openSync(path, 'r+');
    assert.ok(fs.readFileSync(fd).equals(want));
    const one = join(dir, 'one');
    fs.writeFileSync(one, Buffer.alloc(PAGE, 7));
    await succeed(dir, [
      'dd',
      'if=one',
      'of=f',
      'bs=4k',
      'seek=3',
      'oflag=direct',
      'conv=notrunc',
      'status=none',
    ]);
    want.fill(7, 3 * PAGE, 4 * PAGE);
    const back = Buffer.alloc(want.length);
    fs.readSync(fd, back, 0, back.length, 0);
    assert.ok(back.equals(want), 'a buffered read after a direct write');
    fs.writeSync(fd, Buffer.alloc(100, 8), 0, 100, 5 * PAGE + 50);
    want.fill(8, 5 * PAGE + 50, 5 * PAGE + 150);
    await succeed(dir, ['dd', 'if=f', 'of=out', 'bs=64k', 'iflag=direct', 'status=none']);
    assert.ok(fs.readFileSync(join(dir, 'out')).equals(want), 'a direct read after a buffered write');
    fs.closeSync(fd);
  },
  'direct I/O of odd sizes is right or refused': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, pattern(10_000));
    const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_DIRECT);
    const got = Buffer.alloc(777);
    const read = outcome(() => assert.equal(fs.readSync(fd, got, 0, 777, 1234), 777));
    if (read === 'ok') assert.ok(got.equals(pattern(10_000).subarray(1234, 2011)));
    else assert.equal(read, 'EINVAL');
    const write = outcome(() => fs.writeSync(fd, Buffer.alloc(333, 5), 0, 333, 4321));
    const want = pattern(10_000);
    if (write === 'ok') want.fill(5, 4321, 4654);
    else assert.equal(write, 'EINVAL');
    fs.closeSync(fd);
    assert.ok(fs.readFileSync(path).equals(want));
  },
  'a file does not grow beyond the process’s limit': async (dir) => {
    const script = 'ulimit -f 16; trap "" XFSZ; head -c 100000 /dev/zero > f';
    const { status, stderr } = await run(dir, ['bash', '-c', script]);
    assert.notEqual(status, 0);
    assert.match(stderr, /File too large/);
    assert.equal(fs.statSync(join(dir, 'f')).size, 16 * 1024);
  },
  'a private mapping sees the file, and the file nothing of it': async (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, pattern(2 * PAGE));
    const fd = fs.openSync(path, 'r+');
    const map = new Mapping(fd, 2 * PAGE, { write: true, shared: false });
    map.bytes[10] = 0;
    assert.equal(await inside(dir, null, ({ fs }) => fs.readFileSync('f')[10]), pattern(11)[10]);
    fs.writeSync(fd, Buffer.from([200]), 0, 1, PAGE + 1);
    assert.deepEqual([map.bytes[10], map.bytes[PAGE + 1]], [0, 200]);
    map.unmap();
    fs.closeSync(fd);
  },
};
