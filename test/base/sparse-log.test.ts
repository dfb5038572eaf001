import t from 'tap';
import type { Log } from '../../src/base/log.js';
import { SparseLog } from '../../src/base/sparse-log.js';
import { ManualClock } from '../rpc/manual-clock.js';

function sparse(maxLines: number): { clock: ManualClock; log: SparseLog; lines: unknown[] } {
  const lines: unknown[] = [];
  const nothing = (): void => {};
  const sink: Log = {
    debug: nothing,
    info: nothing,
    error: nothing,
    warn: (message, fields) => lines.push([message, fields]),
  };
  const clock = new ManualClock();
  return { clock, log: new SparseLog(sink, clock, { everyMs: 1000, maxLines }), lines };
}

t.test('the same line comes once in its time, then says how many were left out', async (t) => {
  const { clock, log, lines } = sparse(10);
  for (let count = 0; count < 5; count++) log.warn('wrong', 'a', { count });
  t.strictSame(lines, [['wrong', { count: 0 }]]);
  await clock.advance(999);
  log.warn('wrong', 'a', { count: 5 });
  t.equal(lines.length, 1);
  await clock.advance(1);
  log.warn('wrong', 'a', { count: 6 });
  await clock.advance(1000);
  log.warn('wrong', 'a', { count: 7 });
  t.strictSame(lines.slice(1), [
    ['wrong', { count: 6, unsaid: 5 }],
    ['wrong', { count: 7 }],
  ]);
});

t.test('other subjects and other messages have lines of their own', async (t) => {
  const { log, lines } = sparse(10);
  log.warn('wrong', 'a', {});
  log.warn('wrong', 'b', {});
  log.warn('bad', 'a', {});
  t.equal(lines.length, 3);
});

t.test('with ever new subjects there are no more lines than may be', async (t) => {
  const { clock, log, lines } = sparse(3);
  for (let subject = 0; subject < 100; subject++) log.warn('wrong', subject, {});
  t.equal(lines.length, 3);
  await clock.advance(1000);
  for (let subject = 100; subject < 200; subject++) log.warn('wrong', subject, {});
  t.equal(lines.length, 6);
});
