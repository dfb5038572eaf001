/**
 * What it costs that another mount remembers a file: the first access of one mount to files that another has
 * leases on and in its caches, beside the same access to files that nobody has, in turn. Two mounts of one
 * cluster (one metadata server, three chunk servers, two copies). A `stat` needs no recall, the others do: of
 * the file's lease, `rename` of its directory's as well. `write` is open, write 4 KiB, close.
 *
 * `node dist/bench/recall.js`; `--count N` of each (300); `--json`; `--dir DIR` where to work (default: the
 * temporary directory).
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LocalCluster } from './cluster/local-cluster.js';
import { quantile } from './figures/quantile.js';
import { printTable } from './figures/table.js';
import { ACCESSES, type Access, type Order, type Report } from './recall/accessor.js';

const ACCESSOR = fileURLToPath(new URL('./recall/accessor.js', import.meta.url));
const TIMEOUT_MS = 120_000;

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    count: { type: 'string', default: '300' },
    dir: { type: 'string', default: tmpdir() },
  },
});

/** Has it done; how long it took, in milliseconds. */
function ask(accessor: ChildProcess, order: Order): Promise<number> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${order.do} takes too long`)), TIMEOUT_MS);
    accessor.once('message', (report: Report) => {
      clearTimeout(timer);
      if ('error' in report) reject(new Error(`${order.do}: ${report.error}`));
      else resolve(report.ms);
    });
    accessor.send(order);
  });
}

type Times = Record<'held' | 'free', number[]>;

const placeOf = (access: Access, whose: keyof Times, index: number): string => `${access}-${whose}/${index}`;

async function measure(
  holder: ChildProcess,
  other: ChildProcess,
  paths: [string, string],
): Promise<Map<Access, Times>> {
  const times = new Map<Access, Times>();
  const [held, seen] = paths;
  for (const access of ACCESSES) {
    const of: Times = { held: [], free: [] };
    times.set(access, of);
    for (let index = 0; index < Number(values.count); index++) {
      await ask(holder, { do: 'warm', directory: join(held, placeOf(access, 'held', index)) });
      for (const whose of ['held', 'free'] as const)
        of[whose].push(
          await ask(other, { do: access, directory: join(seen, placeOf(access, whose, index)) }),
        );
    }
  }
  return times;
}

function print(times: ReadonlyMap<Access, Times>): void {
  const results = [...times].map(([access, { held, free }]) => ({
    access,
    count: held.length,
    ...{
      heldMedianMs: quantile(held, 0.5),
      heldP99Ms: quantile(held, 0.99),
      heldLongestMs: Math.max(...held),
    },
    ...{
      freeMedianMs: quantile(free, 0.5),
      freeP99Ms: quantile(free, 0.99),
      freeLongestMs: Math.max(...free),
    },
  }));
  const load = loadavg()[0];
  if (values.json) {
    console.log(JSON.stringify({ load, results }, null, 2));
    return;
  }
  const lines = results.map(({ access, count, ...ms }) => [
    access,
    ...Object.values(ms).map((each) => each.toFixed(2)),
    String(count),
  ]);
  const columns = [
    'another holds it: median ms',
    'p99',
    'longest',
    'nobody: median ms',
    'p99',
    'longest',
    'count',
  ];
  printTable(['', ...columns], lines, { words: 1 });
  console.log(`load ${load?.toFixed(1)}`);
}

/** Made by a mount that is gone afterwards, so that nobody has leases on it. */
async function makeFiles(cluster: LocalCluster): Promise<void> {
  const path = cluster.mount('maker');
  const maker = fork(ACCESSOR, { cwd: '/' });
  const indexes = Array.from({ length: Number(values.count) }, (_, index) => index);
  const directories = ACCESSES.flatMap((access) =>
    (['held', 'free'] as const).flatMap((whose) =>
      indexes.map((index) => join(path, placeOf(access, whose, index))),
    ),
  );
  try {
    await ask(maker, { do: 'make', directories });
  } finally {
    maker.disconnect();
  }
  cluster.unmount(path);
}

const scratch = mkdtempSync(join(resolve(values.dir), 'leasefs-bench-'));
const accessors: ChildProcess[] = [];
try {
  const cluster = new LocalCluster(scratch);
  try {
    await makeFiles(cluster);
    const paths: [string, string] = [cluster.mount('holder'), cluster.mount('other')];
    const [holder, other] = [fork(ACCESSOR, { cwd: '/' }), fork(ACCESSOR, { cwd: '/' })];
    accessors.push(holder, other);
    print(await measure(holder, other, paths));
  } finally {
    for (const accessor of accessors) accessor.kill();
    cluster.stop();
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
