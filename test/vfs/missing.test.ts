/** What is said to be missing without asking: only what asking would have found to be missing. */
import t from 'tap';
import { ROOT_INO } from '../../src/proto/ids.js';
import { asked, bytesOf, LocalCluster, root, writeFile } from './local-cluster.js';

t.test('names and attributes of what is this mount’s alone are known to be missing', async (t) => {
  const cluster = await LocalCluster.start(t, { chunkServers: 1, replicas: 1 });
  const { vfs } = await cluster.mount();
  const other = (await cluster.mount()).vfs;
  const { attr } = await vfs.mkdir(root, ROOT_INO, bytesOf('d'), 0o755);
  const dir = attr.ino;
  const ino = await writeFile(vfs, 'f', bytesOf('text'), dir);
  await vfs.setxattr(root, ino, bytesOf('user.a'), bytesOf('v'), 'any');

  t.ok(vfs.lacksName(dir, bytesOf('g')));
  await t.rejects(
    asked(() => vfs.lookup(root, dir, bytesOf('g'))),
    { code: 'ENOENT' },
  );
  for (const name of ['f', '.', '..']) {
    t.notOk(vfs.lacksName(dir, bytesOf(name)), name);
    await t.resolves(
      asked(() => vfs.lookup(root, dir, bytesOf(name))),
      name,
    );
  }
  const long = bytesOf('n'.repeat(256));
  t.notOk(vfs.lacksName(dir, long), 'that is another error');
  await t.rejects(
    asked(() => vfs.lookup(root, dir, long)),
    { code: 'ENAMETOOLONG' },
  );
  t.notOk(other.lacksName(dir, bytesOf('g')), 'another mount has to ask');

  t.ok(vfs.lacksXattr(ino, bytesOf('user.b')));
  await t.rejects(
    asked(() => vfs.getxattr(root, ino, bytesOf('user.b'))),
    { code: 'ENODATA' },
  );
  t.notOk(vfs.lacksXattr(ino, bytesOf('user.a')));
  for (const name of ['other.a', 'user.']) t.notOk(vfs.lacksXattr(ino, bytesOf(name)), 'another error, too');

  await other.lookup(root, ROOT_INO, bytesOf('d'));
  await other.lookup(root, dir, bytesOf('f'));
  await other.mknod(root, dir, bytesOf('g'), 0o100644, 0);
  t.notOk(vfs.lacksName(dir, bytesOf('g')), 'the other one has made it');
  await other.setxattr(root, ino, bytesOf('user.b'), bytesOf('v'), 'any');
  t.notOk(vfs.lacksXattr(ino, bytesOf('user.b')));
});
