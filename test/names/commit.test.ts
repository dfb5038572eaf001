import type { FileCommit } from '../../src/proto/data-methods.js';
import type { Extent } from '../../src/proto/extent.js';
import { asChunkId, asIno, type ChunkId, type Ino } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { at, bytes, inWorld, ns, root, type World } from './world.js';

const extent = (offset: number, length: number, chunk: ChunkId, chunkOffset: number): Extent => {
  return { offset, length, chunk, chunkOffset };
};

const fileOf = (ino: Ino, extents: Extent[], change: Partial<FileCommit> = {}): FileCommit => {
  return { ino, extents, minSize: 0, mtime: ns(1000), clearPrivileges: false, ...change };
};

function commit(world: World, chunks: [ChunkId, number][], files: FileCommit[]) {
  const records = chunks.map(([id, length]) => ({ id, length, crc: id }));
  return world.do('commit', { chunks: records, files, durable: false });
}

function commitErrno(world: World, chunks: [ChunkId, number][], files: FileCommit[]) {
  const records = chunks.map(([id, length]) => ({ id, length, crc: id }));
  return world.errno('commit', { chunks: records, files, durable: false });
}

inWorld('one chunk holds pieces of many files', (t, world) => {
  const [a, b] = [world.file(root, 'a'), world.file(root, 'b')];
  const chunk = world.newChunk();
  const reply = commit(
    world,
    [[chunk, 100]],
    [fileOf(a, [extent(0, 40, chunk, 0)]), fileOf(b, [extent(5, 60, chunk, 40)])],
  );
  t.same(reply.missing, []);
  t.match(reply.attrs, [
    { ino: a, size: 40, allocated: 40, mtime: ns(1000), ctime: ns(1000), version: 2 },
    { ino: b, size: 65, allocated: 60 },
  ]);
  t.match(world.rows.chunks.get(chunk), { used: 100, length: 100 });
  t.same(world.extentsOf(b), [[5, 60, chunk, 40]]);
});

inWorld('what was appended goes to the end that the file has then, in one run', (t, world) => {
  const file = world.file(root, 'f');
  const [first, second] = [world.newChunk(), world.newChunk()];
  const old = world.write(file, 0, 100);
  const reply = commit(
    world,
    [
      [first, 30],
      [second, 9],
    ],
    [
      // The mount took the file to be empty, and to be longer later on.
      fileOf(file, [extent(0, 10, first, 0), extent(50, 20, first, 10)], { append: true, minSize: 70 }),
      fileOf(file, [extent(4, 2, second, 0)]),
      fileOf(file, [extent(0, 7, second, 2)], { append: true, minSize: 7 }),
    ],
  );
  t.match(reply.attrs, [{ size: 137, allocated: 137 }]);
  t.same(world.extentsOf(file), [
    [0, 4, old, 0],
    [4, 2, second, 0],
    [6, 94, old, 6],
    [100, 30, first, 0],
    [130, 7, second, 2],
  ]);
});

inWorld('an append beyond the largest file is refused', (t, world) => {
  const file = world.file(root, 'f');
  world.set(file, { size: limits.fileBytes - 5 });
  const chunk = world.newChunk();
  const append = (length: number) =>
    commitErrno(world, [[chunk, 10]], [fileOf(file, [extent(0, length, chunk, 0)], { append: true })]);
  t.equal(append(6), 'EFBIG');
  t.equal(append(5), 'ok');
});

inWorld('later extents overwrite earlier ones, those stored and those of the same commit', (t, world) => {
  const file = world.file(root, 'f');
  const old = world.write(file, 0, 100);
  const chunk = world.newChunk();
  commit(
    world,
    [[chunk, 30]],
    [fileOf(file, [extent(10, 20, chunk, 0), extent(20, 10, chunk, 20), extent(95, 1, chunk, 5)])],
  );
  t.same(world.extentsOf(file), [
    [0, 10, old, 0],
    [10, 10, chunk, 0],
    [20, 10, chunk, 20],
    [30, 65, old, 30],
    [95, 1, chunk, 5],
    [96, 4, old, 96],
  ]);
  t.equal(world.rows.chunks.get(old)?.used, 79);
  t.equal(world.rows.chunks.get(chunk)?.used, 21);
  t.match(world.attr(file), { size: 100, allocated: 100 });
});

inWorld('contiguous pieces become one extent, across commits too', (t, world) => {
  const file = world.file(root, 'f');
  const chunk = world.newChunk();
  commit(world, [[chunk, 100]], [fileOf(file, [extent(0, 10, chunk, 0), extent(10, 10, chunk, 10)])]);
  t.same(world.extentsOf(file), [[0, 20, chunk, 0]]);
  commit(world, [], [fileOf(file, [extent(20, 10, chunk, 20)])]);
  commit(world, [], [fileOf(file, [extent(40, 10, chunk, 40)])]);
  commit(world, [], [fileOf(file, [extent(30, 10, chunk, 30)])]);
  t.same(world.extentsOf(file), [[0, 50, chunk, 0]]);
  commit(world, [], [fileOf(file, [extent(50, 10, chunk, 70)])]);
  t.equal(world.extentsOf(file).length, 2, 'adjacent in the file alone does not count');
  t.equal(world.rows.chunks.get(chunk)?.used, 60);
});

inWorld('rewriting the same bytes of a chunk changes nothing in its usage', (t, world) => {
  const file = world.file(root, 'f');
  const chunk = world.write(file, 0, 10);
  commit(world, [], [fileOf(file, [extent(0, 10, chunk, 0)])]);
  t.equal(world.rows.chunks.get(chunk)?.used, 10);
  commit(world, [], [fileOf(file, [extent(0, 10, chunk, 0), extent(20, 10, chunk, 0)])]);
  t.equal(world.rows.chunks.get(chunk)?.used, 20, 'counted once per extent');
});

inWorld('a chunk that nothing references in the end is garbage, however it came to it', (t, world) => {
  const file = world.file(root, 'f');
  const [hidden, gone, top] = [world.newChunk(), world.newChunk(), world.newChunk()];
  const reply = commit(
    world,
    [
      [hidden, 10],
      [gone, 10],
      [top, 10],
    ],
    [
      fileOf(file, [extent(0, 10, hidden, 0), extent(0, 10, top, 0)]),
      fileOf(asIno(99), [extent(0, 10, gone, 0)]),
    ],
  );
  t.same(reply.missing, [99]);
  t.same([...world.rows.garbage].sort(), [hidden, gone]);
  t.equal(commitErrno(world, [], [fileOf(file, [extent(0, 1, gone, 0)])]), 'EINVAL');
});

inWorld('a file that lost its last name and its openers is missing', (t, world) => {
  const file = world.file(root, 'f');
  for (let index = 0; index < 20; index++) world.write(file, index * 2, 1);
  world.do('unlink', at(root, 'f'));
  t.ok(world.rows.inodes.has(file), 'waits to be reaped');
  t.same(commit(world, [[world.newChunk(), 5]], [fileOf(file, [])]).missing, [file]);
});

inWorld('several entries for one file act one after the other', (t, world) => {
  const file = world.file(root, 'f');
  const chunk = world.newChunk();
  const reply = commit(
    world,
    [[chunk, 20]],
    [
      fileOf(file, [extent(0, 10, chunk, 0)], { minSize: 50, mtime: ns(1) }),
      fileOf(file, [extent(5, 10, chunk, 10)], { mtime: ns(2000) }),
    ],
  );
  t.match(reply.attrs, [{ size: 50, allocated: 15, mtime: ns(2000), version: 2 }]);
  t.equal(reply.attrs.length, 1);
  t.same(world.extentsOf(file), [
    [0, 5, chunk, 0],
    [5, 10, chunk, 10],
  ]);
});

inWorld('bytes that come behind a later change do not take mtime back', (t, world) => {
  const file = world.file(root, 'f');
  const chunk = world.newChunk();
  const { sec } = world.context.now;
  const changed = { sec: sec - 10, nsec: 0 };
  commit(world, [[chunk, 20]], [fileOf(file, [extent(0, 10, chunk, 0)], { mtime: changed })]);
  const mtime = { sec: sec - 20, nsec: 0 };
  const [late] = commit(world, [], [fileOf(file, [extent(5, 10, chunk, 10)], { mtime })]).attrs;
  t.same(late?.mtime, world.context.now);
});

inWorld('a write after mtime was set to the future keeps its own time', (t, world) => {
  const file = world.file(root, 'f');
  const chunk = world.newChunk();
  const { sec } = world.context.now;
  const at = (seconds: number) => ({ sec: sec + seconds, nsec: 0 });
  world.do('setattr', { ino: file, set: { mtime: at(1000), ctime: at(-10) } });
  const files = [fileOf(file, [extent(0, 10, chunk, 0)], { mtime: at(-5) })];
  t.match(commit(world, [[chunk, 20]], files).attrs, [{ mtime: at(-5), ctime: at(-5) }]);
});

inWorld('bytes that come over what their writer did not know of get a new time', (t, world) => {
  const file = world.file(root, 'f');
  const chunk = world.newChunk();
  const extents = [extent(0, 10, chunk, 0)];
  const over = world.attr(file).mtime;
  const { sec } = world.context.now;
  const [soon, later] = [ns(sec + 10), ns(sec + 20)];
  const [first] = commit(world, [[chunk, 20]], [fileOf(file, extents, { mtime: soon, over })]).attrs;
  t.same(first?.mtime, soon, 'nobody came between');
  const [late] = commit(world, [], [fileOf(file, extents, { mtime: ns(1), over })]).attrs;
  t.same(late?.mtime, world.context.now, 'the first one did');
  const [ahead] = commit(world, [], [fileOf(file, extents, { mtime: later, over })]).attrs;
  t.same(ahead?.mtime, { ...later, nsec: later.nsec + 1 }, 'by a clock that is ahead, too');
});

inWorld('minSize grows a file, times are the writer’s, ctime does not go back', (t, world) => {
  const file = world.file(root, 'f');
  const before = world.attr(file);
  t.match(commit(world, [], [fileOf(file, [], { minSize: 7, mtime: ns(3) })]).attrs, [
    { size: 7, allocated: 0, mtime: ns(3), ctime: before.ctime },
  ]);
  t.equal(commit(world, [], [fileOf(file, [], { minSize: 3 })]).attrs[0]?.size, 7);
});

inWorld('a write by who may not keep them takes setuid and capabilities', (t, world) => {
  const file = world.file(root, 'f');
  const name = bytes('security.capability');
  world.set(file, { mode: 0o6755 });
  world.do('setxattr', { ino: file, name, value: bytes('c'), mode: 'any' });
  t.equal(commit(world, [], [fileOf(file, [])]).attrs[0]?.mode, 0o106755);
  t.equal(commit(world, [], [fileOf(file, [], { clearPrivileges: true })]).attrs[0]?.mode, 0o100755);
  t.equal(world.errno('getxattr', { ino: file, name }), 'ENODATA');
});

inWorld(
  'an append takes capabilities from whoever writes, and leaves setuid to who may keep it',
  (t, world) => {
    const file = world.file(root, 'f');
    const name = bytes('security.capability');
    world.set(file, { mode: 0o6755 });
    world.do('setxattr', { ino: file, name, value: bytes('c'), mode: 'any' });
    t.equal(commit(world, [], [fileOf(file, [], { append: true })]).attrs[0]?.mode, 0o106755);
    t.equal(world.errno('getxattr', { ino: file, name }), 'ENODATA');
  },
);

inWorld('a commit that does not fit its chunks changes nothing at all', (t, world) => {
  const file = world.file(root, 'f');
  const stored = world.write(file, 0, 10);
  const chunk = world.newChunk();
  const unknown = asChunkId(999);
  const before = world.attr(file);
  t.equal(commitErrno(world, [], [fileOf(file, [extent(0, 1, unknown, 0)])]), 'EINVAL');
  t.equal(commitErrno(world, [[chunk, 5]], [fileOf(file, [extent(0, 6, chunk, 0)])]), 'EINVAL');
  t.equal(commitErrno(world, [[chunk, 5]], [fileOf(file, [extent(0, 1, chunk, 5)])]), 'EINVAL');
  t.equal(commitErrno(world, [], [fileOf(file, [extent(0, 1, stored, 10)])]), 'EINVAL');
  t.equal(commitErrno(world, [[stored, 11]], [fileOf(file, [])]), 'EINVAL', 'another length');
  t.equal(
    commitErrno(
      world,
      [
        [chunk, 5],
        [chunk, 5],
      ],
      [],
    ),
    'EINVAL',
    'a chunk named twice',
  );
  t.equal(commitErrno(world, [], [fileOf(root, [])]), 'EINVAL', 'a directory');
  const far = extent(limits.fileBytes, 1, stored, 0);
  t.equal(commitErrno(world, [], [fileOf(file, [far])]), 'EFBIG');
  t.same(world.attr(file), before);
  t.notOk(world.rows.chunks.has(chunk));
});

inWorld('extents are told from any offset on, and for files only', (t, world) => {
  const file = world.file(root, 'f');
  const chunks = [0, 20, 40].map((offset) => world.write(file, offset, 10));
  const tell = (offset: number, length: number) =>
    world.do('extents', { ino: file, offset, length }).extents.map((row) => row.chunk);
  t.same(tell(0, 100), chunks);
  t.same(tell(9, 1), [chunks[0]]);
  t.same(tell(10, 10), []);
  t.same(tell(25, 16), [chunks[1], chunks[2]]);
  t.same(tell(25, Number.MAX_SAFE_INTEGER), [chunks[1], chunks[2]]);
  t.same(tell(0, 0), []);
  t.equal(world.do('extents', { ino: file, offset: 0, length: 100 }).next, null);
  t.equal(world.errno('extents', { ino: root, offset: 0, length: 1 }), 'EISDIR');
  t.equal(world.errno('extents', { ino: world.symlink(root, 'l', 't'), offset: 0, length: 1 }), 'EINVAL');
  t.equal(world.errno('extents', { ino: asIno(99), offset: 0, length: 1 }), 'ENOENT');
});
