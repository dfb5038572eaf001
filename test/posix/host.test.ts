/**
 * The table on the host's own filesystem, which is the oracle: a check that fails here is wrong, or this
 * host's filesystem is not one that leasefs compares itself with. Runs where the project is, because /tmp may
 * be a tmpfs. And the table itself: what fails, dies or hangs has to be told.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { checks } from './checks.js';
import type { Result } from './runner.js';
import { judge, posixTable, runChecks } from './table.js';

function workDirectory(): string {
  return mkdtempSync(fileURLToPath(new URL('./work-', import.meta.url)));
}

t.test('the host’s filesystem passes every check', async (t) => {
  const directory = workDirectory();
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  t.ok(checks.size > 80, `${checks.size} checks`);
  await posixTable(t, directory);
});

const begin = (name: string): string => JSON.stringify({ event: 'begin', check: name });
const end = (name: string): string =>
  JSON.stringify({ event: 'end', check: name, result: { outcome: 'passed', message: '', ms: 1 } });

/** What comes of a runner that prints these lines and then does `next`. */
async function resultsOf(t: Test, lines: readonly string[], next: string): Promise<[string, Result][]> {
  const script = `console.log(${JSON.stringify(lines.join('\n'))}); ${next}`;
  const results: [string, Result][] = [];
  const count = await runChecks({ argv: ['-e', script], silenceMs: 700 }, (name, result) => {
    results.push([name, result]);
  });
  t.equal(count, results.length);
  return results;
}

t.test('a check that hangs and one that takes its process along have failed', async (t) => {
  const lines = [begin('a'), end('a'), begin('b')];
  const passed = ['a', { outcome: 'passed' }];
  t.match(await resultsOf(t, lines, 'setInterval(() => {}, 1000)'), [
    passed,
    ['b', { outcome: 'failed', message: /hangs/ }],
  ]);
  t.match(await resultsOf(t, lines, 'process.abort()'), [
    passed,
    ['b', { outcome: 'failed', message: /died/ }],
  ]);
  t.same(await resultsOf(t, [begin('a'), end('a')], ''), [['a', { outcome: 'passed', message: '', ms: 1 }]]);
});

t.test('an expected failure has to fail, and as expected', async (t) => {
  const result = (outcome: Result['outcome'], message = ''): Result => ({ outcome, message, ms: 1 });
  const expected = { reason: 'no locks', pattern: /ENOSYS/ };
  const ok = (...args: Parameters<typeof judge>): boolean => judge(...args).ok;
  t.ok(ok(result('passed'), undefined, false));
  t.notOk(ok(result('failed', 'ENOSYS'), undefined, false));
  t.ok(ok(result('failed', 'lock: ENOSYS'), expected, false));
  t.notOk(ok(result('failed', 'lock: EIO'), expected, false));
  t.notOk(ok(result('passed'), expected, false));
  t.ok(ok(result('skipped', 'needs root'), undefined, false));
  t.notOk(ok(result('skipped', 'needs root'), undefined, true), 'nothing is skipped where it must run');
});
