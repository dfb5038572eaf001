import { asIno } from '../../src/proto/ids.js';
import { bytes, inWorld, ns, root } from './world.js';

inWorld('chmod changes permission bits, not the type, and ctime alone', (t, world) => {
  const file = world.file(root, 'f');
  const before = world.attr(file);
  const after = world.set(file, { mode: 0o6711 });
  t.same(after, { ...before, mode: 0o106711, ctime: ns(world.seconds), version: before.version + 1 });
  t.same(world.attr(file), after);
  t.equal(world.errno('setattr', { ino: asIno(99), set: { mode: 0 } }), 'ENOENT');
});

inWorld(
  'chown takes setuid, executable setgid and capabilities from files, even to the same owner',
  (t, world) => {
    const file = world.file(root, 'f');
    const name = bytes('security.capability');
    world.set(file, { mode: 0o6755 });
    world.do('setxattr', { ino: file, name, value: bytes('c'), mode: 'any' });
    const after = world.set(file, { uid: 1000 });
    t.match(after, { mode: 0o100755, uid: 1000, gid: 100, ctime: ns(world.seconds) });
    t.equal(world.errno('getxattr', { ino: file, name }), 'ENODATA');
    world.set(file, { mode: 0o2745 });
    t.equal(world.set(file, { gid: 5 }).mode, 0o102745, 'setgid without group execute is no privilege');
    const dir = world.mkdir(root, 'd', 0o6777);
    t.match(world.set(dir, { uid: 1, gid: 2 }), { mode: 0o046777, uid: 1, gid: 2 });
  },
);

inWorld('clearPrivileges does the same without a chown', (t, world) => {
  const file = world.file(root, 'f');
  world.set(file, { mode: 0o6755 });
  const cleared = world.set(file, { clearPrivileges: true });
  t.match(cleared, { mode: 0o100755, ctime: ns(world.seconds) });
  t.same(world.set(file, { clearPrivileges: true }), cleared, 'nothing to clear, nothing changed');
  world.set(file, { mode: 0o6755 });
  t.equal(world.set(file, { clearPrivileges: true, size: 3 }).mode, 0o100755);
});

inWorld('times are set to the nanosecond, to now, or left', (t, world) => {
  const file = world.file(root, 'f');
  const before = world.attr(file);
  const early = { sec: -1, nsec: 999_999_999 };
  const after = world.set(file, { mtime: early });
  t.same([after.atime, after.mtime, after.ctime], [before.atime, early, ns(world.seconds)]);
  const now = world.set(file, { atime: 'now', ctime: { sec: 5, nsec: 5 } });
  t.same([now.atime, now.mtime, now.ctime], [ns(world.seconds), early, { sec: 5, nsec: 5 }]);
  t.same(world.set(file, {}), now, 'nothing set, nothing changed');
});

inWorld('a file shrinks and grows, and what was cut off comes back as a hole', (t, world) => {
  const file = world.file(root, 'f');
  const chunk = world.write(file, 0, 100);
  const small = world.set(file, { size: 30 });
  t.match(small, { size: 30, allocated: 30, mtime: ns(world.seconds), ctime: ns(world.seconds) });
  t.equal(world.rows.chunks.get(chunk)?.used, 30);
  const large = world.set(file, { size: Number.MAX_SAFE_INTEGER });
  t.match(large, { size: Number.MAX_SAFE_INTEGER, allocated: 30 });
  t.same(world.extentsOf(file), [[0, 30, chunk, 0]]);
  world.set(file, { size: 0 });
  t.same([...world.rows.garbage], [chunk]);
});

inWorld('truncating to the same size moves the times as well', (t, world) => {
  const file = world.file(root, 'f');
  t.match(world.set(file, { size: 0 }), { size: 0, mtime: ns(world.seconds), ctime: ns(world.seconds) });
  const told = world.set(file, { size: 0, mtime: { sec: 5, nsec: 5 } });
  t.match(told, { mtime: { sec: 5, nsec: 5 }, ctime: ns(world.seconds) });
});

inWorld('only regular files have a size to set', (t, world) => {
  t.equal(world.errno('setattr', { ino: root, set: { size: 0 } }), 'EISDIR');
  t.equal(world.errno('setattr', { ino: world.symlink(root, 'l', 't'), set: { size: 0 } }), 'EINVAL');
  const file = world.file(root, 'f');
  t.equal(world.errno('setattr', { ino: file, set: { size: 2 ** 53 } }), 'EFBIG');
});

inWorld('truncation cuts through every extent behind the new end', (t, world) => {
  const file = world.file(root, 'f');
  const chunks = [0, 20, 40, 60].map((offset) => world.write(file, offset, 10));
  world.set(file, { size: 45 });
  t.same(world.extentsOf(file), [
    [0, 10, chunks[0], 0],
    [20, 10, chunks[1], 0],
    [40, 5, chunks[2], 0],
  ]);
  t.equal(world.attr(file).allocated, 25);
  world.set(file, { size: 15 });
  t.same(world.extentsOf(file), [[0, 10, chunks[0], 0]]);
});
