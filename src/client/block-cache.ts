/**
 * Blocks of chunks in memory. Chunks are immutable, so what is here is right for as long as it is kept; the
 * only question is what to keep. The unit of keeping is a segment, a run of bytes that came in one reply or
 * was written in one chunk: it is one buffer, so dropping it frees exactly what it was counted for. The
 * least recently used segment goes first.
 *
 * INVARIANT: `bytes` is the sum of the buffers' lengths and never above the capacity after an insertion; a
 * segment starts on a block boundary.
 */
import { assert } from '../base/assert.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';

export const BLOCK_BYTES = limits.checksumBlockBytes;
export const BLOCKS_PER_CHUNK = limits.chunkBytes / BLOCK_BYTES;

interface Segment {
  readonly chunk: ChunkId;
  readonly firstBlock: number;
  readonly buffer: Buffer;
}

export class BlockCache {
  readonly #capacity: number;
  /** In order of use, oldest first. */
  readonly #segments = new Set<Segment>();
  readonly #blocks = new Map<ChunkId, Map<number, Segment>>();
  #bytes = 0;

  constructor(capacityBytes: number) {
    this.#capacity = capacityBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * The bytes of a block that are here, from its start, at most BLOCK_BYTES; undefined when there are none.
   * They may be fewer than the chunk has, when no more were asked for.
   */
  block(chunk: ChunkId, block: number): Buffer | undefined {
    const segment = this.#blocks.get(chunk)?.get(block);
    if (segment === undefined) return undefined;
    this.#segments.delete(segment);
    this.#segments.add(segment);
    const start = (block - segment.firstBlock) * BLOCK_BYTES;
    return segment.buffer.subarray(start, start + BLOCK_BYTES);
  }

  /** Keeps the bytes of a chunk from a block boundary on. The buffer is kept, not copied. */
  insert(chunk: ChunkId, firstBlock: number, buffer: Buffer): void {
    if (buffer.length === 0 || buffer.length > this.#capacity) return;
    const segment = { chunk, firstBlock, buffer };
    let blocks = this.#blocks.get(chunk);
    if (blocks === undefined) {
      blocks = new Map();
      this.#blocks.set(chunk, blocks);
    }
    const count = Math.ceil(buffer.length / BLOCK_BYTES);
    const replaced = new Set<Segment>();
    for (let block = firstBlock; block < firstBlock + count; block++) {
      const old = blocks.get(block);
      if (old !== undefined) replaced.add(old);
      blocks.set(block, segment);
    }
    this.#segments.add(segment);
    this.#bytes += buffer.length;
    for (const old of replaced) if (!this.#isUsed(old)) this.#drop(old);
    for (const oldest of this.#segments) {
      if (this.#bytes <= this.#capacity) break;
      this.#drop(oldest);
    }
  }

  clear(): void {
    this.#segments.clear();
    this.#blocks.clear();
    this.#bytes = 0;
  }

  #blocksOf(segment: Segment): number[] {
    const count = Math.ceil(segment.buffer.length / BLOCK_BYTES);
    return Array.from({ length: count }, (_, index) => segment.firstBlock + index);
  }

  #isUsed(segment: Segment): boolean {
    const blocks = this.#blocks.get(segment.chunk);
    return this.#blocksOf(segment).some((block) => blocks?.get(block) === segment);
  }

  #drop(segment: Segment): void {
    this.#segments.delete(segment);
    this.#bytes -= segment.buffer.length;
    const blocks = this.#blocks.get(segment.chunk);
    if (blocks === undefined) return;
    for (const block of this.#blocksOf(segment)) if (blocks.get(block) === segment) blocks.delete(block);
    if (blocks.size === 0) this.#blocks.delete(segment.chunk);
  }

  checkInvariants(): void {
    let bytes = 0;
    for (const segment of this.#segments) {
      bytes += segment.buffer.length;
      assert(this.#isUsed(segment), 'a segment that no block leads to is dropped');
    }
    assert(bytes === this.#bytes, 'every kept byte is counted');
    assert(bytes <= this.#capacity, 'the cache keeps to its bound');
  }
}
