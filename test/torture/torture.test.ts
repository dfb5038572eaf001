/** A short time under torture, and a planted bug that has to be found: `make torture` goes on for longer. */
import t from 'tap';
import { reportAnomaly } from './report.js';
import { isAnomaly, Torture } from './torture.js';

t.setTimeout(400_000);

const HISTORIES = 4;
const SMALL = { seed: 1, mounts: 2, clients: 3, chunkServers: 2, faultRatio: 0 };
const PLANTED_HISTORIES = 40;

t.test('programs on two mounts see one filesystem', { timeout: 200_000 }, async (t) => {
  const torture = await Torture.start(t, SMALL);
  for (let number = 0; number < HISTORIES; number++) {
    const tortured = await torture.next();
    t.notOk(isAnomaly(tortured), isAnomaly(tortured) ? reportAnomaly(tortured) : `seed ${tortured.seed}`);
    t.not(tortured.verdict.verdict, 'undecided');
  }
});

t.test('a kernel that is not told to forget is found out', { timeout: 200_000 }, async (t) => {
  const plant = 'skip-invalidation';
  const torture = await Torture.start(t, { ...SMALL, plant });
  let found = 0;
  while (found < PLANTED_HISTORIES && !isAnomaly(await torture.next())) found++;
  t.ok(found < PLANTED_HISTORIES, `in history ${found + 1}`);
});
