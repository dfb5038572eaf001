import { asIno, asSessionId } from '../../src/proto/ids.js';
import { at, inWorld, ns, root } from './world.js';

inWorld('unlink takes one name, and with the last the inode', (t, world) => {
  const file = world.file(root, 'a');
  world.write(file, 0, 10);
  world.do('link', { ino: file, ...at(root, 'b') });
  world.do('unlink', at(root, 'a'));
  t.match(world.attr(file), { nlink: 1, ctime: ns(world.seconds - 1) });
  t.same(world.attr(root).mtime, ns(world.seconds - 2));
  world.do('unlink', at(root, 'b'));
  t.equal(world.errno('getattr', { ino: file }), 'ENOENT');
  t.equal(world.rows.inodes.size, 1);
  t.equal(world.rows.extents.size, 0);
  t.same([...world.rows.garbage], [1]);
});

inWorld('unlink and rmdir refuse what is not theirs', (t, world) => {
  const dir = world.mkdir(root, 'd');
  const file = world.file(dir, 'f');
  const unlink = (parent: typeof root, name: string) => world.errno('unlink', at(parent, name));
  const rmdir = (parent: typeof root, name: string) => world.errno('rmdir', at(parent, name));
  t.equal(unlink(root, 'd'), 'EISDIR');
  t.equal(unlink(root, '.'), 'EISDIR');
  t.equal(unlink(root, 'none'), 'ENOENT');
  t.equal(unlink(file, 'x'), 'ENOTDIR');
  t.equal(unlink(asIno(99), 'x'), 'ENOENT');
  t.equal(unlink(root, 'x'.repeat(256)), 'ENAMETOOLONG');
  t.equal(unlink(root, 'x/y'), 'EINVAL');
  t.equal(rmdir(root, 'd'), 'ENOTEMPTY');
  t.equal(rmdir(dir, 'f'), 'ENOTDIR');
  t.equal(rmdir(root, '.'), 'EINVAL');
  t.equal(rmdir(root, '..'), 'ENOTEMPTY');
  t.equal(rmdir(root, 'none'), 'ENOENT');
  t.equal(rmdir(file, 'x'), 'ENOTDIR');
});

inWorld('rmdir removes an empty directory and its link in the parent', (t, world) => {
  const dir = world.mkdir(root, 'd');
  world.do('rmdir', at(root, 'd'));
  t.match(world.attr(root), { nlink: 2, mtime: ns(world.seconds - 1), ctime: ns(world.seconds - 1) });
  t.equal(world.errno('getattr', { ino: dir }), 'ENOENT');
  t.same(world.names(root), []);
});

inWorld('a removed directory that is open is empty and stays so', (t, world) => {
  const dir = world.mkdir(root, 'd');
  world.do('open', { ino: dir, truncate: false });
  world.do('rmdir', at(root, 'd'));
  t.match(world.attr(dir), { nlink: 0 });
  t.same(world.names(dir), []);
  t.equal(world.errno('lookup', at(dir, 'x')), 'ENOENT');
  t.equal(world.do('lookup', at(dir, '..')).ino, root);
  world.do('release', { inos: [dir] });
  t.equal(world.errno('getattr', { ino: dir }), 'ENOENT');
});

inWorld('an unlinked file lives until its last session lets go', (t, world) => {
  const { ino } = world.create(root, 'f').attr;
  world.session = asSessionId(2);
  world.do('open', { ino, truncate: false });
  world.write(ino, 0, 10);
  world.do('unlink', at(root, 'f'));
  t.match(world.attr(ino), { nlink: 0, size: 10 });
  world.write(ino, 10, 10);
  world.do('release', { inos: [ino, ino, asIno(77)] });
  t.match(world.attr(ino), { nlink: 0, size: 20 }, 'session 1 still has it');
  world.session = asSessionId(1);
  world.do('release', { inos: [ino] });
  t.equal(world.errno('getattr', { ino }), 'ENOENT');
  t.equal(world.rows.inodes.size, 1);
  t.equal(world.rows.chunks.size, 0);
  world.do('release', { inos: [ino] });
});

inWorld('a file of many extents is taken apart in bounded steps, and is gone meanwhile', (t, world) => {
  const ino = world.file(root, 'f');
  for (let index = 0; index < 40; index++) world.write(ino, index * 10, 5);
  world.do('unlink', at(root, 'f'));
  t.ok(world.rows.reapable.has(ino));
  t.equal(world.errno('getattr', { ino }), 'ENOENT');
  t.equal(world.errno('open', { ino, truncate: false }), 'ENOENT');
  t.ok(world.reap(ino, 30));
  t.equal(world.rows.extents.get(ino)?.length, 10);
  t.equal(world.rows.garbage.size, 30);
  t.notOk(world.reap(ino, 30));
  t.equal(world.rows.inodes.size, 1);
  t.equal(world.rows.reapable.size, 0);
  t.notOk(world.reap(ino, 30), 'once more does no harm');
});

inWorld('what a session had open is released in bounded steps when it ends', (t, world) => {
  const inos = ['a', 'b', 'c', 'd', 'e'].map((name) => world.create(root, name).attr.ino);
  for (const name of ['a', 'b', 'c']) world.do('unlink', at(root, name));
  const [first] = inos;
  if (first === undefined) throw new Error('no inode');
  world.session = asSessionId(2);
  world.do('open', { ino: first, truncate: false });
  world.session = asSessionId(1);
  const steps: boolean[] = [];
  do steps.push(world.releaseSession(2));
  while (steps.at(-1) === true);
  t.same(steps, [true, true, false]);
  t.same([...world.rows.opens.keys()], [first]);
  t.same([...world.rows.inodes.keys()], [root, first, inos[3], inos[4]]);
});

inWorld('open marks files and directories only', (t, world) => {
  const dir = world.mkdir(root, 'd');
  t.equal(world.errno('open', { ino: dir, truncate: false }), 'ok');
  t.equal(world.errno('open', { ino: dir, truncate: true }), 'EISDIR');
  t.equal(world.errno('open', { ino: world.symlink(root, 'l', 't'), truncate: false }), 'EINVAL');
  t.equal(world.errno('open', { ino: asIno(99), truncate: false }), 'ENOENT');
  const file = world.file(root, 'f');
  world.write(file, 0, 10);
  const before = world.do('open', { ino: file, truncate: false });
  t.equal(before.size, 10);
  t.same(world.attr(file), before, 'opening changes nothing');
  t.match(world.do('open', { ino: file, truncate: true }), { size: 0, mtime: ns(world.seconds) });
});

inWorld('with hold, whose last name is taken stays open for the session, and is named', (t, world) => {
  const file = world.file(root, 'a');
  world.do('link', { ino: file, ...at(root, 'b') });
  const state = () => ({
    ino: file,
    state: { version: world.attr(file).version, ctime: world.attr(file).ctime },
  });
  t.same(world.do('unlink', { ...at(root, 'a'), hold: true }), { changed: [state()] }, 'it still has a name');
  t.same(world.do('unlink', { ...at(root, 'b'), hold: true }), { held: file, changed: [state()] });
  t.match(world.attr(file), { nlink: 0 });
  const dir = world.mkdir(root, 'd');
  t.match(world.do('rmdir', { ...at(root, 'd'), hold: true }), { held: dir, changed: [{ ino: dir }] });
  t.match(world.attr(dir), { nlink: 0 });
  const [from, to] = [world.file(root, 'from'), world.file(root, 'to')];
  const move = { ...at(root, 'from'), newParent: root, newName: at(root, 'to').name };
  t.match(world.do('rename', { ...move, mode: 'replace', hold: true }), { held: to });
  t.match(world.attr(to), { nlink: 0 });
  t.match(world.attr(from), { nlink: 1 });
  world.do('release', { inos: [file, dir, to] });
  for (const ino of [file, dir, to]) t.equal(world.errno('getattr', { ino }), 'ENOENT');
});
