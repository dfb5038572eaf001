/**
 * `make deadlock`: programs on two mounts of one cluster that do everything to the same few directories and
 * files, for minutes. Prints how long calls took, by kind. Exit status 1 when one took longer than it may, failed
 * without a reason, or when anything hung at the end.
 */
import { parseArgs } from 'node:util';
import { percentileMs } from './call-times.js';
import { type Hammered, hammer } from './hammering.js';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    workers: { type: 'string', default: '4' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});

function kindsOf({ times }: Hammered) {
  return Object.entries(times).map(([kind, at]) => ({
    kind,
    count: at.count,
    medianMs: percentileMs(at, 0.5),
    p99Ms: percentileMs(at, 0.99),
    longestMs: at.longestMs,
    errnos: at.errnos,
  }));
}

function print(hammered: Hammered): void {
  const { seconds, workers, long, unmountMs, load, complaints } = hammered;
  const kinds = kindsOf(hammered);
  if (values.json) {
    console.log(JSON.stringify({ seconds, workers, load, kinds, long, unmountMs, complaints }, null, 2));
    return;
  }
  const shown = (ms: number): string => ms.toFixed(2).padStart(10);
  console.log(
    `${'call'.padEnd(16)}${'count'.padStart(9)}${['median', 'p99', 'longest'].map((word) => `${word} ms`.padStart(11)).join('')}  failed`,
  );
  for (const { kind, count, medianMs, p99Ms, longestMs, errnos } of kinds) {
    const failed = Object.entries(errnos).map(([errno, number]) => `${number} ${errno}`);
    console.log(
      `${kind.padEnd(16)}${String(count).padStart(9)} ${[medianMs, p99Ms, longestMs].map(shown).join(' ')}  ${failed.join(', ')}`,
    );
  }
  const calls = kinds.reduce((sum, { count }) => sum + count, 0);
  console.log(
    `${calls} calls of ${workers} programs in ${seconds.toFixed(0)} s; unmounting took ` +
      `${unmountMs.map((ms) => `${ms.toFixed(0)} ms`).join(' and ')}; load ${load.map((each) => each.toFixed(1)).join(' to ')}`,
  );
  for (const { kind, path, atMs, ms } of long)
    console.log(`long: ${new Date(atMs).toISOString()} ${kind} ${path}: ${ms.toFixed(0)} ms`);
  for (const complaint of complaints) console.log(`WRONG: ${complaint}`);
}

const endings: (() => unknown)[] = [];
try {
  const hammered = await hammer(
    { teardown: (body) => endings.push(body) },
    {
      seconds: Number(values.minutes) * 60,
      workersPerMount: Number(values.workers),
      seed: Number(values.seed),
    },
  );
  print(hammered);
  process.exitCode = hammered.complaints.length === 0 ? 0 : 1;
} finally {
  for (const end of endings.reverse()) await end();
}
process.exit();
