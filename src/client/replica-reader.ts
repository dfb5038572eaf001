/**
 * Gets a range of a chunk from whichever server has it: the replicas in placement order, then every other
 * server. The next one is asked when one fails, and as well when one is silent for limits.readHedgeMs; the
 * first answer wins. A server that fails or is outrun is avoided for a while, so a frozen one costs one
 * pause and not one per read.
 *
 * Servers check every block they send against its checksum; one that finds its copy damaged says `corrupt`,
 * which is logged as an error and answered by the next replica.
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

const log = makeLog('client');

export interface ChunkRange {
  readonly id: ChunkId;
  readonly offset: number;
  readonly length: number;
}

export interface ReplicaReaderOptions {
  readonly view: ClusterView;
  readonly links: ChunkLinks;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Begins to fetch a newer cluster map; the view tells when it is there. */
  readonly refreshMap: () => void;
}

export class ReplicaReader {
  readonly #options: ReplicaReaderOptions;

  constructor(options: ReplicaReaderOptions) {
    this.#options = options;
  }

  /** **Errors:** EIO when no server has it undamaged, or none can be reached in the mount's timeout. */
  get(range: ChunkRange): Promise<Buffer> {
    return this.#fromAnyServer(range.id, 'get', (server) => this.#options.links.get(server, range));
  }

  /** A chunk's length. **Errors:** as get. */
  lengthOf(id: ChunkId): Promise<number> {
    return this.#fromAnyServer(id, 'list', async (server) => {
      const length = await this.#options.links.lengthOf(server, id);
      if (length === undefined) throw new ProtocolError('noChunk', `chunk ${id} is not there`);
      return length;
    });
  }

  async #fromAnyServer<T>(id: ChunkId, op: string, ask: (server: ServerEntry) => Promise<T>): Promise<T> {
    const { clock, view, timeoutMs, refreshMap } = this.#options;
    const startedMs = clock.monotonicMs();
    for (let pauseMs = 100; ; pauseMs *= 2) {
      const round = new HedgedRound(this.#options, view.readable(id), ask, `${op} of chunk ${id}`);
      const answer = await round.run();
      if (answer !== undefined) return answer.value;
      const leftMs = timeoutMs - (clock.monotonicMs() - startedMs);
      // Once every server has said that it has no good copy, waiting does not help.
      if (!round.mayRecover || leftMs <= pauseMs) {
        log.error('no server has a good copy', { chunk: id, op, errors: round.errors });
        throw new FsError('EIO', op, { detail: `chunk ${id}: ${round.errors.join('; ')}` });
      }
      refreshMap();
      await view.changed(Math.min(pauseMs, limits.reconnectMaxMs));
    }
  }
}

/** Every server asked once, in turn, until one has answered. */
class HedgedRound<T> {
  readonly errors: string[] = [];
  /** Some server could not be asked, so that another round may find what this one did not. */
  mayRecover = false;
  readonly #options: ReplicaReaderOptions;
  readonly #ask: (server: ServerEntry) => Promise<T>;
  readonly #what: string;
  readonly #queue: ServerEntry[];
  readonly #waiting = new Set<ServerEntry>();
  #finish: (answer: { value: T } | undefined) => void = () => {};
  #isOver = false;

  constructor(
    options: ReplicaReaderOptions,
    servers: readonly ServerEntry[],
    ask: (server: ServerEntry) => Promise<T>,
    what: string,
  ) {
    this.#options = options;
    this.#queue = [...servers];
    this.#ask = ask;
    this.#what = what;
    this.mayRecover = servers.length === 0;
  }

  /** The first answer, or undefined when nobody had one. */
  run(): Promise<{ value: T } | undefined> {
    return new Promise((resolve) => {
      this.#finish = (answer) => {
        this.#isOver = true;
        resolve(answer);
      };
      this.#askNext();
    });
  }

  #askNext(): void {
    if (this.#isOver) return;
    const server = this.#queue.shift();
    if (server === undefined) {
      if (this.#waiting.size === 0) this.#finish(undefined);
      return;
    }
    this.#waiting.add(server);
    const hedge = this.#options.clock.after(limits.readHedgeMs, () => this.#askNext());
    this.#ask(server).then(
      (value) => {
        hedge.cancel();
        this.#waiting.delete(server);
        this.#won(value);
      },
      (error: unknown) => {
        hedge.cancel();
        this.#waiting.delete(server);
        this.#failed(server, error);
      },
    );
  }

  #won(value: T): void {
    if (this.#isOver) return;
    for (const slow of this.#waiting) this.#options.view.outrun(slow);
    this.#finish({ value });
  }

  #failed(server: ServerEntry, error: unknown): void {
    this.errors.push(`${server.url}: ${error instanceof Error ? error.message : String(error)}`);
    const code = error instanceof ProtocolError ? error.code : undefined;
    if (code === 'corrupt')
      log.error('a replica is damaged', { what: this.#what, server: server.url, id: server.id, error });
    else if (code !== 'noChunk') {
      this.mayRecover = true;
      this.#options.view.avoid(server, String(error));
    }
    if (!this.#isOver) this.#askNext();
  }
}
