/**
 * The end of an inode. Its last name gone, it lives on while a session has it open (an orphan, nlink 0).
 * Then it is removed: at once when it holds few extents, else it is marked `reapable` and `reap` takes it
 * apart in bounded steps. INVARIANT: a reapable inode never comes back to life.
 */
import { assert } from '../base/assert.js';
import { isDir } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import { ChunkTally } from './chunk-tally.js';
import { changed, putInode } from './inode.js';
import { ask, type Operation, type OperationContext, type Reading } from './operation.js';
import type { ExtentRow, InodeRow, RowChange } from './rows.js';

/** Up to this many extents go together with the name. */
const INLINE_EXTENTS = 16;

/** What a lost name does to its inode. */
export interface Loss {
  readonly changes: readonly RowChange[];
  /** For the reply: the inode, when it was the last name and the session holds the inode now. */
  readonly held: { readonly held?: Ino };
}

/**
 * What happens to an inode that loses a name (a directory loses its only one). With `hold` the session has it
 * open from now on when that was the last name: its kernel still refers to the inode.
 */
export function* loseName(
  context: OperationContext,
  row: InodeRow,
  hold: boolean | undefined,
): Reading<Loss> {
  const nlink = isDir(row.mode) ? 0 : row.nlink - 1;
  const left = changed(row, { nlink, ctime: context.now });
  if (nlink > 0) return { changes: [putInode(left)], held: {} };
  if (hold === true) {
    const mark: RowChange = { put: 'open', ino: row.ino, session: context.session };
    return { changes: [putInode(left), mark], held: { held: row.ino } };
  }
  const isOpen = yield* ask({ read: 'isOpen', ino: row.ino });
  return { changes: isOpen ? [putInode(left)] : yield* discard(left), held: {} };
}

/** Removes an inode that has no name and that nobody has open, or marks it for `reap`. */
export function* discard(row: InodeRow): Reading<RowChange[]> {
  const extents = yield* extentsFromStart(row, INLINE_EXTENTS + 1);
  if (extents.length > INLINE_EXTENTS) return [putInode(row), { put: 'reapable', ino: row.ino }];
  return [...dropExtents(extents), { delete: 'inode', ino: row.ino }];
}

/**
 * Takes a reapable inode apart: at most `limit` (> 0) extents, and with the last of them the inode.
 * `more`: call again. An inode that is gone already is no error.
 */
export function* reap(
  _context: OperationContext,
  args: { ino: Ino; limit: number },
): Operation<{ more: boolean }> {
  const row = yield* ask({ read: 'inode', ino: args.ino });
  if (row === undefined) return { reply: { more: false }, changes: [] };
  assert(row.nlink === 0, `inode ${row.ino} to be reaped has no name`);
  assert(!(yield* ask({ read: 'isOpen', ino: row.ino })), `inode ${row.ino} to be reaped is not open`);
  const extents = yield* extentsFromStart(row, args.limit);
  const allocated = row.allocated - extents.reduce((sum, extent) => sum + extent.length, 0);
  const last: RowChange =
    allocated === 0 ? { delete: 'inode', ino: row.ino } : putInode(changed(row, { allocated }));
  return { reply: { more: allocated > 0 }, changes: [...dropExtents(extents), last] };
}

function* extentsFromStart(row: InodeRow, limit: number): Reading<readonly ExtentRow[]> {
  if (row.allocated === 0) return [];
  return yield* ask({ read: 'extents', ino: row.ino, from: 0, to: Number.MAX_SAFE_INTEGER, limit });
}

function dropExtents(extents: readonly ExtentRow[]): RowChange[] {
  const tally = new ChunkTally();
  const changes: RowChange[] = [];
  for (const extent of extents) {
    changes.push({ delete: 'extent', ino: extent.ino, offset: extent.offset });
    tally.add(extent.chunk, -extent.length);
  }
  return [...changes, ...tally.changes()];
}
