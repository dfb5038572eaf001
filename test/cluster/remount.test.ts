/**
 * A mount that comes back with the cache directory that it had: what it remembers is right, whatever others have
 * done meanwhile, and what has not changed it need not fetch. Chunk servers that are not there show that.
 */
import { closeSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import t from 'tap';
import { Cluster, type ClusterMount } from './cluster.js';
import { sh } from './on-mount.js';

const TIMEOUT_MS = 150_000;
t.setTimeout(2 * TIMEOUT_MS);

const TREE = `
for d in $(seq 1 12); do
  mkdir -p tree/$d
  for f in $(seq 1 25); do printf 'content %s of %s\\n' $f $d > tree/$d/$f; done
  ln -s $d tree/$d/link
done
head -c 3000000 /dev/urandom > tree/large
`;
/** Everything that can be seen of the tree. */
const SHOW = "find tree -printf '%P %y %m %s %T@ %l\\n' | sort; find tree -type f | sort | xargs md5sum";
/** What another mount does to it: contents, names, removals, another file of the same name, a directory replaced. */
const CHANGE = `
echo changed > tree/1/1
printf X | dd of=tree/large bs=1 seek=1500000 conv=notrunc status=none
mv tree/2/2 tree/2/renamed
rm tree/3/3
echo another > tree/new && mv tree/new tree/4/4
mv tree/5/5 tree/6/5-of-5
rm -r tree/7 && mkdir tree/7 && echo only > tree/7/only
ln -sfn elsewhere tree/8/link
chmod 600 tree/9/9
touch -d '2001-01-01' tree/10/10
mv tree/11 tree/eleven
`;

t.test('remount', { timeout: 2 * TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'remount', chunkServers: 2 });
  const writer = await cluster.mount();
  const mount = await cluster.mount();
  const cache = `${cluster.scratch.path}/cache-2`;
  const on = (which: ClusterMount, script: string): Promise<string> =>
    sh(script, { cwd: which.path, timeoutMs: 60_000 });
  await on(writer, TREE);
  const shown = await on(mount, SHOW);
  const withoutChunks = async (body: () => Promise<void>): Promise<void> => {
    await Promise.all(cluster.chunks.map((chunk) => chunk.kill()));
    try {
      await body();
    } finally {
      await Promise.all(cluster.chunks.map((chunk) => chunk.start()));
      await cluster.untilUp(cluster.chunks.length);
    }
  };

  await t.test('what is unchanged is read without a chunk server', async (t) => {
    await mount.process.stop();
    await mount.process.start();
    await withoutChunks(async () => {
      t.equal(await on(mount, SHOW), shown);
    });
  });

  await t.test('what others have changed meanwhile is seen, and the rest is as before', async (t) => {
    await mount.process.stop();
    await on(writer, CHANGE);
    const changed = await on(writer, SHOW);
    t.not(changed, shown);
    await mount.process.start();
    const unchanged = 'cat tree/1/2 tree/2/3 tree/3/4 tree/12/* tree/eleven/25 | md5sum';
    const expected = await on(writer, unchanged);
    await withoutChunks(async () => {
      t.equal(await on(mount, unchanged), expected);
    });
    t.equal(await on(mount, SHOW), changed);
  });

  await t.test('after kill -9, too, with changes of its own before', async (t) => {
    await on(mount, 'echo mine > tree/mine; rm tree/12/1; mv tree/12/2 tree/12/two; cat tree/12/*');
    await mount.process.kill();
    await on(writer, 'echo theirs > tree/12/3; mkdir tree/12/theirs');
    await mount.process.start();
    t.equal(await on(mount, SHOW), await on(writer, SHOW));
    t.equal(await on(mount, 'cat tree/mine tree/12/3'), 'mine\ntheirs\n');
  });

  await t.test('again and again, while another mount goes on changing things', async (t) => {
    for (let round = 1; round <= 4; round++) {
      const change = `echo ${round} > tree/1/${round}; mv tree/2/${round + 5} tree/2/m${round}; rm tree/9/${round}`;
      if (round % 2 === 0) await mount.process.kill();
      else await mount.process.stop();
      await on(writer, change);
      await mount.process.start();
      t.equal(await on(mount, SHOW), await on(writer, SHOW), `round ${round}`);
    }
  });

  await t.test('a damaged cache is thrown away, loudly, and the mount works', async (t) => {
    for (const file of ['cache.db', 'blocks.data']) {
      await mount.process.stop();
      const path = `${cache}/${file}`;
      const fd = openSync(path, 'r+');
      const { size } = statSync(path);
      const junk = Buffer.alloc(64, 0xa5);
      for (let at = 0; at + junk.length < size; at += 1000) writeSync(fd, junk, 0, junk.length, at);
      closeSync(fd);
      await mount.process.start();
      t.equal(await on(mount, SHOW), await on(writer, SHOW), file);
      t.match(readFileSync(`${cluster.scratch.path}/mount-2.log`, 'utf8'), /damaged/);
    }
  });

  await t.test('a size of 0 keeps no blocks', async (t) => {
    const none = await cluster.mount({ options: 'cache_size=0' });
    t.equal(await on(none, SHOW), await on(writer, SHOW));
    await none.process.stop();
    t.throws(() => statSync(`${cluster.scratch.path}/cache-3/blocks.data`));
    t.ok(statSync(`${cache}/blocks.data`).size > 0);
  });
});
