/** What the kernel may remember from which reply, and how it is made to forget what it does not have yet. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import type { Notifier } from '../../src/vfs/operations.js';
import { bytesOf, LocalCluster, root, type TestMount } from './local-cluster.js';

const shared = LocalCluster.start(t, { chunkServers: 1 });

/** A kernel that has only what is in `has`. */
function kernel(has: ReadonlySet<Ino>): { readonly notifier: Notifier; readonly told: Ino[] } {
  const told: Ino[] = [];
  const notifier: Notifier = {
    hasEpoch: true,
    incrementEpoch: async () => {},
    invalidateEntry: async () => {},
    deleteEntry: async () => {},
    invalidateInode: async (ino) => {
      told.push(ino);
      return has.has(ino);
    },
  };
  return { notifier, told };
}

async function mountOf(cluster: LocalCluster, has: ReadonlySet<Ino>): Promise<TestMount & { told: Ino[] }> {
  const mount = await cluster.mount({ kernelForgets: true });
  const { notifier, told } = kernel(has);
  mount.vfs.mounted(notifier);
  return { ...mount, told };
}

t.test('what a reply is about to bring is invalidated until the kernel has it', async (t) => {
  const cluster = await shared;
  const other = await cluster.mount({ kernelForgets: true });
  const { attr } = await other.vfs.mkdir(root, ROOT_INO, bytesOf('coming'), 0o755);
  const has = new Set<Ino>();
  const { vfs, told } = await mountOf(cluster, has);
  const entry = await vfs.lookup(root, ROOT_INO, bytesOf('coming'));
  t.ok(entry.attrTimeoutMs > 0, 'its attributes may be remembered from the reply that brings it');
  let isDone = false;
  const changed = Promise.resolve(other.vfs.setattr(root, attr.ino, undefined, { mode: 0o700 })).then(() => {
    isDone = true;
  });
  await sleep(200);
  t.notOk(isDone, 'the change waits');
  t.ok(told.filter((ino) => ino === attr.ino).length > 2);
  has.add(attr.ino);
  await changed;
});

t.test('or says that it has forgotten it', async (t) => {
  const cluster = await shared;
  const other = await cluster.mount({ kernelForgets: true });
  const { attr } = await other.vfs.mkdir(root, ROOT_INO, bytesOf('going'), 0o755);
  const { vfs } = await mountOf(cluster, new Set());
  await vfs.lookup(root, ROOT_INO, bytesOf('going'));
  const changed = other.vfs.setattr(root, attr.ino, undefined, { mode: 0o700 });
  await sleep(100);
  vfs.forget(attr.ino, 1);
  await changed;
  t.equal((await vfs.getattr(root, attr.ino, undefined)).attr.mode & 0o777, 0o700);
});

t.test('what makes a name lets attributes be remembered of what nobody else knows', async (t) => {
  const cluster = await shared;
  const { vfs } = await mountOf(cluster, new Set());
  const first = await vfs.mkdir(root, ROOT_INO, bytesOf('shared'), 0o755);
  const { ino } = first.attr;
  const made = await vfs.mkdir(root, ino, bytesOf('own'), 0o755);
  t.ok(made.attrTimeoutMs > 0);
  const { entry, open } = await vfs.create(root, ino, bytesOf('file'), 0o644, 2, 0);
  t.ok(entry.attrTimeoutMs > 0);
  const again = await vfs.create(root, ino, bytesOf('file'), 0o644, 2, 0);
  t.equal(again.entry.attrTimeoutMs, 0, 'the kernel has it, and takes this reply whatever came before');
  const linked = await vfs.link(root, entry.attr.ino, ino, bytesOf('second'));
  t.equal(linked.attrTimeoutMs, 0);
  await vfs.release(entry.attr.ino, open.fh);
  await vfs.release(entry.attr.ino, again.open.fh);
});

t.test('what the server is changing for this mount is not remembered meanwhile', async (t) => {
  const cluster = await shared;
  const { vfs } = await mountOf(cluster, new Set());
  const maker = await cluster.mount();
  const dir = (await maker.vfs.mkdir(root, ROOT_INO, bytesOf('changing'), 0o755)).attr.ino;
  await maker.vfs.mkdir(root, dir, bytesOf('gone'), 0o755);
  await maker.vfs.close();
  const other = await cluster.mount({ kernelForgets: true });
  const { notifier } = kernel(new Set([dir]));
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  let asked = (): void => {};
  const isAsked = new Promise<void>((resolve) => {
    asked = resolve;
  });
  const incrementEpoch = (): Promise<void> => {
    asked();
    return gate;
  };
  other.vfs.mounted({ ...notifier, incrementEpoch });
  await other.vfs.lookup(root, ROOT_INO, bytesOf('changing'));
  t.ok((await vfs.lookup(root, ROOT_INO, bytesOf('changing'))).attrTimeoutMs > 0);
  const removed = vfs.rmdir(root, dir, bytesOf('gone'));
  await isAsked;
  t.equal(
    (await vfs.lookup(root, ROOT_INO, bytesOf('changing'))).attrTimeoutMs,
    0,
    'its answer may be taken after that of the change',
  );
  open();
  await removed;
});
