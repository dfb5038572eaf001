/**
 * Telling where a file's bytes are.
 */

import type { Extent } from '../proto/extent.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { extentEnd } from './extent-list.js';
import { attrOf, existingFile } from './inode.js';
import { ask, type Operation, type OperationContext } from './operation.js';
import type { ExtentRow } from './rows.js';

/**
 * The extents that overlap a range, whole, at most limits.extentsPerMessage; `next` says from where to ask on.
 * **Errors:** ENOENT; EISDIR, EINVAL (no regular file).
 */
export function* extents(
  _context: OperationContext,
  args: ArgsOf<MetaMethods['extents']>,
): Operation<ReplyOf<MetaMethods['extents']>> {
  const row = yield* existingFile(args.ino, 'extents');
  const from = args.offset;
  const to = Math.min(from + args.length, Number.MAX_SAFE_INTEGER);
  const limit = limits.extentsPerMessage;
  const some = to > from && row.allocated > 0;
  const rows = some ? yield* ask({ read: 'extents', ino: args.ino, from, to, limit }) : [];
  const last = rows[rows.length - 1];
  const next = last !== undefined && rows.length === limit && extentEnd(last) < to ? extentEnd(last) : null;
  return { reply: { attr: attrOf(row), extents: rows.map(extentOf), next }, changes: [] };
}

/** What crosses the wire of a row. */
export function extentOf(row: ExtentRow): Extent {
  return { offset: row.offset, length: row.length, chunk: row.chunk, chunkOffset: row.chunkOffset };
}
