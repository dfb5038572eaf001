/** The fuzzer's operations on names and attributes by path. */
import { constants as c, readdirSync } from 'node:fs';
import { at, type Maker, nameEntries, type Weighted } from './file-operations.js';
import { type Arguments, bytesFrom, type Operation, octal, quoted, told } from './operation.js';
import type { Outcome } from './side.js';
import {
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  AT_SYMLINK_NOFOLLOW,
  calls,
  nameResult,
  nameStat,
  nameTime,
  readDirectory,
  S_IFIFO,
  S_IFREG,
  stat,
  z,
} from './system-calls.js';

/** An operation on one path: what it is called with beside that, and what it does. */
function onPath(
  args: Arguments,
  call: string,
  make: () => [string, (path: Buffer, text: string) => Outcome],
): Operation {
  const path = args.path();
  const [text, run] = make();
  const bytes = z(path);
  return {
    call,
    text: `${call}(${quoted(path)}${text === '' ? '' : `, ${text}`})`,
    at: at(args),
    paths: [path],
    run: () => run(bytes, path),
  };
}

const mkdir: Maker = (args) =>
  onPath(args, 'mkdir', () => {
    const mode = args.chance(0.7) ? 0o755 : args.mode();
    return [octal(mode), (path) => told(calls.mkdir(path, mode))];
  });
const rmdir: Maker = (args) => onPath(args, 'rmdir', () => ['', (path) => told(calls.rmdir(path))]);
const unlink: Maker = (args) => onPath(args, 'unlink', () => ['', (path) => told(calls.unlink(path))]);

/** An operation on two paths. */
function onTwo(
  args: Arguments,
  call: string,
  make: () => [string, (from: Buffer, to: Buffer) => Outcome],
): Operation {
  const [from, to] = [args.path(), args.path()];
  const [text, run] = make();
  const [fromBytes, toBytes] = [z(from), z(to)];
  return {
    call,
    text: `${call}(${quoted(from)}, ${quoted(to)}${text === '' ? '' : `, ${text}`})`,
    at: at(args),
    paths: [from, to],
    run: () => run(fromBytes, toBytes),
  };
}

const rename: Maker = (args) => onTwo(args, 'rename', () => ['', (from, to) => told(calls.rename(from, to))]);

const RENAME_FLAGS = ['NOREPLACE', 'EXCHANGE', 'WHITEOUT'];
const WHITEOUT = 4;

/** Over such a one the rename fails with ENOTEMPTY, and ext4 has moved times of the old directory by then. */
function isFilledDirectory(path: Buffer): boolean {
  try {
    return readdirSync(path.subarray(0, -1)).length > 0;
  } catch {
    return false;
  }
}

const renameWith =
  (choices: readonly number[]): Maker =>
  (args) =>
    onTwo(args, 'renameat2', () => {
      const flags = args.prng.pick(choices);
      return [
        RENAME_FLAGS.filter((_, bit) => (flags & (1 << bit)) !== 0).join('|'),
        (from, to) => {
          if (flags === WHITEOUT && isFilledDirectory(to)) return { text: 'not tried' };
          return told(calls.renameat2(AT_FDCWD, from, AT_FDCWD, to, flags));
        },
      ];
    });

const link: Maker = (args) =>
  onTwo(args, 'link', () => {
    const follow = args.chance(0.3);
    return [
      follow ? 'AT_SYMLINK_FOLLOW' : '',
      (from, to) => told(calls.linkat(AT_FDCWD, from, AT_FDCWD, to, follow ? AT_SYMLINK_FOLLOW : 0)),
    ];
  });

const symlink: Maker = (args) => {
  const [target, path] = [args.linkTarget(), args.path()];
  return {
    call: 'symlink',
    text: `symlink(${quoted(target)}, ${quoted(path)})`,
    at: at(args),
    paths: [path],
    run: () => told(calls.symlink(z(target), z(path))),
  };
};

const buffer = Buffer.alloc(65_536);

const readlink: Maker = (args) =>
  onPath(args, 'readlink', () => {
    const room = args.prng.pick([4096, 4096, 1, 0]);
    return [
      `${room}`,
      (path) => {
        const length = calls.readlink(path, buffer, room);
        return length < 0 ? told(length) : { text: JSON.stringify(buffer.toString('latin1', 0, length)) };
      },
    ];
  });

const chmod: Maker = (args) =>
  onPath(args, 'chmod', () => {
    const mode = args.mode();
    return [octal(mode), (path) => told(calls.chmod(path, mode))];
  });

const chown: Maker = (args) => {
  const call = args.chance(0.4) ? 'lchown' : 'chown';
  return onPath(args, call, () => {
    const [uid, gid] = [args.owner(), args.owner()];
    return [`${uid | 0}, ${gid | 0}`, (path) => told(calls[call](path, uid, gid))];
  });
};

const UTIME_NOW = 0x3fff_ffff;
const UTIME_OMIT = 0x3fff_fffe;

/** Seconds and nanoseconds; none near the present (see nameTime). */
function randomTime(args: Arguments): [number, number] {
  if (args.chance(0.2)) return [0, UTIME_NOW];
  if (args.chance(0.2)) return [0, UTIME_OMIT];
  if (args.chance(0.03)) return [1, args.prng.pick([1_000_000_000, -1])];
  const seconds = args.prng.pick([
    0, 1, -1, -86_400, 981_173_106, 1_234_567_890, 2_147_483_648, 4_294_967_296,
  ]);
  return [seconds, args.prng.pick([0, 1, 999_999_999, args.prng.int(0, 999_999_999)])];
}

const utimensat: Maker = (args) =>
  onPath(args, 'utimensat', () => {
    const times = [randomTime(args), randomTime(args)].flat();
    const spec = Buffer.alloc(32);
    for (const [index, value] of times.entries()) spec.writeBigInt64LE(BigInt(value), index * 8);
    const flags = args.chance(0.4) ? AT_SYMLINK_NOFOLLOW : 0;
    const text = times.map((value) => (value === UTIME_NOW ? 'NOW' : value === UTIME_OMIT ? 'OMIT' : value));
    return [
      `[${text.join(', ')}]${flags === 0 ? '' : ', NOFOLLOW'}`,
      (bytes, path) => {
        const result = calls.utimensat(AT_FDCWD, bytes, spec, flags);
        if (result < 0) return told(result);
        // Only here: reading may change it, in each filesystem by its own rules.
        const found = stat(AT_FDCWD, path, flags);
        const atime = typeof found === 'string' ? found : nameTime(found.atimeNs);
        return { text: args0IsOmit(times) ? '0' : `atime ${atime}` };
      },
    ];
  });

const args0IsOmit = (times: readonly number[]): boolean => times[1] === UTIME_OMIT;

const lstat: Maker = (args) =>
  onPath(args, 'lstat', () => [
    '',
    (_, path) => ({ text: nameStat(stat(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW)) }),
  ]);
const statPath: Maker = (args) =>
  onPath(args, 'stat', () => ['', (_, path) => ({ text: nameStat(stat(AT_FDCWD, path, 0)) })]);

const readdir: Maker = (args) =>
  onPath(args, 'readdir', () => [
    '',
    (path) => {
      const fd = calls.open(path, c.O_RDONLY | c.O_DIRECTORY | c.O_NONBLOCK, 0);
      if (fd < 0) return told(fd);
      const entries = readDirectory(fd);
      calls.close(fd);
      return { text: nameEntries(entries) };
    },
  ]);

const mknodDevice: Maker = (args) =>
  onPath(args, 'mknod', () => {
    // No driver has these numbers, and 0:0 is a whiteout.
    const [mode, device] = [args.prng.pick([0o020_644, 0o060_600]), args.prng.pick([0, 0xefff, 0xefff_0101])];
    return [`${octal(mode)}, ${device}`, (path) => told(calls.mknod(path, mode, device))];
  });

const mknod: Maker = (args) =>
  onPath(args, 'mknod', () => {
    const type = args.prng.pick([S_IFIFO, S_IFIFO, S_IFREG, 0, 0o040_000, 0o140_000]);
    const mode = type | args.mode();
    return [octal(mode), (path) => told(calls.mknod(path, mode, 0))];
  });

const truncate: Maker = (args) =>
  onPath(args, 'truncate', () => {
    const size = args.offset();
    return [`${size}`, (path) => told(calls.truncate(path, size))];
  });

const access: Maker = (args) =>
  onPath(args, 'access', () => {
    const mode = args.prng.int(0, args.chance(0.05) ? 8 : 7);
    return [`${mode}`, (path) => told(calls.access(path, mode))];
  });

const XATTR_NAMES = ['user.a', 'user.a', 'user.b', 'user.b', 'user.c', 'trusted.t'];
const BAD_XATTR_NAMES = [
  'user.',
  'nothing',
  'nothing.a',
  '',
  `user.${'x'.repeat(250)}`,
  `user.${'x'.repeat(251)}`,
];
const xattrName = (args: Arguments): string =>
  args.prng.pick(args.chance(0.08) ? BAD_XATTR_NAMES : XATTR_NAMES);

const setxattr: Maker = (args) => {
  const call = args.chance(0.3) ? 'lsetxattr' : 'setxattr';
  return onPath(args, call, () => {
    // Not XATTR_CREATE and XATTR_REPLACE together, which no manual page defines: leasefs answers EINVAL.
    const [name, flags] = [xattrName(args), args.prng.pick([0, 0, 0, 1, 2, 4])];
    const value = bytesFrom(args.noiseStart(), args.prng.pick([0, 1, 10, 100, 200]));
    return [
      `${quoted(name)}, ${value.length} bytes, ${flags}`,
      (path) => told(calls[call](path, z(name), value, value.length, flags)),
    ];
  });
};

const getxattr: Maker = (args) => {
  const call = args.chance(0.3) ? 'lgetxattr' : 'getxattr';
  return onPath(args, call, () => {
    const [name, room] = [xattrName(args), args.prng.pick([0, 5, 65_536])];
    return [
      `${quoted(name)}, room ${room}`,
      (path) => {
        const length = calls[call](path, z(name), buffer, room);
        if (length < 0 || room === 0) return told(length);
        return { text: `${length}`, data: Buffer.from(buffer.subarray(0, length)) };
      },
    ];
  });
};

const listxattr: Maker = (args) =>
  onPath(args, 'listxattr', () => [
    '',
    (path) => {
      const length = calls.listxattr(path, buffer, buffer.length);
      if (length < 0) return told(length);
      const names = buffer.toString('latin1', 0, length).split('\0').slice(0, -1);
      // The host's security module adds its own.
      return {
        text: names
          .filter((name) => !name.startsWith('security.'))
          .sort()
          .join(' '),
      };
    },
  ]);

const removexattr: Maker = (args) =>
  onPath(args, 'removexattr', () => {
    const name = xattrName(args);
    return [quoted(name), (path) => told(calls.removexattr(path, z(name)))];
  });

const umask: Maker = (args) => {
  const mask = args.prng.pick([0o022, 0o022, 0, 0o077, 0o777]);
  return {
    call: 'umask',
    text: `umask(${octal(mask)})`,
    paths: [],
    run: () => {
      process.umask(mask);
      return { text: 'set' };
    },
  };
};

const heal: Maker = () => ({
  call: 'heal',
  text: 'fchmod(the first directory, 0755)',
  paths: [],
  run: (side) => ({ text: nameResult(side.heal()) }),
});

export const nameOperations: readonly Weighted[] = [
  [10, mkdir],
  [4, rmdir],
  [6, unlink],
  [9, rename],
  [4, renameWith([1, 1, 1, 2, 2, 2, 2, 3])],
  [1, renameWith([4, 4, 5, 6]), 'devices'],
  [1, mknodDevice, 'devices'],
  [6, link],
  [5, symlink],
  [2, readlink],
  [4, chmod],
  [3, chown],
  [4, utimensat],
  [3, lstat],
  [3, statPath],
  [3, readdir],
  [3, mknod],
  [4, truncate],
  [2, access],
  [4, setxattr],
  [2, getxattr],
  [1, listxattr],
  [2, removexattr],
  [0.4, umask],
  [0.7, heal],
];
