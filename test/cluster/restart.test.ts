/**
 * Every process of a cluster is killed in the middle of a copy and started again: nothing that fsync
 * acknowledged is ever missing, and programs that wait for a server go on without an error.
 */
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { Cluster, type ClusterMount } from './cluster.js';
import { acknowledged, CHECK, COPY, contentOf, hashOf } from './fsync-log.js';
import { attempt, node, type RunningProgram, start } from './on-mount.js';

const TIMEOUT_MS = 100_000;
t.setTimeout(230_000);

interface Copy {
  readonly program: RunningProgram;
  readonly directory: string;
  /** Ends the copy after the file under way; what it said. */
  stop(): Promise<string>;
}

function startCopy(cluster: Cluster, mount: ClusterMount, name: string): Copy {
  const directory = `${mount.path}/${name}`;
  const stopFile = `${cluster.scratch.path}/stop-${name}`;
  const program = start(process.execPath, ['--input-type=module', '-e', COPY], {
    cwd: cluster.scratch.path,
    timeoutMs: 80_000,
    env: { DIR: directory, STOP: stopFile, COUNT: '100000' },
  });
  return {
    program,
    directory,
    stop: async () => {
      writeFileSync(stopFile, '');
      const { stdout } = await program.outcome;
      return stdout;
    },
  };
}

/** Everything that the copy's output acknowledges is there, as seen through `mount`. */
async function checkCopy(t: Test, cluster: Cluster, directory: string, output: string): Promise<void> {
  const numbers = acknowledged(output);
  t.ok(numbers.length > 0, `${numbers.length} files acknowledged`);
  const wanted = Object.fromEntries(numbers.map((index) => [index, hashOf(contentOf(index))]));
  const list = `${cluster.scratch.path}/wanted.json`;
  writeFileSync(list, JSON.stringify(wanted));
  const options = { cwd: cluster.scratch.path, env: { DIR: directory, WANTED: list }, timeoutMs: 60_000 };
  t.equal(await node(CHECK, options), 'all there\n', 'what fsync acknowledged is there, byte for byte');
}

/** The same copy once more, from the start, in a fresh directory. */
async function copyAgain(t: Test, cluster: Cluster, directory: string): Promise<void> {
  const env = { DIR: `${directory}-again`, STOP: '/nonexistent', COUNT: '25' };
  const output = await node(COPY, { cwd: cluster.scratch.path, env, timeoutMs: 60_000 });
  t.match(output, /^done 0$/m, 'the copy can be repeated without a failure');
}

t.test('kill -9 in the middle of a copy', { timeout: 2 * TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'restart' });
  const mount = await cluster.mount();
  const witness = await cluster.mount();
  const killed = { meta: cluster.meta, 'chunk-1': cluster.chunks[0], 'chunk-2': cluster.chunks[1] };
  for (const [name, process] of Object.entries(killed)) {
    await t.test(`of ${name}, which is started again`, { timeout: TIMEOUT_MS }, async (t) => {
      const copy = startCopy(cluster, mount, name);
      await copy.program.printed('ok 10\n');
      await process?.kill();
      await sleep(1_000);
      await process?.start();
      const soFar = acknowledged(await copy.program.printed('ok 10\n')).length;
      await sleep(2_500);
      const output = await copy.stop();
      t.ok(acknowledged(output).length > soFar, 'the copy went on');
      t.notMatch(output, /failed/, 'no call failed: each waited for the server to be back');
      await checkCopy(t, cluster, copy.directory, output);
      await checkCopy(t, cluster, copy.directory.replace(mount.path, witness.path), output);
      await cluster.untilHealthy();
      await copyAgain(t, cluster, copy.directory);
    });
  }
  await t.test('of the mount daemon, which is started again', { timeout: TIMEOUT_MS }, async (t) => {
    const copy = startCopy(cluster, mount, 'mount');
    await copy.program.printed('ok 10\n');
    await mount.process.kill();
    const stderr = await attempt('ls', { cwd: mount.path }).then(
      (outcome) => outcome.stderr,
      (error: unknown) => String(error),
    );
    t.match(stderr, /not connected|ENOTCONN|ENOENT/, 'a dead mount says so');
    await mount.process.start();
    const output = await copy.stop();
    await checkCopy(t, cluster, copy.directory, output);
    await checkCopy(t, cluster, copy.directory.replace(mount.path, witness.path), output);
    await cluster.untilHealthy(60_000);
    await copyAgain(t, cluster, copy.directory);
  });
  await t.test(
    'of the mount daemon, whose place is not empty meanwhile',
    { timeout: TIMEOUT_MS },
    async (t) => {
      await mount.process.kill();
      // Connecting takes as long as that.
      cluster.meta.freeze();
      const started = mount.process.start();
      const look = (): ReturnType<typeof attempt> =>
        attempt(`ls ${mount.path}`, { cwd: cluster.scratch.path });
      const found = new Set<string>();
      const endMs = performance.now() + 2_000;
      while (performance.now() < endMs) {
        const { status, stderr } = await look();
        found.add(status === 0 ? 'a directory' : /not connected/.test(stderr) ? 'a dead mount' : stderr);
      }
      cluster.meta.thaw();
      await started;
      t.strictSame([...found], ['a dead mount']);
      t.equal((await look()).status, 0);
    },
  );
  await t.test('of everything at once, which is started again', { timeout: TIMEOUT_MS }, async (t) => {
    const copy = startCopy(cluster, mount, 'all');
    await copy.program.printed('ok 10\n');
    await Promise.all([cluster.meta, ...cluster.chunks, mount.process].map((process) => process.kill()));
    await cluster.meta.start();
    await Promise.all(cluster.chunks.map((chunk) => chunk.start()));
    await mount.process.start();
    await checkCopy(t, cluster, copy.directory, await copy.stop());
    await cluster.untilHealthy(60_000);
    await copyAgain(t, cluster, copy.directory);
  });
});
