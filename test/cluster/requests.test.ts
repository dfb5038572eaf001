/**
 * How often a mount is asked, and asks, for everyday work: what is known under leases costs no request of the
 * kernel and no call to a server, and what a mount has for itself alone is changed without waiting for anybody.
 * Counted, not timed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { limits } from '../../src/proto/limits.js';
import { Cluster } from './cluster.js';
import { sh } from './on-mount.js';
import { type Counts, only, RequestLog } from './request-log.js';

const TIMEOUT_MS = 180_000;
t.setTimeout(TIMEOUT_MS);

const COUNT = 100;
/** Entries of the directory that is listed. */
const ENTRIES = 300;
/** Longer than leases are trusted without a heartbeat. */
const PAUSE_MS = limits.leaseTtlMs + 2_000;
/** While the servers are frozen; shorter than leases are trusted. */
const FROZEN_MS = 4_000;
const DO_TIMEOUT_MS = 60_000;
/** In which RELEASE follows a close. */
const RELEASED_MS = 300;
const TRIES = 6;

/** One program for all of it, so that starting it is not counted. It carries out what it is sent. */
const PROGRAM = `
const fs = require('node:fs');
process.on('message', ({ body }) => {
  try {
    process.send({ result: new Function('fs', 'require', body)(fs, require) ?? null });
  } catch (error) {
    process.send({ error: String(error.stack) });
  }
});
process.send({ result: null });
`;

/** mmap(2) through koffi: the sum of a mapping's bytes, and the mapping stays. */
const MAP = `
const koffi = require(${JSON.stringify(createRequire(import.meta.url).resolve('koffi'))});
const libc = koffi.load('libc.so.6');
const mmap = libc.func('void *mmap(void *, size_t, int, int, int, int64_t)');
globalThis.map = (fd) => mmap(null, 4096, 1, 1, fd, 0);
globalThis.sum = (at) => koffi.decode(at, 'uint8_t', 4096).reduce((sum, byte) => sum + byte, 0);
`;

class Program {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(directory: string): Promise<Program> {
    const args = ['-e', `process.chdir(${JSON.stringify(directory)});${PROGRAM}`];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    const program = new Program(child);
    await program.#answer();
    return program;
  }

  #answer(): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('the program does not answer')), DO_TIMEOUT_MS);
      this.#child.once('message', (message: { result?: unknown; error?: string }) => {
        clearTimeout(timer);
        if (message.error === undefined) resolve(message.result);
        else reject(new Error(message.error));
      });
    });
  }

  do(body: string): Promise<unknown> {
    const answer = this.#answer();
    this.#child.send({ body });
    return answer;
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }
}

t.test('requests', { timeout: TIMEOUT_MS }, async (t) => {
  const cluster = await Cluster.start(t, { name: 'requests' });
  const mount = await cluster.mount({ options: 'debug' });
  const program = await Program.start(mount.path);
  t.teardown(() => program.end());
  const log = new RequestLog(mount.process.logPath);
  const each = (action: string, count = COUNT): string => `for (let n = 0; n < ${count}; n++) { ${action} }`;
  await program.do(`
    fs.mkdirSync('many');
    ${each("fs.writeFileSync('many/' + n, 'content of ' + n)", ENTRIES)}
    fs.mkdirSync('few');
    ${each("fs.writeFileSync('few/' + n, 'x'.repeat(4096))")}
  `);
  const stat = each("fs.statSync('few/' + n)");
  const readAll = each("fs.readFileSync('few/' + n)");
  const list = "for (const name of fs.readdirSync('many')) fs.statSync('many/' + name);";

  /**
   * What `action` costs when it was done a moment ago. What the kernel knows it knows until leases have to be
   * confirmed again, which may be in between: then it is tried again.
   */
  async function again(action: string, expected: Counts): Promise<Counts> {
    let counts: Counts = {};
    for (let tries = 0; tries < TRIES; tries++) {
      await log.begin();
      await program.do(action);
      await log.begin(RELEASED_MS);
      await program.do(action);
      counts = await log.since();
      if (isDeepStrictEqual(counts, expected)) break;
    }
    return counts;
  }

  await t.test('a stat of what is known asks nobody', async (t) => {
    t.same(await again(stat, {}), {});
  });

  await t.test('reading an open file, its attributes and a mapping of it asks nobody', async (t) => {
    await program.do(`${MAP} globalThis.fd = fs.openSync('few/7'); globalThis.at = map(fd);`);
    const read = `
      const room = Buffer.alloc(4096);
      ${each("if (fs.readSync(fd, room, 0, 4096, 0) !== 4096 || fs.fstatSync(fd).size !== 4096) throw 'short'")}
      if (sum(at) !== 4096 * 'x'.charCodeAt(0)) throw 'other content';
    `;
    t.same(await again(read, {}), {});
    await program.do('fs.closeSync(fd)');
  });

  await t.test('listing a directory again, with all attributes, costs its OPENDIR alone', async (t) => {
    const opened = { 'fuse opendir': 1, 'fuse releasedir': 1 };
    t.same(await again(list, opened), opened);
  });

  await t.test('after a pause the kernel asks the daemon once more, and the daemon nobody', async (t) => {
    await sleep(PAUSE_MS);
    await log.begin();
    await program.do(list);
    const counts = await log.since();
    t.same(only('rpc', counts), {});
    const requests = Object.values(only('fuse', counts)).reduce((sum, count) => sum + count, 0);
    t.ok(requests < 2 * ENTRIES + 20, `${requests} requests for ${ENTRIES} entries`);
  });

  await t.test(
    'open, read and close of what was read asks the daemon to open and close it, and nobody else',
    async (t) => {
      const opened = { 'fuse open': COUNT, 'fuse flush': COUNT, 'fuse release': COUNT };
      t.same(await again(readAll, opened), opened);
    },
  );

  await t.test('what is done in a directory of its own waits for no server', async (t) => {
    const servers = [cluster.meta, ...cluster.chunks];
    // Whatever is made needs a number: a supply is there.
    await program.do("fs.mkdirSync('own'); fs.writeFileSync('own/first', 'x')");
    await log.begin();
    for (const server of servers) server.freeze();
    const thaw = sleep(FROZEN_MS).then(() => {
      for (const server of servers) server.thaw();
      return 'thawed';
    });
    const work = program.do(`
      ${each("fs.writeFileSync('own/' + n, 'x'.repeat(4096), { mode: 0o640 })")}
      ${each("fs.renameSync('own/' + n, 'own/' + n + '.moved')")}
      fs.mkdirSync('own/sub');
      ${each("fs.renameSync('own/' + n + '.moved', 'own/sub/' + n)")}
      ${each("fs.unlinkSync('own/sub/' + n)", COUNT / 2)}
    `);
    t.equal(await Promise.race([thaw, work.then(() => 'done')]), 'done', 'it is done while nobody answers');
    await thaw;
    await work;
    const calls = Object.values(only('rpc', await log.since())).reduce((sum, count) => sum + count, 0);
    t.ok(calls < COUNT / 4, `and it is brought to the servers in few pieces: ${calls} calls`);
    const other = await cluster.mount();
    const left = Array.from({ length: COUNT / 2 }, (_, index) => `${index + COUNT / 2} 640 4096`);
    const found = await sh('stat -c "%n %a %s" *', { cwd: `${other.path}/own/sub` });
    t.same(found.trim().split('\n').sort(), left.sort(), 'where another mount finds it');
  });
});
