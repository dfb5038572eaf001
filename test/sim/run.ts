/**
 * Simulations by seed: `SEED=1 SEEDS=2000 node dist/test/sim/run.js` (`make sim`). Ends at the first seed that
 * fails, with what happened last; exit status 1. `TRACE=1` prints everything of every seed.
 */
import { plantedBugs } from './planted-bugs.js';
import { SimulationFailure, simulate } from './simulation.js';

const first = Number(process.env.SEED ?? 1);
const count = Number(process.env.SEEDS ?? 2000);
const isLoud = process.env.TRACE === '1';
/** The number of a planted bug, to see it found. */
const plant = Object.values(plantedBugs)[Number(process.env.PLANT ?? -1)]?.plant ?? {};
const TRACE_LINES = 120;

let [operations, own, inDoubt, refused, answers, virtualMs] = [0, 0, 0, 0, 0, 0];
const startedMs = performance.now();
const failed: SimulationFailure[] = [];
for (let seed = first; seed < first + count; seed++) {
  try {
    const result = await simulate(seed, { isLoud, plant });
    operations += result.operations;
    own += result.own;
    inDoubt += result.inDoubt;
    refused += result.refused;
    answers += result.answers;
    virtualMs += result.virtualMs;
  } catch (error) {
    if (!(error instanceof SimulationFailure)) throw error;
    failed.push(error);
    if (process.env.KEEP_GOING === '1') {
      console.log(error.message);
      continue;
    }
    console.log(error.trace.slice(-TRACE_LINES).join('\n'));
    console.log(error.cause instanceof Error ? error.cause.stack : error.cause);
    console.log(`\n${error.message}\nagain: make sim SEED=${seed} SEEDS=1`);
    break;
  }
}
const seconds = (performance.now() - startedMs) / 1000;
console.log(
  `${count - failed.length} of ${count} seeds, ${operations} operations, ${own} changes made by mounts alone (${inDoubt} in doubt later, ${refused} refused), ${answers} answers checked, ` +
    `${Math.round(virtualMs / 60_000)} minutes of their time in ${seconds.toFixed(1)} s`,
);
process.exitCode = failed.length === 0 ? 0 : 1;
