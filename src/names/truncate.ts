/**
 * Cutting a file's extents at a size. All of it happens in one transaction, because a program must never see
 * a half-cut file; extents are read page by page, but the changes of a file of a million extents are a
 * million rows.
 */
import { limits } from '../proto/limits.js';
import { ChunkTally } from './chunk-tally.js';
import { changed, putInode } from './inode.js';
import { ask, type OperationContext, type Reading } from './operation.js';
import { dropCapability } from './privileges.js';
import type { InodeRow, RowChange } from './rows.js';

export interface Cut {
  /** What the inode holds afterwards. */
  readonly allocated: number;
  readonly changes: readonly RowChange[];
}

/** Removes what extents hold at and behind `size`. */
export function* cutExtents(row: InodeRow, size: number): Reading<Cut> {
  const tally = new ChunkTally();
  const changes: RowChange[] = [];
  let allocated = row.allocated;
  let from = size;
  while (allocated > 0) {
    const to = Number.MAX_SAFE_INTEGER;
    const page = yield* ask({ read: 'extents', ino: row.ino, from, to, limit: limits.extentsPerMessage });
    for (const extent of page) {
      const keep = Math.max(0, size - extent.offset);
      if (keep > 0) changes.push({ put: 'extent', row: { ...extent, length: keep } });
      else changes.push({ delete: 'extent', ino: row.ino, offset: extent.offset });
      tally.add(extent.chunk, keep - extent.length);
      allocated += keep - extent.length;
      from = extent.offset + extent.length;
    }
    if (page.length < limits.extentsPerMessage) break;
  }
  return { allocated, changes: [...changes, ...tally.changes()] };
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
