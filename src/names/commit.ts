/**
 * Making written data part of files. Extents are laid over what is there in write order, joined with their
 * neighbours, and every chunk's usage follows.
 *
 * What was written with O_APPEND gets its place here, where the end of the file is known: mounts that append
 * to one file never overwrite one another, and what one write appended stays together.
 *
 * All extents of a chunk should come in one commit: a chunk that no extent references at the end of one is
 * garbage, and naming it in a later commit is refused.
 *
 * A write takes file capabilities whoever writes, a store into a mapping does not. For most writes
 * the kernel has removed them itself before; not for appends, which bypass its page cache
 * (fuse_direct_write_iter, fs/fuse/file.c).
 */
import { compareTimespec, type Timespec } from '../base/clock.js';
import { isRegular } from '../proto/attr.js';
import type { FileCommit } from '../proto/data-methods.js';
import { FsError } from '../proto/errno.js';
import type { Extent } from '../proto/extent.js';
import type { ChunkId, Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { ChunkTally } from './chunk-tally.js';
import { ExtentList, extentEnd } from './extent-list.js';
import { extentOf } from './extents.js';
import { attrOf, changed, putInode } from './inode.js';
import { ask, type Operation, type OperationContext, type Reading } from './operation.js';
import { dropCapability, unprivilegedMode } from './privileges.js';
import type { ChunkRow, InodeRow, RowChange } from './rows.js';

/** What is written to one file, every extent at its place. */
interface WrittenFile {
  readonly extents: readonly Extent[];
  /** Of the file afterwards. */
  readonly size: number;
  readonly mtime: Timespec | undefined;
  readonly over: Timespec | undefined;
  readonly clearPrivileges: boolean;
  readonly dropCapability: boolean;
}

/**
 * Applies written extents, sizes and times to files. Files that are gone, or have changed since they were as the
 * writer says, are named in `missing`; nothing of theirs counts. Several entries for one inode act as one after the other.
 * **Errors:** EINVAL when an extent names no known chunk or bytes beyond its end, a chunk is named with
 * another length or checksum than before, or an inode is no regular file; EFBIG beyond limits.fileBytes.
 */
export function* commit(
  { now }: OperationContext,
  args: ArgsOf<MetaMethods['commit']>,
): Operation<ReplyOf<MetaMethods['commit']>> {
  const chunks = yield* knownChunks(args.chunks);
  const tally = new ChunkTally();
  const changes: RowChange[] = [];
  const missing: Ino[] = [];
  const attrs: ReplyOf<MetaMethods['commit']>['attrs'] = [];
  for (const [ino, parts] of byInode(args.files)) {
    const row = yield* writableInode(ino);
    if (row === undefined || parts.some((part) => isOvertaken(row, part))) {
      missing.push(ino);
      continue;
    }
    const file = placed(row.size, parts);
    for (const extent of file.extents) yield* checkExtent(extent, chunks);
    const written = yield* writeFile(now, row, file, tally);
    changes.push(...written.changes);
    attrs.push(attrOf(written.row));
  }
  const named: RowChange[] = args.chunks.map(({ id, length, crc }) => {
    const used = (chunks.get(id)?.used ?? 0) + tally.take(id);
    return { put: 'chunk', row: { id, length, crc, used } };
  });
  return { reply: { missing, attrs }, changes: [...named, ...changes, ...tally.changes()] };
}

/** The chunks a commit brings, with what is known of them already. **Errors:** EINVAL. */
function* knownChunks(records: ArgsOf<MetaMethods['commit']>['chunks']): Reading<Map<ChunkId, ChunkRow>> {
  const chunks = new Map<ChunkId, ChunkRow>();
  for (const record of records) {
    if (chunks.has(record.id)) throw new FsError('EINVAL', 'commit', { detail: `chunk ${record.id} twice` });
    const stored = yield* ask({ read: 'chunk', id: record.id });
    if (stored !== undefined && (stored.length !== record.length || stored.crc !== record.crc)) {
      throw new FsError('EINVAL', 'commit', { detail: `chunk ${record.id} has other content` });
    }
    chunks.set(record.id, { ...record, used: stored?.used ?? 0 });
  }
  return chunks;
}

/** **Errors:** EINVAL, EFBIG. */
function* checkExtent(extent: Extent, chunks: Map<ChunkId, ChunkRow>): Reading<void> {
  let chunk = chunks.get(extent.chunk);
  if (chunk === undefined) {
    chunk = yield* ask({ read: 'chunk', id: extent.chunk });
    if (chunk === undefined) throw new FsError('EINVAL', 'commit', { detail: `no chunk ${extent.chunk}` });
    chunks.set(extent.chunk, chunk);
  }
  if (extent.chunkOffset + extent.length > chunk.length) {
    throw new FsError('EINVAL', 'commit', { detail: `beyond the end of chunk ${extent.chunk}` });
  }
  if (extentEnd(extent) > limits.fileBytes) throw new FsError('EFBIG', 'commit');
}

/** What a commit does to each inode, in order of first mention. */
function byInode(files: readonly FileCommit[]): ReadonlyMap<Ino, FileCommit[]> {
  const found = new Map<Ino, FileCommit[]>();
  for (const file of files) {
    const parts = found.get(file.ino);
    if (parts === undefined) found.set(file.ino, [file]);
    else parts.push(file);
  }
  return found;
}

/** All parts of a file's commit as one, appended extents at the end that the file of `size` bytes has then. */
function placed(size: number, parts: readonly FileCommit[]): WrittenFile {
  const extents: Extent[] = [];
  let end = size;
  for (const part of parts) {
    for (const extent of part.extents) {
      const there = part.append === true ? { ...extent, offset: end } : extent;
      extents.push(there);
      end = Math.max(end, extentEnd(there));
    }
    if (part.append !== true) end = Math.max(end, part.minSize);
  }
  const clearPrivileges = parts.some((part) => part.clearPrivileges);
  return {
    extents,
    size: end,
    mtime: parts.at(-1)?.mtime,
    over: parts[0]?.over,
    clearPrivileges,
    dropCapability: clearPrivileges || parts.some((part) => part.append === true),
  };
}

/** The inode to write to; undefined when it is gone. **Errors:** EINVAL when it is no regular file. */
function* writableInode(ino: Ino): Reading<InodeRow | undefined> {
  const row = yield* ask({ read: 'inode', ino });
  if (row === undefined || (row.nlink === 0 && !(yield* ask({ read: 'isOpen', ino })))) return undefined;
  if (!isRegular(row.mode)) throw new FsError('EINVAL', 'commit', { detail: `inode ${ino} is no file` });
  return row;
}

/** What was written under a lease that has ended meanwhile must not go over what others have made since. */
const isOvertaken = ({ version, ctime }: InodeRow, { since }: FileCommit): boolean =>
  since !== undefined && (since.version !== version || compareTimespec(since.ctime, ctime) !== 0);

function* writeFile(
  now: Timespec,
  before: InodeRow,
  file: WrittenFile,
  tally: ChunkTally,
): Reading<{ row: InodeRow; changes: RowChange[] }> {
  const old = before.allocated === 0 ? new Map<number, Extent>() : yield* touched(before.ino, file.extents);
  const list = new ExtentList([...old.values()]);
  for (const extent of file.extents) list.overwrite(extent);
  const extents = list.joined();
  const changes: RowChange[] = differences(before.ino, old, extents);
  if (file.dropCapability) changes.push(...(yield* dropCapability(before)));
  const mtime = timeOf(now, before, file);
  const row = changed(before, {
    size: file.size,
    allocated: before.allocated + count(extents, tally, 1) + count(old.values(), tally, -1),
    mode: file.clearPrivileges ? unprivilegedMode(before.mode) : before.mode,
    mtime,
    ctime: changeTime(before, mtime),
  });
  return { row, changes: [...changes, putInode(row)] };
}

/**
 * The writer's time. Bytes that come behind what others have done to the file since they were written get the
 * time at which they come: mtime does not go back to where some kernel has seen it, with other bytes, and does
 * not stay where the writer's kernel has it, with the others' bytes missing. Where it is not said what the writer
 * knew, an mtime behind the write's alone does not say that others came before, it may have been set; every change
 * has moved ctime, though.
 */
function timeOf(now: Timespec, before: InodeRow, { mtime, over, extents }: WrittenFile): Timespec {
  if (mtime === undefined) return before.mtime;
  const isOlder = (than: Timespec): boolean => compareTimespec(mtime, than) < 0;
  const isOverOthers = over !== undefined && compareTimespec(over, before.mtime) !== 0;
  const isBehind = over === undefined ? isOlder(before.mtime) && isOlder(before.ctime) : isOverOthers;
  if (extents.length === 0 || !isBehind) return mtime;
  if (isOlder(now)) return now;
  return isOverOthers ? justAfter(mtime) : mtime;
}

const justAfter = ({ sec, nsec }: Timespec): Timespec =>
  nsec < 999_999_999 ? { sec, nsec: nsec + 1 } : { sec: sec + 1, nsec: 0 };

/** That of the write, unless mtime was set after it: setting it has set ctime already. */
function changeTime({ mtime: setTime, ctime }: InodeRow, mtime: Timespec): Timespec {
  if (compareTimespec(mtime, setTime) === 0) return ctime;
  return compareTimespec(mtime, ctime) > 0 ? mtime : ctime;
}

/** Counts bytes into the tally; returns their sum, times `sign`. */
export function count(extents: Iterable<Extent>, tally: ChunkTally, sign: 1 | -1): number {
  let bytes = 0;
  for (const extent of extents) {
    tally.add(extent.chunk, sign * extent.length);
    bytes += sign * extent.length;
  }
  return bytes;
}

/** The stored extents that `extents` overlap or adjoin, by offset, in order. */
function* touched(ino: Ino, extents: readonly Extent[]): Reading<Map<number, Extent>> {
  const found = new Map<number, Extent>();
  for (const range of ranges(extents)) {
    let from = Math.max(0, range.from - 1);
    const to = Math.min(range.to + 1, Number.MAX_SAFE_INTEGER);
    for (;;) {
      const page = yield* ask({ read: 'extents', ino, from, to, limit: limits.extentsPerMessage });
      for (const row of page) found.set(row.offset, extentOf(row));
      const last = page[page.length - 1];
      if (last === undefined || page.length < limits.extentsPerMessage) break;
      from = extentEnd(last);
      if (from >= to) break;
    }
  }
  return found;
}

/** The file ranges that extents cover together, ascending, apart from one another. */
function ranges(extents: readonly Extent[]): { from: number; to: number }[] {
  const out: { from: number; to: number }[] = [];
  for (const extent of [...extents].sort((a, b) => a.offset - b.offset)) {
    const last = out[out.length - 1];
    if (last !== undefined && extent.offset <= last.to) last.to = Math.max(last.to, extentEnd(extent));
    else out.push({ from: extent.offset, to: extentEnd(extent) });
  }
  return out;
}

/** From stored extents to new ones: removals first, so that puts never meet what they replace. */
export function differences(ino: Ino, old: ReadonlyMap<number, Extent>, now: readonly Extent[]): RowChange[] {
  const changes: RowChange[] = [];
  const kept = new Set(now.map((extent) => extent.offset));
  for (const offset of old.keys()) {
    if (!kept.has(offset)) changes.push({ delete: 'extent', ino, offset });
  }
  for (const extent of now) {
    if (!same(old.get(extent.offset), extent)) changes.push({ put: 'extent', row: { ino, ...extent } });
  }
  return changes;
}

function same(a: Extent | undefined, b: Extent): boolean {
  return a !== undefined && a.length === b.length && a.chunk === b.chunk && a.chunkOffset === b.chunkOffset;
}
