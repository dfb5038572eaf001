/**
 * Chunk identifiers of this session, reserved ahead of need so that sealing a chunk costs no round trip. The
 * caller says which identifiers suit it (those whose placement group is writable now); the others stay for
 * later.
 *
 * INVARIANT: an identifier is given out at most once.
 */
import { asChunkId, type ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';

/** Asks the metadata server for `count` identifiers. */
export type ReserveIds = (count: number) => Promise<{ readonly first: number; readonly count: number }>;

export class ChunkIds {
  readonly #reserve: ReserveIds;
  #free: ChunkId[] = [];
  #fetching: Promise<void> | undefined;
  /** Rises when the session changes: an answer for an earlier one is void. */
  #generation = 0;

  constructor(reserve: ReserveIds) {
    this.#reserve = reserve;
  }

  get free(): number {
    return this.#free.length;
  }

  /**
   * The first identifier that suits, which there must be among a few hundred. **Errors:** as reserveIds;
   * undefined when more of them than a range were refused.
   */
  async take(suits: (id: ChunkId) => boolean): Promise<ChunkId | undefined> {
    for (let attempt = 0; attempt < 3; attempt++) {
      const index = this.#free.findIndex(suits);
      if (index >= 0) {
        const [id] = this.#free.splice(index, 1);
        // Ahead of need: nobody waits for it, and who does later gets its error.
        if (this.#free.length < limits.chunkIdsLow) this.#fetch().catch(() => {});
        return id;
      }
      if (this.#free.length >= limits.idRangeSize) return undefined;
      await this.#fetch();
    }
    return undefined;
  }

  /** The session they belonged to is over. */
  clear(): void {
    this.#generation++;
    this.#free = [];
    this.#fetching = undefined;
  }

  #fetch(): Promise<void> {
    if (this.#fetching !== undefined) return this.#fetching;
    const generation = this.#generation;
    const fetching = this.#reserve(limits.chunkIdsReserved)
      .then(({ first, count }) => {
        if (generation !== this.#generation) return;
        for (let index = 0; index < count; index++) this.#free.push(asChunkId(first + index));
      })
      .finally(() => {
        if (this.#fetching === fetching) this.#fetching = undefined;
      });
    this.#fetching = fetching;
    return fetching;
  }
}
