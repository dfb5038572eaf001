/**
 * A directory that is large: what a listing keeps in memory does not grow with it. (Measured with a million
 * entries on a mount: README, Speed.)
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import type { Vfs } from '../../src/vfs/vfs.js';
import { bytesOf, LocalCluster, root } from './local-cluster.js';

const ENTRIES = 20_000;
/** Requests under way at once while the directory is filled. */
const AT_ONCE = 500;
/** Entries that fit an answer of 32 KiB. */
const FITS = 800;
/** All pages of it would be 5.4 MB. */
const LISTING_BYTES = 2_000_000;

/** Bytes that are in use, garbage left out. Servers and mount are all in this process. */
async function usedBytes(): Promise<number> {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect !== 'function') throw new TypeError('no gc');
  // Buffers are let go of by a collection after the one that found them dead.
  for (let pass = 0; pass < 3; pass++) {
    collect();
    await sleep(50);
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const nameOf = (index: number): string => `entry-${index}`;

async function fill(vfs: Vfs, dir: Ino): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < ENTRIES; index = next++) {
      const { attr } = await vfs.mknod(root, dir, bytesOf(nameOf(index)), 0o100644, 0);
      vfs.forget(attr.ino, 1);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** Goes through a listing that stays open, marking what it sees; `between` runs after each answer. */
async function list(vfs: Vfs, dir: Ino, seen: Uint8Array, between: () => Promise<void>): Promise<number> {
  const { fh } = await vfs.opendir(root, dir, 0);
  for (let offset = 0, taken = 1; taken > 0; ) {
    taken = 0;
    await vfs.readdir(root, dir, fh, offset, false, ({ name, nextOffset }) => {
      if (taken === FITS) return false;
      taken++;
      offset = nextOffset;
      const index = Number(/^entry-(\d+)$/.exec(Buffer.from(name).toString())?.[1]);
      if (index < ENTRIES) seen[index] = (seen[index] ?? 0) + 1;
      return true;
    });
    await between();
  }
  return fh;
}

t.test('a listing of 20,000 entries takes the memory of a page', async (t) => {
  const cluster = await LocalCluster.start(t, { chunkServers: 1, replicas: 1 });
  const { vfs } = await cluster.mount();
  const { attr } = await vfs.mkdir(root, ROOT_INO, bytesOf('large'), 0o755);
  await fill(vfs, attr.ino);
  // Another mount's look: the journal of the first is empty then.
  await (await cluster.mount()).vfs.lookup(root, attr.ino, bytesOf('entry-0'));

  const seen = new Uint8Array(ENTRIES);
  const nothing = async (): Promise<void> => {};
  await vfs.releasedir(attr.ino, await list(vfs, attr.ino, seen, nothing));
  // What else goes on in this process lets go of memory, too, but not every time.
  let kept = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 3; attempt++) {
    const open = await list(vfs, attr.ino, seen, nothing);
    const whileOpen = await usedBytes();
    await vfs.releasedir(attr.ino, open);
    kept = Math.min(kept, whileOpen - (await usedBytes()));
  }
  t.ok(kept < LISTING_BYTES, `a listing that is open at its end keeps ${kept} bytes`);
  t.ok(
    seen.every((times) => times === 4),
    'each time every entry is seen once',
  );

  seen.fill(0);
  let round = 0;
  const churn = async (): Promise<void> => {
    await vfs.mknod(root, attr.ino, bytesOf(`new-${round}`), 0o100644, 0);
    await vfs.unlink(root, attr.ino, bytesOf(nameOf(round)));
    await vfs.rename(root, attr.ino, bytesOf(`new-${round}`), attr.ino, bytesOf(`moved-${round}`), 'replace');
    round++;
  };
  await vfs.releasedir(attr.ino, await list(vfs, attr.ino, seen, churn));
  t.ok(
    seen.subarray(round).every((times) => times === 1),
    `those that stay are listed once while ${round} come, move and go`,
  );
});
