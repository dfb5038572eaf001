import t from 'tap';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import type { ReaddirEntry } from '../../src/vfs/operations.js';
import type { Vfs } from '../../src/vfs/vfs.js';
import { asked, bytesOf, LocalCluster, root, writeFile } from './local-cluster.js';

const shared = LocalCluster.start(t, { chunkServers: 2 });

/** Lists a directory as the kernel does, `fits` entries to an answer. */
async function list(
  vfs: Vfs,
  ino: Ino,
  options: { fits?: number; plus?: boolean } = {},
): Promise<ReaddirEntry[]> {
  const { fits = 10, plus = false } = options;
  const { fh } = await vfs.opendir(root, ino, 0);
  const found: ReaddirEntry[] = [];
  for (let offset = 0, more = true; more; ) {
    let taken = 0;
    await vfs.readdir(root, ino, fh, offset, plus, (entry) => {
      if (taken === fits) return false;
      taken++;
      offset = entry.nextOffset;
      found.push(entry);
      return true;
    });
    more = taken > 0;
  }
  await vfs.releasedir(ino, fh);
  return found;
}

const names = (entries: readonly ReaddirEntry[]): string[] =>
  entries.map((entry) => Buffer.from(entry.name).toString()).sort();

t.test('a listing has . and .. and every entry once, in answers of any size', async (t) => {
  const { vfs } = await (await shared).mount();
  const dir = (await vfs.mkdir(root, ROOT_INO, bytesOf('list'), 0o755)).attr.ino;
  const inner = (await vfs.mkdir(root, dir, bytesOf('inner'), 0o755)).attr.ino;
  const expected = ['.', '..', 'inner'];
  for (let index = 0; index < 25; index++) {
    await vfs.mknod(root, dir, bytesOf(`n${index}`), 0o100644, 0);
    expected.push(`n${index}`);
  }
  for (const fits of [1, 2, 3, 7, 100]) t.same(names(await list(vfs, dir, { fits })), [...expected].sort());
  const [dot, dotDot] = await list(vfs, inner);
  t.equal(dot?.ino, inner);
  t.equal(dotDot?.ino, dir, '.. is the parent');
  t.same([dot?.nextOffset, dotDot?.nextOffset], [1, 2]);
});

t.test(
  'readdirplus brings the attributes that lookup would, this mount’s unflushed size included',
  async (t) => {
    const { vfs } = await (await shared).mount();
    const dir = (await vfs.mkdir(root, ROOT_INO, bytesOf('plus'), 0o755)).attr.ino;
    await writeFile(vfs, 'flushed', bytesOf('12345'), dir);
    const { entry, open } = await vfs.create(root, dir, bytesOf('open'), 0o600, 0o101);
    await vfs.write(root, entry.attr.ino, open.fh, 0, bytesOf('123'), false);
    const entries = await list(vfs, dir, { plus: true });
    const sizes = entries.map((found) => [Buffer.from(found.name).toString(), found.entry?.attr.size]);
    t.same(Object.fromEntries(sizes), { '.': undefined, '..': undefined, flushed: 5, open: 3 });
    await vfs.flush(root, entry.attr.ino, open.fh);
  },
);

t.test(
  'entries that stay are listed once while others come and go, and a rewound handle sees the new ones',
  async (t) => {
    const { vfs } = await (await shared).mount();
    const dir = (await vfs.mkdir(root, ROOT_INO, bytesOf('churn'), 0o755)).attr.ino;
    for (let index = 0; index < 40; index++) await vfs.mknod(root, dir, bytesOf(`stay${index}`), 0o100644, 0);
    await vfs.mknod(root, dir, bytesOf('gone'), 0o100644, 0);
    const { fh } = await vfs.opendir(root, dir, 0);
    const found: string[] = [];
    let last = 0;
    for (let round = 0, more = true; more; round++) {
      let taken = 0;
      await vfs.readdir(root, dir, fh, last, false, ({ name, nextOffset }) => {
        if (taken === 5) return false;
        taken++;
        last = nextOffset;
        found.push(Buffer.from(name).toString());
        return true;
      });
      await vfs.mknod(root, dir, bytesOf(`new${round}`), 0o100644, 0);
      if (round === 2) await vfs.unlink(root, dir, bytesOf('gone'));
      more = taken > 0;
    }
    const stays = found.filter((name) => name.startsWith('stay'));
    t.equal(stays.length, 40);
    t.equal(new Set(stays).size, 40);
    const again: string[] = [];
    await vfs.readdir(root, dir, fh, 0, false, ({ name }) => again.push(Buffer.from(name).toString()) > 0);
    t.ok(again.includes('new0') && !again.includes('gone'), 'rewinddir starts over');
    await vfs.releasedir(dir, fh);
    await t.rejects(
      asked(() => vfs.readdir(root, dir, fh, 0, false, () => true)),
      { code: 'EBADF' },
    );
  },
);

t.test('names, links and attributes answer as the server decides', async (t) => {
  const { vfs } = await (await shared).mount();
  const dir = (await vfs.mkdir(root, ROOT_INO, bytesOf('names'), 0o755)).attr.ino;
  const ino = await writeFile(vfs, 'a', bytesOf('text'), dir);
  t.equal((await vfs.link(root, ino, dir, bytesOf('b'))).attr.nlink, 2);
  await vfs.rename(root, dir, bytesOf('b'), dir, bytesOf('c'), 'replace');
  await t.rejects(
    asked(() => vfs.rename(root, dir, bytesOf('a'), dir, bytesOf('c'), 'noreplace')),
    {
      code: 'EEXIST',
    },
  );
  const link = await vfs.symlink(root, dir, bytesOf('l'), bytesOf('a/b'));
  t.equal(Buffer.from(await vfs.readlink(root, link.attr.ino)).toString(), 'a/b');
  t.equal((await vfs.lookup(root, dir, bytesOf('..'))).attr.ino, ROOT_INO);
  await t.rejects(
    asked(() => vfs.rmdir(root, ROOT_INO, bytesOf('names'))),
    { code: 'ENOTEMPTY' },
  );
  const tooLong = { code: 'ENAMETOOLONG' };
  await t.rejects(
    asked(() => vfs.lookup(root, dir, Buffer.alloc(256, 'x'))),
    tooLong,
  );
  await t.rejects(
    asked(() => vfs.create(root, dir, Buffer.alloc(256, 'x'), 0o644, 0)),
    tooLong,
  );
  await t.rejects(
    asked(() => vfs.symlink(root, dir, bytesOf('m'), Buffer.alloc(4096, 'x'))),
    tooLong,
  );
  const figures = await vfs.statfs(root, dir);
  t.equal(figures.blockSize, 4096);
  t.ok(figures.blocks > 0 && figures.freeBlocks <= figures.blocks && figures.inodes > 0);
  await vfs.fsyncdir(root, dir, 0, false);
  await vfs.syncfs(root);
});

t.test(
  'extended attributes: user, trusted and security pass, other namespaces are not supported',
  async (t) => {
    const { vfs } = await (await shared).mount();
    const ino = await writeFile(vfs, 'x', bytesOf(''));
    for (const name of ['user.a', 'trusted.b', 'security.c']) {
      await vfs.setxattr(root, ino, bytesOf(name), bytesOf(`value of ${name}`), 'create');
      t.equal(Buffer.from(await vfs.getxattr(root, ino, bytesOf(name))).toString(), `value of ${name}`);
    }
    t.same((await vfs.listxattr(root, ino)).map((name) => Buffer.from(name).toString()).sort(), [
      'security.c',
      'trusted.b',
      'user.a',
    ]);
    await vfs.removexattr(root, ino, bytesOf('user.a'));
    await t.rejects(
      asked(() => vfs.getxattr(root, ino, bytesOf('user.a'))),
      { code: 'ENODATA' },
    );
    for (const name of ['system.other', 'other.a', 'user.']) {
      const refused = { code: name === 'user.' ? 'EINVAL' : 'EOPNOTSUPP' };
      await t.rejects(
        asked(() => vfs.getxattr(root, ino, bytesOf(name))),
        refused,
      );
      await t.rejects(
        asked(() => vfs.setxattr(root, ino, bytesOf(name), bytesOf('v'), 'any')),
        refused,
      );
    }
    const tooLarge = Buffer.alloc(64 * 1024 + 1);
    await t.rejects(
      asked(() => vfs.setxattr(root, ino, bytesOf('user.big'), tooLarge, 'any')),
      {
        code: 'E2BIG',
      },
    );
  },
);
