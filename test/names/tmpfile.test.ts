import { asIno } from '../../src/proto/ids.js';
import { at, inWorld, root } from './world.js';

const owner = { uid: 1000, gid: 100 };

inWorld('a file without a name lives while it is open, and a link names it', (t, world) => {
  const before = world.attr(root);
  const attr = world.do('tmpfile', { parent: root, owner, mode: 0o640 });
  t.match(attr, { nlink: 0, mode: 0o100640, uid: 1000, gid: 100, size: 0 });
  t.same(world.attr(root), before, 'the directory has not changed');
  const { ino } = attr;
  world.write(ino, 0, 10);
  t.equal(world.errno('link', { ino, ...at(root, 'f') }), 'ENOENT', 'unless it is said to be unnamed');
  t.match(world.do('link', { ino, ...at(root, 'f'), unnamed: true }), { nlink: 1, size: 10 });
  world.do('release', { inos: [ino] });
  t.match(world.attr(ino), { nlink: 1, size: 10 });
});

inWorld('a file without a name that nobody names is gone with its last close', (t, world) => {
  const { ino } = world.do('tmpfile', { parent: root, owner, mode: 0o600 });
  const chunk = world.write(ino, 0, 10);
  world.do('release', { inos: [ino] });
  t.equal(world.errno('getattr', { ino }), 'ENOENT');
  t.equal(world.errno('link', { ino, ...at(root, 'f'), unnamed: true }), 'ENOENT');
  t.same([...world.rows.garbage], [chunk]);
});

inWorld('it inherits from its directory, which must be there', (t, world) => {
  const dir = world.mkdir(root, 'd', 0o2775);
  world.set(dir, { gid: 7 });
  world.set(dir, { mode: 0o2775 });
  t.match(world.do('tmpfile', { parent: dir, owner, mode: 0o600 }), { gid: 7, mode: 0o100600 });
  const errno = (parent: typeof root) => world.errno('tmpfile', { parent, owner, mode: 0o600 });
  t.equal(errno(world.file(root, 'f')), 'ENOTDIR');
  t.equal(errno(asIno(99)), 'ENOENT');
  world.do('open', { ino: dir, truncate: false });
  world.do('rmdir', at(root, 'd'));
  t.equal(errno(dir), 'ENOENT');
});

inWorld(
  'the umask counts where the directory has no default list, and the list where it has one',
  (t, world) => {
    const make = () => world.do('tmpfile', { parent: root, owner, mode: 0o666, umask: 0o027 }).mode;
    t.equal(make(), 0o100640);
    // Version 2; owner rw-, group r--, mask r--, others ---, with user 7 rw-.
    const entries =
      '0100060000000000' + '0200060007000000' + '0400040000000000' + '1000040000000000' + '2000000000000000';
    const value = Buffer.from(`02000000${entries}`, 'hex');
    world.do('setxattr', { ino: root, name: Buffer.from('system.posix_acl_default'), value, mode: 'any' });
    t.equal(make(), 0o100640);
    t.equal(world.do('tmpfile', { parent: root, owner, mode: 0o662, umask: 0o777 }).mode, 0o100640);
  },
);
