/** What people get to read of an anomaly: the part of the history that is needed to see it. */
import { shrink } from '../posix/differential/shrink.js';
import { check } from './checker.js';
import { describe, type History, type Op } from './history.js';
import type { Tortured } from './torture.js';

/** Steps of the search for each attempt, and attempts. */
const STEPS = 50_000;
const TRIES = 150;

/**
 * A smaller history that is refused for the same reason. Only what cannot make a legal history illegal is left
 * out: what came after the refused answer, what happened to unrelated names, and calls that changed nothing.
 */
export function smaller(history: History, refused: Op): History {
  const endNs = refused.returnNs ?? refused.callNs;
  const before = history.ops
    .filter((op) => op.callNs <= endNs && op.system.call !== 'count')
    .map((op) =>
      op.returnNs !== undefined && op.returnNs > endNs
        ? { ...op, returnNs: undefined, answer: undefined }
        : op,
    );
  const harms = history.harms.filter((harm) => harm.atNs <= endNs);
  const units = unitsOf(before);
  const ofUnits = (kept: readonly (readonly Op[])[]): History => {
    const ids = new Set(kept.flat().map((op) => op.id));
    const ops = before.filter((op) => ids.has(op.id)).map((op, id) => ({ ...op, id }));
    return { ops, harms };
  };
  const related = relatedTo(refused, units);
  const isEnough = check(ofUnits(related), STEPS).verdict === 'anomaly';
  const all = isEnough ? related : units;
  const needed = all.filter((unit) => !unit.every(isObserver));
  const observers = all.filter((unit) => unit.every(isObserver));
  const isRefused = (part: readonly (readonly Op[])[]): boolean =>
    check(ofUnits([...needed, ...part]), STEPS).verdict === 'anomaly';
  const kept = isRefused([]) ? [] : shrink(observers, isRefused, TRIES);
  return ofUnits([...needed, ...kept]);
}

const OBSERVERS: readonly string[] = ['stat', 'fstat', 'readdir', 'read'];

/** Calls that changed nothing, or that never changed anything that somebody saw. */
function isObserver(op: Op): boolean {
  const { system, answer } = op;
  if (answer === undefined) return OBSERVERS.includes(system.call);
  if ('error' in answer) return true;
  if (system.call === 'open') return system.flags === 'r' || system.flags === 'r+' || system.flags === 'a';
  return [...OBSERVERS, 'close', 'fsync'].includes(system.call);
}

/**
 * The units about the names that the refused op is about, and about names that a link or rename connects with
 * those: what happens to others is no business of theirs. All units where it is a listing.
 */
function relatedTo(refused: Op, units: readonly (readonly Op[])[]): readonly (readonly Op[])[] {
  if (refused.system.call === 'readdir') return units;
  const pathsOf = (unit: readonly Op[]): string[] =>
    unit.flatMap(({ system }) => {
      if (!('path' in system) || system.call === 'readdir') return [];
      return 'to' in system ? [system.path, system.to] : [system.path];
    });
  const own = units.find((unit) => unit.some((op) => op.id === refused.id)) ?? [];
  const related = new Set(pathsOf(own));
  for (let size = 0; size < related.size; ) {
    size = related.size;
    for (const unit of units) {
      const paths = pathsOf(unit);
      if (paths.some((path) => related.has(path))) for (const path of paths) related.add(path);
    }
  }
  return units.filter((unit) => pathsOf(unit).some((path) => related.has(path)));
}

/** Calls on one descriptor belong together. */
function unitsOf(ops: readonly Op[]): Op[][] {
  const units = new Map<string, Op[]>();
  for (const op of ops) {
    const key = 'fd' in op.system ? `${op.client}:${op.system.fd}` : `#${op.id}`;
    units.set(key, [...(units.get(key) ?? []), op]);
  }
  return [...units.values()];
}

export function reportAnomaly(tortured: Tortured): string {
  const { seed, fault, history, verdict, complaints } = tortured;
  const lines = [
    `ANOMALY in the history of seed ${seed}, fault: ${JSON.stringify(fault ?? 'none')}`,
    ...complaints,
  ];
  if (verdict.verdict === 'anomaly') {
    const refused = history.ops[verdict.at];
    if (refused === undefined) throw new Error('an anomaly without an op');
    const small = smaller(history, refused);
    const again = check(small);
    const isSame = again.verdict === 'anomaly';
    const shown = isSame ? small : history;
    lines.push(
      `No order of the steps explains the answer of #${isSame ? again.at : verdict.at}; the model had one of:`,
      ...(isSame ? again.states : verdict.states).map((state) => `  ${state}`),
      '  (names to inodes, open files, [inode, number, content, pending by mount])',
      describe(shown),
    );
  } else lines.push(describe(history));
  return lines.join('\n');
}
