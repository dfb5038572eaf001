import { isAccessDue } from '../../src/names/accessed.js';
import { asIno, type Ino } from '../../src/proto/ids.js';
import { inWorld, ns, root, type World } from './world.js';

/** The inode is read now, while its access time is as it stands. */
function read(
  world: World,
  ino: Ino,
): { ino: Ino; atime: ReturnType<typeof ns>; seen: ReturnType<typeof ns> } {
  const { atime } = world.attr(ino);
  world.seconds += 1;
  return { ino, atime: ns(world.seconds), seen: atime };
}

inWorld('a read moves the access time and nothing else', (t, world) => {
  const file = world.file(root, 'f');
  const before = world.attr(file);
  const access = read(world, file);
  t.same(world.do('accessed', { files: [access] }), {});
  t.same(world.attr(file), { ...before, atime: access.atime }, 'no ctime, no version');
});

inWorld('what is gone is passed over, and of several reads of one inode the last counts', (t, world) => {
  const dir = world.mkdir(root, 'd');
  const link = world.symlink(root, 'l', 'd');
  const first = read(world, dir);
  const last = { ...read(world, dir), seen: first.atime };
  const gone = { ...first, ino: asIno(99) };
  world.do('accessed', { files: [gone, first, last, first, read(world, link)] });
  t.same(world.attr(dir).atime, last.atime);
  t.same(world.attr(link).atime, ns(world.seconds - 3));
  world.do('accessed', { files: [] });
});

inWorld('an access time never goes back', (t, world) => {
  const file = world.file(root, 'f');
  const early = read(world, file);
  const late = read(world, file);
  world.do('accessed', { files: [late] });
  world.do('accessed', { files: [early] });
  t.same(world.attr(file).atime, late.atime);
  world.set(file, { atime: { sec: 5_000_000_000, nsec: 0 } });
  world.do('accessed', { files: [read(world, file)] });
  t.same(world.attr(file).atime, { sec: 5_000_000_000, nsec: 0 }, 'one in the future stays');
});

inWorld('an access time that was set after the read stays, one that was set before does not', (t, world) => {
  const file = world.file(root, 'f');
  const old = { sec: 1, nsec: 1 };
  const access = read(world, file);
  world.set(file, { atime: old });
  world.do('accessed', { files: [access] });
  t.same(world.attr(file).atime, old, 'the read was earlier');
  const later = { ...read(world, file), seen: access.seen };
  world.do('accessed', { files: [later] });
  t.same(world.attr(file).atime, later.atime, 'the read was later, though its mount had not heard of it');
});

inWorld('other changes after the read do not undo it', (t, world) => {
  const file = world.file(root, 'f');
  const access = read(world, file);
  world.set(file, { mode: 0o600 });
  world.write(file, 0, 10);
  world.do('accessed', { files: [access] });
  t.same(world.attr(file).atime, access.atime);
});

inWorld('relatime: due when not newer than the last change, or a day old', (t, world) => {
  const file = world.file(root, 'f');
  const due = (times: { atime: number; mtime: number; ctime: number }, now: number): boolean => {
    const { atime, mtime, ctime } = times;
    return isAccessDue(
      { ...world.attr(file), atime: ns(atime), mtime: ns(mtime), ctime: ns(ctime) },
      ns(now),
    );
  };
  t.ok(due({ atime: 5, mtime: 5, ctime: 5 }, 6), 'a new file');
  t.notOk(due({ atime: 6, mtime: 5, ctime: 5 }, 7));
  t.ok(due({ atime: 6, mtime: 7, ctime: 5 }, 8), 'written');
  t.ok(due({ atime: 6, mtime: 5, ctime: 7 }, 8), 'changed');
  t.notOk(due({ atime: 6, mtime: 5, ctime: 5 }, 6 + 86_399));
  t.ok(due({ atime: 6, mtime: 5, ctime: 5 }, 6 + 86_400), 'a day old');
});
