/**
 * Connections to chunk servers, one per server, made when first needed and again when lost. Each has a bound
 * on calls under way; more wait their turn. A call that fails says so to the cluster view, which then avoids
 * the server for a while; nothing is retried here, because the caller knows a better server to ask.
 *
 * A new connection asks who answers: a port that another server has taken over is not mistaken for the one
 * in the map.
 */
import type { Clock } from '../base/clock.js';
import { type ChunkMethods, chunkMethods } from '../proto/chunk-methods.js';
import type { ClusterMap, ServerEntry } from '../proto/cluster-map.js';
import type { ChunkId, ClusterId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { Peer } from '../rpc/peer.js';
import type { Transport } from '../rpc/transport.js';

export type ChunkPeer = Peer<ChunkMethods, Record<never, never>>;
export type Connect = (url: string, options: { timeoutMs: number }) => Promise<Transport>;

/** One server's connection and the callers that wait for it. */
class ChunkLink {
  readonly #server: ServerEntry;
  readonly #connect: Connect;
  readonly #clock: Clock;
  #peer: Promise<ChunkPeer> | undefined;
  #underWay = 0;
  readonly #queue: (() => void)[] = [];
  #isClosed = false;

  constructor(server: ServerEntry, connect: Connect, clock: Clock) {
    this.#server = server;
    this.#connect = connect;
    this.#clock = clock;
  }

  get url(): string {
    return this.#server.url;
  }

  /** Runs `use` with the connection, when it is its turn. **Errors:** ProtocolError. */
  async use<T>(use: (peer: ChunkPeer) => Promise<T>): Promise<T> {
    if (this.#queue.length >= limits.callsQueuedPerChunkServer)
      throw new ProtocolError('busy', `too many calls wait for ${this.#server.url}`);
    if (this.#underWay >= limits.callsPerChunkServer)
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    else this.#underWay++;
    try {
      return await use(await this.#connected());
    } finally {
      // The turn is handed on, not given back and taken again.
      const next = this.#queue.shift();
      if (next === undefined) this.#underWay--;
      else next();
    }
  }

  close(reason: string): void {
    this.#isClosed = true;
    // A connection that could not be made has been reported to who wanted it.
    this.#peer?.then((peer) => peer.close(reason)).catch(() => {});
  }

  #connected(): Promise<ChunkPeer> {
    if (this.#isClosed) return Promise.reject(new ProtocolError('disconnected', 'the mount is closing'));
    if (this.#peer !== undefined) return this.#peer;
    const peer = this.#open(() => {
      if (this.#peer === peer) this.#peer = undefined;
    });
    this.#peer = peer;
    return peer;
  }

  async #open(lost: () => void): Promise<ChunkPeer> {
    try {
      const transport = await this.#connect(this.#server.url, { timeoutMs: limits.connectTimeoutMs });
      const peer: ChunkPeer = new Peer(transport, {
        remote: chunkMethods,
        local: {},
        handlers: {},
        clock: this.#clock,
        name: 'chunk server',
      });
      peer.onClose = lost;
      const { id } = await peer.call('identify', {}, { timeoutMs: limits.connectTimeoutMs });
      if (id !== this.#server.id) {
        peer.close('not the server that was meant');
        throw new ProtocolError(
          'disconnected',
          `${this.#server.url} is server ${id}, not ${this.#server.id}`,
        );
      }
      return peer;
    } catch (error) {
      lost();
      throw error;
    }
  }
}

export class ChunkLinks {
  readonly #connect: Connect;
  readonly #clock: Clock;
  readonly #links = new Map<string, ChunkLink>();

  constructor(options: { connect: Connect; clock: Clock }) {
    this.#connect = options.connect;
    this.#clock = options.clock;
  }

  /** Closes connections to servers that are no longer in the map, or elsewhere. */
  prune(map: ClusterMap): void {
    const urls = new Map(map.servers.map((server) => [String(server.id), server.url]));
    for (const [id, link] of this.#links) {
      if (urls.get(id) === link.url) continue;
      this.#links.delete(id);
      link.close('the server has left or moved');
    }
  }

  close(): void {
    for (const link of this.#links.values()) link.close('unmounted');
    this.#links.clear();
  }

  /** Stores a chunk. **Errors:** ProtocolError as `put` in the table, and disconnected, timeout, busy. */
  async put(
    server: ServerEntry,
    chunk: { id: ChunkId; crc: number; clusterId: ClusterId; bytes: Uint8Array; timeoutMs: number },
  ): Promise<void> {
    const { id, crc, clusterId, bytes, timeoutMs } = chunk;
    await this.#link(server).use((peer) =>
      peer.call('put', { id, crc, clusterId }, { bulk: bytes, timeoutMs }),
    );
  }

  /** Bytes of a chunk. **Errors:** ProtocolError as `get` in the table, and disconnected, timeout, busy. */
  async get(server: ServerEntry, range: { id: ChunkId; offset: number; length: number }): Promise<Buffer> {
    const { bulk } = await this.#link(server).use((peer) =>
      peer.callForBulk('get', range, { timeoutMs: limits.chunkGetTimeoutMs }),
    );
    if (bulk.length !== range.length)
      throw new ProtocolError('badMessage', `asked for ${range.length} bytes, got ${bulk.length}`);
    return bulk;
  }

  /** A stored chunk's length; undefined when the server does not have it. **Errors:** ProtocolError. */
  async lengthOf(server: ServerEntry, id: ChunkId): Promise<number | undefined> {
    const { chunks } = await this.#link(server).use((peer) =>
      peer.call('list', { after: id - 1, last: id, limit: 1 }, { timeoutMs: limits.chunkGetTimeoutMs }),
    );
    return chunks[0]?.length;
  }

  #link(server: ServerEntry): ChunkLink {
    let link = this.#links.get(server.id);
    if (link === undefined || link.url !== server.url) {
      link?.close('the server has moved');
      link = new ChunkLink(server, this.#connect, this.#clock);
      this.#links.set(server.id, link);
    }
    return link;
  }
}
