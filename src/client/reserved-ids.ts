/**
 * Identifiers of this session, of chunks or of inodes, reserved ahead of need: sealing a chunk and making an inode
 * cost no round trip. Who takes one may say which suit (chunks whose placement group is writable now); the
 * others stay for later.
 *
 * INVARIANT: an identifier is given out at most once.
 */
import { asChunkId, asIno, type ChunkId, type Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';

/** Asks the metadata server for `count` identifiers. */
export type ReserveIds = (count: number) => Promise<{ readonly first: number; readonly count: number }>;

export interface ReservedIdsOptions<Id> {
  readonly reserve: ReserveIds;
  readonly asId: (id: number) => Id;
  /** How many are asked for at once. */
  readonly count: number;
  /** With fewer than these left more are asked for. */
  readonly low: number;
}

export class ReservedIds<Id> {
  readonly #options: ReservedIdsOptions<Id>;
  #free: Id[] = [];
  #fetching: Promise<void> | undefined;
  /** Rises when the session changes: an answer for an earlier one is void. */
  #generation = 0;

  constructor(options: ReservedIdsOptions<Id>) {
    this.#options = options;
  }

  get free(): number {
    return this.#free.length;
  }

  /** The next one; undefined when there is none now, and then it is asked for. */
  takeNow(): Id | undefined {
    const id = this.#free.shift();
    void this.prepare();
    return id;
  }

  /**
   * The first identifier that suits, which there must be among a few hundred. **Errors:** as reserveIds;
   * undefined when more of them than a range were refused.
   */
  async take(suits: (id: Id) => boolean): Promise<Id | undefined> {
    for (let attempt = 0; attempt < 3; attempt++) {
      const index = this.#free.findIndex(suits);
      if (index >= 0) {
        const [id] = this.#free.splice(index, 1);
        void this.prepare();
        return id;
      }
      if (this.#free.length >= limits.idRangeSize) return undefined;
      await this.#fetch();
    }
    return undefined;
  }

  /** Some will be wanted soon. Ends when there are some, or none could be had, which who wants one is told then. */
  async prepare(): Promise<void> {
    if (this.#free.length >= this.#options.low) return;
    const fetched = this.#fetch().catch(() => {});
    if (this.#free.length === 0) await fetched;
  }

  /** The session they belonged to is over. */
  clear(): void {
    this.#generation++;
    this.#free = [];
    this.#fetching = undefined;
  }

  #fetch(): Promise<void> {
    if (this.#fetching !== undefined) return this.#fetching;
    const { reserve, asId } = this.#options;
    const generation = this.#generation;
    const fetching = reserve(this.#options.count)
      .then(({ first, count }) => {
        if (generation !== this.#generation) return;
        for (let index = 0; index < count; index++) this.#free.push(asId(first + index));
      })
      .finally(() => {
        if (this.#fetching === fetching) this.#fetching = undefined;
      });
    this.#fetching = fetching;
    return fetching;
  }
}

export const reservedChunkIds = (reserve: ReserveIds): ReservedIds<ChunkId> =>
  new ReservedIds({ reserve, asId: asChunkId, count: limits.chunkIdsReserved, low: limits.chunkIdsLow });

export const reservedInodes = (reserve: ReserveIds): ReservedIds<Ino> =>
  new ReservedIds({ reserve, asId: asIno, count: limits.inodesReserved, low: limits.inodesLow });
