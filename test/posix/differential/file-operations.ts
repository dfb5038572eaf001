/** The fuzzer's operations on what is in a file: through descriptors, and whole files by their paths. */
import { constants as c } from 'node:fs';
import { type Arguments, bytesFrom, type Extra, type Operation, octal, quoted, told } from './operation.js';
import type { Outcome, Side } from './side.js';
import {
  AT_EMPTY_PATH,
  calls,
  nameResult,
  nameStat,
  readDirectory,
  S_IFIFO,
  S_IFMT,
  stat,
  z,
} from './system-calls.js';

export type Maker = (args: Arguments) => Operation;
export type Weighted = readonly [weight: number, make: Maker, extra?: Extra];

/** Only in names for people; O_NONBLOCK is always there, because a FIFO must not block the fuzzer. */
const OPEN_FLAGS = {
  O_CREAT: c.O_CREAT,
  O_EXCL: c.O_EXCL,
  O_TRUNC: c.O_TRUNC,
  O_APPEND: c.O_APPEND,
  O_DIRECTORY: c.O_DIRECTORY,
  O_NOFOLLOW: c.O_NOFOLLOW,
  O_SYNC: c.O_SYNC,
  O_NOATIME: 0o1000000,
  O_PATH: 0o10000000,
} as const;
const ACCESS_NAMES = ['O_RDONLY', 'O_WRONLY', 'O_RDWR', 'access 3'];
const COMMON_FLAGS = [
  c.O_RDONLY,
  c.O_RDWR,
  c.O_RDONLY | c.O_DIRECTORY,
  c.O_RDWR | c.O_CREAT,
  c.O_RDWR | c.O_CREAT,
  c.O_WRONLY | c.O_CREAT | c.O_TRUNC,
  c.O_RDWR | c.O_CREAT | c.O_EXCL,
  c.O_WRONLY | c.O_APPEND | c.O_CREAT,
];

function randomFlags(args: Arguments): number {
  if (args.chance(0.7)) return args.prng.pick(COMMON_FLAGS);
  let flags = args.chance(0.03) ? 3 : args.prng.int(0, 2);
  for (const flag of Object.values(OPEN_FLAGS)) if (args.chance(flag > 0o4000000 ? 0.05 : 0.2)) flags |= flag;
  return flags;
}

function nameFlags(flags: number): string {
  const names = Object.entries(OPEN_FLAGS).filter(([, flag]) => (flags & flag) === flag);
  return [ACCESS_NAMES[flags & 3], ...names.map(([name]) => name)].join('|');
}

function open(args: Arguments): Operation {
  const [path, flags, mode, slot] = [args.path(), randomFlags(args), args.mode(), args.slot()];
  return {
    call: 'open',
    text: `open(${quoted(path)}, ${nameFlags(flags)}, ${octal(mode)}) into #${slot}`,
    at: at(args),
    paths: [path],
    run: (side) => {
      const fd = calls.open(z(path), flags | c.O_NONBLOCK, mode);
      if (fd < 0) return told(fd);
      side.fill(slot, fd);
      return { text: 'opened' };
    },
  };
}

/** Now and then in the directory that a slot holds open, which may have been removed or be none. */
export function at(args: Arguments): number | undefined {
  return args.chance(0.06) ? args.slot() : undefined;
}

/** An operation on a slot's descriptor. */
function onSlot(
  args: Arguments,
  call: string,
  make: () => [string, (side: Side, fd: number) => Outcome],
): Operation {
  const slot = args.slot();
  const [text, run] = make();
  return {
    call,
    text: `${call}(#${slot}${text === '' ? '' : `, ${text}`})`,
    paths: [],
    slot,
    run: (side) => run(side, side.fd(slot)),
  };
}

function bytesRead(length: number, buffer: Buffer): Outcome {
  return length < 0 ? told(length) : { text: String(length), data: Buffer.from(buffer.subarray(0, length)) };
}

const readBuffer = Buffer.alloc(1 << 20);

const read: Maker = (args) =>
  onSlot(args, 'read', () => {
    const size = args.size();
    return [`${size}`, (_, fd) => bytesRead(calls.read(fd, readBuffer, size), readBuffer)];
  });

const pread: Maker = (args) =>
  onSlot(args, 'pread', () => {
    const [size, offset] = [args.size(), args.offset()];
    return [
      `${size}, ${offset}`,
      (_, fd) => bytesRead(calls.pread(fd, readBuffer, size, offset), readBuffer),
    ];
  });

const write: Maker = (args) =>
  onSlot(args, 'write', () => {
    const data = bytesFrom(args.noiseStart(), args.size());
    return [
      `${data.length} bytes`,
      (_, fd) => (isPipe(fd) ? { text: 'not tried' } : told(calls.write(fd, data, data.length))),
    ];
  });

const pwrite: Maker = (args) =>
  onSlot(args, 'pwrite', () => {
    const data = bytesFrom(args.noiseStart(), args.size());
    const offset = args.offset() * (args.chance(0.1) ? 5 : 1);
    return [`${data.length} bytes, ${offset}`, (_, fd) => told(calls.pwrite(fd, data, data.length, offset))];
  });

const ftruncate: Maker = (args) =>
  onSlot(args, 'ftruncate', () => {
    const size = args.offset();
    return [`${size}`, (_, fd) => told(calls.ftruncate(fd, size))];
  });

const lseek: Maker = (args) =>
  onSlot(args, 'lseek', () => {
    const whence = args.prng.int(0, 2);
    const offset = args.offset() * (args.chance(0.2) ? -1 : 1);
    // From its end, a directory's position is its filesystem's own affair.
    return [
      `${offset}, ${['SEEK_SET', 'SEEK_CUR', 'SEEK_END'][whence]}`,
      (_, fd) => (isDirectory(fd) ? { text: 'not tried' } : told(calls.lseek(fd, offset, whence))),
    ];
  });

function isDirectory(fd: number): boolean {
  const found = stat(fd, '', AT_EMPTY_PATH);
  return typeof found !== 'string' && (found.mode & 0o170_000) === 0o040_000;
}

/** A write moves the times of a FIFO, of which the kernel tells no FUSE filesystem (S_NOCMTIME, fuse_init_inode). */
function isPipe(fd: number): boolean {
  const found = stat(fd, '', AT_EMPTY_PATH);
  return typeof found !== 'string' && (found.mode & S_IFMT) === S_IFIFO;
}

const fsync: Maker = (args) => onSlot(args, 'fsync', () => ['', (_, fd) => told(calls.fsync(fd))]);
const fdatasync: Maker = (args) =>
  onSlot(args, 'fdatasync', () => ['', (_, fd) => told(calls.fdatasync(fd))]);
const fstat: Maker = (args) =>
  onSlot(args, 'fstat', () => ['', (_, fd) => ({ text: nameStat(stat(fd, '', AT_EMPTY_PATH)) })]);

const fchmod: Maker = (args) =>
  onSlot(args, 'fchmod', () => {
    const mode = args.mode();
    return [octal(mode), (_, fd) => told(calls.fchmod(fd, mode))];
  });

const fchown: Maker = (args) =>
  onSlot(args, 'fchown', () => {
    const [uid, gid] = [args.owner(), args.owner()];
    return [`${uid | 0}, ${gid | 0}`, (_, fd) => told(calls.fchown(fd, uid, gid))];
  });

const fsetxattr: Maker = (args) =>
  onSlot(args, 'fsetxattr', () => {
    const value = bytesFrom(args.noiseStart(), args.prng.int(0, 100));
    return [
      `'user.f', ${value.length} bytes`,
      (_, fd) => told(calls.fsetxattr(fd, z('user.f'), value, value.length, 0)),
    ];
  });

const close: Maker = (args) => {
  const slot = args.slot();
  return {
    call: 'close',
    text: `close(#${slot})`,
    paths: [],
    run: (side) => {
      side.fill(slot, -1);
      return { text: 'closed' };
    },
  };
};

const getdents: Maker = (args) =>
  onSlot(args, 'getdents', () => [
    'from the start',
    (_, fd) => {
      if (!isDirectory(fd)) return { text: nameResult(calls.getdents(fd, readBuffer, 4096)) };
      const back = calls.lseek(fd, 0, 0);
      if (back < 0) return told(back);
      const entries = readDirectory(fd);
      // Where a directory ends is its filesystem's own affair: on ext4 so far that read(2) gives EINVAL there.
      calls.lseek(fd, 0, 0);
      return { text: nameEntries(entries) };
    },
  ]);

/** Names and types as a set. */
export function nameEntries(entries: Map<string, number> | string): string {
  if (typeof entries === 'string') return entries;
  return [...entries]
    .map(([name, type]) => `${JSON.stringify(name)}:${type}`)
    .sort()
    .join(' ');
}

/** open, write, close: so that there are contents. */
function writeFile(args: Arguments): Operation {
  const path = args.path();
  const data = bytesFrom(args.noiseStart(), args.size());
  const how = args.prng.pick([c.O_TRUNC, c.O_TRUNC, c.O_APPEND, 0]);
  const flags = c.O_WRONLY | c.O_CREAT | c.O_NONBLOCK | how;
  return {
    call: 'write file',
    text: `open(${quoted(path)}, ${nameFlags(flags)}, 0644), write ${data.length} bytes, close`,
    at: at(args),
    paths: [path],
    run: () => {
      const fd = calls.open(z(path), flags, 0o644);
      if (fd < 0) return told(fd);
      const length = isPipe(fd) ? 0 : calls.write(fd, data, data.length);
      calls.close(fd);
      return told(length);
    },
  };
}

function readFile(args: Arguments): Operation {
  const path = args.path();
  return {
    call: 'read file',
    text: `open(${quoted(path)}, O_RDONLY), read, close`,
    at: at(args),
    paths: [path],
    run: () => {
      const fd = calls.open(z(path), c.O_RDONLY | c.O_NONBLOCK, 0);
      if (fd < 0) return told(fd);
      const outcome = bytesRead(calls.read(fd, readBuffer, readBuffer.length), readBuffer);
      calls.close(fd);
      return outcome;
    },
  };
}

const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 0x10;

const fallocate: Maker = (args) =>
  onSlot(args, 'fallocate', () => {
    const mode = args.prng.pick([
      0,
      KEEP_SIZE,
      PUNCH_HOLE | KEEP_SIZE,
      ZERO_RANGE,
      ZERO_RANGE | KEEP_SIZE,
      PUNCH_HOLE,
    ]);
    const [offset, size] = [args.offset(), args.size()];
    return [`${mode}, ${offset}, ${size}`, (_, fd) => told(calls.fallocate(fd, mode, offset, size))];
  });

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** Where holes begin depends on the block size: only whether there is an answer, and a possible one. */
const seekHole: Maker = (args) =>
  onSlot(args, 'lseek for holes', () => {
    const [whence, offset] = [args.prng.pick([SEEK_DATA, SEEK_HOLE]), args.offset()];
    return [
      `${offset}, ${whence === SEEK_DATA ? 'SEEK_DATA' : 'SEEK_HOLE'}`,
      (_, fd) => {
        if (isDirectory(fd)) return { text: 'not tried' };
        const found = stat(fd, '', AT_EMPTY_PATH);
        const size = typeof found === 'string' ? 0 : Number(found.size);
        const result = calls.lseek(fd, offset, whence);
        if (offset < 0 || offset >= size) return told(result);
        const possible = result >= offset && result <= size;
        const text =
          possible || (whence === SEEK_DATA && nameResult(result) === 'ENXIO')
            ? 'possible'
            : nameResult(result);
        // The position has moved or not: both go on from the same one.
        if (result >= 0 || text === 'possible') calls.lseek(fd, offset, 0);
        return { text };
      },
    ];
  });

const copyFileRange: Maker = (args) => {
  const target = args.slot();
  return onSlot(args, 'copy_file_range', () => {
    const [from, to, size] = [args.offset(), args.offset(), args.size()];
    return [
      `${from}, #${target}, ${to}, ${size}`,
      (side, fd) => {
        const positions = Buffer.alloc(16);
        positions.writeBigInt64LE(BigInt(from), 0);
        positions.writeBigInt64LE(BigInt(to), 8);
        const [source, sink] = [positions.subarray(0, 8), positions.subarray(8)];
        return told(calls.copyFileRange(fd, source, side.fd(target), sink, size, 0));
      },
    ];
  });
};

export const fileOperations: readonly Weighted[] = [
  [16, open],
  [4, close],
  [4, read],
  [4, pread],
  [5, write],
  [7, pwrite],
  [4, ftruncate],
  [2, lseek],
  [0.4, fsync],
  [0.4, fdatasync],
  [2, fstat],
  [2, fchmod],
  [1, fchown],
  [1, fsetxattr],
  [1.5, getdents],
  [7, writeFile],
  [3, readFile],
  [3, fallocate, 'fallocate'],
  [2, seekHole, 'seek-hole'],
  [3, copyFileRange, 'copy-file-range'],
];
