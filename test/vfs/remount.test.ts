/**
 * A mount that comes back with the same cache directory: what has not changed is neither listed nor fetched again,
 * what has is as it is now.
 */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { S_IFDIR, S_IFLNK, S_IFMT } from '../../src/proto/attr.js';
import { FsError } from '../../src/proto/errno.js';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { CountingNetwork } from '../client/counting-network.js';
import { bytesOf, LocalCluster, readAll, root, type TestMount, writeFile } from './local-cluster.js';

const DIRECTORIES = 8;
const FILES = 25;
const ALL = DIRECTORIES * FILES;

type Vfs = TestMount['vfs'];

/** What is in a tree, by path: of files the content, of symlinks the target. */
async function walk(vfs: Vfs, ino: Ino = ROOT_INO, path = ''): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  await vfs.getattr(root, ino, undefined);
  for (const { name, kind } of await list(vfs, ino)) {
    const { attr } = await vfs.lookup(root, ino, bytesOf(name));
    await vfs.getattr(root, attr.ino, undefined);
    if (kind !== S_IFLNK) await hasAcl(vfs, attr.ino);
    const at = `${path}/${name}`;
    if (kind === S_IFDIR) for (const [below, text] of await walk(vfs, attr.ino, at)) found.set(below, text);
    else if (kind === S_IFLNK) found.set(at, Buffer.from(await vfs.readlink(root, attr.ino)).toString());
    else {
      const { fh } = await vfs.open(root, attr.ino, 0);
      found.set(at, (await readAll(vfs, attr.ino, fh)).toString());
      await vfs.release(attr.ino, fh);
    }
  }
  return found;
}

/** As `ls -l` asks. */
async function hasAcl(vfs: Vfs, ino: Ino): Promise<boolean> {
  try {
    await vfs.getxattr(root, ino, bytesOf('system.posix_acl_access'));
    return true;
  } catch (error) {
    if (error instanceof FsError && error.code === 'ENODATA') return false;
    throw error;
  }
}

async function list(vfs: Vfs, ino: Ino): Promise<{ name: string; kind: number }[]> {
  const { fh } = await vfs.opendir(root, ino, 0);
  const entries: { name: string; kind: number }[] = [];
  let offset = 0;
  for (let before = -1; before !== offset; ) {
    before = offset;
    await vfs.readdir(root, ino, fh, offset, true, ({ name, kind, nextOffset }) => {
      const text = Buffer.from(name).toString();
      if (text !== '.' && text !== '..') entries.push({ name: text, kind: kind & S_IFMT });
      offset = nextOffset;
      return true;
    });
  }
  await vfs.releasedir(ino, fh);
  return entries;
}

const textOf = (directory: number, file: number): string => `${directory}/${file} `.repeat(400);

async function makeTree(vfs: Vfs): Promise<Ino[]> {
  const directories: Ino[] = [];
  for (let d = 0; d < DIRECTORIES; d++) {
    const { attr } = await vfs.mkdir(root, ROOT_INO, bytesOf(`d${d}`), 0o755);
    directories.push(attr.ino);
    for (let f = 0; f < FILES; f++) await writeFile(vfs, `f${f}`, bytesOf(textOf(d, f)), attr.ino);
    await vfs.symlink(root, attr.ino, bytesOf('link'), bytesOf(`f${d}`));
  }
  return directories;
}

async function nothing(vfs: Vfs, parent: Ino, name: string): Promise<boolean> {
  try {
    await vfs.lookup(root, parent, bytesOf(name));
    return false;
  } catch {
    return true;
  }
}

/** Mounts with the cache directory `reader`, counting. */
async function reader(
  cluster: LocalCluster,
): Promise<TestMount & { network: never; asked: CountingNetwork }> {
  const asked = new CountingNetwork();
  const cacheDir = join(cluster.dir, 'reader');
  const mount = await cluster.mount({ cacheDir, connect: asked.connect, kernelForgets: true });
  return { ...mount, asked } as TestMount & { network: never; asked: CountingNetwork };
}

async function start(t: Test): Promise<{ cluster: LocalCluster; writer: Vfs; directories: Ino[] }> {
  const cluster = await LocalCluster.start(t);
  const { vfs: writer } = await cluster.mount({ kernelForgets: true });
  const directories = await makeTree(writer);
  return { cluster, writer, directories };
}

t.test('nothing is fetched again that has not changed', async (t) => {
  const { cluster, directories } = await start(t);
  const before = await reader(cluster);
  const first = await walk(before.vfs);
  t.equal(first.size, ALL + DIRECTORIES);
  t.ok(await nothing(before.vfs, directories[0] ?? ROOT_INO, 'missing'));
  t.ok(before.asked.count('get') > 0, 'the first time chunks are fetched');
  await before.vfs.close();

  const after = await reader(cluster);
  t.strictSame(await walk(after.vfs), first);
  t.ok(await nothing(after.vfs, directories[0] ?? ROOT_INO, 'missing'));
  const { asked } = after;
  t.comment(`first ${JSON.stringify([...before.asked.asked])}, again ${JSON.stringify([...asked.asked])}`);
  t.strictSame([...asked.asked.keys()], ['revalidate'], 'nothing else is asked');
  t.ok(asked.total <= 3, `in ${asked.total} calls`);
});

t.test('what others have changed meanwhile is as it is now', async (t) => {
  const { cluster, writer, directories } = await start(t);
  const before = await reader(cluster);
  const expected = await walk(before.vfs);
  await before.vfs.close();

  const [d0 = ROOT_INO, d1 = ROOT_INO, d2 = ROOT_INO, d3 = ROOT_INO] = directories;
  const rewritten = await writer.lookup(root, d0, bytesOf('f3'));
  const { fh } = await writer.open(root, rewritten.attr.ino, 1);
  await writer.write(root, rewritten.attr.ino, fh, 0, bytesOf('CHANGED'), false);
  await writer.flush(root, rewritten.attr.ino, fh);
  await writer.release(rewritten.attr.ino, fh);
  expected.set('/d0/f3', `CHANGED${textOf(0, 3).slice(7)}`);
  await writer.unlink(root, d1, bytesOf('f4'));
  expected.delete('/d1/f4');
  await writeFile(writer, 'other', bytesOf('another file'), d2);
  await writer.rename(root, d2, bytesOf('other'), d2, bytesOf('f5'), 'replace');
  expected.set('/d2/f5', 'another file');
  await writer.rename(root, d3, bytesOf('f6'), d0, bytesOf('moved'), 'replace');
  expected.delete('/d3/f6');
  expected.set('/d0/moved', textOf(3, 6));
  await writer.unlink(root, d3, bytesOf('link'));
  await writer.symlink(root, d3, bytesOf('link'), bytesOf('elsewhere'));
  expected.set('/d3/link', 'elsewhere');
  await writer.setattr(root, d3, undefined, { mode: 0o700 });

  const after = await reader(cluster);
  const found = await walk(after.vfs);
  t.strictSame([...found].sort(), [...expected].sort());
  t.equal((await after.vfs.getattr(root, d3, undefined)).attr.mode & 0o777, 0o700);
  const { asked } = after;
  t.comment(JSON.stringify([...asked.asked]));
  // What the writer has taken along with what it changed is asked for, too.
  t.ok(asked.total < 60, `${asked.total} calls for ${ALL} files`);
  t.ok(asked.count('get') <= 6, 'chunks are fetched of what has changed alone');
});

t.test('what this mount has made itself it knows, too, and what it learned since', async (t) => {
  const cluster = await LocalCluster.start(t);
  const first = await reader(cluster);
  const [directory = ROOT_INO] = await makeTree(first.vfs);
  const made = await walk(first.vfs);
  await first.vfs.close();
  const second = await reader(cluster);
  t.strictSame(await walk(second.vfs), made);
  t.strictSame([...second.asked.asked.keys()], ['revalidate']);
  await writeFile(second.vfs, 'new', bytesOf('new'), directory);
  t.equal((await walk(second.vfs)).get('/d0/new'), 'new');
  await second.vfs.close();
  const third = await reader(cluster);
  t.strictSame([...(await walk(third.vfs))].sort(), [...made, ['/d0/new', 'new']].sort());
});

t.test('leases that a hint has brought are recalled as any', async (t) => {
  const { cluster, writer, directories } = await start(t);
  const before = await reader(cluster);
  await walk(before.vfs);
  await before.vfs.close();
  const after = await reader(cluster);
  await walk(after.vfs);
  const [d0 = ROOT_INO] = directories;
  await writeFile(writer, 'later', bytesOf('later'), d0);
  await writer.unlink(root, d0, bytesOf('f0'));
  t.equal((await walk(after.vfs)).get('/d0/later'), 'later');
  t.ok(await nothing(after.vfs, d0, 'f0'));
});

t.test('after a new connection nothing is fetched again either', async (t) => {
  const { cluster } = await start(t);
  const { vfs, fs, asked } = await reader(cluster);
  const first = await walk(vfs);
  // What is learned is written down a moment later.
  await new Promise((resolve) => setTimeout(resolve, 3500));
  const { connections } = fs;
  await cluster.restartMeta();
  while (fs.connections === connections) await new Promise((resolve) => setTimeout(resolve, 20));
  asked.asked.clear();
  t.strictSame(await walk(vfs), first);
  t.comment(JSON.stringify([...asked.asked]));
  t.equal(asked.count('get', 'lookup', 'getattr', 'readdir'), 0);
});
