/**
 * Stores sealed chunks: picks an identifier whose placement group can be written now, puts the chunk to all
 * replicas at once, and is done when every one has it on disk. When one fails, the identifier is given up
 * and another, in a group without that server, is tried, for as long as the session lives: bytes that a
 * program was told are written are not thrown away while storing them can still succeed.
 *
 * INVARIANT: an identifier whose put failed anywhere is never used again; it is reported as abandoned.
 */
import type { Clock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { ServerEntry } from '../proto/cluster-map.js';
import { FsError } from '../proto/errno.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';
import type { ChunkLinks } from './chunk-links.js';
import type { ClusterView } from './cluster-view.js';

import type { PendingChunk, Waiter } from './pending-chunk.js';
import type { ReservedIds } from './reserved-ids.js';

const log = makeLog('client');

/** Pause between attempts when the map does not change meanwhile. */
const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 1_000;

export interface ChunkPutterOptions {
  readonly view: ClusterView;
  readonly links: ChunkLinks;
  readonly ids: ReservedIds<ChunkId>;
  readonly clock: Clock;
  /** After this long a chunk counts as failing: whoever waits for it is told. */
  readonly timeoutMs: number;
  /** Begins to fetch a newer cluster map; the view tells when it is there. */
  readonly refreshMap: () => void;
  readonly abandon: (id: ChunkId) => void;
  /** `chunk.failure` has just been set. */
  readonly onFailing: (chunk: PendingChunk, error: FsError) => void;
}

export class ChunkPutter {
  readonly #options: ChunkPutterOptions;

  constructor(options: ChunkPutterOptions) {
    this.#options = options;
  }

  /** Returns when the chunk is stored under `chunk.id`, or was settled by others meanwhile. */
  async store(chunk: PendingChunk): Promise<void> {
    const { clock, timeoutMs, view } = this.#options;
    const startedMs = clock.monotonicMs();
    let pauseMs = RETRY_MIN_MS;
    for (let attempt = 0; chunk.state === 'sealed'; attempt++) {
      // Who comes while an attempt is failing waits for the next one: things may have changed meanwhile.
      const waiters = chunk.waiters();
      const outcome = await this.#attempt(chunk, attempt);
      // Settled meanwhile: the session is over, and its identifiers with it.
      if (chunk.state !== 'sealed') return;
      if (!(outcome instanceof FsError)) {
        chunk.id = outcome;
        chunk.state = 'stored';
        chunk.failure = undefined;
        chunk.trouble = undefined;
        return;
      }
      chunk.trouble = outcome;
      if (clock.monotonicMs() - startedMs >= timeoutMs) this.#tell(chunk, outcome, waiters);
      await view.changed(pauseMs);
      pauseMs = Math.min(pauseMs * 2, RETRY_MAX_MS);
    }
  }

  /** Tells `waiters` that an attempt has failed, the first time for long enough to count as a failure. */
  #tell(chunk: PendingChunk, error: FsError, waiters: readonly Waiter[]): void {
    const isFirst = chunk.failure === undefined;
    chunk.failure = error;
    if (isFirst) this.#options.onFailing(chunk, error);
    chunk.answer(error, waiters);
  }

  /** One identifier tried: it, or why it was not to be. */
  async #attempt(chunk: PendingChunk, attempt: number): Promise<ChunkId | FsError> {
    const { view, ids, abandon, refreshMap } = this.#options;
    // When only avoided servers are left, they get another chance.
    const evenAvoided = !view.hasWritableGroup();
    if (evenAvoided && !view.hasWritableGroup(true)) {
      refreshMap();
      return this.#noPlace();
    }
    let id: ChunkId | undefined;
    try {
      id = await ids.take((candidate) => view.writable(candidate, evenAvoided) !== undefined);
    } catch (error) {
      log.warn('no chunk ids for now', { error: String(error) });
      return error instanceof FsError ? error : new FsError('EIO', 'write-back', { cause: error });
    }
    const servers = id === undefined ? undefined : view.writable(id, evenAvoided);
    if (id === undefined || servers === undefined) return this.#noPlace();
    const failure = await this.#putEverywhere(chunk, id, servers, attempt);
    if (failure === undefined) return id;
    if (chunk.state === 'sealed') abandon(id);
    refreshMap();
    return failure;
  }

  #noPlace(): FsError {
    const { isFull, map } = this.#options.view;
    const detail = isFull ? 'the chunk servers are full' : `no ${map.replicas} chunk servers took the data`;
    return new FsError(isFull ? 'ENOSPC' : 'EIO', 'write-back', { detail });
  }

  /** Why some replica did not take it; undefined when all have it on disk. */
  async #putEverywhere(
    chunk: PendingChunk,
    id: ChunkId,
    servers: readonly ServerEntry[],
    attempt: number,
  ): Promise<FsError | undefined> {
    const { links, view } = this.#options;
    const put = {
      id,
      crc: chunk.crc,
      clusterId: view.map.clusterId,
      bytes: chunk.bytes(),
      // A cluster that is slow, not dead, is given more time from attempt to attempt.
      timeoutMs: Math.min(limits.chunkPutTimeoutMs * 2 ** attempt, limits.callTimeoutMs),
    };
    const outcomes = await Promise.allSettled(servers.map((server) => links.put(server, put)));
    let failure: FsError | undefined;
    outcomes.forEach((outcome, index) => {
      const server = servers[index];
      if (outcome.status === 'fulfilled' || server === undefined) return;
      const isFull = outcome.reason instanceof ProtocolError && outcome.reason.code === 'serverFull';
      if (isFull || failure === undefined)
        failure = new FsError(isFull ? 'ENOSPC' : 'EIO', 'write-back', { cause: outcome.reason });
      if (!(outcome.reason instanceof ProtocolError) && !(outcome.reason instanceof FsError))
        log.error('a put failed unexpectedly', { url: server.url, error: outcome.reason });
      view.avoid(server, String(outcome.reason));
    });
    return failure;
  }
}
