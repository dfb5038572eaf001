/**
 * copy_file_range(2) within the filesystem: the destination gets extents that point to the source's bytes.
 * Nothing is read or written, and chunk usage counts every reference.
 */
import { FsError } from '../proto/errno.js';
import type { Extent } from '../proto/extent.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { ChunkTally } from './chunk-tally.js';
import { count, differences } from './commit.js';
import { ExtentList, extentEnd } from './extent-list.js';
import { extentOf } from './extents.js';
import { attrOf, changed, existingFile, putInode } from './inode.js';
import { ask, type Operation, type OperationContext, type Reading } from './operation.js';
import { dropCapability, unprivilegedMode } from './privileges.js';
import type { RowChange } from './rows.js';

type Args = ArgsOf<MetaMethods['copyRange']>;

/**
 * Copies what one step allows: limits.extentsPerMessage extents of the source, and as many replaced in the
 * destination, which ends at limits.fileBytes. A hole becomes a hole. With nothing to copy nothing changes, not
 * even times.
 * **Errors:** ENOENT; EISDIR, EINVAL (no regular file; ranges of one file that overlap); EFBIG.
 * **Source:** copy_file_range(2), generic_copy_file_checks (fs/read_write.c).
 */
export function* copyRange(
  context: OperationContext,
  args: Args,
): Operation<ReplyOf<MetaMethods['copyRange']>> {
  const source = yield* existingFile(args.ino, 'copyRange');
  const before = yield* existingFile(args.newIno, 'copyRange');
  const room = limits.fileBytes - args.newOffset;
  const wanted = Math.min(args.length, source.size - args.offset, room);
  if (room === 0) throw new FsError('EFBIG', 'copyRange');
  if (wanted <= 0) return { reply: { copied: 0, attr: attrOf(before) }, changes: [] };
  if (args.ino === args.newIno && Math.abs(args.newOffset - args.offset) < wanted)
    throw new FsError('EINVAL', 'copyRange', { detail: 'the ranges overlap' });

  const from = yield* page(args.ino, args.offset, args.offset + wanted);
  // One byte further on either side: neighbours that continue what is copied are joined with it.
  const at = Math.max(0, args.newOffset - 1);
  const to = Math.min(args.newOffset + wanted + 1, Number.MAX_SAFE_INTEGER);
  const over = yield* page(args.newIno, at, to);
  const copied = Math.min(wanted, from.end - args.offset, over.end - args.newOffset);

  const list = new ExtentList(over.extents);
  list.clear(args.newOffset, args.newOffset + copied);
  for (const extent of moved(from.extents, args, copied)) list.overwrite(extent);
  const now = list.joined();
  const tally = new ChunkTally();
  const old = new Map(over.extents.map((extent) => [extent.offset, extent]));
  const changes: RowChange[] = differences(before.ino, old, now);
  if (args.clearPrivileges) changes.push(...(yield* dropCapability(before)));
  const row = changed(before, {
    size: Math.max(before.size, args.newOffset + copied),
    allocated: before.allocated + count(now, tally, 1) + count(over.extents, tally, -1),
    mode: args.clearPrivileges ? unprivilegedMode(before.mode) : before.mode,
    mtime: context.now,
    ctime: context.now,
  });
  return { reply: { copied, attr: attrOf(row) }, changes: [...changes, putInode(row), ...tally.changes()] };
}

/** The first extents that overlap [from, to), and up to where they are all there are. */
function* page(ino: Ino, from: number, to: number): Reading<{ extents: Extent[]; end: number }> {
  const limit = limits.extentsPerMessage;
  const rows = yield* ask({ read: 'extents', ino, from, to, limit });
  const last = rows[rows.length - 1];
  const end = last !== undefined && rows.length === limit ? extentEnd(last) : to;
  return { extents: rows.map(extentOf), end };
}

/** The source's extents, cut to what is copied, where they lie in the destination. */
function* moved(extents: readonly Extent[], args: Args, copied: number): Generator<Extent> {
  for (const extent of extents) {
    const from = Math.max(extent.offset, args.offset);
    const to = Math.min(extentEnd(extent), args.offset + copied);
    if (from >= to) continue;
    const offset = args.newOffset + (from - args.offset);
    const chunkOffset = extent.chunkOffset + (from - extent.offset);
    yield { offset, length: to - from, chunk: extent.chunk, chunkOffset };
  }
}
