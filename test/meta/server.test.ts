import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { setLogLevel } from '../../src/base/log.js';
import { type MetaServerOptions, startMetaServer } from '../../src/meta/server.js';
import { META_APPLICATION_ID } from '../../src/meta/sqlite-schema.js';
import { openSqliteStore } from '../../src/meta/sqlite-store.js';
import { ROOT_INO } from '../../src/proto/ids.js';
import { connectWebSocket } from '../../src/rpc/websocket.js';
import { openDatabase } from '../../src/sqlite/database.js';
import { Client, createArgs, name, owner } from './rig.js';

setLogLevel('error');

const options = (dataDir: string, more: Partial<MetaServerOptions> = {}): MetaServerOptions => ({
  dataDir,
  host: '127.0.0.1',
  port: 0,
  replicas: 2,
  ...more,
});

async function connect(url: string): Promise<Client> {
  return new Client(await connectWebSocket(url, { timeoutMs: 5000 }));
}

const mountInfo = { host: 'h', pid: 1, mountpoint: '/m' };

async function mounted(url: string): Promise<Client> {
  const client = await connect(url);
  client.session = await client.call('openSession', mountInfo);
  return client;
}

t.test('a missing directory becomes a filesystem, and is the same one after a restart', async (t) => {
  const dir = join(t.testdir(), 'deep', 'meta');
  const first = await startMetaServer(options(dir, { placementGroups: 32 }));
  const mount = await mounted(first.url);
  await mount.create('hello');
  t.match(await mount.call('map', {}), { clusterId: first.clusterId, groups: 32, replicas: 2 });
  await first.stop();
  await mount.gone();
  const second = await startMetaServer(options(dir, { replicas: 3, placementGroups: 64 }));
  t.equal(second.clusterId, first.clusterId);
  const again = await connect(second.url);
  const resumed = await again.call('openSession', { ...mountInfo, resume: mount.ticket });
  t.match(resumed.map, { groups: 32, replicas: 2 }, 'as it was made');
  t.match(await again.call('lookup', { parent: ROOT_INO, name: name('hello') }), { nlink: 1 });
  await second.stop();
  t.strictSame(readdirSync(dir), ['meta.db'], 'nothing is left open');
});

t.test('a directory with other things in it is refused and left alone', async (t) => {
  const dir = t.testdir({ 'photo.jpg': 'mine', 'x.log': '' });
  await t.rejects(startMetaServer(options(dir)), /not empty \(photo\.jpg\)/);
  t.strictSame(readdirSync(dir).sort(), ['photo.jpg', 'x.log']);
  const file = join(dir, 'photo.jpg');
  await t.rejects(startMetaServer(options(file)));
  await t.rejects(startMetaServer(options(dir, { replicas: 0 })), /replicas/);
});

t.test('a foreign database and a newer format are refused and left alone', async (t) => {
  for (const [applicationId, formatVersion, message] of [
    [77, 1, /another program/],
    [META_APPLICATION_ID, 999, /format 999, newer/],
  ] as const) {
    const dir = join(t.testdir(), String(formatVersion));
    mkdirSync(dir);
    const path = join(dir, 'meta.db');
    openDatabase({ path, applicationId, formatVersion, create: true, migrate: () => {} }).close();
    const before = readFileSync(path);
    await t.rejects(startMetaServer(options(dir)), message);
    t.strictSame(readFileSync(path), before);
  }
});

t.test('a port that is taken and a directory in use are named, and nothing stays open', async (t) => {
  const [one, two] = [join(t.testdir(), 'one'), join(t.testdirName, 'two')];
  const server = await startMetaServer(options(one));
  t.teardown(() => server.stop());
  const port = Number(new URL(server.url).port);
  await t.rejects(startMetaServer(options(two, { port })), new RegExp(`127.0.0.1:${port}`));
  const other = await startMetaServer(options(two));
  await other.stop();
  await t.rejects(startMetaServer(options(one)), new RegExp(join(one, 'meta.db')));
  await mounted(server.url);
});

t.test('garbage on the port harms nobody else', async (t) => {
  const server = await startMetaServer(options(join(t.testdir(), 'm')));
  t.teardown(() => server.stop());
  const mount = await mounted(server.url);
  const rude = await connectWebSocket(server.url, { timeoutMs: 5000 });
  const cut = new Promise<string>((resolve) => {
    rude.onClose = resolve;
  });
  rude.onFrame = () => {};
  rude.send([Buffer.from('not a frame at all')]);
  t.match(await cut, /badMessage|frame/);
  t.ok(await mount.create('fine'));
});

async function serve(t: Test, dir: string): Promise<{ url: string; process: ChildProcess }> {
  const script = fileURLToPath(new URL('./serve-until-killed.js', import.meta.url));
  const child = spawn(process.execPath, [script, dir], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => child.kill('SIGKILL'));
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout?.once('data', (data: Buffer) => resolve(data.toString().trim()));
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  return { url, process: child };
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

/** Creates files without end, two connections at once, until the connection breaks. */
async function createUntilCut(mount: Client, prefix: string, acknowledged: Set<string>): Promise<void> {
  for (let index = 0; ; index++) {
    const text = `${prefix}${index}`;
    try {
      await mount.create(text);
    } catch {
      return;
    }
    acknowledged.add(text);
  }
}

function* inTens<T>(items: readonly T[]): Generator<T[]> {
  for (let start = 0; start < items.length; start += 10) yield items.slice(start, start + 10);
}

t.test('a server killed in the middle of work loses nothing that it answered', async (t) => {
  const dir = join(t.testdir(), 'meta');
  const acknowledged = new Set<string>();
  let last: Client | undefined;
  for (let round = 0; round < 3; round++) {
    const { url, process: child } = await serve(t, dir);
    const mounts = [await mounted(url), await mounted(url), await mounted(url)];
    last = mounts[0];
    const work = mounts.map((mount, index) => createUntilCut(mount, `r${round}m${index}-`, acknowledged));
    for (let waits = 0; waits < 50 && (waits === 0 || acknowledged.size < 20 * (round + 1)); waits++)
      await new Promise((resolve) => setTimeout(resolve, 150));
    await mounts[0]?.call('sync', {}).catch(() => {});
    await kill(child);
    await Promise.all(work);
  }
  t.ok(acknowledged.size > 50, `${acknowledged.size} creates were answered`);
  const { url, process: child } = await serve(t, dir);
  if (last === undefined) throw new Error('no mount');
  const back = await connect(url);
  await back.call('openSession', { ...mountInfo, resume: last.ticket });
  const missing: string[] = [];
  for (const texts of inTens([...acknowledged]))
    await Promise.all(
      texts.map((text) =>
        back.call('lookup', { parent: ROOT_INO, name: name(text) }).catch(() => missing.push(text)),
      ),
    );
  t.strictSame(missing, []);
  await kill(child);
  const store = openSqliteStore(join(dir, 'meta.db'), undefined, []);
  store.checkInvariants();
  t.ok(store.counters().inodes > acknowledged.size);
  store.close();
});

t.test('a mutation that was answered is answered alike after the server was killed', async (t) => {
  const dir = join(t.testdir(), 'meta');
  const first = await serve(t, dir);
  const mount = await mounted(first.url);
  const args = { parent: ROOT_INO, name: name('d'), owner, mode: 0o700 };
  const made = await mount.call('mkdir', args, { sequence: 1 });
  await t.rejects(mount.call('create', createArgs('d'), { sequence: 2 }), { code: 'EEXIST' });
  await kill(first.process);
  await mount.gone();
  const second = await serve(t, dir);
  const back = await connect(second.url);
  await back.call('openSession', { ...mountInfo, resume: mount.ticket });
  t.strictSame(await back.call('mkdir', args, { sequence: 1 }), made);
  await t.rejects(back.call('create', createArgs('d'), { sequence: 2 }), { code: 'EEXIST' });
  const later = await back.call('mkdir', { ...args, name: name('later') }, { sequence: 3 });
  t.ok(later.ino > made.ino + 1, 'numbers that may have been in use when it was killed are skipped');
  await kill(second.process);
});
