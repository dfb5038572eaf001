/**
 * `make torture`: histories of programs on several mounts, with faults, each checked for being linearizable.
 * Prints what it does, and every anomaly. Exit status 1 when there was one; with a planted bug, when there was
 * none.
 */
import { parseArgs } from 'node:util';
import type { FaultKind } from './faults.js';
import { faultFor, isPlant, PLANTS } from './planted.js';
import { reportAnomaly } from './report.js';
import { isAnomaly, Torture, type Tortured } from './torture.js';

const { values } = parseArgs({
  options: {
    histories: { type: 'string', default: '100' },
    seed: { type: 'string', default: '1' },
    mounts: { type: 'string', default: '3' },
    clients: { type: 'string', default: '4' },
    faults: { type: 'string', default: '0.25' },
    fault: { type: 'string' },
    plant: { type: 'string' },
  },
});
const SHOWN = 5;

const counts = { histories: 0, ops: 0, steps: 0, undecided: 0, anomalies: 0 };
const faults = new Map<string, number>();

function count(tortured: Tortured): void {
  const { fault, history, verdict } = tortured;
  counts.histories++;
  counts.ops += history.ops.length;
  counts.steps += verdict.steps;
  if (fault !== undefined) faults.set(fault.kind, (faults.get(fault.kind) ?? 0) + 1);
  if (verdict.verdict === 'undecided') counts.undecided++;
  if (!isAnomaly(tortured)) return;
  counts.anomalies++;
  if (counts.anomalies <= SHOWN) console.log(reportAnomaly(tortured));
}

async function main(endings: (() => unknown)[]): Promise<void> {
  const { plant } = values;
  if (plant !== undefined && !isPlant(plant))
    throw new Error(`there is no plant ${plant}, but ${Object.keys(PLANTS).join(', ')}`);
  const fault = values.fault ?? (plant === undefined ? undefined : faultFor(plant));
  const histories = Number(values.histories);
  const torture = await Torture.start(
    { teardown: (body: () => unknown) => endings.push(body) },
    {
      seed: Number(values.seed),
      mounts: Number(values.mounts),
      clients: Number(values.clients),
      faultRatio: fault === 'none' ? 0 : fault === undefined ? Number(values.faults) : 1,
      fault: fault === 'none' ? undefined : (fault as FaultKind | undefined),
      plant,
    },
  );
  const startMs = performance.now();
  for (let done = 1; done <= histories; done++) {
    const tortured = await torture.next();
    count(tortured);
    const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
    if (done % 10 === 0 || tortured.fault !== undefined)
      console.log(
        `${seconds} s: ${done} histories, ${counts.ops} ops, ${counts.undecided} undecided, ${counts.anomalies} anomalies` +
          (tortured.fault === undefined ? '' : `; ${tortured.fault.kind}`),
      );
    if (plant !== undefined && counts.anomalies > 0) break;
  }
  const kinds = [...faults].map(([kind, number]) => `${number} ${kind}`).join(', ');
  console.log(
    `${counts.histories} histories, ${counts.ops} ops, ${counts.steps} steps of the search; faults: ${kinds || 'none'}; ` +
      `${counts.undecided} undecided, ${counts.anomalies} anomalies`,
  );
  process.exitCode = (plant === undefined) === (counts.anomalies === 0) ? 0 : 1;
}

const endings: (() => unknown)[] = [];
try {
  await main(endings);
} finally {
  for (const end of endings.reverse()) await end();
}
process.exit();
