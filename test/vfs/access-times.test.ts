/** What mounts with relatime and strictatime show and tell. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { compareTimespec, type Timespec } from '../../src/base/clock.js';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import type { AccessPolicy } from '../../src/vfs/access-times.js';
import { O_NOATIME } from '../../src/vfs/open-flags.js';
import type { Vfs } from '../../src/vfs/vfs.js';
import { bytesOf, LocalCluster, readFile, root, writeFile } from './local-cluster.js';

const shared = LocalCluster.start(t);
const relatime: AccessPolicy = { mode: 'relatime', directories: true };
const strictatime: AccessPolicy = { mode: 'strictatime', directories: true };

const attrOf = async (vfs: Vfs, ino: Ino) => {
  const { lease: _, ...attr } = (await vfs.getattr(root, ino, undefined)).attr;
  return attr;
};
const atimeOf = async (vfs: Vfs, ino: Ino): Promise<Timespec> => (await attrOf(vfs, ino)).atime;
const inoOf = async (vfs: Vfs, name: string): Promise<Ino> =>
  (await vfs.lookup(root, ROOT_INO, bytesOf(name))).attr.ino;

/** How an action moves the access time that `vfs` shows. */
async function moved(vfs: Vfs, ino: Ino, action: () => Promise<unknown>): Promise<boolean> {
  const before = await atimeOf(vfs, ino);
  await action();
  const order = compareTimespec(await atimeOf(vfs, ino), before);
  if (order < 0) throw new Error('an access time has gone back');
  return order > 0;
}

async function list(vfs: Vfs, ino: Ino, flags = 0): Promise<void> {
  const { fh } = await vfs.opendir(root, ino, flags);
  await vfs.readdir(root, ino, fh, 0, false, () => true);
  await vfs.releasedir(ino, fh);
}

t.test('without the option, and read-only, reading moves nothing', async (t) => {
  const cluster = await shared;
  const { vfs } = await cluster.mount();
  const reader = await cluster.mount({ readOnly: true, accessTimes: strictatime });
  await writeFile(vfs, 'plain', bytesOf('text'));
  const ino = await inoOf(vfs, 'plain');
  await inoOf(reader.vfs, 'plain');
  for (const mount of [vfs, reader.vfs]) {
    t.notOk(await moved(mount, ino, () => readFile(mount, 'plain')));
    t.notOk(await moved(mount, ROOT_INO, () => list(mount, ROOT_INO)));
  }
});

t.test('relatime shows a read at once, another mount a little later, and not the next one', async (t) => {
  const cluster = await shared;
  const { vfs } = await cluster.mount({ accessTimes: relatime });
  const other = await cluster.mount();
  await writeFile(vfs, 'rel', bytesOf('text'));
  const ino = await inoOf(vfs, 'rel');
  const before = await attrOf(other.vfs, ino);
  t.ok(await moved(vfs, ino, () => readFile(vfs, 'rel')));
  const { atime } = await attrOf(vfs, ino);
  t.same((await vfs.lookup(root, ROOT_INO, bytesOf('rel'))).attr.atime, atime, 'by lookup too');
  t.notOk(await moved(vfs, ino, () => readFile(vfs, 'rel')), 'it is newer than the last change');
  for (let round = 0; round < 50 && (await atimeOf(other.vfs, ino)).nsec !== atime.nsec; round++)
    await sleep(limits.accessDelayMs / 10);
  t.same(await attrOf(other.vfs, ino), { ...before, atime }, 'and nothing else has changed');
  t.notOk(await moved(vfs, ino, () => readFile(vfs, 'rel')), 'nor now that the server knows');
  await vfs.setattr(root, ino, undefined, { mode: 0o600 });
  t.ok(await moved(vfs, ino, () => readFile(vfs, 'rel')), 'changed since');
  const link = (await vfs.symlink(root, ROOT_INO, bytesOf('rel-link'), bytesOf('rel'))).attr.ino;
  t.ok(await moved(vfs, link, async () => vfs.readlink(root, link)));
  t.notOk(await moved(vfs, link, async () => vfs.readlink(root, link)));
  t.ok(await moved(vfs, ROOT_INO, () => list(vfs, ROOT_INO)), 'its entries have changed');
  t.notOk(await moved(vfs, ROOT_INO, () => list(vfs, ROOT_INO)));
  vfs.checkInvariants();
});

t.test('strictatime moves it every time, except through O_NOATIME', async (t) => {
  const { vfs } = await (await shared).mount({ accessTimes: strictatime });
  await writeFile(vfs, 'strict', bytesOf('text'));
  const ino = await inoOf(vfs, 'strict');
  for (let round = 0; round < 3; round++) t.ok(await moved(vfs, ino, () => readFile(vfs, 'strict')));
  t.ok(await moved(vfs, ROOT_INO, () => list(vfs, ROOT_INO)));
  t.notOk(await moved(vfs, ROOT_INO, () => list(vfs, ROOT_INO, O_NOATIME)));
  const { fh } = await vfs.open(root, ino, O_NOATIME);
  t.notOk(await moved(vfs, ino, async () => vfs.read(root, ino, fh, 0, 4)));
  await vfs.release(ino, fh);
  const { atime } = await attrOf(vfs, ino);
  await writeFile(vfs, 'strict', bytesOf('later'));
  t.same(await atimeOf(vfs, ino), atime, 'a write after the read does not undo it');
});

t.test('nodiratime leaves directories', async (t) => {
  const { vfs } = await (await shared).mount({ accessTimes: { ...strictatime, directories: false } });
  t.notOk(await moved(vfs, ROOT_INO, () => list(vfs, ROOT_INO)));
});

t.test('a time that is set counts, here and from another mount', async (t) => {
  const cluster = await shared;
  const { vfs } = await cluster.mount({ accessTimes: strictatime });
  const other = await cluster.mount();
  await writeFile(vfs, 'set', bytesOf('text'));
  const ino = await inoOf(vfs, 'set');
  for (const setter of [vfs, other.vfs]) {
    const atime = { sec: 1000, nsec: setter === vfs ? 1 : 2 };
    await readFile(vfs, 'set');
    await setter.setattr(root, ino, undefined, { atime });
    t.same(await atimeOf(vfs, ino), atime, 'at once');
    await sleep(limits.accessDelayMs * 1.5);
    t.same(await atimeOf(vfs, ino), atime, 'and when all was told');
    t.ok(await moved(vfs, ino, () => readFile(vfs, 'set')), 'until the next read');
  }
});

t.test('what waits at unmount is told', async (t) => {
  const cluster = await shared;
  const { vfs } = await cluster.mount({ accessTimes: relatime });
  const other = await cluster.mount();
  await writeFile(vfs, 'last', bytesOf('text'));
  const ino = await inoOf(vfs, 'last');
  await readFile(vfs, 'last');
  const { atime } = await attrOf(vfs, ino);
  await vfs.close();
  t.same(await atimeOf(other.vfs, ino), atime);
});

t.test('what cannot be told harms nobody', async (t) => {
  const cluster = await LocalCluster.start(t);
  const { vfs, fs } = await cluster.mount({ accessTimes: strictatime, timeoutMs: 300 });
  await writeFile(vfs, 'f', bytesOf('text'));
  const ino = await inoOf(vfs, 'f');
  await readFile(vfs, 'f');
  await cluster.restartMeta(() => sleep(limits.accessDelayMs + 600));
  for (let round = 0; round < 100 && !fs.isUp; round++) await sleep(50);
  t.equal((await readFile(vfs, 'f')).toString(), 'text');
  t.ok(await moved(vfs, ino, () => readFile(vfs, 'f')));
});
