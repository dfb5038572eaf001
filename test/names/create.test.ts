import { present } from '../../src/base/assert.js';
import { namespace } from '../../src/names/namespace.js';
import { S_IFMT } from '../../src/proto/attr.js';
import { asIno } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { at, bytes, inWorld, newAt, ns, root } from './world.js';

const DOTS = ['.', '..'];
const LONG = 'n'.repeat(256);

inWorld('a new file has its owner, mode, times and one link, and its directory new times', (t, world) => {
  const { attr, created } = world.create(root, 'f');
  const now = ns(world.seconds);
  t.ok(created);
  t.match(attr, {
    mode: 0o100640,
    nlink: 1,
    uid: 1000,
    gid: 100,
    size: 0,
    allocated: 0,
    rdev: 0,
    version: 1,
  });
  for (const time of [attr.atime, attr.mtime, attr.ctime, attr.crtime]) t.same(time, now);
  const parent = world.attr(root);
  t.same([parent.mtime, parent.ctime], [now, now]);
  t.same(parent.atime, { sec: 1, nsec: 0 }, 'access times are only set');
  t.notOk('parent' in attr || 'target' in attr, 'rows do not leak into replies');
});

inWorld('create opens what is there, unless it must not', (t, world) => {
  const { attr } = world.create(root, 'f');
  world.write(attr.ino, 0, 100);
  const again = world.create(root, 'f');
  t.notOk(again.created);
  t.equal(again.attr.ino, attr.ino);
  t.equal(again.attr.size, 100);
  const cut = world.create(root, 'f', { truncate: true });
  t.match(cut.attr, { size: 0, allocated: 0, mtime: ns(world.seconds), ctime: ns(world.seconds) });
  t.throws(() => world.create(root, 'f', { exclusive: true }), { code: 'EEXIST' });
  world.mkdir(root, 'd');
  t.throws(() => world.create(root, 'd'), { code: 'EISDIR' });
  t.throws(() => world.create(root, 'd', { exclusive: true }), { code: 'EEXIST' });
  world.symlink(root, 'l', 'f');
  t.throws(() => world.create(root, 'l'), { code: 'EOPNOTSUPP' });
});

inWorld('mkdir counts in the links of its parent', (t, world) => {
  const dir = world.do('mkdir', { ...newAt(root, 'd'), mode: 0o1700 });
  t.match(dir, { mode: 0o041700, nlink: 2, size: 4096 });
  t.equal(world.attr(root).nlink, 3);
  t.equal(world.do('lookup', at(dir.ino, '..')).ino, root);
  t.equal(world.do('lookup', at(dir.ino, '.')).ino, dir.ino);
  t.equal(world.do('lookup', at(root, '..')).ino, root);
});

inWorld('a setgid directory hands down its group, and the bit itself to directories', (t, world) => {
  const shared = world.mkdir(root, 'shared', 0o2775);
  world.set(shared, { gid: 42 });
  t.match(world.attr(shared), { mode: 0o042775, gid: 42 });
  t.match(world.do('mkdir', { ...newAt(shared, 'd'), mode: 0o755 }), { mode: 0o042755, gid: 42 });
  t.match(world.create(shared, 'f').attr, { mode: 0o100640, gid: 42, uid: 1000 });
  const exec = { ...newAt(shared, 'x'), mode: 0o102711, rdev: 0 };
  t.match(world.do('mknod', exec), { mode: 0o102711, gid: 42 });
  t.equal(world.attr(world.symlink(shared, 'l', 't')).gid, 42);
});

inWorld('mknod makes every type of node but directories and symlinks', (t, world) => {
  for (const type of [0o100000, 0o010000, 0o140000, 0o020000, 0o060000]) {
    const name = type.toString(8);
    const attr = world.do('mknod', { ...newAt(root, name), mode: type | 0o600, rdev: 0x0103 });
    t.equal(attr.mode & S_IFMT, type);
    t.equal(attr.rdev, type === 0o020000 || type === 0o060000 ? 0x0103 : 0, `rdev of ${name}`);
  }
  for (const type of [0, 0o040000, 0o120000]) {
    t.equal(world.errno('mknod', { ...newAt(root, 'no'), mode: type | 0o600, rdev: 0 }), 'EINVAL');
  }
});

inWorld('a symlink is as long as its target, which is given back byte for byte', (t, world) => {
  const target = Buffer.from([0x2f, 0xff, 0x0a]);
  const attr = world.do('symlink', { ...newAt(root, 'l'), target });
  t.match(attr, { mode: 0o120777, size: 3, nlink: 1 });
  t.same(Buffer.from(world.do('readlink', { ino: attr.ino }).target), target);
  t.equal(world.errno('readlink', { ino: root }), 'EINVAL');
  t.equal(world.errno('readlink', { ino: asIno(99) }), 'ENOENT');
  const errno = (target: Buffer) => world.errno('symlink', { ...newAt(root, 'm'), target });
  t.equal(errno(Buffer.alloc(0)), 'ENOENT');
  t.equal(errno(Buffer.alloc(limits.pathBytes, 0x61)), 'ENAMETOOLONG');
  t.equal(errno(bytes('a\0')), 'EINVAL');
  t.equal(errno(Buffer.alloc(limits.pathBytes - 1, 0x61)), 'ok');
});

inWorld('every way to make a name refuses impossible names and places alike', (t, world) => {
  const file = world.file(root, 'file');
  const missing = asIno(12345);
  const ways = {
    create: (parent: typeof root, name: string) =>
      world.errno('create', { ...newAt(parent, name), mode: 0, exclusive: true, truncate: false }),
    mknod: (parent: typeof root, name: string) =>
      world.errno('mknod', { ...newAt(parent, name), mode: 0o100600, rdev: 0 }),
    mkdir: (parent: typeof root, name: string) => world.errno('mkdir', { ...newAt(parent, name), mode: 0 }),
    symlink: (parent: typeof root, name: string) =>
      world.errno('symlink', { ...newAt(parent, name), target: bytes('t') }),
    link: (parent: typeof root, name: string) => world.errno('link', { ino: file, ...at(parent, name) }),
  };
  const dead = world.mkdir(root, 'dead');
  world.do('open', { ino: dead, truncate: false });
  world.do('rmdir', at(root, 'dead'));
  for (const [way, make] of Object.entries(ways)) {
    t.equal(make(root, 'file'), 'EEXIST', `${way} over a file`);
    t.equal(make(file, 'x'), 'ENOTDIR', `${way} under a file`);
    t.equal(make(missing, 'x'), 'ENOENT', `${way} under nothing`);
    t.equal(make(dead, 'x'), 'ENOENT', `${way} in a removed directory`);
    t.equal(make(root, LONG), 'ENAMETOOLONG', way);
    for (const name of ['', 'a/b', 'a\0'])
      t.equal(make(root, name), 'EINVAL', `${way} ${JSON.stringify(name)}`);
    for (const name of DOTS) t.equal(make(root, name), 'EEXIST', `${way} ${name}`);
  }
  t.throws(() => world.create(root, '.'), { code: 'EISDIR' });
});

inWorld('link adds a name to what is no directory, up to a limit', (t, world) => {
  const file = world.file(root, 'file');
  const linked = world.do('link', { ino: file, ...at(root, 'other') });
  t.match(linked, { ino: file, nlink: 2, ctime: ns(world.seconds) });
  t.same(world.attr(root).mtime, ns(world.seconds - 1));
  t.equal(world.errno('link', { ino: world.mkdir(root, 'd'), ...at(root, 'x') }), 'EPERM');
  t.equal(world.errno('link', { ino: asIno(99), ...at(root, 'x') }), 'ENOENT');
  const held = world.create(root, 'held').attr.ino;
  world.do('unlink', at(root, 'held'));
  t.equal(world.errno('link', { ino: held, ...at(root, 'x') }), 'ENOENT', 'what lost its last name stays so');
  const row = present(world.rows.inodes.get(file), 'row');
  const links = (nlink: number) => world.rows.apply([{ put: 'inode', row: { ...row, nlink } }]);
  const another = () => world.rows.run(namespace.link(world.context, { ino: file, ...at(root, 'x') }));
  links(limits.linkCount);
  t.throws(another, { code: 'EMLINK' });
  links(limits.linkCount - 1);
  t.equal(another().nlink, limits.linkCount);
});
