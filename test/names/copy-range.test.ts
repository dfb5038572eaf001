import type { Extent } from '../../src/proto/extent.js';
import { asIno } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { at, inWorld, ns, root } from './world.js';

const args = { offset: 0, newOffset: 0, length: 1_000_000, clearPrivileges: false };

inWorld('a copy refers to the same bytes, and outlives the original', (t, world) => {
  const [a, b] = [world.file(root, 'a'), world.file(root, 'b')];
  const chunk = world.write(a, 0, 100);
  const { copied, attr } = world.do('copyRange', { ...args, ino: a, newIno: b });
  t.equal(copied, 100);
  t.match(attr, { ino: b, size: 100, allocated: 100, mtime: ns(world.seconds), ctime: ns(world.seconds) });
  t.same(world.extentsOf(b), [[0, 100, chunk, 0]]);
  t.equal(world.rows.chunks.get(chunk)?.used, 200);
  world.do('unlink', at(root, 'a'));
  t.equal(world.rows.chunks.get(chunk)?.used, 100);
  world.do('unlink', at(root, 'b'));
  t.same([...world.rows.garbage], [chunk]);
});

inWorld('pieces are cut at any alignment, holes come along, and steps join', (t, world) => {
  const [a, b] = [world.file(root, 'a'), world.file(root, 'b')];
  const one = world.write(a, 10, 20);
  const two = world.write(a, 50, 20);
  const old = world.write(b, 0, 100);
  world.do('copyRange', { ...args, ino: a, newIno: b, offset: 15, newOffset: 33, length: 40 });
  const want = [
    [0, 33, old, 0],
    [33, 15, one, 5],
    [68, 5, two, 0],
    [73, 27, old, 73],
  ];
  t.same(world.extentsOf(b), want);
  t.match(world.attr(b), { size: 100, allocated: 80 });
  world.do('copyRange', { ...args, ino: a, newIno: b, offset: 55, newOffset: 73, length: 10 });
  t.same(world.extentsOf(b)[2], [68, 15, two, 0]);
});

inWorld('within one file ranges may touch and not overlap', (t, world) => {
  const ino = world.file(root, 'f');
  const chunk = world.write(ino, 0, 100);
  const copy = (offset: number, newOffset: number, length: number) =>
    world.errno('copyRange', { ...args, ino, newIno: ino, offset, newOffset, length });
  t.equal(copy(0, 50, 51), 'EINVAL');
  t.equal(copy(50, 0, 51), 'ok', 'only 50 bytes are there');
  t.equal(copy(60, 70, 11), 'EINVAL');
  t.equal(copy(0, 100, 100), 'ok');
  t.same(world.extentsOf(ino), [
    [0, 50, chunk, 50],
    [50, 50, chunk, 50],
    [100, 50, chunk, 50],
    [150, 50, chunk, 50],
  ]);
});

inWorld('nothing to copy changes nothing', (t, world) => {
  const [a, b] = [world.file(root, 'a'), world.file(root, 'b')];
  world.write(a, 0, 10);
  const before = world.attr(b);
  t.equal(world.do('copyRange', { ...args, ino: a, newIno: b, offset: 10 }).copied, 0);
  t.equal(world.do('copyRange', { ...args, ino: a, newIno: b, length: 0 }).copied, 0);
  t.same(world.attr(b), before);
});

inWorld('a copy takes setuid away from an unprivileged writer', (t, world) => {
  const [a, b] = [world.file(root, 'a'), world.file(root, 'b')];
  world.write(a, 0, 10);
  world.set(b, { mode: 0o4711 });
  t.equal(world.do('copyRange', { ...args, ino: a, newIno: b }).attr.mode & 0o7777, 0o4711);
  const { attr } = world.do('copyRange', { ...args, ino: a, newIno: b, clearPrivileges: true });
  t.equal(attr.mode & 0o7777, 0o711);
});

inWorld('copies refuse what is no file, gone or too large', (t, world) => {
  const [file, dir] = [world.file(root, 'f'), world.mkdir(root, 'd')];
  world.write(file, 0, 10);
  const errno = (ino: typeof file, newIno: typeof file, newOffset = 0) =>
    world.errno('copyRange', { ...args, ino, newIno, newOffset });
  t.equal(errno(dir, file), 'EISDIR');
  t.equal(errno(file, dir), 'EISDIR');
  t.equal(errno(file, world.symlink(root, 's', 'x')), 'EINVAL');
  t.equal(errno(file, asIno(99)), 'ENOENT');
  t.equal(errno(file, file, limits.fileBytes), 'EFBIG');
});

inWorld('a copy ends where a file has to', (t, world) => {
  const [a, b] = [world.file(root, 'a'), world.file(root, 'b')];
  world.write(a, 0, 10);
  const { copied, attr } = world.do('copyRange', {
    ...args,
    ino: a,
    newIno: b,
    newOffset: limits.fileBytes - 3,
  });
  t.same([copied, attr.size, attr.allocated], [3, limits.fileBytes, 3]);
});

inWorld('a huge range is copied in steps that each stay within bounds', (t, world) => {
  const [a, b] = [world.file(root, 'a'), world.file(root, 'b')];
  const count = limits.extentsPerMessage + 10;
  const [id, length] = [world.newChunk(), count];
  const extents: Extent[] = Array.from({ length: count }, (_, index) => {
    return { offset: index * 2, length: 1, chunk: id, chunkOffset: index };
  });
  const files = [{ ino: a, extents, minSize: 0, mtime: ns(1), clearPrivileges: false }];
  world.do('commit', { chunks: [{ id, length, crc: 1 }], files, durable: false });
  const steps: number[] = [];
  for (let done = 0; done < 2 * count - 1; ) {
    const step = { ino: a, newIno: b, offset: done, newOffset: done, length: 2 * count - done };
    const { copied } = world.do('copyRange', { ...step, clearPrivileges: false });
    steps.push(copied);
    done += copied;
  }
  t.same(steps, [2 * limits.extentsPerMessage - 1, 20]);
  t.same(
    world.rows.extents.get(b)?.map((row) => row.offset),
    extents.map((extent) => extent.offset),
  );
  t.equal(world.rows.chunks.get(id)?.used, 2 * count);
});
