/**
 * The byte ranges of one file that one owner has locked, and what setting or clearing a lock makes of them.
 * Pure; offsets are bytes, both ends included, so that a lock to the end of the file, whatever its size, is
 * one that ends at LOCK_END.
 *
 * INVARIANT of every list here: ascending, no two overlap, and no two of one type touch.
 *
 * **Source:** fcntl(2), "Advisory record locking"; fs/locks.c, posix_lock_inode().
 */
import { assert } from '../base/assert.js';

/** The end of a lock without one (l_len 0): the last offset of this filesystem. */
export const LOCK_END = Number.MAX_SAFE_INTEGER;

export type LockType = 'read' | 'write';

export interface ByteRange {
  readonly start: number;
  /** Included; start <= end <= LOCK_END. */
  readonly end: number;
}

export interface LockedRange extends ByteRange {
  readonly type: LockType;
  /** Who set it, as F_GETLK tells. */
  readonly pid: number;
}

/** What is to hold in a range from now on: a lock, or none. */
export interface RangeChange extends ByteRange {
  readonly type: LockType | 'unlock';
  readonly pid: number;
}

export function overlaps(a: ByteRange, b: ByteRange): boolean {
  return a.start <= b.end && b.start <= a.end;
}

/** Two locks of different owners conflict when they overlap and one of them is for writing. */
export function conflicts(a: ByteRange & { type: LockType }, b: ByteRange & { type: LockType }): boolean {
  return overlaps(a, b) && (a.type === 'write' || b.type === 'write');
}

/** The list after a change: what it covers is replaced, what it cuts is split, what it touches is joined. */
export function changeRanges(ranges: readonly LockedRange[], change: RangeChange): LockedRange[] {
  const before: LockedRange[] = [];
  const after: LockedRange[] = [];
  let { start, end } = change;
  for (const range of ranges) {
    const joins = range.type === change.type && range.start <= end + 1 && start <= range.end + 1;
    if (joins) {
      start = Math.min(start, range.start);
      end = Math.max(end, range.end);
      continue;
    }
    if (range.start < start) before.push({ ...range, end: Math.min(range.end, start - 1) });
    if (range.end > end) after.push({ ...range, start: Math.max(range.start, end + 1) });
  }
  if (change.type === 'unlock') return [...before, ...after];
  return [...before, { start, end, type: change.type, pid: change.pid }, ...after];
}

/** The changes that bring a range back to what it was when `ranges` held. */
export function restoringChanges(
  ranges: readonly LockedRange[],
  over: ByteRange,
  pid: number,
): RangeChange[] {
  const changes: RangeChange[] = [];
  let at = over.start;
  for (const range of ranges) {
    if (!overlaps(range, over)) continue;
    const start = Math.max(range.start, over.start);
    const end = Math.min(range.end, over.end);
    if (start > at) changes.push({ start: at, end: start - 1, type: 'unlock', pid });
    changes.push({ start, end, type: range.type, pid: range.pid });
    at = end + 1;
  }
  if (at <= over.end) changes.push({ start: at, end: over.end, type: 'unlock', pid });
  return changes;
}

export function checkRanges(ranges: readonly LockedRange[]): void {
  let previous: LockedRange | undefined;
  for (const range of ranges) {
    assert(range.start >= 0 && range.start <= range.end && range.end <= LOCK_END, 'a lock has a range');
    if (previous !== undefined) {
      assert(previous.end < range.start, 'locks of one owner do not overlap');
      assert(previous.end + 1 < range.start || previous.type !== range.type, 'locks that touch are joined');
    }
    previous = range;
  }
}
