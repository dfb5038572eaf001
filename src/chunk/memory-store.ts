/**
 * Chunks in memory: the model that tests hold the other stores to, and a server for tests that need no disk.
 * Keeps the contract of store.ts except for durability.
 */
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { blockChecksums, blocksMatch, blocksTouched } from './block-checksums.js';
import { type ChunkStore, checkChunkLength, type StoredChunk, type StoreUsage } from './store.js';

interface Held {
  readonly crc: number;
  readonly bytes: Buffer;
  readonly sums: Buffer;
}

export class MemoryStore implements ChunkStore {
  /** INVARIANT: #usedBytes is the sum of the lengths in #chunks, and never above the capacity. */
  readonly #chunks = new Map<ChunkId, Held>();
  readonly #capacityBytes: number;
  #usedBytes = 0;
  #closed = false;

  constructor(options: { capacityBytes: number }) {
    this.#capacityBytes = options.capacityBytes;
  }

  async put(id: ChunkId, crc: number, bytes: Uint8Array): Promise<void> {
    this.#checkOpen();
    checkChunkLength(bytes.length);
    const held = this.#chunks.get(id);
    if (held !== undefined) {
      if (held.crc !== crc || held.bytes.length !== bytes.length)
        throw new ProtocolError('chunkConflict', `chunk ${id} is here with other bytes`);
      if (blocksMatch(held.bytes, 0, held.sums)) return;
      this.#remove(id);
    }
    if (this.#usedBytes + bytes.length > this.#capacityBytes)
      throw new ProtocolError('serverFull', `chunk ${id} of ${bytes.length} bytes does not fit`);
    this.#chunks.set(id, { crc, bytes: Buffer.from(bytes), sums: blockChecksums(bytes) });
    this.#usedBytes += bytes.length;
  }

  async get(id: ChunkId, offset: number, length: number): Promise<Buffer> {
    this.#checkOpen();
    const held = this.#chunks.get(id);
    if (held === undefined) throw new ProtocolError('noChunk', `chunk ${id} is not here`);
    const { start, end } = blocksTouched(held.bytes.length, offset, length);
    if (!blocksMatch(held.bytes.subarray(start, end), start, held.sums))
      throw new ProtocolError('corrupt', `chunk ${id} is damaged between ${start} and ${end}`);
    return Buffer.from(held.bytes.subarray(offset, offset + length));
  }

  async delete(ids: readonly ChunkId[]): Promise<number> {
    this.#checkOpen();
    let deleted = 0;
    for (const id of ids) if (this.#remove(id)) deleted++;
    return deleted;
  }

  async list(after: number, last: number, limit: number): Promise<{ chunks: StoredChunk[]; end: boolean }> {
    this.#checkOpen();
    const inRange = [...this.#chunks.keys()].filter((id) => id > after && id <= last).sort((a, b) => a - b);
    const chunks = inRange.slice(0, limit).flatMap((id) => {
      const held = this.#chunks.get(id);
      return held === undefined ? [] : [{ id, length: held.bytes.length, crc: held.crc }];
    });
    return { chunks, end: inRange.length <= limit };
  }

  async usage(): Promise<StoreUsage> {
    this.#checkOpen();
    return {
      chunks: this.#chunks.size,
      usedBytes: this.#usedBytes,
      capacityBytes: this.#capacityBytes,
      full: this.#usedBytes + limits.chunkBytes > this.#capacityBytes,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#chunks.clear();
  }

  /** Flips one bit of a stored chunk, for tests of what follows. */
  damage(id: ChunkId, offset: number): void {
    const held = this.#chunks.get(id);
    const byte = held?.bytes[offset];
    if (held === undefined || byte === undefined) throw new RangeError(`no byte ${offset} in chunk ${id}`);
    held.bytes[offset] = byte ^ 1;
  }

  #remove(id: ChunkId): boolean {
    const held = this.#chunks.get(id);
    if (held === undefined) return false;
    this.#usedBytes -= held.bytes.length;
    return this.#chunks.delete(id);
  }

  #checkOpen(): void {
    if (this.#closed) throw new ProtocolError('busy', 'the chunk store is closed');
  }
}
