/** Which blocks of which chunks there are: a bit for each, so that asking about those that are not costs nothing. */
import { assert } from '../base/assert.js';
import type { ChunkId } from '../proto/ids.js';
import { BLOCKS_PER_CHUNK } from './block-cache.js';

const WORD_BITS = 32;
assert(BLOCKS_PER_CHUNK <= 2 * WORD_BITS, 'the blocks of a chunk fit two words');

/** Bits of blocks 0 to 31, and of 32 to 63. */
export interface Words {
  low: number;
  high: number;
}

export class BlockMap {
  readonly #words = new Map<ChunkId, Words>();

  has(chunk: ChunkId, block: number): boolean {
    const words = this.#words.get(chunk);
    if (words === undefined) return false;
    return ((block < WORD_BITS ? words.low : words.high) & (1 << (block % WORD_BITS))) !== 0;
  }

  add(chunk: ChunkId, block: number): void {
    const words = this.#words.get(chunk) ?? { low: 0, high: 0 };
    if (block < WORD_BITS) words.low |= 1 << block;
    else words.high |= 1 << (block - WORD_BITS);
    this.#words.set(chunk, words);
  }

  delete(chunk: ChunkId, block: number): void {
    const words = this.#words.get(chunk);
    if (words === undefined) return;
    if (block < WORD_BITS) words.low &= ~(1 << block);
    else words.high &= ~(1 << (block - WORD_BITS));
    if (words.low === 0 && words.high === 0) this.#words.delete(chunk);
  }

  /** Instead of all that there was. */
  replace(chunks: Iterable<{ readonly chunk: ChunkId } & Words>): void {
    this.#words.clear();
    for (const { chunk, low, high } of chunks) this.#words.set(chunk, { low: low | 0, high: high | 0 });
  }

  get count(): number {
    let count = 0;
    for (const chunk of this.#words.keys())
      for (let block = 0; block < BLOCKS_PER_CHUNK; block++) if (this.has(chunk, block)) count++;
    return count;
  }
}
