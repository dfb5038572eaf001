/**
 * A metadata server with many sessions that hold very many leases: what a lease takes of its memory, what
 * heartbeats cost, how long it is deaf to everybody else, and how long a change takes that all of them have to
 * be asked about. The server is a process of its own, on SQLite, over WebSockets; the mounts are simulated,
 * all in this process, so that a recall's time contains all their answers.
 *
 * Twice: with inodes of which each session has its own, and with inodes that all share. Memory is what is
 * there more than after such listings by sessions that take no leases.
 *
 * `node dist/bench/leases.js`; `--sessions N` (100); `--leases N` of each (10000); `--only TEXT` (`each its own` or `all the same`);
 * `--json`. It takes minutes.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Ino } from '../src/proto/ids.js';
import { limits } from '../src/proto/limits.js';
import { quantile } from './figures/quantile.js';
import { printTable } from './figures/table.js';
import type { Figures, Order, Report } from './leases/server.js';
import { SimulatedMount } from './leases/simulated-mount.js';

const SERVER = fileURLToPath(new URL('./leases/server.js', import.meta.url));
/** Inodes whose leases are recalled. */
const RECALLS = 100;
/** Sessions without leases that list beforehand, so that caches and pools have their size. */
const WARMING = 10;
const HEARTBEAT_ROUNDS = 100;
const WATCH_MS = 4 * limits.heartbeatMs;

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    sessions: { type: 'string', default: '100' },
    leases: { type: 'string', default: '10000' },
    only: { type: 'string', default: '' },
  },
});
const sessions = Number(values.sessions);

class Server {
  readonly #child: ChildProcess;

  constructor(data: string, layout: { own: number; shared: number }) {
    const args = { data, owners: layout.own > 0 ? sessions : 0, ...layout };
    const options = Object.entries(args).flatMap(([name, value]) => [`--${name}`, String(value)]);
    this.#child = fork(SERVER, options, { execArgv: ['--expose-gc'] });
  }

  #next(): Promise<Report> {
    return new Promise((resolve, reject) => {
      const ended = (): void => reject(new Error('the server has ended'));
      this.#child.once('exit', ended);
      this.#child.once('message', (report: Report) => {
        this.#child.off('exit', ended);
        resolve(report);
      });
    });
  }

  async url(): Promise<string> {
    const report = await this.#next();
    if (!('url' in report)) throw new Error('the server has no address');
    return report.url;
  }

  tell(order: Order): void {
    this.#child.send(order);
  }

  async figures(): Promise<Figures> {
    this.tell('figures');
    const report = await this.#next();
    if (!('rssBytes' in report)) throw new Error('the server has no figures');
    return report;
  }

  async longestDelayMs(): Promise<number> {
    this.tell('delay');
    const report = await this.#next();
    if (!('longestDelayMs' in report)) throw new Error('the server does not say how deaf it was');
    return report.longestDelayMs;
  }

  stop(): void {
    this.#child.disconnect();
  }
}

async function startMounts(url: string, leases: boolean): Promise<SimulatedMount[]> {
  const mounts: SimulatedMount[] = [];
  for (let index = 0; index < sessions; index++)
    mounts.push(
      await SimulatedMount.start(url, { leases, firstMs: (index * limits.heartbeatMs) / sessions }),
    );
  return mounts;
}

/** All list what they shall hold; the shared inodes and the first mount's own. */
async function listAll(
  mounts: readonly SimulatedMount[],
  own: number,
): Promise<{ shared: Ino[]; own: Ino[] }> {
  const found: { shared: Ino[]; own: Ino[] } = { shared: [], own: [] };
  for (const [index, mount] of mounts.entries()) {
    const owned = own > 0 ? await mount.list(`own-${index}`) : [];
    if (index === 0) found.own = owned;
    found.shared = await mount.list('shared');
  }
  return found;
}

/** CPU time of the server for one heartbeat, in microseconds; all sessions send theirs at once. */
async function heartbeatCpuUs(server: Server, mounts: readonly SimulatedMount[]): Promise<number> {
  const before = await server.figures();
  const collected = await server.figures();
  for (let round = 0; round < HEARTBEAT_ROUNDS; round++)
    await Promise.all(mounts.map((mount) => mount.heartbeat()));
  const after = await server.figures();
  // Each asking collects garbage, which is not the heartbeats'.
  const askingMs = collected.cpuMs - before.cpuMs;
  return (Math.max(0, after.cpuMs - collected.cpuMs - askingMs) * 1000) / (HEARTBEAT_ROUNDS * mounts.length);
}

/** While every session heartbeats as mounts do, and nothing else happens. */
async function quietDelayMs(server: Server): Promise<number> {
  server.tell('watch');
  await sleep(WATCH_MS);
  return await server.longestDelayMs();
}

async function changes(by: SimulatedMount, inodes: readonly Ino[]): Promise<number[]> {
  const times: number[] = [];
  for (const ino of inodes) {
    const startMs = performance.now();
    await by.chmod(ino);
    times.push(performance.now() - startMs);
  }
  return times;
}

interface Recalls {
  readonly holders: number;
  readonly times: readonly number[];
  readonly longestDelayMs: number;
}

async function recalls(
  server: Server,
  by: SimulatedMount,
  { holders, inodes }: { holders: number; inodes: readonly Ino[] },
): Promise<Recalls> {
  server.tell('watch');
  const times = await changes(by, inodes.slice(0, RECALLS));
  return { holders, times, longestDelayMs: await server.longestDelayMs() };
}

/** Where it is, because it takes minutes. */
function progress(what: string): void {
  if (!values.json) process.stderr.write(`${(performance.now() / 1000).toFixed(0)} s: ${what}\n`);
}

async function measure(name: string, layout: { own: number; shared: number }) {
  const data = mkdtempSync(join(tmpdir(), 'leasefs-bench-'));
  const server = new Server(data, layout);
  try {
    const url = await server.url();
    progress(`${name}: sessions without leases list`);
    const others = await startMounts(url, false);
    await listAll(others.slice(0, WARMING), layout.own);
    progress('heartbeats');
    const before = await server.figures();
    const idleUs = await heartbeatCpuUs(server, others);
    const idleDelayMs = await quietDelayMs(server);
    for (const other of others) await other.close();

    progress('sessions list and take leases');
    const mounts = await startMounts(url, true);
    const startMs = performance.now();
    const inodes = await listAll(mounts, layout.own);
    const listMs = performance.now() - startMs;
    const after = await server.figures();
    const leases = mounts.reduce((sum, mount) => sum + mount.leases, 0);
    const heartbeatUs = await heartbeatCpuUs(server, mounts);
    const delayMs = await quietDelayMs(server);

    progress('recalls');
    const changer = await SimulatedMount.start(url, { leases: false, firstMs: limits.heartbeatMs });
    const free = await changer.list('free');
    const ofNobody = await recalls(server, changer, { holders: 0, inodes: free });
    const ofOne = await recalls(server, changer, { holders: 1, inodes: inodes.own });
    const ofAll = await recalls(server, changer, { holders: sessions, inodes: inodes.shared });
    for (const mount of [...mounts, changer]) await mount.close();
    return {
      ...{ name, leases, listMs, before, after, idleUs, idleDelayMs, heartbeatUs, delayMs },
      recalls: [ofNobody, ofOne, ofAll].filter(({ times }) => times.length > 0),
    };
  } finally {
    server.stop();
    rmSync(data, { recursive: true, force: true });
  }
}

type Measured = Awaited<ReturnType<typeof measure>>;

function print(results: readonly Measured[]): void {
  const load = loadavg()[0];
  if (values.json) {
    console.log(JSON.stringify({ sessions, load, results }, null, 2));
    return;
  }
  const whole = (value: number): string => Math.round(value).toLocaleString('en-US');
  const perLease = ({ leases, before, after }: Measured, key: 'rssBytes' | 'heapBytes'): string =>
    whole((after[key] - before[key]) / leases);
  const rows: [string, (result: Measured) => string][] = [
    ['leases', ({ leases }) => whole(leases)],
    ['heap for each, bytes', (result) => perLease(result, 'heapBytes')],
    ['resident for each, bytes', (result) => perLease(result, 'rssBytes')],
    ['resident, MiB', ({ after }) => whole(after.rssBytes / 2 ** 20)],
    ['a heartbeat, µs of CPU', ({ heartbeatUs }) => heartbeatUs.toFixed(0)],
    ['  without leases', ({ idleUs }) => idleUs.toFixed(0)],
    ['longest event-loop delay, heartbeats only, ms', ({ delayMs }) => delayMs.toFixed(1)],
    ['  without leases', ({ idleDelayMs }) => idleDelayMs.toFixed(1)],
    ...[0, 1, sessions].flatMap((holders): [string, (result: Measured) => string][] => {
      const of = (result: Measured, show: (recalls: Recalls) => number): string => {
        const found = result.recalls.find((each) => each.holders === holders);
        return found === undefined ? '' : show(found).toFixed(2);
      };
      return [
        [
          `a change that ${holders} sessions are asked about: median ms`,
          (r) => of(r, ({ times }) => quantile(times, 0.5)),
        ],
        ['  p99 ms', (r) => of(r, ({ times }) => quantile(times, 0.99))],
        ['  longest event-loop delay, ms', (r) => of(r, ({ longestDelayMs }) => longestDelayMs)],
      ];
    }),
  ];
  printTable(
    ['', ...results.map(({ name }) => name)],
    rows.map(([what, cell]) => [what, ...results.map(cell)]),
    { words: 1 },
  );
  console.log(`${sessions} sessions; load ${load?.toFixed(1)}`);
}

const leases = Number(values.leases);
const layouts = [
  { name: 'each its own', own: leases - RECALLS, shared: RECALLS },
  { name: 'all the same', own: 0, shared: leases },
];
const results: Measured[] = [];
for (const { name, ...layout } of layouts)
  if (name.includes(values.only)) results.push(await measure(name, layout));
print(results);
