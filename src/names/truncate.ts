/**
 * Cutting a file's extents at a size, and out of a range. All of it happens in one transaction, because a program must never see
 * a half-cut file; extents are read page by page, but the changes of a file of a million extents are a
 * million rows.
 */
import { limits } from '../proto/limits.js';
import { ChunkTally } from './chunk-tally.js';
import { extentEnd, tailOf } from './extent-list.js';
import { changed, putInode } from './inode.js';
import { ask, type OperationContext, type Reading } from './operation.js';
import { dropCapability } from './privileges.js';
import type { ExtentRow, InodeRow, RowChange } from './rows.js';

export interface Cut {
  /** What the inode holds afterwards. */
  readonly allocated: number;
  readonly changes: readonly RowChange[];
}

/** Removes what extents hold at and behind `size`. */
export function cutExtents(row: InodeRow, size: number): Reading<Cut> {
  return clearExtents(row, { from: size, to: Number.MAX_SAFE_INTEGER });
}

/** Removes what extents hold in [from, to): one that sticks out of it keeps the rest. */
export function* clearExtents(row: InodeRow, range: { from: number; to: number }): Reading<Cut> {
  const tally = new ChunkTally();
  const changes: RowChange[] = [];
  let allocated = row.allocated;
  let { from } = range;
  while (allocated > 0 && from < range.to) {
    const limit = limits.extentsPerMessage;
    const page = yield* ask({ read: 'extents', ino: row.ino, from, to: range.to, limit });
    for (const extent of page) {
      const kept = outside(extent, range);
      if (kept[0]?.offset !== extent.offset)
        changes.push({ delete: 'extent', ino: row.ino, offset: extent.offset });
      for (const rest of kept) changes.push({ put: 'extent', row: rest });
      const bytes = kept.reduce((sum, rest) => sum + rest.length, 0) - extent.length;
      tally.add(extent.chunk, bytes);
      allocated += bytes;
      from = extentEnd(extent);
    }
    if (page.length < limit) break;
  }
  return { allocated, changes: [...changes, ...tally.changes()] };
}

/** What of an extent lies in front of and behind [from, to). */
function outside(extent: ExtentRow, { from, to }: { from: number; to: number }): ExtentRow[] {
  const kept: ExtentRow[] = [];
  if (extent.offset < from) kept.push({ ...extent, length: from - extent.offset });
  if (extentEnd(extent) > to) kept.push({ ...extent, ...tailOf(extent, to) });
  return kept;
}

/**
 * O_TRUNC: empties a regular file. Its times change even when it was empty, as Linux has it. Setuid and
 * setgid go only with setattr's `clearPrivileges`.
 */
export function* truncateFile(
  context: OperationContext,
  before: InodeRow,
): Reading<{ row: InodeRow; changes: RowChange[] }> {
  const cut = yield* cutExtents(before, 0);
  const row = changed(before, {
    size: 0,
    allocated: cut.allocated,
    mtime: context.now,
    ctime: context.now,
  });
  const capability = yield* dropCapability(before);
  return { row, changes: [...cut.changes, ...capability, putInode(row)] };
}
