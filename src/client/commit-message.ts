/**
 * Turns stored chunks into the arguments of one commit. Extents of a file that lie in several chunks come in
 * the chunks' order, so that a later one overwrites what it covers.
 */

import { present } from '../base/assert.js';
import type { Timespec } from '../base/clock.js';
import type { Attr } from '../proto/attr.js';
import type { FileCommit } from '../proto/data-methods.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf } from '../proto/method.js';
import type { Piece } from './extent-overlay.js';
import type { PendingChunk } from './pending-chunk.js';
import type { PendingFile } from './pending-file.js';

export type CommitArgs = ArgsOf<MetaMethods['commit']>;

/** What a commit does to one file. */
export interface CommitPart {
  /** In write order. */
  readonly extents: readonly Piece<ChunkId>[];
  /** Where the extents go is for the server to say. */
  readonly append: boolean;
  /** When the last of these bytes were written. */
  readonly mtime: Timespec;
}

export interface CommitBatch {
  readonly chunks: readonly PendingChunk[];
  readonly files: ReadonlyMap<PendingFile, CommitPart>;
}

/**
 * The chunks at the head of `queue` that can go into one commit now: stored, without a file that is held or
 * that was appended to and written elsewhere, and within what a commit may carry. `atMost` chunks.
 */
export function nextBatch(queue: readonly PendingChunk[], atMost: number): CommitBatch | undefined {
  const chunks: PendingChunk[] = [];
  const files = new Map<PendingFile, { extents: Piece<ChunkId>[]; append: boolean; mtime: Timespec }>();
  let extents = 0;
  for (const chunk of queue) {
    extents += chunk.extentCount;
    if (chunk.state !== 'stored' || chunks.length >= Math.min(atMost, limits.chunksPerMessage)) break;
    if (chunks.length > 0 && extents > limits.extentsPerMessage) break;
    if (chunks.length > 0 && files.size + chunk.files.size > limits.filesPerCommit) break;
    if ([...chunk.files.keys()].some((file) => file.holds > 0)) break;
    const mixes = (file: PendingFile): boolean =>
      (files.get(file)?.append ?? chunk.appended.has(file)) !== chunk.appended.has(file);
    if ([...chunk.files.keys()].some(mixes)) break;
    chunks.push(chunk);
    const id = present(chunk.id, 'a stored chunk has an id');
    for (const [file, overlay] of chunk.files) {
      const extents = files.get(file)?.extents ?? [];
      for (const piece of overlay.pieces()) extents.push({ ...piece, chunk: id });
      const mtime = present(chunk.mtimes.get(file), 'a chunk knows when its bytes were written');
      files.set(file, { extents, append: chunk.appended.has(file), mtime });
    }
  }
  return chunks.length === 0 ? undefined : { chunks, files };
}

/** Whether the extents of a part that was committed are where this mount had them: `attr` is the outcome. */
export function isWhereWritten({ extents, append }: CommitPart, attr: Attr | undefined): boolean {
  if (!append || attr === undefined) return true;
  const first = extents[0]?.offset ?? 0;
  const bytes = extents.reduce((sum, extent) => sum + extent.length, 0);
  return endOf(extents) === first + bytes && attr.size === first + bytes;
}

const endOf = (extents: readonly Piece<ChunkId>[]): number =>
  extents.reduce((end, extent) => Math.max(end, extent.offset + extent.length), 0);

/**
 * A file gets the time of what is committed of it, not of what is pending still: the commit that brings that
 * must move the time again, because other mounts' kernels see by it that their pages are old.
 */
export function commitArgs(batch: CommitBatch): CommitArgs {
  const files: FileCommit[] = [];
  for (const [file, { extents, append, mtime }] of batch.files) {
    const { ino, clearPrivileges, committedMtime: over } = file;
    const known = over === undefined ? {} : { over };
    const common = { ino, extents: [...extents], minSize: endOf(extents), mtime, ...known, clearPrivileges };
    files.push(append ? { ...common, append } : common);
  }
  return {
    // A chunk that no extent points into is not the server's to keep.
    chunks: batch.chunks
      .filter((chunk) => chunk.files.size > 0)
      .map((chunk) => ({
        id: present(chunk.id, 'a stored chunk has an id'),
        length: chunk.length,
        crc: chunk.crc,
      })),
    files,
    durable: batch.chunks.some((chunk) => chunk.durableWanted),
  };
}
