import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import { ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { asked, bytesOf, LocalCluster, readAll, readFile, root, writeFile } from './local-cluster.js';
import { TestRequest } from './test-request.js';

const shared = LocalCluster.start(t);

t.test('what one mount writes and closes another reads', async (t) => {
  const cluster = await shared;
  const a = await cluster.mount();
  const b = await cluster.mount();
  await writeFile(a.vfs, 'f0', bytesOf('from a'));
  t.equal((await readFile(b.vfs, 'f0')).toString(), 'from a');
  for (let round = 0; round < 30; round++) {
    const [writer, reader] = round % 2 === 0 ? [a, b] : [b, a];
    const text = `round ${round} ${'x'.repeat(round)}`;
    await writeFile(writer.vfs, 'f0', bytesOf(text));
    t.equal((await readFile(reader.vfs, 'f0')).toString(), text);
  }
  a.vfs.checkInvariants();
});

t.test('a large file comes back as it was written, on the writing mount and on another', async (t) => {
  const cluster = await shared;
  const a = await cluster.mount();
  const b = await cluster.mount();
  const data = new Prng(1).bytes(11 * 1024 * 1024 + 13);
  const { entry, open } = await a.vfs.create(root, ROOT_INO, bytesOf('big'), 0o600, 0o1102);
  for (let offset = 0; offset < data.length; offset += 1 << 20)
    await a.vfs.write(
      root,
      entry.attr.ino,
      open.fh,
      offset,
      data.subarray(offset, offset + (1 << 20)),
      false,
    );
  t.ok(
    (await readAll(a.vfs, entry.attr.ino, open.fh, 5_000_001, 100)).equals(
      data.subarray(5_000_001, 5_000_101),
    ),
  );
  await a.vfs.fsync(root, entry.attr.ino, open.fh, false);
  t.equal(a.fs.writer.dirtyBytes, 0);
  t.ok((await readFile(a.vfs, 'big')).equals(data));
  t.ok((await readFile(b.vfs, 'big')).equals(data));
});

t.test(
  'an open file shows its own unflushed writes and size, and another mount sees them after fsync',
  async (t) => {
    const cluster = await shared;
    const a = await cluster.mount();
    const b = await cluster.mount();
    const { entry, open } = await a.vfs.create(root, ROOT_INO, bytesOf('f2'), 0o644, 0o102);
    const ino = entry.attr.ino;
    await a.vfs.write(root, ino, open.fh, 10, bytesOf('hello'), false);
    const { attr } = await a.vfs.getattr(root, ino, open.fh);
    t.equal(attr.size, 15);
    t.equal((await readAll(a.vfs, ino, open.fh)).toString(), `${'\0'.repeat(10)}hello`);
    await b.vfs.lookup(root, ROOT_INO, bytesOf('f2'));
    t.equal(
      (await b.vfs.getattr(root, ino, undefined)).attr.size,
      15,
      'and others wait for what only this mount knows',
    );
    await a.vfs.fsync(root, ino, open.fh, false);
    const after = (await a.vfs.getattr(root, ino, open.fh)).attr;
    t.same(after.mtime, attr.mtime, 'the commit keeps the time of the write');
    t.same((await b.vfs.getattr(root, ino, undefined)).attr.mtime, attr.mtime);
    t.equal((await readFile(b.vfs, 'f2')).length, 15);
  },
);

t.test('a truncation cuts what was written before it and nothing written after', async (t) => {
  const cluster = await shared;
  const { vfs } = await cluster.mount();
  const { entry, open } = await vfs.create(root, ROOT_INO, bytesOf('f3'), 0o644, 0o102);
  const ino = entry.attr.ino;
  await vfs.write(root, ino, open.fh, 0, bytesOf('0123456789'), false);
  t.equal((await vfs.setattr(root, ino, open.fh, { size: 4 })).attr.size, 4);
  await vfs.write(root, ino, open.fh, 6, bytesOf('ab'), false);
  t.equal((await readAll(vfs, ino, open.fh)).toString(), '0123\0\0ab');
  await vfs.fsync(root, ino, open.fh, false);
  t.equal((await readAll(vfs, ino, open.fh)).toString(), '0123\0\0ab');
  t.equal((await vfs.setattr(root, ino, undefined, { size: 5 })).attr.size, 5);
  t.equal((await vfs.setattr(root, ino, undefined, { size: 9 })).attr.size, 9);
  t.equal((await readAll(vfs, ino, open.fh)).toString(), '0123\0\0\0\0\0');
  const again = await vfs.open(root, ino, 0o1001);
  t.equal((await readAll(vfs, ino, open.fh)).length, 0, 'O_TRUNC empties it');
  await vfs.release(ino, again.fh);
  vfs.checkInvariants();
});

t.test('a time set after a write is not undone when the write is committed', async (t) => {
  const cluster = await shared;
  const { vfs } = await cluster.mount();
  const { entry, open } = await vfs.create(root, ROOT_INO, bytesOf('f4'), 0o644, 0o101);
  const ino = entry.attr.ino;
  await vfs.write(root, ino, open.fh, 0, bytesOf('data'), false);
  const mtime = { sec: 1_000_000_000, nsec: 123_456_789 };
  t.same((await vfs.setattr(root, ino, open.fh, { mtime, mode: 0o4755 })).attr.mtime, mtime);
  t.same((await vfs.getattr(root, ino, open.fh)).attr.mtime, mtime);
  await vfs.flush(root, ino, open.fh);
  await vfs.release(ino, open.fh);
  const { attr } = await vfs.lookup(root, ROOT_INO, bytesOf('f4'));
  t.same(attr.mtime, mtime);
  t.equal(attr.size, 4);
  t.equal(attr.mode & 0o7777, 0o4755);
});

t.test(
  'a write by a caller without privileges clears setuid, in the answers before the commit too',
  async (t) => {
    const cluster = await shared;
    const { vfs } = await cluster.mount();
    const { entry, open } = await vfs.create(root, ROOT_INO, bytesOf('f5'), 0o6755, 0o101);
    const ino = entry.attr.ino;
    await vfs.write(root, ino, open.fh, 0, bytesOf('data'), true);
    t.equal((await vfs.getattr(root, ino, open.fh)).attr.mode & 0o7777, 0o755);
    await vfs.fsync(root, ino, open.fh, true);
    t.equal((await vfs.getattr(root, ino, open.fh)).attr.mode & 0o7777, 0o755);
  },
);

t.test('appends through one mount never overwrite one another', async (t) => {
  const cluster = await shared;
  const a = await cluster.mount();
  const b = await cluster.mount();
  await writeFile(a.vfs, 'log', bytesOf('start\n'));
  const { attr } = await b.vfs.lookup(root, ROOT_INO, bytesOf('log'));
  const one = await b.vfs.open(root, attr.ino, 0o2001);
  const two = await b.vfs.open(root, attr.ino, 0o2001);
  t.same([one.directIo, (await b.vfs.open(root, attr.ino, 2)).directIo], [true, false]);
  await writeFile(a.vfs, 'log', bytesOf('a longer start\n'));
  // Both as the kernel would send them with an outdated size.
  await Promise.all([
    b.vfs.write(root, attr.ino, one.fh, 6, bytesOf('one\n'), false),
    b.vfs.write(root, attr.ino, two.fh, 6, bytesOf('two\n'), false),
  ]);
  await b.vfs.flush(root, attr.ino, one.fh);
  t.equal(
    (await readFile(a.vfs, 'log')).toString().replace('two\none', 'one\ntwo'),
    'a longer start\none\ntwo\n',
  );
});

t.test(
  'what two mounts append is placed when it is committed, whatever else happens to the file',
  async (t) => {
    const cluster = await shared;
    const a = await cluster.mount();
    const b = await cluster.mount();
    await writeFile(a.vfs, 'shared-log', bytesOf('0'));
    const { attr } = await b.vfs.lookup(root, ROOT_INO, bytesOf('shared-log'));
    const { ino } = attr;
    const [one, two] = [await a.vfs.open(root, ino, 0o2002), await b.vfs.open(root, ino, 0o2002)];
    await a.vfs.write(root, ino, one.fh, 1, bytesOf('aa'), false);
    await b.vfs.write(root, ino, two.fh, 1, bytesOf('b'), false);
    t.equal(
      (await readAll(a.vfs, ino, one.fh)).toString(),
      '0aa',
      'its own bytes are read before the commit',
    );
    await b.vfs.fsync(root, ino, two.fh, false);
    await a.vfs.fsync(root, ino, one.fh, false);
    for (const mount of [a, b]) t.equal((await readFile(mount.vfs, 'shared-log')).toString(), '0baa');
    await a.vfs.write(root, ino, one.fh, 1, bytesOf('c'), false);
    await b.vfs.write(root, ino, two.fh, 1, bytesOf('d'), false);
    await b.vfs.flush(root, ino, two.fh);
    // A mapping's page and a new size mean places in the file, so what was appended before must have one.
    await a.vfs.write(root, ino, one.fh, 0, bytesOf('X'), false, false);
    await a.vfs.write(root, ino, one.fh, 1, bytesOf('e'), false, true);
    await b.vfs.write(root, ino, two.fh, 1, bytesOf('f'), false);
    await b.vfs.flush(root, ino, two.fh);
    t.equal((await a.vfs.setattr(root, ino, one.fh, { size: 7 })).attr.size, 7);
    await a.vfs.flush(root, ino, one.fh);
    for (const mount of [a, b]) t.equal((await readFile(mount.vfs, 'shared-log')).toString(), 'Xbaadcf');
    for (const mount of [a, b]) mount.vfs.checkInvariants();
  },
);

t.test('an unlinked file lives on while it is open here, and goes with its last close', async (t) => {
  const cluster = await shared;
  const a = await cluster.mount();
  const b = await cluster.mount();
  const { entry, open } = await a.vfs.create(root, ROOT_INO, bytesOf('f7'), 0o644, 0o102);
  const ino = entry.attr.ino;
  await a.vfs.write(root, ino, open.fh, 0, bytesOf('before '), false);
  await b.vfs.unlink(root, ROOT_INO, bytesOf('f7'));
  await a.vfs.write(root, ino, open.fh, 7, bytesOf('after'), false);
  t.equal((await a.vfs.getattr(root, ino, open.fh)).attr.nlink, 0);
  await a.vfs.fsync(root, ino, open.fh, false);
  t.equal((await readAll(a.vfs, ino, open.fh)).toString(), 'before after');
  t.equal((await a.vfs.setattr(root, ino, open.fh, { size: 3 })).attr.size, 3);
  await a.vfs.flush(root, ino, open.fh);
  await a.vfs.release(ino, open.fh);
  await new Promise((resolve) => setTimeout(resolve, 400));
  await t.rejects(
    asked(() => a.vfs.getattr(root, ino, undefined)),
    { code: 'ESTALE' },
  );
});

t.test('a file closed and opened again at once stays registered as open', async (t) => {
  const cluster = await shared;
  const { vfs } = await cluster.mount();
  const ino = await writeFile(vfs, 'f8', bytesOf('data'));
  for (let round = 0; round < 5; round++) {
    const { fh } = await vfs.open(root, ino, 0);
    await vfs.release(ino, fh);
  }
  const { fh } = await vfs.open(root, ino, 0);
  await vfs.unlink(root, ROOT_INO, bytesOf('f8'));
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.equal((await readAll(vfs, ino, fh)).toString(), 'data');
});

t.test('a close after no write costs no call', async (t) => {
  const cluster = await shared;
  const { vfs } = await cluster.mount();
  const ino = await writeFile(vfs, 'f9', bytesOf('data'));
  const { fh } = await vfs.open(root, ino, 0o2);
  t.equal(vfs.flush(root, ino, fh), undefined, 'it is answered at once');
  await vfs.release(ino, fh);
});

t.test('a read-only mount reads, and refuses every change with EROFS', async (t) => {
  const cluster = await shared;
  const a = await cluster.mount();
  const ino = await writeFile(a.vfs, 'f10', bytesOf('data'));
  const { vfs } = await cluster.mount({ readOnly: true });
  t.equal((await readFile(vfs, 'f10')).toString(), 'data');
  const erofs = { code: 'EROFS' };
  await t.rejects(
    asked(() => vfs.open(root, ino, 1)),
    erofs,
  );
  await t.rejects(
    asked(() => vfs.create(root, ROOT_INO, bytesOf('g'), 0o644, 0)),
    erofs,
  );
  await t.rejects(
    asked(() => vfs.mkdir(root, ROOT_INO, bytesOf('g'), 0o755)),
    erofs,
  );
  await t.rejects(
    asked(() => vfs.setattr(root, ino, undefined, { mode: 0o600 })),
    erofs,
  );
  await t.rejects(
    asked(() => vfs.unlink(root, ROOT_INO, bytesOf('f10'))),
    erofs,
  );
  await t.rejects(
    asked(() => vfs.setxattr(root, ino, bytesOf('user.a'), bytesOf('b'), 'any')),
    erofs,
  );
});

t.test('files belong to the caller who makes them', async (t) => {
  const cluster = await shared;
  const { vfs } = await cluster.mount();
  const caller = new TestRequest(1234, 567);
  const { attr } = await vfs.mkdir(caller, ROOT_INO, bytesOf('d'), 0o755);
  t.match(attr, { uid: 1234, gid: 567 });
  const made = await vfs.create(caller, attr.ino, bytesOf('f11'), 0o640, 0o201);
  t.match(made.entry.attr, { uid: 1234, gid: 567, mode: 0o100640 });
  await t.rejects(
    asked(() => vfs.create(caller, attr.ino, bytesOf('f11'), 0o640, 0o201)),
    {
      code: 'EEXIST',
    },
  );
  const again = await vfs.create(caller, attr.ino, bytesOf('f11'), 0o600, 0o1001);
  t.match(again.entry.attr, { mode: 0o100640 }, 'without O_EXCL the one that is there is opened');
  await vfs.access(caller, made.entry.attr.ino, 6);
  await t.rejects(
    asked(() => vfs.access(new TestRequest(1, 1), made.entry.attr.ino, 4)),
    {
      code: 'EACCES',
    },
  );
  const node = await vfs.mknod(caller, attr.ino, bytesOf('n'), 0o100600, 0);
  t.equal(node.attr.mode, 0o100600, 'mknod makes regular files too');
});

t.test('bytes stored while a size or a time is being set are committed as it leaves them', async (t) => {
  const cluster = await shared;
  const a = await cluster.mount();
  const b = await cluster.mount();
  const mtime = { sec: 1_000_000_000, nsec: 123_456_789 };
  const { vfs, network } = a;
  const cases = [
    // The first reserves ids of chunks, so that later ones are stored without the metadata server.
    { name: 'race-nothing', change: { mode: 0o600 }, size: 4000 },
    { name: 'race-time', change: { mtime }, size: 4000 },
    { name: 'race-size', change: { size: 10 }, size: 10 },
    { name: 'race-open', change: undefined, size: 0 },
  ];
  for (const { name, change, size } of cases) {
    const { entry, open } = await vfs.create(root, ROOT_INO, bytesOf(name), 0o600, 0o102);
    const { ino } = entry.attr;
    await vfs.write(root, ino, open.fh, 0, Buffer.alloc(4000, 1), false);
    network.freeze(cluster.metaUrl);
    const changing =
      change === undefined ? vfs.open(root, ino, 0o1002) : vfs.setattr(root, ino, open.fh, change);
    await sleep(2 * limits.chunkAgeMs);
    network.thaw(cluster.metaUrl);
    await changing;
    await vfs.fsync(root, ino, open.fh, false);
    const { attr } = await b.vfs.getattr(root, ino, undefined);
    t.equal(attr.size, size, name);
    if (change !== undefined && 'mtime' in change) t.same(attr.mtime, mtime, name);
  }
});

t.test(
  'a write has its place though what was appended before it, and not committed, was truncated away',
  async (t) => {
    const cluster = await shared;
    const a = await cluster.mount();
    const b = await cluster.mount();
    const { entry, open } = await a.vfs.create(root, ROOT_INO, bytesOf('cut-append'), 0o600, 0o2101);
    const { ino } = entry.attr;
    await a.vfs.write(root, ino, open.fh, 0, bytesOf('appended'), false);
    const emptied = await a.vfs.open(root, ino, 0o1001);
    await a.vfs.setattr(root, ino, emptied.fh, { size: 100 });
    await a.vfs.write(root, ino, emptied.fh, 0, bytesOf('written'), false);
    a.vfs.checkInvariants();
    await a.vfs.fsync(root, ino, emptied.fh, false);
    const expected = Buffer.alloc(100);
    expected.set(bytesOf('written'));
    for (const mount of [a, b]) t.same(await readFile(mount.vfs, 'cut-append'), expected);
  },
);
