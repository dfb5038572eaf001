/**
 * What a mount has answered under exclusive leases and cannot bring to the servers in time: its daemon is killed, or
 * frozen, while the metadata server is out of its reach; its leases end, and others change the same files. What they
 * have changed stays theirs, and what this mount had made of it is kept in `lost+found` in its cache directory and
 * said in its log; everything else is carried out.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { limits } from '../../src/proto/limits.js';
import { BadLink } from '../torture/bad-link.js';
import { Cluster, type ClusterMount } from './cluster.js';
import { sh } from './on-mount.js';

const TIMEOUT_MS = 240_000;
t.setTimeout(2 * TIMEOUT_MS);

/** What is written is stored by then, and its commit is in the journal. */
const STORED_MS = limits.chunkAgeMs + 1_000;

/** On the server, and known to this mount alone. */
const BEFORE = `
mkdir DIR DIR/file DIR/names DIR/apart
for f in file/f names/old names/gone apart/f; do echo before > DIR/$f; done
for f in file/f names/old names/gone apart/f; do sync DIR/$f; done`;

/** What the mount does while nobody hears of it. */
const MINE = `
echo 'mine in file' > DIR/file/f; mv DIR/file/f DIR/file/moved
echo 'mine in names' > DIR/names/new; mv DIR/names/old DIR/names/renamed; rm DIR/names/gone
echo 'mine apart' > DIR/apart/f; echo 'new apart' > DIR/apart/new; mkdir DIR/apart/d; chmod 600 DIR/apart/new
seq 3000 > DIR/apart/seq; truncate -s 10 DIR/apart/seq; touch -d @1000000 DIR/apart/seq`;

/** And later, to some of that. */
const LATER = `
echo more >> DIR/apart/f; truncate -s 4 DIR/apart/new`;

/** A file, and the names of a directory. */
const THEIRS = `
cat DIR/file/f DIR/names/gone
echo theirs >> DIR/file/f; echo theirs > DIR/names/theirs; sync DIR/file/f DIR/names/theirs`;

const SHOW = `(
cd DIR; ls file; cat file/*; ls names; cat names/*; ls apart; cat apart/f apart/new apart/seq
stat -c %a apart/new; stat -c %Y apart/seq )`;

const SHOWN = `f
before
theirs
gone
old
theirs
before
before
theirs
d
f
new
seq
mine apart
more
new 1
2
3
4
5
600
1000000
`;

interface Found {
  readonly bytes: readonly string[];
  readonly operations: readonly string[];
  readonly descriptions: readonly { readonly reason: string; readonly bytes: string }[];
}

/** What is in lost+found, without times. */
function found(cacheDir: string): Found {
  const directory = join(cacheDir, 'lost+found');
  const names = readdirSync(directory);
  const text = (name: string): string => readFileSync(join(directory, name), 'utf8');
  const jsonOf = (line: string): { method: string; args: object } => JSON.parse(line);
  const lines = names
    .filter((name) => name.endsWith('.jsonl'))
    .flatMap((name) => text(name).trim().split('\n'));
  const described = names.filter((name) => name.endsWith('.json'));
  return {
    bytes: names.filter((name) => /inode-\d+$/.test(name)).map(text),
    operations: lines.map((line) => {
      const { method, args } = jsonOf(line);
      return `${method} ${JSON.stringify(args)}`;
    }),
    descriptions: described.map((name) => JSON.parse(text(name))),
  };
}

const within = (script: string, directories: readonly string[]): string =>
  directories.map((directory) => script.replaceAll('DIR', directory)).join('\n');

interface Round {
  readonly directories: readonly [string, string];
  /** The mount's daemon is stopped: how, and how it goes on, with the others' changes made in between. */
  readonly silence: (mount: ClusterMount, meanwhile: () => Promise<void>) => Promise<void>;
}

t.test('what cannot be brought to the servers in time', { timeout: TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'lost' });
  const other = await cluster.mount();
  const here = { cwd: other.path, timeoutMs: 60_000 };
  let number = 1;

  async function round(t: Test, { directories, silence }: Round): Promise<void> {
    const link = await BadLink.start(Number(new URL(cluster.meta.url).port));
    t.teardown(() => link.stop());
    const mount = await cluster.mount({ metaUrl: `ws://127.0.0.1:${link.port}` });
    const cacheDir = join(cluster.scratch.path, `cache-${++number}`);
    const there = { cwd: mount.path, timeoutMs: 20_000 };
    const [stored, pending] = directories;
    await sh(within(BEFORE, directories), there);
    link.freeze();
    await sh(within(MINE, [stored]), there);
    await sleep(STORED_MS);
    await sh(`${within(MINE, [pending])}${within(LATER, directories)}`, there);
    await silence(mount, async () => {
      // With all that is under way.
      link.cut();
      const seen = await sh(within(THEIRS, directories), here);
      t.equal(seen, 'before\nbefore\n'.repeat(2), 'nobody has heard of it');
      link.thaw();
    });
    // It answers when all is brought back; others may see that going on.
    t.equal(await sh(within(SHOW, directories), there), SHOWN.repeat(2), 'as this mount sees it');
    t.equal(await sh(within(SHOW, directories), here), SHOWN.repeat(2), 'as others see it');
    const { bytes, operations, descriptions } = found(cacheDir);
    const wanted = ['mine in file\n', 'mine in names\n'];
    for (const text of wanted)
      t.equal(bytes.filter((each) => each === text).length, 2, `${text.trim()} is kept, of both`);
    t.equal(bytes.length, 4, bytes.join());
    t.equal(descriptions.length, 4);
    for (const { reason } of descriptions) t.match(reason, /inode|file/);
    const names = operations.join('\n');
    for (const name of ['"new"', '"renamed"', '"gone"']) t.match(names, name, `what was done to ${name}`);
    t.notMatch(names, 'apart');
    t.match(mount.process.log, 'changes made here were refused');
    t.match(mount.process.log, 'what was written to a file here could not be brought to it; it is kept');
    await sh(within('rm -r DIR', directories), here);
    await mount.process.stop();
  }

  await t.test('of a daemon that was killed, whose session goes on', { timeout: 90_000 }, (t) =>
    round(t, {
      directories: ['a1', 'a2'],
      silence: async ({ process }, meanwhile) => {
        await process.kill();
        await meanwhile();
        await process.start();
      },
    }),
  );

  await t.test('of a daemon that was killed, whose session is over', { timeout: 120_000 }, (t) =>
    round(t, {
      directories: ['b1', 'b2'],
      silence: async ({ process }, meanwhile) => {
        await process.kill();
        await meanwhile();
        const sessions = async (): Promise<number> => (await cluster.status()).status.sessions.length;
        await cluster.until('its session is over', async () => (await sessions()) === 1, 60_000);
        await process.start();
      },
    }),
  );

  await t.test('of a daemon that was frozen', { timeout: 90_000 }, (t) =>
    round(t, {
      directories: ['c1', 'c2'],
      silence: async ({ process }, meanwhile) => {
        process.freeze();
        await meanwhile();
        process.thaw();
        await sleep(3_000);
      },
    }),
  );
});
