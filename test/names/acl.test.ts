import t from 'tap';
import {
  type Acl,
  AclTag,
  chmodAcl,
  formatAcl,
  inheritAcl,
  modeOfAcl,
  parseAcl,
} from '../../src/names/acl.js';
import { FsError } from '../../src/proto/errno.js';
import type { Ino } from '../../src/proto/ids.js';
import { at, bytes, inWorld, newAt, root, type World } from './world.js';

const NONE = 0xffff_ffff;
const ACCESS = bytes('system.posix_acl_access');
const DEFAULT = bytes('system.posix_acl_default');

/** `u7 u1000:6 g5 m6 o1` into a list. */
function list(text: string): Acl {
  return text.split(' ').map((word) => {
    const [, kind = '', id, perm] = /^([ugmo])(?:(\d+):)?([0-7])$/.exec(word) ?? [];
    const named = id !== undefined;
    const tags: Record<string, number> = {
      u: named ? AclTag.USER : AclTag.USER_OBJ,
      g: named ? AclTag.GROUP : AclTag.GROUP_OBJ,
      m: AclTag.MASK,
      o: AclTag.OTHER,
    };
    return { tag: tags[kind] ?? 0, perm: Number(perm), id: named ? Number(id) : NONE };
  });
}

function text(value: Uint8Array): string {
  const letters = new Map<number, string>([
    [AclTag.USER_OBJ, 'u'],
    [AclTag.USER, 'u'],
    [AclTag.GROUP_OBJ, 'g'],
    [AclTag.GROUP, 'g'],
    [AclTag.MASK, 'm'],
    [AclTag.OTHER, 'o'],
  ]);
  const acl = parseAcl(value, 'test') ?? [];
  return acl.map(({ tag, perm, id }) => `${letters.get(tag)}${id === NONE ? '' : `${id}:`}${perm}`).join(' ');
}

function errnoOf(value: Uint8Array): string {
  try {
    return parseAcl(value, 'test') === undefined ? 'none' : 'ok';
  } catch (error) {
    if (error instanceof FsError) return error.code;
    throw error;
  }
}

const RICH = 'u7 u1000:6 u1000:1 g5 g50:7 m6 o1';

t.test('a list comes back from its bytes as it was', (t) => {
  for (const each of ['u7 g5 o0', RICH]) t.equal(text(formatAcl(list(each))), each);
  const expected = '02000000' + '01000700ffffffff' + '02000600e8030000' + '04000500ffffffff';
  const bytesOf = formatAcl(list('u7 u1000:6 g5 m6 o1'));
  t.ok(Buffer.from(bytesOf).toString('hex').startsWith(expected));
  const stray = Buffer.from(formatAcl(list('u7 g5 o0')));
  stray.writeUInt32LE(4711, 8);
  t.equal(text(stray), 'u7 g5 o0', 'an id where none belongs is dropped');
  t.end();
});

t.test('what is no valid list is refused', (t) => {
  t.equal(errnoOf(Buffer.alloc(0)), 'EINVAL');
  t.equal(errnoOf(Buffer.from([2, 0, 0])), 'EINVAL');
  t.equal(errnoOf(Buffer.from([2, 0, 0, 0])), 'none');
  t.equal(errnoOf(Buffer.from([1, 0, 0, 0])), 'EOPNOTSUPP');
  t.equal(errnoOf(formatAcl(list(RICH)).subarray(0, -1)), 'EINVAL');
  for (const bad of [
    'u7 g5',
    'u7 o5',
    'g7 o5',
    'u7 g5 o0 o0',
    'u7 u7 g5 o0',
    'g5 u7 o0',
    'u7 u1000:7 g5 o0',
    'u7 g5 g50:1 o0',
    'u7 g5 m5 m5 o0',
    `u7 u${NONE}:7 g5 m7 o0`,
  ])
    t.equal(errnoOf(formatAcl(list(bad))), 'EINVAL', bad);
  const unknown = Buffer.from(formatAcl(list('u7 g5 o0')));
  unknown.writeUInt16LE(0x40, 4 + 16);
  t.equal(errnoOf(unknown), 'EINVAL');
  unknown.writeUInt16LE(0x20, 4 + 16);
  unknown.writeUInt16LE(8, 4 + 16 + 2);
  t.equal(errnoOf(unknown), 'EINVAL');
  t.end();
});

t.test('any bytes are a list or refused, never another exception', (t) => {
  let seed = 12345;
  const next = (): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return seed >>> 16;
  };
  const valid = Buffer.from(formatAcl(list(RICH)));
  for (let round = 0; round < 20_000; round++) {
    const value = Buffer.from(valid.subarray(0, next() % 3 === 0 ? next() % valid.length : valid.length));
    for (let changes = next() % 4; changes > 0 && value.length > 0; changes--)
      value[next() % value.length] = next() & 0xff;
    errnoOf(value);
  }
  t.end();
});

t.test('mode and list follow one another', (t) => {
  t.equal(modeOfAcl(list('u7 g5 o1'), 0o102000), 0o102751);
  t.equal(modeOfAcl(list(RICH), 0), 0o761);
  t.equal(text(formatAcl(chmodAcl(list(RICH), 0o640))), 'u6 u1000:6 u1000:1 g5 g50:7 m4 o0');
  t.equal(text(formatAcl(chmodAcl(list('u7 g5 o1'), 0o640))), 'u6 g4 o0');
  const inherited = inheritAcl(list(RICH), 0o100664);
  t.equal(inherited.mode, 0o100660);
  t.equal(text(formatAcl(inherited.acl ?? [])), 'u6 u1000:6 u1000:1 g5 g50:7 m6 o0');
  t.same(inheritAcl(list('u7 g5 o0'), 0o100666), { mode: 0o100640, acl: undefined });
  t.end();
});

const mode = (world: World, ino: Ino): number => world.attr(ino).mode & 0o7777;

function setAcl(world: World, ino: Ino, acl: string, name = ACCESS): void {
  world.do('setxattr', { ino, name, value: formatAcl(list(acl)), mode: 'any' });
}

function getAcl(world: World, ino: Ino, name = ACCESS): string {
  const { names } = world.do('listxattr', { ino });
  if (!names.some((each) => name.equals(each))) return 'none';
  return text(world.do('getxattr', { ino, name }).value);
}

inWorld('setting an access list sets the mode, chmod sets the list', (t, world) => {
  const ino = world.file(root, 'f');
  world.set(ino, { mode: 0o4644 });
  setAcl(world, ino, 'u6 u1000:7 g4 m5 o0');
  t.equal(mode(world, ino), 0o4650);
  world.set(ino, { mode: 0o7620 });
  t.equal(getAcl(world, ino), 'u6 u1000:7 g4 m2 o0');
  world.set(ino, { uid: 7, clearPrivileges: true });
  t.equal(getAcl(world, ino), 'u6 u1000:7 g4 m2 o0');
  setAcl(world, ino, 'u6 g4 o4');
  t.equal(getAcl(world, ino), 'none', 'what the mode says needs no list');
  t.equal(mode(world, ino), 0o3644);
});

inWorld('a list is removed by removing it and by setting an empty one', (t, world) => {
  const ino = world.file(root, 'f');
  setAcl(world, ino, 'u6 u1000:7 g4 m7 o0');
  world.do('removexattr', { ino, name: ACCESS });
  t.equal(mode(world, ino), 0o670);
  setAcl(world, ino, 'u6 u1000:7 g4 m7 o0');
  world.do('setxattr', { ino, name: ACCESS, value: Buffer.from([2, 0, 0, 0]), mode: 'any' });
  t.equal(getAcl(world, ino), 'none');
  t.equal(world.errno('removexattr', { ino, name: ACCESS }), 'ok');
});

inWorld('setgid goes when the setter is told to be outside the group', (t, world) => {
  const ino = world.file(root, 'f');
  world.set(ino, { mode: 0o2755 });
  const value = formatAcl(list('u7 u1000:7 g5 m5 o5'));
  world.do('setxattr', { ino, name: ACCESS, value, mode: 'any', clearSetgid: true });
  t.equal(mode(world, ino), 0o755);
  const dir = world.mkdir(root, 'd');
  world.set(dir, { mode: 0o2755 });
  world.do('setxattr', { ino: dir, name: DEFAULT, value, mode: 'any', clearSetgid: true });
  t.equal(mode(world, dir), 0o2755);
});

inWorld('what cannot have a list is refused', (t, world) => {
  const value = formatAcl(list('u7 g5 o5'));
  const set = (ino: Ino, name: Buffer, bad = value) =>
    world.errno('setxattr', { ino, name, value: bad, mode: 'any' });
  t.equal(set(world.file(root, 'f'), DEFAULT), 'EACCES');
  t.equal(set(world.symlink(root, 'l', 'f'), ACCESS), 'EOPNOTSUPP');
  t.equal(set(root, ACCESS, Buffer.alloc(5, 2)), 'EOPNOTSUPP');
  t.equal(set(root, DEFAULT, value.subarray(0, 12)), 'EINVAL');
});

inWorld('new inodes take the default list and not the umask', (t, world) => {
  const dir = world.mkdir(root, 'd');
  setAcl(world, dir, 'u7 u1000:7 g5 m7 o0', DEFAULT);
  const umask = 0o077;
  const file = world.do('mknod', { ...newAt(dir, 'f'), mode: 0o100666, rdev: 0, umask }).ino;
  t.equal(mode(world, file), 0o660);
  t.equal(getAcl(world, file), 'u6 u1000:7 g5 m6 o0');
  const made = world.do('create', {
    ...newAt(dir, 'c'),
    mode: 0o640,
    umask,
    exclusive: true,
    truncate: false,
  }).attr;
  t.equal(made.mode & 0o7777, 0o640);
  t.equal(getAcl(world, made.ino), 'u6 u1000:7 g5 m4 o0');
  t.equal(getAcl(world, made.ino, DEFAULT), 'none');
  const sub = world.do('mkdir', { ...newAt(dir, 's'), mode: 0o777, umask }).ino;
  t.equal(mode(world, sub), 0o770);
  t.equal(getAcl(world, sub), 'u7 u1000:7 g5 m7 o0');
  t.equal(getAcl(world, sub, DEFAULT), 'u7 u1000:7 g5 m7 o0');
  const link = world.symlink(dir, 'l', 'f');
  t.equal(mode(world, link), 0o777);
  t.same(world.do('listxattr', { ino: link }).names, []);
});

inWorld('a default list that a mode can say leaves no list but the default one', (t, world) => {
  setAcl(world, root, 'u7 g5 o0', DEFAULT);
  const sub = world.do('mkdir', { ...newAt(root, 's'), mode: 0o777, umask: 0o777 }).ino;
  t.equal(mode(world, sub), 0o750);
  t.equal(getAcl(world, sub), 'none');
  t.equal(getAcl(world, sub, DEFAULT), 'u7 g5 o0');
});

inWorld('without a default list the umask counts', (t, world) => {
  t.equal(world.do('mkdir', { ...newAt(root, 'd'), mode: 0o1777, umask: 0o027 }).mode & 0o7777, 0o1750);
  const file = world.do('mknod', { ...newAt(root, 'f'), mode: 0o104666, rdev: 0, umask: 0o7022 });
  t.equal(file.mode & 0o7777, 0o4644);
  world.do('unlink', at(root, 'f'));
  t.equal(world.rows.xattrs.size, 0);
});
