/** A mount takes over what was there before it came, and then changes it by itself. */
import t from 'tap';
import type { OwnObserver } from '../../src/client/local-operations.js';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { CountingNetwork } from '../client/counting-network.js';
import { bytesOf, LocalCluster, readFile, root, type TestMount, writeFile } from './local-cluster.js';

const shared = LocalCluster.start(t, { chunkServers: 2 });

/** What a mount has done by itself, by method. */
function watched(): { readonly observer: OwnObserver; readonly done: Map<string, number> } {
  const done = new Map<string, number>();
  const observer = {
    changed: ({ method }: { method: string }): void => void done.set(method, (done.get(method) ?? 0) + 1),
    refused: (): void => {},
  };
  return { observer, done };
}

/** A directory of files, made and looked at by a mount that is gone. */
async function made(cluster: LocalCluster, name: string, files: number): Promise<Ino> {
  const { vfs } = await cluster.mount();
  const dir = (await vfs.mkdir(root, ROOT_INO, bytesOf(name), 0o755)).attr.ino;
  for (let index = 0; index < files; index++) await writeFile(vfs, `f${index}`, bytesOf(`${index}`), dir);
  await vfs.close();
  return dir;
}

/** Looks everything up, as `ls -l` does. */
async function look({ vfs }: TestMount, dir: string, files: number): Promise<Ino> {
  const { attr } = await vfs.lookup(root, ROOT_INO, bytesOf(dir));
  for (let index = 0; index < files; index++) await vfs.lookup(root, attr.ino, bytesOf(`f${index}`));
  return attr.ino;
}

t.test('from the first change on it needs nobody', async (t) => {
  const cluster = await shared;
  await made(cluster, 'mine', 20);
  const { observer, done } = watched();
  const mount = await cluster.mount({ ownObserver: observer });
  const { vfs } = mount;
  const dir = await look(mount, 'mine', 20);
  await t.rejects(async () => vfs.lookup(root, dir, bytesOf('new')), { code: 'ENOENT' });
  await writeFile(vfs, 'new', bytesOf('content'), dir);
  await vfs.unlink(root, dir, bytesOf('f0'));
  await vfs.rename(root, dir, bytesOf('f1'), dir, bytesOf('f2'), 'replace', false);
  await vfs.setattr(root, (await vfs.lookup(root, dir, bytesOf('f3'))).attr.ino, undefined, { mode: 0o600 });
  t.match(Object.fromEntries(done), { create: 1, unlink: 1, rename: 1, setattr: 1 });
  const other = await cluster.mount();
  t.strictSame(await readFile(other.vfs, 'new', dir), bytesOf('content'), 'others see it at once');
  t.strictSame(await readFile(other.vfs, 'f2', dir), bytesOf('1'));
  await t.rejects(async () => other.vfs.lookup(root, dir, bytesOf('f0')), { code: 'ENOENT' });
});

t.test('of what is changed one by one all is taken together', async (t) => {
  const cluster = await shared;
  await made(cluster, 'many', 40);
  const { observer, done } = watched();
  const mount = await cluster.mount({ ownObserver: observer });
  const dir = await look(mount, 'many', 40);
  for (let index = 0; index < 40; index++) await mount.vfs.unlink(root, dir, bytesOf(`f${index}`));
  t.equal(done.get('unlink'), 40);
  await mount.vfs.rmdir(root, ROOT_INO, bytesOf('many'));
  t.equal(done.get('rmdir'), 1);
  await t.rejects(async () => (await cluster.mount()).vfs.lookup(root, ROOT_INO, bytesOf('many')), {
    code: 'ENOENT',
  });
});

t.test('what another mount looks at is changed by the server, and never wrong', async (t) => {
  const cluster = await shared;
  await made(cluster, 'both', 10);
  const { observer, done } = watched();
  const mount = await cluster.mount({ ownObserver: observer });
  const other = await cluster.mount();
  const dir = await look(mount, 'both', 10);
  for (let index = 0; index < 10; index++) {
    await look(other, 'both', 10 - index);
    await mount.vfs.unlink(root, dir, bytesOf(`f${9 - index}`));
    await t.rejects(async () => other.vfs.lookup(root, dir, bytesOf(`f${9 - index}`)), { code: 'ENOENT' });
  }
  t.ok((done.get('unlink') ?? 0) < 10, 'some had to be asked for');
});

t.test('what another mount has looked at is taken from it, many at a time', async (t) => {
  const cluster = await shared;
  const files = 200;
  await made(cluster, 'looked at', files);
  const { observer, done } = watched();
  const network = new CountingNetwork();
  const mount = await cluster.mount({ ownObserver: observer, connect: network.connect });
  const other = await cluster.mount();
  const dir = await look(mount, 'looked at', files);
  await look(other, 'looked at', files);
  const before = network.total;
  const name = (index: number): Buffer => bytesOf(`f${index}`);
  const moved = (index: number): Buffer => bytesOf(`moved ${index}`);
  for (let index = 0; index < files; index++)
    await mount.vfs.rename(root, dir, name(index), dir, moved(index), 'replace', false);
  t.ok((done.get('rename') ?? 0) > files - 10, `${done.get('rename')} of ${files} were done here`);
  t.ok(network.total - before < 60, `${network.total - before} messages`);
  for (const index of [0, 100, files - 1]) {
    await t.rejects(async () => other.vfs.lookup(root, dir, name(index)), { code: 'ENOENT' });
    t.ok((await other.vfs.lookup(root, dir, moved(index))).attr.ino, 'the other one sees it at once');
  }
});

t.test('what can be done here waits a moment for what the server is doing for this mount', async (t) => {
  const cluster = await shared;
  const { observer, done } = watched();
  const { vfs } = await cluster.mount({ ownObserver: observer });
  const own = (await vfs.mkdir(root, ROOT_INO, bytesOf('own'), 0o755)).attr.ino;
  const other = await cluster.mount({ kernelForgets: true });
  let asked = (): void => {};
  let gate = Promise.resolve();
  other.vfs.mounted({
    hasEpoch: true,
    incrementEpoch: async () => {},
    invalidateEntry: async () => {},
    deleteEntry: async () => {},
    invalidateInode: async () => {
      asked();
      await gate;
      return true;
    },
  });
  const rounds = 10;
  let count = 0;
  for (let round = 0; round < rounds; round++) {
    const file = await writeFile(vfs, `looked at ${round}`, bytesOf('x'));
    await other.vfs.lookup(root, ROOT_INO, bytesOf(`looked at ${round}`));
    let open = (): void => {};
    gate = new Promise((resolve) => {
      open = resolve;
    });
    const isAsked = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const changed = vfs.setattr(root, file, undefined, { mode: 0o600 });
    await isAsked;
    const before = done.get('create') ?? 0;
    const made = writeFile(vfs, `f${round}`, bytesOf('y'), own);
    setTimeout(open, 5);
    await Promise.all([changed, made]);
    count += (done.get('create') ?? 0) - before;
  }
  // On a busy machine the moment may be over now and then.
  t.ok(count > rounds / 2, `${count} of ${rounds} files were made here`);
});

t.test('bytes of what is removed before they are committed need no commit', async (t) => {
  const cluster = await shared;
  const network = new CountingNetwork();
  const { vfs } = await cluster.mount({ connect: network.connect, kernelForgets: true });
  const dir = (await vfs.mkdir(root, ROOT_INO, bytesOf('short'), 0o755)).attr.ino;
  for (const name of ['a', 'b']) {
    const ino = await writeFile(vfs, name, bytesOf(name), dir);
    await vfs.unlink(root, dir, bytesOf(name));
    vfs.forget(ino, 1);
  }
  // The last of them has been let go of, too.
  await new Promise((resolve) => setTimeout(resolve, limits.releaseDelayMs + 100));
  await vfs.close();
  t.equal(network.count('commit'), 0, JSON.stringify([...network.asked]));
});
