/**
 * Runs checks over a directory in a process of its own: `node runner.js DIR [CHECK...]`. Prints one JSON line
 * when a check begins and one when it has ended. A check that takes too long ends the process (what it left
 * running would disturb the next); one that blocks the process for ever is killed by whoever started it
 * (table.ts).
 */
import fs from 'node:fs';
import { join } from 'node:path';
import { type Check, type Host, Skip } from './check.js';
import { checks } from './checks.js';

/** Longest time for one check. */
export const CHECK_TIMEOUT_MS = 120_000;

export type RunnerLine =
  | { readonly event: 'begin'; readonly check: string }
  | { readonly event: 'end'; readonly check: string; readonly result: Result };

export interface Result {
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Why it failed or was skipped. */
  readonly message: string;
  readonly ms: number;
}

const print = (line: RunnerLine): void => {
  fs.writeSync(1, `${JSON.stringify(line)}\n`);
};

const root = process.geteuid?.() === 0;
const host: Host = { root, other: { uid: 65_534, gid: 65_534 } };

async function runCheck(base: string, name: string, check: Check): Promise<Result> {
  const started = performance.now();
  const dir = fs.mkdtempSync(join(base, 'check-'));
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${CHECK_TIMEOUT_MS} ms`)), CHECK_TIMEOUT_MS);
  });
  const result = (outcome: Result['outcome'], message: string): Result => {
    return { outcome, message, ms: Math.round(performance.now() - started) };
  };
  try {
    await Promise.race([Promise.resolve().then(() => check(dir, host)), late]);
    await removeTree(dir);
    return result('passed', '');
  } catch (error) {
    if (error instanceof Skip) return result('skipped', error.message);
    return result('failed', describe(error, name));
  } finally {
    clearTimeout(timer);
    await removeTree(dir);
  }
}

/** Programs of a check that failed may be at work for a moment longer. */
async function removeTree(dir: string): Promise<void> {
  await fs.promises.rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 300 });
}

function describe(error: unknown, name: string): string {
  if (!(error instanceof Error)) return `${name}: ${String(error)}`;
  const where =
    error.stack
      ?.split('\n')
      .find((line) => line.includes('/checks/'))
      ?.trim() ?? '';
  return `${error.message} ${where}`;
}

async function main(): Promise<void> {
  const [base, ...only] = process.argv.slice(2);
  if (base === undefined) throw new Error('usage: node runner.js DIR [CHECK...]');
  process.umask(0o022);
  for (const name of only.length > 0 ? only : checks.keys()) {
    const check = checks.get(name);
    if (check === undefined) throw new Error(`no such check: ${name}`);
    print({ event: 'begin', check: name });
    const result = await runCheck(base, name, check);
    print({ event: 'end', check: name, result });
    if (result.ms >= CHECK_TIMEOUT_MS) process.exit(3);
  }
  process.exit(0);
}

if (process.argv[1]?.endsWith('runner.js') === true) await main();
