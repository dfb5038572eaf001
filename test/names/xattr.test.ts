import { asIno } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { bytes, inWorld, ns, root } from './world.js';

inWorld('attributes are set, read, listed and removed as bytes', (t, world) => {
  const ino = world.file(root, 'f');
  const value = Buffer.from([0, 255, 10]);
  world.do('setxattr', { ino, name: bytes('user.b'), value, mode: 'create' });
  t.same(world.attr(ino).ctime, ns(world.seconds - 1));
  world.do('setxattr', { ino, name: bytes('user.a'), value: Buffer.alloc(0), mode: 'any' });
  t.same(Buffer.from(world.do('getxattr', { ino, name: bytes('user.b') }).value), value);
  t.equal(world.do('getxattr', { ino, name: bytes('user.a') }).value.length, 0);
  t.same(world.do('listxattr', { ino }).names.map(String).length, 2);
  world.do('removexattr', { ino, name: bytes('user.b') });
  t.same(world.attr(ino).ctime, ns(world.seconds - 1));
  t.same(world.do('listxattr', { ino }).names, [bytes('user.a')]);
});

inWorld('create and replace insist on what was there before', (t, world) => {
  const name = bytes('user.x');
  const set = (mode: 'any' | 'create' | 'replace') =>
    world.errno('setxattr', { ino: root, name, value: bytes('v'), mode });
  t.equal(set('replace'), 'ENODATA');
  t.equal(world.errno('removexattr', { ino: root, name }), 'ENODATA');
  t.equal(world.errno('getxattr', { ino: root, name }), 'ENODATA');
  t.equal(set('create'), 'ok');
  t.equal(set('create'), 'EEXIST');
  t.equal(set('replace'), 'ok');
  t.equal(set('any'), 'ok');
  const ino = asIno(99);
  t.equal(world.errno('getxattr', { ino, name }), 'ENOENT');
  t.equal(world.errno('listxattr', { ino }), 'ENOENT');
  t.equal(world.errno('removexattr', { ino, name }), 'ENOENT');
  t.equal(world.errno('setxattr', { ino, name, value: name, mode: 'any' }), 'ENOENT');
});

inWorld('what no longer fits is refused', (t, world) => {
  const value = Buffer.alloc(limits.xattrValueBytes, 1);
  const room = Math.floor(limits.xattrTotalBytes / (value.length + 6));
  const set = (index: number) =>
    world.errno('setxattr', { ino: root, name: bytes(`user.${index % 10}`), value, mode: 'any' });
  const results = Array.from({ length: 10 }, (_, index) => set(index));
  t.ok(results.every((result) => result === 'ok'));
  t.equal(set(0), 'ok', 'replacing needs no more room');
  const more = Array.from({ length: room }, (_, index) =>
    world.errno('setxattr', { ino: root, name: bytes(`trusted.${index}`), value, mode: 'any' }),
  );
  t.equal(more.filter((result) => result === 'ok').length, room - 10);
  t.equal(more.at(-1), 'ENOSPC');
});

inWorld('attributes go with their inode', (t, world) => {
  const ino = world.file(root, 'f');
  world.do('setxattr', { ino, name: bytes('user.x'), value: bytes('v'), mode: 'any' });
  world.do('unlink', { parent: root, name: bytes('f') });
  t.equal(world.rows.xattrs.size, 0);
});
