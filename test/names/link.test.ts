import { namespace } from '../../src/names/namespace.js';
import { asIno } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { at, inWorld, root } from './world.js';

inWorld('a file has at most 65,000 names, and can lose and gain one then', (t, world) => {
  const file = world.file(root, 'name-1');
  // Not world.do, which looks at the whole world after each.
  for (let count = 2; count <= limits.linkCount; count++)
    world.rows.run(namespace.link(world.context, { ino: file, ...at(root, `name-${count}`) }));
  t.equal(world.attr(file).nlink, 65_000);
  t.equal(world.errno('link', { ino: file, ...at(root, 'one-more') }), 'EMLINK');
  t.equal(world.errno('lookup', at(root, 'one-more')), 'ENOENT');
  world.do('unlink', at(root, 'name-7'));
  t.equal(world.errno('link', { ino: file, ...at(root, 'one-more') }), 'ok');
  t.equal(world.errno('link', { ino: file, ...at(root, 'name-7') }), 'EMLINK');
});

inWorld('link refuses what does not exist, directories, and names that are taken', (t, world) => {
  const file = world.file(root, 'a');
  const dir = world.mkdir(root, 'd');
  t.equal(world.errno('link', { ino: asIno(99), ...at(root, 'x') }), 'ENOENT');
  t.equal(world.errno('link', { ino: dir, ...at(root, 'x') }), 'EPERM');
  t.equal(world.errno('link', { ino: file, ...at(root, 'd') }), 'EEXIST');
  t.equal(world.errno('link', { ino: file, ...at(file, 'x') }), 'ENOTDIR');
  t.equal(world.errno('link', { ino: file, ...at(root, 'x'.repeat(256)) }), 'ENAMETOOLONG');
});
