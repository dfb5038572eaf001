/**
 * Where a chunk server keeps its chunks: the contract that every store keeps, checked for each of them by
 * test/contract/chunk-store.ts.
 *
 * Chunks are immutable. An id names the same bytes for ever; a store never changes, only adds and removes
 * them whole. What `put` has acknowledged is on disk, survives `kill -9` and power loss, and comes back byte
 * for byte or as an error, never as other bytes.
 *
 * All methods may be called at any time and run concurrently. After `close` has been called each of them
 * rejects with ProtocolError `busy`.
 */
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';

/** What a store says about a chunk without reading it. */
export interface StoredChunk {
  readonly id: ChunkId;
  /** Bytes, 1..limits.chunkBytes. */
  readonly length: number;
  /** CRC32C of the whole chunk. */
  readonly crc: number;
}

export interface StoreUsage {
  readonly chunks: number;
  /** Bytes of all chunks, without what the store itself needs. */
  readonly usedBytes: number;
  /** Bytes of chunks that fit, including those that are there. */
  readonly capacityBytes: number;
  /** A put of a whole chunk would be refused now. */
  readonly full: boolean;
}

export interface ChunkStore {
  /**
   * Stores `bytes` as chunk `id`; resolves when they are on disk. `crc` is the CRC32C of `bytes`, which the
   * caller has verified. `bytes` must not change until the promise settles. Idempotent: with the same crc
   * and length a chunk that is there already is left alone, or replaced if its stored bytes are damaged.
   *
   * **Codes:** chunkConflict (the id names other bytes), serverFull (nothing of the chunk remains), busy
   * (too many bytes are waiting to be stored), badMessage (no bytes, or more than a chunk holds).
   */
  put(id: ChunkId, crc: number, bytes: Uint8Array): Promise<void>;

  /**
   * Bytes [offset, offset + length) of a chunk, `length` > 0. Every checksum block they touch has been
   * verified. The buffer is the caller's.
   *
   * **Codes:** noChunk, corrupt, badMessage (the range passes the chunk's end).
   */
  get(id: ChunkId, offset: number, length: number): Promise<Buffer>;

  /** Removes chunks; resolves to how many were there. Ids that are not there are passed over. */
  delete(ids: readonly ChunkId[]): Promise<number>;

  /**
   * Up to `limit` chunks with after < id <= last, ids ascending; `end` when none follow up to `last`. A chunk
   * put or removed meanwhile may be there or not.
   */
  list(after: number, last: number, limit: number): Promise<{ chunks: StoredChunk[]; end: boolean }>;

  usage(): Promise<StoreUsage>;

  /** Waits for puts and deletes that were accepted, then gives everything back. Idempotent. */
  close(): Promise<void>;
}

/** **Codes:** badMessage unless a chunk may be `length` bytes long. */
export function checkChunkLength(length: number): void {
  if (length < 1 || length > limits.chunkBytes)
    throw new ProtocolError('badMessage', `a chunk holds 1 to ${limits.chunkBytes} bytes, not ${length}`);
}
