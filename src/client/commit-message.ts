/**
 * Turns stored chunks into the arguments of one commit. Extents of a file that lie in several chunks come in
 * the chunks' order, so that a later one overwrites what it covers.
 */

import { present } from '../base/assert.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { FileCommit, MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf } from '../proto/method.js';
import type { Piece } from './extent-overlay.js';
import type { PendingChunk } from './pending-chunk.js';
import type { PendingFile } from './pending-file.js';

export type CommitArgs = ArgsOf<MetaMethods['commit']>;

export interface CommitBatch {
  readonly chunks: readonly PendingChunk[];
  readonly files: ReadonlyMap<PendingFile, readonly Piece<ChunkId>[]>;
}

/**
 * The chunks at the head of `queue` that can go into one commit now: stored, without a file that is held,
 * and within what a commit may carry. `atMost` chunks.
 */
export function nextBatch(queue: readonly PendingChunk[], atMost: number): CommitBatch | undefined {
  const chunks: PendingChunk[] = [];
  const files = new Map<PendingFile, Piece<ChunkId>[]>();
  let extents = 0;
  for (const chunk of queue) {
    extents += chunk.extentCount;
    if (chunk.state !== 'stored' || chunks.length >= Math.min(atMost, limits.chunksPerMessage)) break;
    if (chunks.length > 0 && extents > limits.extentsPerMessage) break;
    if (chunks.length > 0 && files.size + chunk.files.size > limits.filesPerCommit) break;
    if ([...chunk.files.keys()].some((file) => file.holds > 0)) break;
    chunks.push(chunk);
    const id = present(chunk.id, 'a stored chunk has an id');
    for (const [file, overlay] of chunk.files) {
      const pieces = files.get(file) ?? [];
      for (const piece of overlay.pieces()) pieces.push({ ...piece, chunk: id });
      files.set(file, pieces);
    }
  }
  return chunks.length === 0 ? undefined : { chunks, files };
}

export function commitArgs(batch: CommitBatch): CommitArgs {
  const files: FileCommit[] = [];
  for (const [file, extents] of batch.files) {
    const minSize = extents.reduce((end, extent) => Math.max(end, extent.offset + extent.length), 0);
    const { ino, mtime, clearPrivileges } = file;
    files.push({ ino, extents: [...extents], minSize, mtime, clearPrivileges });
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
