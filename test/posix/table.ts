/**
 * Runs the table of POSIX checks over any directory and reports to tap: the same checks on the host's own
 * filesystem and on every mount. The checks run in another process, so that a filesystem that hangs is a
 * failed check and not a frozen test.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { checks } from './checks.js';
import { CHECK_TIMEOUT_MS, type Result, type RunnerLine } from './runner.js';

/** A limitation that is known: the check must fail, and in this way. */
export interface ExpectedFailure {
  /** For people: why this cannot work, and where it is written down. */
  readonly reason: string;
  /** What the failure's message must contain or match. */
  readonly pattern: string | RegExp;
}

export interface TableOptions {
  /** By check name (`area: sentence`). One that passes all the same is a failure. */
  readonly expectedToFail?: Readonly<Record<string, ExpectedFailure>>;
  /** Only these checks; all of them unless given. */
  readonly only?: readonly string[];
}

/** Without a sign of life for so long, the runner is killed. */
const SILENCE_MS = CHECK_TIMEOUT_MS + 15_000;
const RUNNER = fileURLToPath(new URL('./runner.js', import.meta.url));

/**
 * Runs the checks under `directory` (which exists and is left empty again) and reports one assertion each.
 * Skipped checks are reported as such; with CI in the environment, root must not skip any.
 */
export async function posixTable(t: Test, directory: string, options: TableOptions = {}): Promise<void> {
  const expected = options.expectedToFail ?? {};
  const wanted = options.only ?? [...checks.keys()];
  for (const name of [...Object.keys(expected), ...wanted]) {
    if (!checks.has(name)) t.fail(`the table has no check "${name}"`);
  }
  const mustRun = process.env.CI !== undefined && process.geteuid?.() === 0;
  t.setTimeout(SILENCE_MS * wanted.length);
  let waiting = wanted.filter((name) => checks.has(name));
  while (waiting.length > 0) {
    const argv = [RUNNER, directory, ...waiting];
    const done = await runChecks({ argv, silenceMs: SILENCE_MS }, (name, result) => {
      const verdict = judge(result, expected[name], mustRun);
      const text = `${name}${verdict.text}`;
      if (verdict.ok && result.outcome === 'skipped') t.pass(text, { skip: result.message });
      else if (verdict.ok) t.pass(text);
      else t.fail(text, { failure: result.message });
    });
    if (done === 0) {
      t.fail(`the runner of the checks did not begin with "${waiting[0]}"`);
      return;
    }
    waiting = waiting.slice(done);
  }
}

/** What a result means. `mustRun`: a skipped check is a failure. */
export function judge(
  result: Result,
  expected: ExpectedFailure | undefined,
  mustRun: boolean,
): { ok: boolean; text: string } {
  const { outcome, message, ms } = result;
  if (outcome === 'skipped') return { ok: !mustRun, text: `: skipped (${message})` };
  if (expected === undefined) return { ok: outcome === 'passed', text: ` (${ms} ms)` };
  if (outcome === 'passed') return { ok: false, text: `: passes, though it cannot (${expected.reason})` };
  const known = message.search(expected.pattern) !== -1;
  return { ok: known, text: `: fails ${known ? 'as known' : 'in another way'} (${expected.reason})` };
}

/**
 * Starts `node argv...`, hands on the results that it prints, and kills it when it falls silent. The check
 * that it had begun has then failed. Returns how many checks have a result.
 */
export async function runChecks(
  runner: { argv: readonly string[]; silenceMs: number },
  done: (name: string, result: Result) => void,
): Promise<number> {
  const child = spawn(process.execPath, runner.argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  let current: string | undefined;
  let count = 0;
  let killed = false;
  const lines = createInterface({ input: child.stdout });
  const watch = setTimeout(() => {
    killed = true;
    child.kill('SIGKILL');
    // A process stuck in the kernel does not die of it: its end of the pipe is not waited for.
    lines.close();
    child.stdout.destroy();
  }, runner.silenceMs);
  const finish = (name: string, result: Result): void => {
    current = undefined;
    count += 1;
    done(name, result);
  };
  lines.on('line', (text) => {
    watch.refresh();
    const line = JSON.parse(text) as RunnerLine;
    if (line.event === 'begin') current = line.check;
    else finish(line.check, line.result);
  });
  await once(lines, 'close');
  clearTimeout(watch);
  if (current !== undefined) {
    const message = killed ? `hangs: silent for ${runner.silenceMs} ms` : 'the process died in this check';
    finish(current, { outcome: 'failed', message, ms: runner.silenceMs });
  }
  return count;
}
