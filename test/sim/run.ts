/**
 * Simulations by seed: `SEED=1 SEEDS=2000 node dist/test/sim/run.js` (`make sim`). After each seed that fails
 * what happened last is printed; with the FAILURES-th (default 5) it gives up, and says how many were run. Exit
 * status 1 when any has failed. `TRACE=1` prints everything of every seed.
 */
import { plantedBugs } from './planted-bugs.js';
import { SimulationFailure, simulate } from './simulation.js';

const first = Number(process.env.SEED ?? 1);
const count = Number(process.env.SEEDS ?? 2000);
const maxFailures = Number(process.env.FAILURES ?? 5);
const isLoud = process.env.TRACE === '1';
/** The number of a planted bug, to see it found. */
const plant = Object.values(plantedBugs)[Number(process.env.PLANT ?? -1)]?.plant ?? {};
const TRACE_LINES = 120;

let [run, operations, own, inDoubt, refused, answers, virtualMs] = [0, 0, 0, 0, 0, 0, 0];
const startedMs = performance.now();
const failed: SimulationFailure[] = [];
for (let seed = first; seed < first + count && failed.length < maxFailures; seed++) {
  run++;
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
    console.log(error.trace.slice(-TRACE_LINES).join('\n'));
    console.log(error.cause instanceof Error ? error.cause.stack : error.cause);
    console.log(`\n${error.message}\nagain: make sim SEED=${error.seed} SEEDS=1\n`);
  }
}
const seconds = (performance.now() - startedMs) / 1000;
const clean = run - failed.length;
console.log(
  `seeds ${first} to ${first + run - 1}: ${run} of ${count} run, ${clean} clean, ${failed.length} failed; ` +
    `in the clean ones ${operations} operations, ${own} changes made by mounts alone (${inDoubt} in doubt later, ${refused} refused), ${answers} answers checked, ` +
    `${Math.round(virtualMs / 60_000)} minutes of their time; ${seconds.toFixed(1)} s`,
);
for (const { message } of failed) console.log(message);
if (run < count) console.log(`given up after ${failed.length} failures: ${count - run} seeds were not run`);
process.exitCode = failed.length === 0 ? 0 : 1;
