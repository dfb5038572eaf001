import { S_IFCHR } from '../../src/proto/attr.js';
import { asIno, type Ino } from '../../src/proto/ids.js';
import { at, bytes, inWorld, ns, root, type World } from './world.js';

type Mode = 'replace' | 'noreplace' | 'exchange';

function rename(world: World, from: [Ino, string], to: [Ino, string], mode: Mode = 'replace') {
  return world.errno('rename', { ...at(...from), newParent: to[0], newName: bytes(to[1]), mode });
}

inWorld('rename moves a name and changes the times of both directories and of the inode', (t, world) => {
  const [a, b] = [world.mkdir(root, 'a'), world.mkdir(root, 'b')];
  const file = world.file(a, 'f');
  const before = world.attr(file);
  t.equal(rename(world, [a, 'f'], [b, 'g']), 'ok');
  const now = ns(world.seconds);
  t.same(world.attr(file), { ...before, ctime: now, version: before.version + 1 });
  for (const dir of [a, b]) t.same([world.attr(dir).mtime, world.attr(dir).ctime], [now, now]);
  t.same([world.names(a), world.names(b)], [[], ['g']]);
});

inWorld('a moved directory takes its link along and knows its new parent', (t, world) => {
  const [a, b] = [world.mkdir(root, 'a'), world.mkdir(root, 'b')];
  const dir = world.mkdir(a, 'd');
  t.equal(rename(world, [a, 'd'], [b, 'd']), 'ok');
  t.same([world.attr(a).nlink, world.attr(b).nlink], [2, 3]);
  t.equal(world.do('lookup', at(dir, '..')).ino, b);
  t.equal(rename(world, [b, 'd'], [b, 'e']), 'ok');
  t.equal(world.attr(b).nlink, 3);
});

inWorld('a directory does not move into itself', (t, world) => {
  const a = world.mkdir(root, 'a');
  const b = world.mkdir(a, 'b');
  const c = world.mkdir(b, 'c');
  t.equal(rename(world, [root, 'a'], [c, 'x']), 'EINVAL');
  t.equal(rename(world, [root, 'a'], [a, 'x']), 'EINVAL');
  t.equal(rename(world, [root, 'a'], [a, 'b']), 'EINVAL');
  t.equal(rename(world, [b, 'c'], [root, 'a']), 'ENOTEMPTY', 'nor over its own ancestor');
  t.equal(rename(world, [b, 'c'], [root, 'a'], 'exchange'), 'EINVAL');
  world.file(c, 'f');
  t.equal(rename(world, [c, 'f'], [root, 'a']), 'ENOTEMPTY', 'nor does a file');
  t.equal(rename(world, [root, 'a'], [root, 'a']), 'ok');
});

inWorld('what is replaced loses its name', (t, world) => {
  const old = world.file(root, 'old');
  world.do('link', { ino: old, ...at(root, 'kept') });
  const file = world.file(root, 'new');
  t.equal(rename(world, [root, 'new'], [root, 'old']), 'ok');
  t.equal(world.do('lookup', at(root, 'old')).ino, file);
  t.match(world.attr(old), { nlink: 1, ctime: ns(world.seconds - 2) });
  t.equal(rename(world, [root, 'old'], [root, 'kept']), 'ok');
  t.equal(world.errno('getattr', { ino: old }), 'ENOENT');
  const held = world.create(root, 'held').attr.ino;
  t.equal(rename(world, [root, 'kept'], [root, 'held']), 'ok');
  t.match(world.attr(held), { nlink: 0 }, 'an open one becomes an orphan');
});

inWorld('a directory replaces an empty directory and nothing else', (t, world) => {
  const full = world.mkdir(root, 'full');
  world.file(full, 'f');
  world.mkdir(root, 'empty');
  const dir = world.mkdir(full, 'dir');
  world.file(root, 'file');
  t.equal(rename(world, [root, 'empty'], [root, 'full']), 'ENOTEMPTY');
  t.equal(rename(world, [root, 'empty'], [root, 'file']), 'ENOTDIR');
  t.equal(rename(world, [root, 'file'], [root, 'empty']), 'EISDIR');
  t.equal(rename(world, [full, 'dir'], [root, 'empty']), 'ok');
  t.same([world.attr(root).nlink, world.attr(full).nlink], [4, 2]);
  t.equal(world.do('lookup', at(root, 'empty')).ino, dir);
  world.mkdir(root, 'other');
  t.equal(rename(world, [root, 'other'], [root, 'empty']), 'ok');
  t.equal(world.attr(root).nlink, 4);
});

inWorld('two names of one inode stay as they are', (t, world) => {
  const file = world.file(root, 'a');
  world.do('link', { ino: file, ...at(root, 'b') });
  const before = world.attr(file);
  t.equal(rename(world, [root, 'a'], [root, 'b']), 'ok');
  t.equal(rename(world, [root, 'a'], [root, 'b'], 'exchange'), 'ok');
  t.equal(rename(world, [root, 'a'], [root, 'a']), 'ok');
  t.equal(rename(world, [root, 'a'], [root, 'b'], 'noreplace'), 'EEXIST');
  t.same(world.attr(file), before);
  t.same(world.names(root).sort(), ['a', 'b']);
});

inWorld('exchange swaps two names of any kind', (t, world) => {
  const [a, b] = [world.mkdir(root, 'a'), world.mkdir(root, 'b')];
  const [file, dir] = [world.file(a, 'x'), world.mkdir(b, 'y')];
  const inside = world.file(dir, 'inside');
  t.equal(rename(world, [a, 'x'], [b, 'y'], 'exchange'), 'ok');
  t.same([world.attr(a).nlink, world.attr(b).nlink], [3, 2]);
  t.equal(world.do('lookup', at(a, 'x')).ino, dir);
  t.equal(world.do('lookup', at(b, 'y')).ino, file);
  t.equal(world.do('lookup', at(dir, '..')).ino, a);
  t.equal(world.do('lookup', at(dir, 'inside')).ino, inside);
  t.equal(rename(world, [root, 'a'], [root, 'b'], 'exchange'), 'ok');
  t.equal(world.attr(root).nlink, 4);
  t.equal(rename(world, [root, 'a'], [b, 'q'], 'exchange'), 'ENOENT');
  const deep = world.mkdir(dir, 'deep');
  t.equal(rename(world, [root, 'b'], [deep, 'none'], 'exchange'), 'ENOENT', 'before looking for cycles');
  world.file(deep, 'f');
  t.equal(rename(world, [root, 'b'], [deep, 'f'], 'exchange'), 'EINVAL');
  t.equal(rename(world, [deep, 'f'], [root, 'b'], 'exchange'), 'EINVAL');
});

inWorld('noreplace refuses any target', (t, world) => {
  world.file(root, 'a');
  world.file(root, 'b');
  t.equal(rename(world, [root, 'a'], [root, 'b'], 'noreplace'), 'EEXIST');
  t.equal(rename(world, [root, 'a'], [root, 'c'], 'noreplace'), 'ok');
});

inWorld('names and directories that are not there, or cannot be', (t, world) => {
  const file = world.file(root, 'f');
  const dir = world.mkdir(root, 'd');
  world.do('open', { ino: dir, truncate: false });
  world.do('rmdir', at(root, 'd'));
  t.equal(rename(world, [root, 'none'], [root, 'x']), 'ENOENT');
  t.equal(rename(world, [asIno(99), 'f'], [root, 'x']), 'ENOENT');
  t.equal(rename(world, [root, 'f'], [asIno(99), 'x']), 'ENOENT');
  t.equal(rename(world, [root, 'f'], [dir, 'x']), 'ENOENT', 'into a removed directory');
  t.equal(rename(world, [file, 'f'], [root, 'x']), 'ENOTDIR');
  t.equal(rename(world, [root, 'f'], [file, 'x']), 'ENOTDIR');
  t.equal(rename(world, [root, 'f'], [root, 'x'.repeat(256)]), 'ENAMETOOLONG');
  for (const name of ['.', '..', '', 'a/b', '\0']) {
    t.equal(rename(world, [root, 'f'], [root, name]), 'EINVAL', JSON.stringify(name));
    t.equal(rename(world, [root, name], [root, 'f']), 'EINVAL', JSON.stringify(name));
  }
});

inWorld('a whiteout takes the old name, alone or with noreplace, and not in an exchange', (t, world) => {
  const whiteout = { uid: 7, gid: 8 };
  const move = (name: string, newParent: Ino, newName: string, mode: Mode = 'replace') => ({
    ...at(root, name),
    newParent,
    newName: bytes(newName),
    mode,
    whiteout,
  });
  const file = world.file(root, 'a');
  const dir = world.mkdir(root, 'd');
  world.do('rename', move('a', dir, 'b'));
  t.equal(world.do('lookup', at(dir, 'b')).ino, file);
  const left = world.do('lookup', at(root, 'a'));
  t.same([left.mode, left.rdev, left.nlink, left.uid, left.gid], [S_IFCHR, 0, 1, 7, 8]);
  world.do('rename', move('d', root, 'e'));
  t.equal(world.do('lookup', at(root, 'd')).mode, S_IFCHR);
  t.equal(world.attr(root).nlink, 3);
  t.equal(world.errno('rename', move('d', root, 'a', 'noreplace')), 'EEXIST');
  t.equal(world.errno('rename', move('d', root, 'a', 'exchange')), 'EINVAL');
});
