/**
 * What a mount that comes back has of the cache directory that it had: `ls -lR` and `cat` of a tree of small files
 * and of a large file, first with an empty cache directory, then with the kept one, in turn; and the same again on
 * the mount. Whatever lies on the disks of this machine, its servers' too, its page cache has.
 *
 * `node dist/bench/remount.js`; `--files N` in all (2000); `--rounds N` (3); `--json`; `--dir DIR` where to work.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { LocalCluster } from './cluster/local-cluster.js';
import { quantile } from './figures/quantile.js';
import { printTable } from './figures/table.js';

const TIMEOUT_MS = 120_000;
const PER_DIRECTORY = 20;
const LARGE_MIB = 256;

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    files: { type: 'string', default: '2000' },
    rounds: { type: 'string', default: '3' },
    dir: { type: 'string', default: tmpdir() },
  },
});

const MAKE = `
for d in $(seq 1 ${Math.ceil(Number(values.files) / PER_DIRECTORY)}); do
  mkdir -p tree/$d
  for f in $(seq 1 ${PER_DIRECTORY}); do head -c $((500 + d * f % 8000)) /dev/urandom > tree/$d/$f; done
done
head -c ${LARGE_MIB}M /dev/urandom > large
`;
const WORK = {
  'ls -lR': 'ls -lR tree > /dev/null',
  'cat of all files': 'find tree -type f -print0 | xargs -0 cat > /dev/null',
  [`cat of ${LARGE_MIB} MiB`]: 'cat large > /dev/null',
} as const;
type Work = keyof typeof WORK;
const CACHES = ['empty', 'kept', 'same mount'] as const;

/** Runs a script in a directory of a mount; how long it took, in milliseconds. */
function run(cwd: string, script: string): number {
  const startMs = performance.now();
  const { status, stderr } = spawnSync('bash', ['-ec', `cd "$0"; ${script}`, cwd], {
    timeout: TIMEOUT_MS,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
  return performance.now() - startMs;
}

function main(): void {
  const scratch = mkdtempSync(join(values.dir, 'leasefs-remount-'));
  const cluster = new LocalCluster(scratch);
  const times = new Map<string, number[]>();
  const measure = (path: string, cache: string): void => {
    for (const work of Object.keys(WORK) as Work[]) {
      const key = `${work} ${cache}`;
      times.set(key, [...(times.get(key) ?? []), run(path, WORK[work])]);
    }
  };
  try {
    run(cluster.base, MAKE);
    for (let round = 0; round <= Number(values.rounds); round++) {
      rmSync(join(scratch, 'cache-fresh'), { recursive: true, force: true });
      for (const [name, cache] of [
        ['fresh', 'empty'],
        ['kept', 'kept'],
      ] as const) {
        const path = cluster.mount(name);
        measure(path, cache);
        if (cache === 'kept') measure(path, 'same mount');
        cluster.unmount(path);
      }
      // In the first round nothing was kept yet.
      if (round === 0) times.clear();
    }
  } finally {
    cluster.stop();
    rmSync(scratch, { recursive: true, force: true });
  }
  const rows = Object.keys(WORK).map((work) => ({
    work,
    ms: CACHES.map((cache) => quantile(times.get(`${work} ${cache}`) ?? [], 0.5)),
  }));
  if (values.json) {
    console.log(JSON.stringify({ files: Number(values.files), load: loadavg()[0], caches: CACHES, rows }));
    return;
  }
  printTable(
    ['ms (median)', ...CACHES],
    rows.map(({ work, ms }) => [work, ...ms.map((each) => each.toFixed(0))]),
    { words: 1 },
  );
}

main();
