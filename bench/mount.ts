/**
 * This mount beside the host's filesystem, in everyday work: `node dist/bench/mount.js`. Starts a cluster of
 * its own (one metadata server, three chunk servers, two copies) on the host's filesystem, so that both sides
 * use the same disk, and measures in turn, so that both meet the same disturbances. Prints a table of units
 * per second: medians of up to five runs, fewer where a run takes long.
 *
 * `--json`; `--peer DIR` adds a column for any directory (another filesystem's mount); `--dir DIR` where to
 * work (default: the temporary directory); `--driver kernel|fuse-native`; `--runs N`; `--only TEXT`.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LocalCluster } from './cluster/local-cluster.js';
import { median } from './figures/quantile.js';
import { printTable } from './figures/table.js';
import type { Order, Report } from './mount/worker.js';
import { archives, makeArchive, type Place, workloads } from './mount/workloads.js';

const WORKER = fileURLToPath(new URL('./mount/worker.js', import.meta.url));
/** No further run of a workload begins when all places together have taken so long. */
const WORKLOAD_BUDGET_MS = 7_000;
const RUN_TIMEOUT_MS = 120_000;

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    peer: { type: 'string' },
    dir: { type: 'string', default: tmpdir() },
    driver: { type: 'string', default: 'kernel' },
    runs: { type: 'string', default: '5' },
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
function ask({ worker, place, name }: Contender, workload: string, run: number): Promise<Report> {
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
    const order: Order = { workload, run, place };
    worker.send(order);
  });
}

async function measure(contenders: readonly Contender[]): Promise<void> {
  for (const { name } of workloads.filter((workload) => workload.name.includes(values.only))) {
    const startMs = performance.now();
    for (let run = 0; run < Number(values.runs); run++) {
      for (const each of contenders) {
        const report = await ask(each, name, run);
        if ('error' in report) throw new Error(`${name} on ${each.name}: ${report.error}`);
        each.rates.set(name, [...(each.rates.get(name) ?? []), report.units / report.seconds]);
      }
      if (performance.now() - startMs > WORKLOAD_BUDGET_MS) break;
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
      return { name, unit, runs: columns[0]?.rates.length ?? 0, perSecond };
    });
}

function print(contenders: readonly Contender[]): void {
  const result = rows(contenders);
  if (values.json) {
    console.log(JSON.stringify({ driver: values.driver, dir: values.dir, results: result }, null, 2));
    return;
  }
  const head = ['', 'unit/s', ...contenders.map((each) => each.name), 'leasefs : host', 'runs'];
  const lines = result.map(({ name, unit, runs, perSecond }) => {
    const ratio = (perSecond.leasefs ?? 0) / (perSecond.host ?? 1);
    return [name, unit, ...Object.values(perSecond).map(shown), ratio.toPrecision(2), String(runs)];
  });
  printTable(head, lines, { words: 2 });
}

const scratch = mkdtempSync(join(resolve(values.dir), 'leasefs-bench-'));
const local = join(scratch, 'local');
const workers: ChildProcess[] = [];
try {
  mkdirSync(local);
  for (const count of Object.values(archives)) makeArchive(local, count);
  const host = join(scratch, 'host');
  mkdirSync(host);
  const cluster = new LocalCluster(scratch, { driver: values.driver });
  const peer = values.peer === undefined ? undefined : mkdtempSync(join(resolve(values.peer), 'bench-'));
  try {
    // For first readings.
    const other = cluster.mount('2');
    const contenders = [
      contender('leasefs', { base: cluster.base, other, local }),
      contender('host', { base: host, other: host, local }),
      ...(peer === undefined ? [] : [contender('peer', { base: peer, other: peer, local })]),
    ];
    workers.push(...contenders.map((each) => each.worker));
    await measure(contenders);
    print(contenders);
  } finally {
    for (const worker of workers) worker.kill();
    cluster.stop();
    if (peer !== undefined) rmSync(peer, { recursive: true, force: true });
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
