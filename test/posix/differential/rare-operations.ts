/** The fuzzer's operations that programs seldom make: files without a name, access control lists, invalid arguments. */
import { constants as c } from 'node:fs';
import { at, type Maker, type Weighted } from './file-operations.js';
import { bytesFrom, octal, quoted, told } from './operation.js';
import { AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, calls, z } from './system-calls.js';

const O_TMPFILE = 0o20_000_000 | c.O_DIRECTORY;

const openUnnamed: Maker = (args) => {
  const [path, mode, slot] = [args.chance(0.5) ? '.' : args.path(), args.mode(), args.slot()];
  const flags = args.prng.pick([c.O_RDWR, c.O_RDWR, c.O_RDWR, c.O_WRONLY, c.O_RDONLY, c.O_RDWR | c.O_EXCL]);
  return {
    call: 'open unnamed',
    text: `open(${quoted(path)}, O_TMPFILE|${flags}, ${octal(mode)}) into #${slot}`,
    at: at(args),
    paths: [path],
    run: (side) => {
      const fd = calls.open(z(path), flags | O_TMPFILE, mode);
      if (fd < 0) return told(fd);
      side.fill(slot, fd);
      return { text: 'opened' };
    },
  };
};

/** What a descriptor holds gets a name: it may have had none, or have lost it. */
const linkOpen: Maker = (args) => {
  const [slot, path, empty] = [args.slot(), args.path(), args.chance(0.3)];
  return {
    call: 'link open',
    text: `linkat(${empty ? `#${slot}, '', AT_EMPTY_PATH` : `/proc/self/fd/#${slot}, AT_SYMLINK_FOLLOW`}, ${quoted(path)})`,
    paths: [path],
    slot,
    run: (side) => {
      const fd = side.fd(slot);
      return empty
        ? told(calls.linkat(fd, z(''), AT_FDCWD, z(path), AT_EMPTY_PATH))
        : told(calls.linkat(AT_FDCWD, z(`/proc/self/fd/${fd}`), AT_FDCWD, z(path), AT_SYMLINK_FOLLOW));
    },
  };
};

const [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER] = [1, 2, 4, 8, 0x10, 0x20];
const NOBODY_NAMED = 0xffff_ffff;
type AclEntry = readonly [tag: number, permissions: number, id?: number];

/** As in include/uapi/linux/posix_acl_xattr.h: version 2, then tag, permissions and id of each entry. */
function aclValue(entries: readonly AclEntry[], version = 2): Buffer {
  const value = Buffer.alloc(4 + entries.length * 8);
  value.writeUInt32LE(version, 0);
  for (const [index, [tag, permissions, id]] of entries.entries()) {
    value.writeUInt16LE(tag, 4 + index * 8);
    value.writeUInt16LE(permissions, 6 + index * 8);
    value.writeUInt32LE(id ?? NOBODY_NAMED, 8 + index * 8);
  }
  return value;
}

const plain: readonly AclEntry[] = [
  [USER_OBJ, 7],
  [GROUP_OBJ, 5],
  [OTHER, 0],
];
const extended: readonly AclEntry[] = [
  [USER_OBJ, 6],
  [USER, 7, 1000],
  [USER, 0, 1001],
  [GROUP_OBJ, 4],
  [GROUP, 6, 1000],
  [MASK, 5],
  [OTHER, 1],
];
/** Valid ones first, then some that are not. */
const ACLS: readonly (readonly [string, Buffer])[] = [
  ['plain', aclValue(plain)],
  ['extended', aclValue(extended)],
  ['with a mask only', aclValue([...plain.slice(0, 2), [MASK, 3], ...plain.slice(2)])],
  ['empty', aclValue([])],
  ['no bytes', Buffer.alloc(0)],
  ['without a mask', aclValue(extended.filter(([tag]) => tag !== MASK))],
  ['in another order', aclValue([...extended].reverse())],
  ['of version 1', aclValue(plain, 1)],
  ['cut off', aclValue(extended).subarray(0, 21)],
  ['permissions beyond 7', aclValue([[USER_OBJ, 15], ...plain.slice(1)])],
];
const ACL_NAMES = ['system.posix_acl_access', 'system.posix_acl_default'];

const setAcl: Maker = (args) => {
  const [path, name] = [args.path(), args.prng.pick(ACL_NAMES)];
  const [title, value] = args.prng.pick(args.chance(0.7) ? ACLS.slice(0, 3) : ACLS);
  const call = args.chance(0.1) ? 'lsetxattr' : 'setxattr';
  return {
    call: 'set acl',
    text: `${call}(${quoted(path)}, ${name}, a list ${title})`,
    at: at(args),
    paths: [path],
    run: () => told(calls[call](z(path), z(name), value, value.length, 0)),
  };
};

const buffer = Buffer.alloc(4096);

const getAcl: Maker = (args) => {
  const [path, name] = [args.path(), args.prng.pick(ACL_NAMES)];
  return {
    call: 'get acl',
    text: `getxattr(${quoted(path)}, ${name})`,
    at: at(args),
    paths: [path],
    run: () => {
      const length = calls.getxattr(z(path), z(name), buffer, buffer.length);
      if (length < 0) return told(length);
      return { text: `${length}`, data: Buffer.from(buffer.subarray(0, length)) };
    },
  };
};

const removeAcl: Maker = (args) => {
  const [path, name] = [args.path(), args.prng.pick(ACL_NAMES)];
  return {
    call: 'remove acl',
    text: `removexattr(${quoted(path)}, ${name})`,
    at: at(args),
    paths: [path],
    run: () => told(calls.removexattr(z(path), z(name))),
  };
};

/** Arguments that no call takes, or only at the edge of what a file can hold. */
const invalid: Maker = (args) => {
  const [slot, path, other] = [args.slot(), args.path(), args.path()];
  const data = bytesFrom(args.noiseStart(), 10);
  const [title, run] = args.prng.pick<readonly [string, (fd: number) => number]>([
    ['renameat2, flags 8', () => calls.renameat2(AT_FDCWD, z(path), AT_FDCWD, z(other), 8)],
    ['linkat, flags 1', () => calls.linkat(AT_FDCWD, z(path), AT_FDCWD, z(other), 1)],
    ['utimensat, flags 1', () => calls.utimensat(AT_FDCWD, z(path), null, 1)],
    ['lseek, whence 5', (fd) => calls.lseek(fd, 0, 5)],
    ['fallocate, size 0', (fd) => calls.fallocate(fd, 0, 0, 0)],
    ['fallocate, size -1', (fd) => calls.fallocate(fd, 0, 0, -1)],
    ['fallocate, mode 0x80', (fd) => calls.fallocate(fd, 0x80, 0, 4096)],
    ['fallocate, punch and zero', (fd) => calls.fallocate(fd, 0x13, 0, 4096)],
    ['ftruncate, -1', (fd) => calls.ftruncate(fd, -1)],
    ['truncate, -1', () => calls.truncate(z(path), -1)],
    ['pwrite, offset -1', (fd) => calls.pwrite(fd, data, data.length, -1)],
    ['pwrite, nothing far away', (fd) => calls.pwrite(fd, data, 0, 1 << 30)],
    ['pread, far away', (fd) => calls.pread(fd, buffer, 10, 2 ** 43)],
    ['copy_file_range, flags 1', (fd) => calls.copyFileRange(fd, null, fd, null, 10, 1)],
    ['copy_file_range onto itself', (fd) => calls.copyFileRange(fd, null, fd, null, 10, 0)],
  ]);
  return {
    call: `invalid: ${title}`,
    text: `${title}: ${quoted(path)}, ${quoted(other)}, #${slot}`,
    paths: [path, other],
    slot,
    run: (side) => told(run(side.fd(slot))),
  };
};

export const rareOperations: readonly Weighted[] = [
  [2, openUnnamed],
  [2, linkOpen],
  [2, setAcl, 'acl'],
  [1, getAcl, 'acl'],
  [0.5, removeAcl, 'acl'],
  [2, invalid],
];
