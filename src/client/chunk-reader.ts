/**
 * The mount's read path below extents: ranges of chunks out of the block cache, or brought into it, from this
 * machine's disk where they are there and else from a chunk server. Blocks that somebody is fetching already are
 * waited for, not fetched twice.
 *
 * Extents say that a range of a chunk exists, not how long the chunk is, and a server refuses what passes
 * the end. A first read therefore takes a block only up to what its extent vouches for; when more of such a
 * block is wanted, the chunk's length is asked once and the block, a packed neighbour of what was read
 * before, comes whole.
 *
 * INVARIANT: bytes handed out are never changed afterwards.
 */
import { assert } from '../base/assert.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { BLOCK_BYTES, BlockCache } from './block-cache.js';
import type { BlockStore } from './block-store.js';
import type { ChunkRange, ReplicaReader } from './replica-reader.js';

export interface ChunkReaderOptions {
  readonly replicas: ReplicaReader;
  readonly cacheBytes: number;
  /** What is kept on this machine's disk. */
  readonly store: BlockStore;
}

const EMPTY = Buffer.alloc(0);
const FETCH_BLOCKS = limits.fetchBytes / BLOCK_BYTES;

const blockOf = (offset: number): number => Math.floor(offset / BLOCK_BYTES);

export class ChunkReader {
  readonly #replicas: ReplicaReader;
  readonly #cache: BlockCache;
  readonly #store: BlockStore;
  readonly #lengths = new Map<ChunkId, number>();
  /** Fetches under way, by chunk and block. */
  readonly #fetching = new Map<ChunkId, Map<number, Promise<Buffer>>>();
  #readAheads = 0;

  constructor(options: ChunkReaderOptions) {
    this.#replicas = options.replicas;
    this.#cache = new BlockCache(options.cacheBytes);
    this.#store = options.store;
  }

  /** A chunk that this mount has written: its length is known, and it is likely to be read. */
  keep(id: ChunkId, bytes: Buffer): void {
    this.#rememberLength(id, bytes.length);
    // A chunk that is only a part of its arena would keep all of it in memory.
    const own = bytes.length * 2 > limits.chunkBytes ? bytes : Buffer.from(bytes);
    this.#cache.insert(id, 0, own);
    this.#store.put(id, 0, own);
  }

  clear(): void {
    this.#cache.clear();
    this.#lengths.clear();
  }

  /**
   * The bytes of a range that some extent vouches for, as buffers one after the other, at once if they are
   * all here. **Errors:** EIO.
   */
  read(range: ChunkRange): Buffer[] | Promise<Buffer[]> {
    const found = this.#fromCache(range);
    return found ?? this.#fetchAndRead(range);
  }

  /** Fetches a range that will be wanted soon, silently. False, and nothing, when enough of it is going on. */
  readAhead(range: ChunkRange): boolean {
    if (this.#firstMissing(range) === undefined) return true;
    if (this.#readAheads >= limits.readAheadsInFlight) return false;
    this.#readAheads++;
    this.#fetchMissing(range)
      // Whoever reads it for real will find out, and tell.
      .catch(() => {})
      .finally(() => {
        this.#readAheads--;
      });
    return true;
  }

  /** The first block of the range that is neither here as far as the range needs it, nor being fetched. */
  #firstMissing(range: ChunkRange): number | undefined {
    const end = range.offset + range.length;
    const fetching = this.#fetching.get(range.id);
    for (let block = blockOf(range.offset); block * BLOCK_BYTES < end; block++) {
      if (fetching?.has(block) === true) continue;
      const needed = Math.min(BLOCK_BYTES, end - block * BLOCK_BYTES);
      if ((this.#cache.block(range.id, block)?.length ?? 0) < needed) return block;
    }
    return undefined;
  }

  #fromCache(range: ChunkRange): Buffer[] | undefined {
    const end = range.offset + range.length;
    const parts: Buffer[] = [];
    for (let at = range.offset; at < end; ) {
      const block = blockOf(at);
      const start = block * BLOCK_BYTES;
      const here = this.#cache.block(range.id, block);
      const to = Math.min(end, start + BLOCK_BYTES);
      if (here === undefined || here.length < to - start) return undefined;
      parts.push(here.subarray(at - start, to - start));
      at = to;
    }
    return parts;
  }

  async #fetchAndRead(range: ChunkRange): Promise<Buffer[]> {
    const end = range.offset + range.length;
    const parts: Buffer[] = [];
    for (const part of await this.#fetchMissing(range)) {
      const from = Math.max(range.offset, part.start);
      const to = Math.min(end, part.start + part.bytes.length);
      if (from < to) parts.push(part.bytes.subarray(from - part.start, to - part.start));
    }
    const got = parts.reduce((sum, part) => sum + part.length, 0);
    assert(got === range.length, 'a read yields every byte of its range');
    return parts;
  }

  /** Every block of the range, from the cache, from fetches under way, and from new ones. */
  async #fetchMissing(range: ChunkRange): Promise<{ start: number; bytes: Buffer }[]> {
    const end = range.offset + range.length;
    const known = this.#mustFetch(range) ? await this.#knownEnd(range) : end;
    const wanted: Promise<{ start: number; bytes: Buffer }>[] = [];
    for (let block = blockOf(range.offset); block * BLOCK_BYTES < end; block++) {
      const start = block * BLOCK_BYTES;
      const needed = Math.min(end - start, BLOCK_BYTES);
      const here = this.#cache.block(range.id, block);
      if (here !== undefined && here.length >= needed) wanted.push(Promise.resolve({ start, bytes: here }));
      else
        wanted.push(this.#block(range.id, { block, needed, end, known }).then((bytes) => ({ start, bytes })));
    }
    return await Promise.all(wanted);
  }

  /** Whether any block of the range has to come from a chunk server. */
  #mustFetch({ id, offset, length }: ChunkRange): boolean {
    const end = offset + length;
    for (let block = blockOf(offset); block * BLOCK_BYTES < end; block++) {
      const needed = Math.min(end - block * BLOCK_BYTES, BLOCK_BYTES);
      if ((this.#cache.block(id, block)?.length ?? 0) >= needed) continue;
      if (this.#fetching.get(id)?.has(block) !== true && this.#store.has(id, block) < needed) return true;
    }
    return false;
  }

  /**
   * Up to where the chunk is known to have bytes. Asks for its length when a block was read in part before:
   * then its neighbours are being read, too.
   */
  async #knownEnd(range: ChunkRange): Promise<number> {
    const end = range.offset + range.length;
    const length = this.#lengths.get(range.id);
    if (length !== undefined) return Math.max(length, end);
    const partly = [blockOf(range.offset), blockOf(end - 1)].some(
      (block) => this.#cache.block(range.id, block) !== undefined,
    );
    if (!partly) return end;
    const learned = await this.#replicas.lengthOf(range.id);
    this.#rememberLength(range.id, learned);
    return Math.max(learned, end);
  }

  #rememberLength(id: ChunkId, length: number): void {
    this.#lengths.set(id, length);
    if (this.#lengths.size <= limits.chunkLengthsRemembered) return;
    for (const oldest of this.#lengths.keys()) {
      this.#lengths.delete(oldest);
      return;
    }
  }

  /** One block with at least `needed` bytes; begins a fetch that goes on over the missing blocks behind it. */
  async #block(
    id: ChunkId,
    want: { block: number; needed: number; end: number; known: number },
  ): Promise<Buffer> {
    const { block, needed } = want;
    const underWay = this.#fetching.get(id)?.get(block);
    if (underWay !== undefined) {
      const bytes = await underWay;
      if (bytes.length >= needed) return bytes;
    }
    if (this.#store.has(id, block) >= needed) {
      const stored = await this.#startRead(id, block);
      if (stored !== undefined) return stored;
    }
    const run = this.#startFetch(id, want);
    return (await run).subarray(0, BLOCK_BYTES);
  }

  /** One block from this machine's disk, if it is in order there. */
  #startRead(id: ChunkId, block: number): Promise<Buffer | undefined> {
    const reading = this.#store.read(id, block).then((bytes) => {
      if (bytes !== undefined) this.#cache.insert(id, block, bytes);
      return bytes;
    });
    // Whoever waits for it beside this one takes nothing for too little, and fetches it.
    const part = reading.then((bytes) => bytes ?? EMPTY);
    this.#underWay(id, [[block, part]], part);
    return reading;
  }

  #startFetch(id: ChunkId, want: { block: number; end: number; known: number }): Promise<Buffer> {
    const { block, end, known } = want;
    let last = block;
    while (last + 1 < block + FETCH_BLOCKS && (last + 1) * BLOCK_BYTES < end && !this.#isHere(id, last + 1))
      last++;
    const offset = block * BLOCK_BYTES;
    const length = Math.min((last + 1) * BLOCK_BYTES, known) - offset;
    const run = this.#replicas.get({ id, offset, length }).then((bytes) => {
      this.#cache.insert(id, block, bytes);
      this.#store.put(id, block, bytes);
      return bytes;
    });
    const entries: [number, Promise<Buffer>][] = [];
    for (let index = block; index <= last; index++) {
      const start = (index - block) * BLOCK_BYTES;
      entries.push([index, run.then((bytes) => bytes.subarray(start, start + BLOCK_BYTES))]);
    }
    this.#underWay(id, entries, run);
    return run;
  }

  /** These blocks come with `run`. */
  #underWay(id: ChunkId, entries: [number, Promise<Buffer>][], run: Promise<unknown>): void {
    const fetching = this.#fetching.get(id) ?? new Map<number, Promise<Buffer>>();
    this.#fetching.set(id, fetching);
    for (const [index, part] of entries) {
      fetching.set(index, part);
      // Its failure is its waiters' to see; there may be none.
      part.catch(() => {});
    }
    const done = (): void => this.#fetched(id, fetching, entries);
    run.then(done, done);
  }

  #fetched(id: ChunkId, fetching: Map<number, Promise<Buffer>>, entries: [number, Promise<Buffer>][]): void {
    for (const [index, part] of entries) if (fetching.get(index) === part) fetching.delete(index);
    if (fetching.size === 0 && this.#fetching.get(id) === fetching) this.#fetching.delete(id);
  }

  #isHere(id: ChunkId, block: number): boolean {
    const isUnderWay = this.#fetching.get(id)?.has(block) === true;
    return isUnderWay || this.#cache.block(id, block) !== undefined || this.#store.has(id, block) > 0;
  }
}
