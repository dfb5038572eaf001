/**
 * The differential fuzzer: random operations, valid ones and others, on two directories at once, which have to
 * answer the same and look the same afterwards. One is on a filesystem that is taken for right (the host's).
 *
 *     node differential.js --reference DIR --subject DIR [--seed N] [--operations N] [--user UID]
 *                          [--without fallocate,seek-hole,copy-file-range,removed,acl,devices] [--lie CALL]
 *
 * What it does follows from the seed alone. It goes in rounds, each in fresh directories and with the next
 * seed: `--seed ROUND --operations 1` does one again. A difference is shrunk to the operations that show it,
 * which are printed; the exit status is then 1. Not compared: access times (but for what utimensat set), sizes of
 * directories, the order of their entries, st_blocks, inode numbers.
 */
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { EXTRAS, type Extra, type Operation } from './differential/operation.js';
import { type Difference, type RoundOptions, randomOperations, runRound } from './differential/round.js';
import { shrink } from './differential/shrink.js';
import { hasFineTimes } from './differential/side.js';

const ROUND_OPERATIONS = 400;
const PROGRESS_MS = 10_000;
const SHRINK_TRIES = 400;
/** Longer than the granularity of timestamps on any kernel. */
const PAUSE_MS = 12;

const { values } = parseArgs({
  options: {
    reference: { type: 'string' },
    subject: { type: 'string' },
    seed: { type: 'string', default: '1' },
    operations: { type: 'string', default: '3000' },
    user: { type: 'string' },
    without: { type: 'string', default: '' },
    lie: { type: 'string' },
  },
});

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`--${name}: not a number: ${text}`);
  return value;
}

function readExtras(text: string): Set<Extra> {
  const names = text.split(',').filter((name) => name !== '');
  const unknown = names.find((name) => !EXTRAS.some((known) => known === name));
  if (unknown !== undefined) throw new Error(`--without: not one of ${EXTRAS.join(', ')}: ${unknown}`);
  return new Set(EXTRAS.filter((extra) => !names.includes(extra)));
}

/** A directory of our own in `parent`, the user's when there is one. */
function workDirectory(name: string, parent: string | undefined, user: number | undefined): string {
  if (parent === undefined) throw new Error(`--${name} DIR is missing`);
  const path = fs.mkdtempSync(`${fs.realpathSync(parent)}/differential-`);
  fs.chmodSync(path, 0o755);
  if (user !== undefined) fs.chownSync(path, user, user);
  return path;
}

/** The shortest sequence that shows the same kind of difference, and what it shows. */
function shrunk(
  operations: readonly Operation[],
  difference: Difference,
  options: RoundOptions,
): [readonly Operation[], Difference] | undefined {
  let last: Difference | undefined;
  const fails = (part: readonly Operation[]): boolean => {
    const found = runRound(part, options);
    if (found?.kind !== difference.kind) return false;
    last = found;
    return true;
  };
  const before = operations.slice(0, difference.index + 1);
  if (!fails(before)) return undefined;
  const part = shrink(before, fails, SHRINK_TRIES);
  return last === undefined ? undefined : [part, last];
}

function report(operations: readonly Operation[], difference: Difference, options: RoundOptions): void {
  const small = shrunk(operations, difference, options);
  const [shown, found] = small ?? [operations.slice(0, difference.index + 1), difference];
  if (small === undefined) console.log('It does not show again: this is the whole sequence.');
  for (const operation of shown) {
    const where = operation.at === undefined ? '' : ` in #${operation.at}`;
    console.log(`  ${operation.text}${where}${operation.observed === true ? ' [observed]' : ''}`);
  }
  for (const line of found.lines) console.log(`  ${line}`);
}

function main(): boolean {
  const user = values.user === undefined ? undefined : wholeNumber('user', values.user);
  const [reference, subject] = [
    workDirectory('reference', values.reference, user),
    workDirectory('subject', values.subject, user),
  ];
  const [seed, count, extras] = [
    wholeNumber('seed', values.seed),
    wholeNumber('operations', values.operations),
    readExtras(values.without),
  ];
  if (user !== undefined) {
    process.setgroups?.([]);
    process.setgid?.(user);
    process.setuid?.(user);
  }
  const fine = hasFineTimes(reference) && hasFineTimes(subject);
  const options: RoundOptions = { reference, subject, pauseMs: fine ? 0 : PAUSE_MS, extras, lie: values.lie };
  const startMs = performance.now();
  let toldMs = startMs;
  for (let done = 0, round = seed; done < count; round++) {
    const operations = randomOperations(round, ROUND_OPERATIONS, extras);
    const difference = runRound(operations, options);
    done += ROUND_OPERATIONS;
    if (difference !== undefined) {
      console.log(`difference in round ${round}, operation ${difference.index}: ${difference.kind}`);
      report(operations, difference, options);
      return false;
    }
    if (performance.now() - toldMs > PROGRESS_MS) {
      toldMs = performance.now();
      console.log(`${done} operations in ${Math.round((toldMs - startMs) / 1000)} s`);
    }
  }
  // The directories above are root's: an ordinary user has to leave these behind, empty.
  if (user === undefined) for (const directory of [reference, subject]) fs.rmdirSync(directory);
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  console.log(`no difference in ${count} operations, seed ${seed}, ${seconds} s`);
  return true;
}

process.exitCode = main() ? 0 : 1;
