/**
 * A mount's connection to one filesystem: the metadata server, the chunk servers, and the write and read
 * paths over them, put together. vfs is the only user; it sees inodes, bytes and errnos, and no server.
 *
 * The session is written down in the cache directory. A fresh daemon closes the session of the one before,
 * so that what that one had open is let go at once, and opens its own: until there is a journal, there is
 * nothing of the old session that could be continued.
 */
import { hostname } from 'node:os';
import { present } from '../base/assert.js';
import { type Clock, systemClock, type Timespec } from '../base/clock.js';
import type { ClusterMap } from '../proto/cluster-map.js';
import { FsError } from '../proto/errno.js';
import type { ChunkId, SessionId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { type MetaMethods, metaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { connectWebSocket } from '../rpc/websocket.js';
import { AbandonedChunks } from './abandoned-chunks.js';
import { ChunkLinks, type Connect } from './chunk-links.js';
import { ChunkReader } from './chunk-reader.js';
import { ChunkWriter } from './chunk-writer.js';
import { ClusterView } from './cluster-view.js';
import { ChunkIds } from './id-ranges.js';
import { LeaseCache } from './lease-cache.js';
import { type LeaseDependents, LeaseHolder } from './lease-holder.js';
import type { InterruptSource } from './link-call.js';
import { type MetadataCallOptions, MetadataLink } from './metadata-link.js';
import { ReplicaReader } from './replica-reader.js';

export interface FilesystemOptions {
  readonly metaUrl: string;
  /** For people, in `leasefs status`. */
  readonly mountpoint: string;
  /** A directory of this mount alone; made when missing. */
  readonly cacheDir: string;
  /** How long a call waits for servers before the program gets an errno. */
  readonly timeoutMs: number;
  readonly readOnly: boolean;
  /** Bytes that may be uncommitted; default limits.dirtyBytes, at least one chunk. */
  readonly dirtyBytes?: number;
  /** Memory for chunk blocks; default limits.blockCacheBytes. */
  readonly blockCacheBytes?: number;
  readonly clock?: Clock;
  /** How connections are made; WebSocket unless a test says otherwise. */
  readonly connect?: Connect;
}

/** Everything below `Filesystem`, made once the first session is open. */
interface Parts {
  readonly leases: LeaseCache;
  readonly holder: LeaseHolder;
  readonly link: MetadataLink;
  readonly links: ChunkLinks;
  readonly writer: ChunkWriter;
  readonly reader: ChunkReader;
}

export class Filesystem {
  readonly readOnly: boolean;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly writer: ChunkWriter;
  readonly reader: ChunkReader;
  readonly #link: MetadataLink;
  readonly #links: ChunkLinks;
  readonly #holder: LeaseHolder;
  /** What is remembered, and answered, without asking the server. */
  readonly leases: LeaseCache;
  /** Called when the session was lost, after everything that belonged to it was given up. */
  onSessionLost: (() => void) | undefined;
  /** Called with the numbers of lock requests whose turn it is. */
  onLockReady: ((waits: readonly number[]) => void) | undefined;
  /** Called with every new connection, once what waited for it has been sent. */
  onConnected: (() => void) | undefined;

  /** Use connectFilesystem. */
  constructor(parts: Parts, options: FilesystemOptions) {
    this.readOnly = options.readOnly;
    this.timeoutMs = options.timeoutMs;
    this.clock = options.clock ?? systemClock;
    this.writer = parts.writer;
    this.reader = parts.reader;
    this.#link = parts.link;
    this.#links = parts.links;
    this.leases = parts.leases;
    this.#holder = parts.holder;
  }

  /** What has to go before a lease does. */
  set leaseDependents(dependents: LeaseDependents) {
    this.#holder.dependents = dependents;
  }

  /** Rises when a session was lost: the server no longer has anything open for this mount. */
  get generation(): number {
    return this.#link.generation;
  }

  /** The number of the present session. */
  get session(): SessionId | undefined {
    return this.#link.session;
  }

  /** Rises with every connection: what was learned over an earlier one is checked before it is used. */
  get connections(): number {
    return this.#link.connections;
  }

  /** Whether there is a connection with an open session now. */
  get isUp(): boolean {
    return this.#link.isUp;
  }

  /** Whether what the server said is still its word; false once the session may have expired. */
  get isValid(): boolean {
    return this.#link.isValid;
  }

  /** Calls a method of the metadata server. **Errors:** the method's; EINTR, ETIMEDOUT, EIO, EAGAIN. */
  call<K extends keyof MetaMethods & string>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    options: MetadataCallOptions<ReplyOf<MetaMethods[K]>> = {},
  ): Promise<ReplyOf<MetaMethods[K]>> {
    let known: ReplyOf<MetaMethods[K]> | undefined;
    try {
      known = this.leases.answer(method, args);
    } catch (error) {
      return Promise.reject(error);
    }
    if (known !== undefined) return Promise.resolve(known);
    const { onLate } = options;
    const { moment } = this.leases;
    const late = (reply: ReplyOf<MetaMethods[K]>): void => {
      this.leases.learn(method, args, reply, moment);
      onLate?.(reply);
    };
    let onOver = (): void => {};
    const over = new Promise<void>((resolve) => {
      onOver = resolve;
    });
    return this.#link.call(method, args, { ...options, onLate: late, onOver }).then(
      (reply) => {
        this.leases.learn(method, args, reply, moment);
        return reply;
      },
      async (error: unknown) => {
        if (isLookup(method, args) && error instanceof FsError && error.code === 'ENOENT')
          this.leases.missing(args, moment);
        if (metaMethods[method].kind === 'mutation' && isUncertain(error)) await this.#holder.doubt(over);
        throw error;
      },
    );
  }

  /** The time on the server, later than all that it was seen to give. */
  now(): Timespec {
    return this.#link.serverClock.now();
  }

  /** The server has given `attr` its times: this mount's own times come after them. */
  seen(attr: { readonly ctime: { readonly sec: number; readonly nsec: number } }): void {
    this.#link.serverClock.seen(attr.ctime);
  }

  /** Ends the session and all connections. What is not committed by then is lost: flush first. */
  async close(): Promise<void> {
    await this.#link.close();
    this.#links.close();
  }
}

const isLookup = (method: string, _args: unknown): _args is ArgsOf<MetaMethods['lookup']> =>
  method === 'lookup';

/** Whether what was asked for may have been done, or may be done yet. */
const isUncertain = (error: unknown): boolean =>
  !(error instanceof FsError) || ['EINTR', 'ETIMEDOUT', 'EIO'].includes(error.code);

/**
 * Connects to the filesystem at `metaUrl`. **Errors:** FsError EIO or ETIMEDOUT when there is no session
 * within `timeoutMs`; Node's own for a cache directory that cannot be written.
 */
export async function connectFilesystem(options: FilesystemOptions): Promise<Filesystem> {
  const clock = options.clock ?? systemClock;
  const connect = options.connect ?? connectWebSocket;
  let map: ClusterMap | undefined;
  let parts: (Parts & { view: ClusterView; forgetSession: () => void }) | undefined;
  let filesystem: Filesystem | undefined;
  const link = new MetadataLink({
    url: options.metaUrl,
    host: hostname(),
    pid: process.pid,
    mountpoint: options.mountpoint,
    cacheDir: options.cacheDir,
    timeoutMs: options.timeoutMs,
    clock,
    connect,
    onMap: (newer) => {
      map = newer;
      parts?.view.update(newer);
      parts?.links.prune(newer);
    },
    onSessionLost: () => {
      parts?.forgetSession();
      filesystem?.onSessionLost?.();
    },
    onLockReady: (waits) => filesystem?.onLockReady?.(waits),
    onRecall: (recalled) => void parts?.holder.recalled(recalled),
    beforeSession: async () => await parts?.holder.disconnected(),
    onConnected: () => {
      parts?.holder.connected();
      filesystem?.onConnected?.();
    },
  });
  await link.start();
  const view = new ClusterView(present(map, 'a session comes with a map'), clock);
  parts = makeParts({ link, view, clock, connect }, options);
  filesystem = new Filesystem(parts, options);
  return filesystem;
}

function makeParts(
  over: { link: MetadataLink; view: ClusterView; clock: Clock; connect: Connect },
  options: FilesystemOptions,
): Parts & { view: ClusterView; forgetSession: () => void } {
  const { link, view, clock, connect } = over;
  const { timeoutMs } = options;
  const untilAnswered = { timeoutMs: Number.POSITIVE_INFINITY };
  const links = new ChunkLinks({ connect, clock });
  const ids = new ChunkIds((count) => link.call('reserveIds', { kind: 'chunk', count }));
  const abandoned = new AbandonedChunks((chunks) => link.call('abandonChunks', { chunks }, untilAnswered));
  const refreshMap = (): void => link.refreshMap();
  const leases = new LeaseCache({
    trustedMs: () => link.leasesTrustedMs,
    maxLeases: limits.leasesCached,
    giveBack: (dropped) => void holder.giveBack(dropped),
  });
  const holder: LeaseHolder = new LeaseHolder(leases, {
    connection: () => link.connections,
    send: (args) => link.call('returnLeases', args),
    sync: () => link.call('sync', {}, untilAnswered),
  });
  const replicas = new ReplicaReader({ view, links, clock, timeoutMs, refreshMap });
  const reader = new ChunkReader({ replicas, cacheBytes: options.blockCacheBytes ?? limits.blockCacheBytes });
  const writer = new ChunkWriter({
    clock,
    serverClock: link.serverClock,
    view,
    links,
    ids,
    timeoutMs,
    dirtyBytes: Math.max(options.dirtyBytes ?? limits.dirtyBytes, limits.chunkBytes),
    refreshMap,
    commit: async (args) => {
      const { moment } = leases;
      const reply = await link.call('commit', args, untilAnswered);
      leases.learn('commit', args, reply, moment);
      return reply;
    },
    sync: async (request: InterruptSource | undefined) => {
      await link.call('sync', {}, { request });
    },
    abandon: (id: ChunkId) => abandoned.add(id),
    onCommitted: (id, bytes) => reader.keep(id, bytes),
  });
  const forgetSession = (): void => {
    ids.clear();
    abandoned.clear();
    reader.clear();
    writer.sessionLost();
    leases.clear();
  };
  return { link, links, writer, reader, leases, holder, view, forgetSession };
}
