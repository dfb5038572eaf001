import { asIno } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { bytes, inWorld, ns, root } from './world.js';

const plain = { mode: 'allocate', keepSize: false, clearPrivileges: false } as const;
const zero = { ...plain, mode: 'zero' } as const;

inWorld('allocating makes a file long enough, and never shorter', (t, world) => {
  const ino = world.file(root, 'f');
  world.write(ino, 0, 100);
  t.match(world.do('fallocate', { ino, offset: 50, length: 150, ...plain }), { size: 200, allocated: 100 });
  t.match(world.do('fallocate', { ino, offset: 0, length: 10, ...plain }), { size: 200 });
  const kept = world.do('fallocate', { ino, offset: 500, length: 10, ...plain, keepSize: true });
  t.match(kept, { size: 200, mtime: ns(world.seconds), ctime: ns(world.seconds) });
});

inWorld('zeroing takes what lies in the range and splits what sticks out', (t, world) => {
  const ino = world.file(root, 'f');
  const chunk = world.write(ino, 0, 100);
  world.do('fallocate', { ino, offset: 20, length: 30, ...zero, keepSize: true });
  t.same(world.extentsOf(ino), [
    [0, 20, chunk, 0],
    [50, 50, chunk, 50],
  ]);
  t.match(world.attr(ino), { size: 100, allocated: 70 });
  world.do('fallocate', { ino, offset: 0, length: 60, ...zero });
  t.same(world.extentsOf(ino), [[60, 40, chunk, 60]]);
  t.match(world.do('fallocate', { ino, offset: 90, length: 60, ...zero }), { size: 150, allocated: 30 });
  world.do('fallocate', { ino, offset: 0, length: 1000, ...zero, keepSize: true });
  t.match(world.attr(ino), { size: 150, allocated: 0 });
  t.same([...world.rows.garbage], [chunk]);
});

inWorld('setuid, setgid and capabilities go when the caller is not privileged', (t, world) => {
  const ino = world.file(root, 'f');
  world.set(ino, { mode: 0o6755 });
  const name = bytes('security.capability');
  world.do('setxattr', { ino, name, value: bytes('x'), mode: 'any' });
  t.equal(world.do('fallocate', { ino, offset: 0, length: 1, ...plain }).mode & 0o7777, 0o6755);
  const cleared = world.do('fallocate', { ino, offset: 0, length: 1, ...plain, clearPrivileges: true });
  t.equal(cleared.mode & 0o7777, 0o755);
  t.equal(world.errno('getxattr', { ino, name }), 'ENODATA');
});

inWorld('fallocate refuses what is no file, gone or too large', (t, world) => {
  const ino = world.file(root, 'f');
  const errno = (of: typeof ino, offset: number) =>
    world.errno('fallocate', { ino: of, offset, length: 10, ...plain });
  t.equal(errno(world.mkdir(root, 'd'), 0), 'EISDIR');
  t.equal(errno(world.symlink(root, 's', 'x'), 0), 'EINVAL');
  t.equal(errno(asIno(99), 0), 'ENOENT');
  t.equal(errno(ino, limits.fileBytes - 9), 'EFBIG');
  t.equal(errno(ino, limits.fileBytes - 10), 'ok');
});
