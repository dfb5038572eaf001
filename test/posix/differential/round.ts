/**
 * A round: one sequence of operations, done on both sides from an empty directory on, and compared after each
 * operation and, now and then and at the end, as whole trees.
 */
import { isAbsolute } from 'node:path';
import { Prng } from '../../../src/base/prng.js';
import { fileOperations } from './file-operations.js';
import { nameOperations } from './name-operations.js';
import { Arguments, type Extra, type Operation } from './operation.js';
import { rareOperations } from './rare-operations.js';
import { type Outcome, Side } from './side.js';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  nameResult,
  nameStat,
  type Stat,
  stat,
} from './system-calls.js';
import { compareTrees, readTree, type Tree } from './tree.js';

const OBSERVED_SHARE = 0.3;
const TREE_EVERY = 100;

/** So many operations, always the same for a seed. */
export function randomOperations(seed: number, count: number, extras: ReadonlySet<Extra>): Operation[] {
  const args = new Arguments(new Prng(seed));
  // Each maker as often as its weight says, in tenths.
  const makers = [...fileOperations, ...nameOperations, ...rareOperations].flatMap(([weight, make, extra]) =>
    extra === undefined || extras.has(extra)
      ? Array.from({ length: Math.round(weight * 10) }, () => make)
      : [],
  );
  return Array.from({ length: count }, () => {
    const operation = args.prng.pick(makers)(args);
    return { ...operation, observed: args.chance(OBSERVED_SHARE) };
  });
}

/** Two filesystems did not do the same. */
export interface Difference {
  /** Of the operation after which it was seen. */
  readonly index: number;
  /** What kind: the same for two sequences that show the same. */
  readonly kind: string;
  readonly lines: readonly string[];
}

export interface RoundOptions {
  /** Directories that exist; the round takes place in new ones inside them. */
  readonly reference: string;
  readonly subject: string;
  /** So that the times before and after an operation can differ. */
  readonly pauseMs: number;
  readonly extras: ReadonlySet<Extra>;
  /** The subject's successes at this call are told as EIO: the fuzzer's own test. */
  readonly lie?: string | undefined;
}

let roundCount = 0;

/** Does the operations on both sides; the first difference, or undefined. */
export function runRound(operations: readonly Operation[], options: RoundOptions): Difference | undefined {
  roundCount += 1;
  const name = `round-${process.pid}-${roundCount}`;
  process.umask(0o022);
  const reference = new Side(`${options.reference}/${name}`);
  const subject = new Side(`${options.subject}/${name}`);
  try {
    for (const [index, operation] of operations.entries()) {
      const difference = step(operation, reference, subject, options);
      if (difference !== undefined) return { index, ...difference };
      if ((index + 1) % TREE_EVERY === 0 || index + 1 === operations.length) {
        const found = treeDifference([reference, subject], index + 1 === operations.length);
        if (found !== undefined) return { index, ...found };
      }
    }
    return undefined;
  } finally {
    process.chdir('/');
    process.umask(0o022);
    reference.end();
    subject.end();
  }
}

type Found = Omit<Difference, 'index'>;

function step(
  operation: Operation,
  reference: Side,
  subject: Side,
  options: RoundOptions,
): Found | undefined {
  const { at, slot, observed = false } = operation;
  if (!options.extras.has('removed') && (reference.isRemoved(at) || reference.isRemoved(slot)))
    return undefined;
  if (observed && options.pauseMs > 0)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, options.pauseMs);
  const [expected, expectedChanges] = perform(operation, reference, observed);
  let [actual, actualChanges] = perform(operation, subject, observed);
  if (operation.call === options.lie && !/^E[A-Z]/.test(actual.text)) actual = { text: 'EIO' };
  if (expected.text !== actual.text) {
    const errnos = [expected, actual].map(({ text }) => (/^E[A-Z0-9]+$/.test(text) ? text : 'ok'));
    return {
      kind: `${operation.call}: ${errnos.join(' / ')}`,
      lines: [`reference ${expected.text}`, `subject   ${actual.text}`],
    };
  }
  const byte = firstDifferingByte(expected.data, actual.data);
  if (byte !== undefined)
    return {
      kind: `${operation.call}: data`,
      lines: [`of ${expected.data?.length} bytes number ${byte} differs`],
    };
  const changes = expectedChanges.findIndex((line, index) => line !== actualChanges[index]);
  if (changes === -1) return undefined;
  return {
    kind: `${operation.call}: attributes`,
    lines: [`reference ${expectedChanges[changes]}`, `subject   ${actualChanges[changes]}`],
  };
}

function firstDifferingByte(expected: Buffer | undefined, actual: Buffer | undefined): number | undefined {
  if (expected === undefined || actual === undefined || expected.equals(actual)) return undefined;
  return expected.findIndex((byte, index) => byte !== actual[index]);
}

/** An operation on one side, and what became of the attributes that it may have changed. */
function perform(operation: Operation, side: Side, observed: boolean): [Outcome, string[]] {
  const entered = side.enter(operation.at);
  if (entered < 0) return [{ text: `fchdir: ${nameResult(entered)}` }, []];
  if (!observed) return [operation.run(side), []];
  const before = observe(operation, side);
  const outcome = operation.run(side);
  const after = observe(operation, side);
  return [outcome, [...after].map(([what, found]) => `${what}: ${describeChange(before.get(what), found)}`)];
}

type Observed = Map<string, Stat | string>;

function observe(operation: Operation, side: Side): Observed {
  const seen: Observed = new Map();
  for (const path of operation.paths) {
    if (isAbsolute(path)) continue;
    seen.set(`lstat ${path}`, stat(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW));
    seen.set(`stat ${path}`, stat(AT_FDCWD, path, 0));
    const parent = path.replace(/\/+$/, '').replace(/[^/]*$/, '') || '.';
    seen.set(`stat ${parent}`, stat(AT_FDCWD, parent, 0));
  }
  if (operation.slot !== undefined) seen.set('fstat', stat(side.fd(operation.slot), '', AT_EMPTY_PATH));
  return seen;
}

function describeChange(before: Stat | string | undefined, after: Stat | string): string {
  if (
    typeof after === 'string' ||
    before === undefined ||
    typeof before === 'string' ||
    before.ino !== after.ino
  )
    return nameStat(after);
  const moved = (name: string, from: bigint, to: bigint): string =>
    to === from ? `${name} stayed` : `${name} ${to > from ? 'moved' : 'went back'}`;
  // Only ctime always moves on: mtime can be set.
  const mtime = before.mtimeNs === after.mtimeNs ? 'mtime stayed' : 'mtime moved';
  return `${nameStat(after)}, ${mtime}, ${moved('ctime', before.ctimeNs, after.ctimeNs)}`;
}

/** Whole trees; with what is above the working directories when `all`. */
function treeDifference(sides: readonly [Side, Side], all: boolean): Found | undefined {
  const [reference, subject] = sides.map((side) => {
    const entered = side.enter(undefined);
    return entered < 0 ? new Map([['.', nameResult(entered)]]) : readTree();
  });
  const lines = compareTrees(reference ?? new Map(), subject ?? new Map());
  if (lines.length === 0 && all) {
    const [above, below] = sides.map((side): Tree => {
      process.chdir(side.top);
      return readTree();
    });
    lines.push(...compareTrees(above ?? new Map(), below ?? new Map()));
  }
  return lines.length === 0 ? undefined : { kind: 'tree', lines };
}
