/** What loses its last name through a mount stays while that mount's kernel refers to it. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { ROOT_INO } from '../../src/proto/ids.js';
import { asked, bytesOf, LocalCluster, readAll, root, writeFile } from './local-cluster.js';

t.test('a file between its lookup and its open outlives its name, until FORGET', async (t) => {
  const cluster = await LocalCluster.start(t);
  const { vfs } = await cluster.mount({ kernelForgets: true });
  const ino = await writeFile(vfs, 'f', bytesOf('content'));
  await vfs.unlink(root, ROOT_INO, bytesOf('f'));
  await sleep(400);
  const { fh } = await vfs.open(root, ino, 0);
  t.equal((await readAll(vfs, ino, fh)).toString(), 'content');
  vfs.release(ino, fh);
  await sleep(400);
  t.equal((await vfs.getattr(root, ino, undefined)).attr.nlink, 0, 'closed, and still referred to');
  vfs.forget(ino, 1);
  await sleep(400);
  await t.rejects(
    asked(() => vfs.getattr(root, ino, undefined)),
    { code: 'ESTALE' },
  );
  vfs.checkInvariants();
});

t.test('without a kernel that forgets nothing is held', async (t) => {
  const cluster = await LocalCluster.start(t);
  const { vfs } = await cluster.mount();
  const { attr } = await vfs.mkdir(root, ROOT_INO, bytesOf('d'), 0o755);
  await vfs.rmdir(root, ROOT_INO, bytesOf('d'));
  await t.rejects(
    asked(() => vfs.getattr(root, attr.ino, undefined)),
    { code: 'ESTALE' },
  );
});

t.test('a directory counts each lookup, and goes with the last', async (t) => {
  const cluster = await LocalCluster.start(t);
  const { vfs } = await cluster.mount({ kernelForgets: true });
  const { attr } = await vfs.mkdir(root, ROOT_INO, bytesOf('d'), 0o755);
  await vfs.lookup(root, ROOT_INO, bytesOf('d'));
  await vfs.rmdir(root, ROOT_INO, bytesOf('d'));
  vfs.forget(attr.ino, 1);
  await sleep(400);
  t.equal((await vfs.getattr(root, attr.ino, undefined)).attr.nlink, 0);
  vfs.forget(attr.ino, 1);
  await sleep(400);
  await t.rejects(
    asked(() => vfs.getattr(root, attr.ino, undefined)),
    { code: 'ESTALE' },
  );
});
