import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import {
  changeRanges,
  checkRanges,
  LOCK_END,
  type LockedRange,
  type RangeChange,
  restoringChanges,
} from '../../src/lease/lock-ranges.js';

/** `r0-4 w6-` and the like: one letter for the type, then the bytes; no end is the end of the file. */
function parse(text: string): RangeChange[] {
  return text
    .split(' ')
    .filter((part) => part !== '')
    .map((part) => {
      const [start = '0', end = ''] = part.slice(1).split('-');
      const type = part.startsWith('r') ? 'read' : part.startsWith('w') ? 'write' : 'unlock';
      return { type, start: Number(start), end: end === '' ? LOCK_END : Number(end), pid: 1 };
    });
}

const show = (ranges: readonly RangeChange[]): string =>
  ranges.map(({ type, start, end }) => `${type[0]}${start}-${end === LOCK_END ? '' : end}`).join(' ');

function after(changes: readonly RangeChange[]): LockedRange[] {
  let ranges: LockedRange[] = [];
  for (const change of changes) {
    ranges = changeRanges(ranges, change);
    checkRanges(ranges);
  }
  return ranges;
}

/** What is set one after another, and what is locked then. */
const TABLE: readonly (readonly [changes: string, result: string])[] = [
  ['r0-4', 'r0-4'],
  ['r0-4 r5-9', 'r0-9'],
  ['r5-9 r0-4', 'r0-9'],
  ['r0-4 r6-9', 'r0-4 r6-9'],
  ['r0-4 r6-9 r5-5', 'r0-9'],
  ['r0-4 w5-9', 'r0-4 w5-9'],
  ['w0-9 u3-4', 'w0-2 w5-9'],
  ['w0-9 r3-4', 'w0-2 r3-4 w5-9'],
  ['w0-9 r3-4 w3-4', 'w0-9'],
  ['w0-9 r0-9', 'r0-9'],
  ['r0-2 w4-6 r8-9 u1-8', 'r0-0 r9-9'],
  ['r0-2 w4-6 r8-9 r1-8', 'r0-9'],
  ['w0- u5-5', 'w0-4 w6-'],
  ['w10- r0-', 'r0-'],
  ['w10- w0-9', 'w0-'],
  ['r0- u0-', ''],
  ['u3-4', ''],
];

t.test('setting and clearing splits, joins and replaces', async (t) => {
  for (const [changes, result] of TABLE) t.equal(show(after(parse(changes))), result, changes);
});

t.test('a change is taken back to what was there', async (t) => {
  const before = after(parse('r0-2 w4-6 r8-'));
  t.equal(show(restoringChanges(before, { start: 1, end: 9 }, 1)), 'r1-2 u3-3 w4-6 u7-7 r8-9');
  t.equal(show(restoringChanges([], { start: 1, end: LOCK_END }, 1)), 'u1-');
  const changed = changeRanges(before, { type: 'write', start: 1, end: 9, pid: 1 });
  const restored = restoringChanges(before, { start: 1, end: 9 }, 1).reduce(changeRanges, changed);
  t.same(restored, before);
});

t.test('random changes do what a byte by byte model does', async (t) => {
  const SEED = 20_260_101;
  const random = new Prng(SEED);
  const types = ['read', 'write', 'unlock'] as const;
  for (let round = 0; round < 200; round++) {
    const bytes: string[] = Array(30).fill('.');
    let ranges: LockedRange[] = [];
    for (let step = 0; step < 40; step++) {
      const start = random.int(0, 29);
      const end = random.int(start, 29);
      const type = types[random.int(0, 2)] ?? 'unlock';
      for (let at = start; at <= end; at++) bytes[at] = type === 'unlock' ? '.' : type.charAt(0);
      ranges = changeRanges(ranges, { type, start, end, pid: 1 });
      checkRanges(ranges);
      const found: string[] = Array(30).fill('.');
      for (const range of ranges)
        for (let at = range.start; at <= range.end; at++) found[at] = range.type.charAt(0);
      if (found.join('') !== bytes.join('')) t.fail(`seed ${SEED}, round ${round}, step ${step}`);
    }
  }
});
