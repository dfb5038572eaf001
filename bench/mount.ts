/**
 * This mount beside the host's filesystem, in everyday work: `node dist/bench/mount.js`. Starts a cluster of
 * its own (one metadata server, three chunk servers, two copies) on the host's filesystem, so that both sides
 * use the same disk, and measures in turn, so that both meet the same disturbances. Prints a table of units
 * per second: medians of up to five runs, fewer where a run takes long; and how leasefs compares with each other.
 *
 * `--json`, with the rate of every run; `--peer [NAME=]DIR` adds a column for any directory (another filesystem's
 * mount), as often as it is given; `--dir DIR` where to work (default: the temporary directory); `--driver kernel|fuse-native`; `--runs N`;
 * `--budget SECONDS` for each workload, in which all runs are made that fit; `--only TEXT`.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LocalCluster } from './cluster/local-cluster.js';
import { median } from './figures/quantile.js';
import { printTable } from './figures/table.js';
import type { Place } from './mount/place.js';
import type { Order, Report } from './mount/worker.js';
import { archives, makeArchive, workloads } from './mount/workloads.js';

const WORKER = fileURLToPath(new URL('./mount/worker.js', import.meta.url));
const RUN_TIMEOUT_MS = 120_000;

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    peer: { type: 'string', multiple: true, default: [] },
    dir: { type: 'string', default: tmpdir() },
    driver: { type: 'string', default: 'kernel' },
    runs: { type: 'string', default: '5' },
    // No further run of a workload begins when all places together have taken so long.
    budget: { type: 'string', default: '7' },
    only: { type: 'string', default: '' },
  },
});

interface Contender {
  readonly name: string;
  readonly place: Place;
  readonly worker: ChildProcess;
  readonly rates: Map<string, number[]>;
}

function contender(name: string, place: Place): Contender {
  return { name, place, worker: fork(WORKER), rates: new Map() };
}

function isReport(message: unknown): message is Report {
  return typeof message === 'object' && message !== null && ('seconds' in message || 'error' in message);
}

/** One run in the contender's worker. A worker that hangs is killed, and the benchmark ends. */
function ask({ worker, place, name }: Contender, order: Omit<Order, 'place'>): Promise<Report> {
  const { workload } = order;
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      worker.removeAllListeners();
    };
    const timer = setTimeout(() => {
      end();
      worker.kill('SIGKILL');
      reject(new Error(`${workload} on ${name} takes more than ${RUN_TIMEOUT_MS / 1000} s`));
    }, RUN_TIMEOUT_MS);
    worker.once('message', (message: unknown) => {
      end();
      if (isReport(message)) resolve(message);
      else reject(new Error(`${name}: an unexpected answer`));
    });
    worker.once('exit', (code) => {
      end();
      reject(new Error(`${workload} on ${name}: the worker ended with status ${code}`));
    });
    worker.send({ ...order, place } satisfies Order);
  });
}

async function tell(
  each: Contender,
  order: Omit<Order, 'place'>,
): Promise<{ units: number; seconds: number }> {
  const report = await ask(each, order);
  if ('error' in report) throw new Error(`${order.workload} on ${each.name}: ${report.error}`);
  return report;
}

const runs = Number(values.runs);
const wanted = workloads.filter((workload) => workload.name.includes(values.only));

/** What has to be there before the mount is. */
async function makeOlder(contenders: readonly Contender[]): Promise<void> {
  for (const { name: workload, older } of wanted) {
    if (older === undefined) continue;
    for (const each of contenders) {
      for (let run = 0; run < runs; run++) await tell(each, { stage: 'older', workload, run });
    }
  }
}

async function measure(contenders: readonly Contender[]): Promise<void> {
  for (const { name } of wanted) {
    const startMs = performance.now();
    for (let run = 0; run < runs; run++) {
      for (const each of contenders) {
        const report = await tell(each, { stage: 'run', workload: name, run });
        each.rates.set(name, [...(each.rates.get(name) ?? []), report.units / report.seconds]);
      }
      if (performance.now() - startMs > Number(values.budget) * 1000) break;
    }
    if (!values.json) process.stderr.write(`\r${name.padEnd(50)}`);
  }
  if (!values.json) process.stderr.write(`\r${' '.repeat(50)}\r`);
}

const shown = (rate: number): string =>
  rate >= 100 ? Math.round(rate).toLocaleString('en-US') : rate.toPrecision(3);

function rows(contenders: readonly Contender[]) {
  return workloads
    .filter(({ name }) => contenders.every((each) => each.rates.has(name)))
    .map(({ name, unit }) => {
      const columns = contenders.map((each) => ({ name: each.name, rates: each.rates.get(name) ?? [] }));
      const perSecond = Object.fromEntries(columns.map((each) => [each.name, median(each.rates)]));
      const rates = Object.fromEntries(columns.map((each) => [each.name, each.rates]));
      return { name, unit, runs: columns[0]?.rates.length ?? 0, perSecond, rates };
    });
}

function print(contenders: readonly Contender[]): void {
  const result = rows(contenders);
  if (values.json) {
    const { driver, dir } = values;
    console.log(JSON.stringify({ driver, dir, loadBefore, load: loadavg(), results: result }, null, 2));
    return;
  }
  const others = contenders.map((each) => each.name).filter((name) => name !== 'leasefs');
  const head = ['', 'unit/s', 'leasefs', ...others, ...others.map((name) => `: ${name}`), 'runs'];
  const lines = result.map(({ name, unit, runs, perSecond }) => {
    const rateOf = (place: string): number => perSecond[place] ?? Number.NaN;
    const ratios = others.map((other) => (rateOf('leasefs') / rateOf(other)).toPrecision(2));
    return [
      name,
      unit,
      ...['leasefs', ...others].map((each) => shown(rateOf(each))),
      ...ratios,
      String(runs),
    ];
  });
  printTable(head, lines, { words: 2 });
  const load = (of: readonly number[]): string => of.map((average) => average.toFixed(1)).join(' ');
  console.log(`load average (1, 5, 15 min) before: ${load(loadBefore)}; after: ${load(loadavg())}`);
}

/** Of `--peer`: a new directory in each. */
function makePeers(): { name: string; base: string }[] {
  return values.peer.map((peer) => {
    const [, name = 'peer', dir = ''] = /^(?:([^=/]+)=)?(.*)$/s.exec(peer) ?? [];
    return { name, base: mkdtempSync(join(resolve(dir), 'bench-')) };
  });
}

const loadBefore = loadavg();
const scratch = mkdtempSync(join(resolve(values.dir), 'leasefs-bench-'));
const local = join(scratch, 'local');
const workers: ChildProcess[] = [];
try {
  mkdirSync(local);
  for (const count of Object.values(archives)) makeArchive(local, count);
  const host = join(scratch, 'host');
  mkdirSync(host);
  const cluster = new LocalCluster(scratch, { driver: values.driver });
  const peers = makePeers();
  try {
    // For first readings.
    const other = cluster.mount('2');
    const again = cluster.mount('3');
    const onlyPlace = (base: string): Place => ({ base, other: base, again: base, local });
    const contenders = [
      contender('leasefs', { base: cluster.base, other, again, local }),
      contender('host', onlyPlace(host)),
      ...peers.map(({ name, base }) => contender(name, onlyPlace(base))),
    ];
    workers.push(...contenders.map((each) => each.worker));
    await makeOlder(contenders);
    cluster.unmount(again);
    cluster.mount('3');
    await measure(contenders);
    print(contenders);
  } finally {
    for (const worker of workers) worker.kill();
    cluster.stop();
    for (const { base } of peers) rmSync(base, { recursive: true, force: true });
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
