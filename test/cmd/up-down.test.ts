/**
 * `leasefs up` and `down` with real processes and a real mount: started, crashed in every way, started again.
 * The mount is only ever touched by programs that can be killed.
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { present } from '../../src/base/assert.js';
import { type ClusterFile, type ClusterProcess, readClusterFile } from '../../src/cmd/cluster-file.js';
import { isAlive } from '../../src/cmd/process-identity.js';
import { mountAt } from '../../src/fuse/mount-table.js';
import { executable, runLeasefs } from './run-leasefs.js';

t.setTimeout(180_000);

const canMount = existsSync('/dev/fuse') || process.env.CI !== undefined;
const skip = canMount ? false : 'there is no /dev/fuse on this machine';

/**
 * A cluster's two directories, cleaned up however the test ends. Not `t.testdir`, which would be emptied while
 * it is still mounted.
 */
function makePlace(t: Test): { dir: string; data: string; mountpoint: string } {
  const dir = mkdtempSync(join(tmpdir(), 'leasefs-up-'));
  const place = { dir, data: join(dir, 'data'), mountpoint: join(dir, 'mnt') };
  mkdirSync(place.mountpoint);
  t.teardown(async () => {
    await runLeasefs(['down', '--data', place.data]);
    for (const mountpoint of [place.mountpoint, join(dir, 'again')])
      if (mountAt(mountpoint) !== undefined) await runLeasefs(['umount', '--force', mountpoint]);
    if (mountAt(place.mountpoint) === undefined) rmSync(dir, { recursive: true, force: true });
  });
  return place;
}

type Place = ReturnType<typeof makePlace>;

async function bringUp(t: Test, place: Place, more: readonly string[] = []): Promise<string> {
  const outcome = await runLeasefs(['up', place.mountpoint, '--data', place.data, '--detach', ...more]);
  t.equal(outcome.status, 0, `up ${more.join(' ')}${outcome.stderr}`);
  return readFileSync(join(place.data, 'logs/up.log'), 'utf8');
}

function clusterOf(place: Place): ClusterFile {
  return present(readClusterFile(place.data), 'cluster.json is there');
}

const ofRole = (place: Place, role: ClusterProcess['role']): ClusterProcess[] =>
  clusterOf(place).processes.filter((entry) => entry.role === role);

/** Runs a shell command; its output, or `failed: ...`. Never hangs. */
function shell(command: string): Promise<string> {
  return new Promise((resolve) => {
    execFile('sh', ['-c', command], { timeout: 20_000, killSignal: 'SIGKILL' }, (error, stdout, stderr) =>
      resolve(error === null ? stdout : `failed: ${stderr}${error.message}`),
    );
  });
}

/** Tries `check` until it holds, for 30 s. */
async function eventually(t: Test, what: string, check: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 150; attempt++) {
    if (await check()) {
      t.pass(what);
      return;
    }
    await sleep(200);
  }
  t.fail(what);
}

async function isHealthy(place: Place): Promise<boolean> {
  return (await runLeasefs(['status', '--data', place.data])).status === 0;
}

t.test('up, down and up again: one cluster, its data and its ports kept', { skip }, async (t) => {
  const place = makePlace(t);
  await bringUp(t, place);
  t.equal(mountAt(place.mountpoint)?.type, 'fuse.leasefs');
  t.equal(await shell(`echo kept > ${place.mountpoint}/file && sync ${place.mountpoint}/file`), '');

  const first = clusterOf(place);
  t.same(
    first.processes.map(({ role }) => role),
    ['up', 'meta', 'chunk', 'chunk', 'chunk', 'mount'],
  );
  t.ok(first.processes.every(isAlive), 'all of them run');
  const status = await runLeasefs(['status', '--data', place.data, '--json']);
  t.match(JSON.parse(status.stdout), {
    healthy: true,
    map: { replicas: 2 },
    sessions: [{ mountpoint: place.mountpoint }],
  });

  const second = await runLeasefs(['up', place.mountpoint, '--data', place.data]);
  t.match(second, { status: 1, stderr: /is in use by another 'leasefs up'/ });

  t.match(await runLeasefs(['down', '--data', place.data]), { status: 0, stdout: /stopped/ });
  t.notOk(first.processes.some(isAlive), 'nothing runs any more');
  t.equal(mountAt(place.mountpoint), undefined);
  t.same(clusterOf(place).processes, []);
  t.match(await runLeasefs(['down', '--data', place.data]), { status: 0, stdout: /nothing was running/ });
  const mountLog = readFileSync(join(place.data, 'logs/mount.log'), 'utf8');
  t.match(mountLog, /everything is written back/);
  t.notMatch(mountLog, /lazy unmount|nothing is mounted/, 'a mount that nobody uses ends quietly');

  await bringUp(t, place);
  t.same(clusterOf(place).ports, first.ports);
  t.equal(await shell(`cat ${place.mountpoint}/file`), 'kept\n');

  const user = spawn('sh', ['-c', 'exec 3> busy && exec sleep 60'], {
    cwd: place.mountpoint,
    stdio: 'ignore',
  });
  t.teardown(() => user.kill());
  await eventually(
    t,
    'a program uses it',
    async () => (await shell(`ls ${place.mountpoint}`)) === 'busy\nfile\n',
  );
  t.match(await runLeasefs(['down', '--data', place.data]), {
    status: 0,
    stdout: /in use: it is taken away[\s\S]*stopped;/,
  });
  t.equal(mountAt(place.mountpoint), undefined, 'a mount in use goes as well');
});

t.test('each process that is killed is started again', { skip }, async (t) => {
  const place = makePlace(t);
  await bringUp(t, place);
  await shell(`echo kept > ${place.mountpoint}/file`);
  for (const role of ['chunk', 'meta', 'mount'] as const) {
    const victim = present(ofRole(place, role)[0], 'there is one');
    process.kill(victim.pid, 'SIGKILL');
    await eventually(t, `another ${role} process runs`, () => {
      const now = ofRole(place, role);
      return (
        now.length === (role === 'chunk' ? 3 : 1) &&
        now.every((entry) => isAlive(entry) && entry.pid !== victim.pid)
      );
    });
    await eventually(t, 'the cluster is healthy', () => isHealthy(place));
    t.equal(
      await shell(`cat ${place.mountpoint}/file`),
      'kept\n',
      `the mount works after ${role} was killed`,
    );
  }
  t.match(readFileSync(join(place.data, 'logs/up.log'), 'utf8'), /ended unexpectedly \(SIGKILL\)/);
});

t.test('after everything was killed at once it starts on what is there', { skip }, async (t) => {
  const place = makePlace(t);
  await bringUp(t, place);
  await shell(`echo kept > ${place.mountpoint}/file`);
  for (const { pid } of clusterOf(place).processes) process.kill(pid, 'SIGKILL');
  await eventually(t, 'the mount is dead', async () =>
    (await shell(`ls ${place.mountpoint}`)).startsWith('failed'),
  );
  await bringUp(t, place);
  t.equal(await shell(`cat ${place.mountpoint}/file`), 'kept\n');
});

t.test(
  "what an 'up' that was killed leaves running is stopped by the next one, and by down",
  { skip },
  async (t) => {
    const place = makePlace(t);
    await bringUp(t, place);
    const orphan = (): readonly ClusterProcess[] => {
      process.kill(present(ofRole(place, 'up')[0], 'up runs').pid, 'SIGKILL');
      return clusterOf(place).processes.filter(({ role }) => role !== 'up');
    };
    const first = orphan();
    t.ok(first.every(isAlive), 'they go on without it');
    const log = await bringUp(t, place);
    t.match(log, /stopping what an earlier start has left running/);
    t.notOk(first.some(isAlive));

    const second = orphan();
    t.match(await runLeasefs(['down', '--data', place.data]), {
      status: 0,
      stdout: /still running, stopped/,
    });
    t.notOk(second.some(isAlive));
    t.equal(mountAt(place.mountpoint), undefined);
  },
);

t.test(
  'a port that is taken meanwhile is given up; chunk servers are added, never forgotten',
  { skip },
  async (t) => {
    const place = makePlace(t);
    await bringUp(t, place, ['--chunk-servers', '2']);
    t.equal(ofRole(place, 'chunk').length, 2);
    await runLeasefs(['down', '--data', place.data]);
    const taken = clusterOf(place).ports;
    const squatters = taken.slice(0, 2).map((port) => createServer().listen(port, '127.0.0.1'));
    t.teardown(() => {
      for (const squatter of squatters) squatter.close();
    });

    t.match(await bringUp(t, place, ['--chunk-servers', '3']), /port \d+ is taken; meta gets another/);
    t.equal(ofRole(place, 'chunk').length, 3);
    t.notMatch(clusterOf(place).ports[0], taken[0]);
    t.ok(await isHealthy(place));
    await runLeasefs(['down', '--data', place.data]);

    t.match(await bringUp(t, place, ['--chunk-servers', '1']), /starting all 3 chunk servers/);
    t.equal(ofRole(place, 'chunk').length, 3);
  },
);

t.test(
  'Ctrl-C stops it, also while a program uses the mount; unmounting from outside is no crash',
  { skip },
  async (t) => {
    const place = makePlace(t);
    const up = spawn(process.execPath, [executable, 'up', place.mountpoint, '--data', place.data], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    up.stdout.on('data', (text: Buffer) => {
      said += text.toString();
    });
    const ended = new Promise<number | null>((resolve) => up.once('exit', resolve));
    await eventually(t, 'it is mounted', () => said.includes('leasefs is mounted at'));

    t.equal((await runLeasefs(['umount', place.mountpoint])).status, 0);
    await eventually(t, 'it says so', () => said.includes('mount has ended by itself'));
    const again = join(place.dir, 'again');
    mkdirSync(again);
    const cache = ['--cache', join(place.dir, 'cache')];
    t.equal((await runLeasefs(['mount', clusterOf(place).metaUrl, again, ...cache])).status, 0);
    const user = spawn('sh', ['-c', 'exec 3> file && exec sleep 60'], { cwd: again, stdio: 'ignore' });
    t.teardown(() => user.kill());
    await eventually(t, 'a program has a file open', async () => (await shell(`ls ${again}`)) === 'file\n');
    t.match(await runLeasefs(['umount', again]), { status: 1, stderr: /in use/ });
    t.equal((await runLeasefs(['umount', '--force', again])).status, 0);
    t.equal(mountAt(again), undefined);

    up.kill('SIGINT');
    t.equal(await ended, 0, 'it ends well');
    t.match(said, /stopped; the data stays in/);
    t.same(clusterOf(place).processes, []);
  },
);
