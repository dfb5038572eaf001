/** Simulations of a cluster: many seeds, the same twice, and bugs that are planted to be found. `make sim` runs more. */
import t from 'tap';
import { plantedBugs } from './planted-bugs.js';
import { SimulationFailure, simulate } from './simulation.js';

const SEEDS = 100;
const TRACE_LINES = 100;

/** The first seed of these that fails; undefined: none does. */
async function firstFailure(
  seeds: Iterable<number>,
  options: Parameters<typeof simulate>[1],
): Promise<SimulationFailure | undefined> {
  for (const seed of seeds) {
    try {
      await simulate(seed, options);
    } catch (error) {
      if (error instanceof SimulationFailure) return error;
      throw error;
    }
  }
  return undefined;
}

const numbered = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

t.test(`${SEEDS} seeds violate nothing`, async (t) => {
  const failure = await firstFailure(numbered(SEEDS), {});
  if (failure === undefined) t.pass('none');
  else {
    t.comment(failure.trace.slice(-TRACE_LINES).join('\n'));
    t.fail(`${failure.message}; again: make sim SEED=${failure.seed} SEEDS=1`);
  }
});

t.test('the same seed is the same simulation, another one is not', async (t) => {
  const hashes: number[] = [];
  for (const seed of [2, 5]) {
    const once = await simulate(seed);
    t.strictSame(await simulate(seed), once, `seed ${seed}`);
    hashes.push(once.hash);
  }
  t.not(hashes[0], hashes[1]);
});

for (const [bug, { seeds, plant }] of Object.entries(plantedBugs))
  t.test(`found: ${bug}`, async (t) => {
    const failure = await firstFailure(seeds, { plant });
    t.ok(failure, `within ${seeds.length} seeds`);
    if (failure !== undefined) t.comment(failure.message);
  });
