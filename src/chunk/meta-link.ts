/**
 * A chunk server's membership in its cluster: one connection to the metadata server, kept up for as long as
 * the server runs. It registers, sends heartbeats with what is stored, and hands the tasks that come back to a
 * TaskRunner. When the connection ends it is made anew, with growing pauses. Reads and writes of mounts do not
 * depend on it.
 *
 * Only one answer ends it for good: that the metadata server is another cluster's (`refused`).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import pRetry from 'p-retry';
import { InvariantError } from '../base/assert.js';
import { makeLog } from '../base/log.js';
import type { ClusterId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import {
  ignoredCallbacks,
  type MetaCallbacks,
  type MetaMethods,
  metaCallbacks,
  metaMethods,
} from '../proto/meta-methods.js';
import type { ArgsOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { Peer } from '../rpc/peer.js';
import { connectWebSocket } from '../rpc/websocket.js';
import type { DataDirectory } from './data-directory.js';
import type { ChunkStore } from './store.js';
import { TaskRunner } from './task-runner.js';

const log = makeLog('chunk');
/** No metadata server makes us send heartbeats more often than this. */
const HEARTBEAT_MIN_MS = 20;

type MetaPeer = Peer<MetaMethods, MetaCallbacks>;

export interface MetaLinkOptions {
  readonly metaUrl: string;
  /** Where mounts reach this server. */
  readonly advertiseUrl: string;
  readonly hostLabel: string;
  readonly rack: string;
  readonly weight: number;
  /** The disk below the store, and what is free on it now; absent: the store shares it with nobody. */
  readonly disk?: () => { name: string; freeBytes: number };
}

interface Registered {
  readonly peer: MetaPeer;
  readonly heartbeatMs: number;
}

export class MetaLink {
  readonly #store: ChunkStore;
  readonly #directory: DataDirectory;
  readonly #options: MetaLinkOptions;
  readonly #stopping = new AbortController();
  #peer: MetaPeer | undefined;
  #runner: TaskRunner | undefined;
  #firstAttemptEnded: (refused: boolean) => void = () => undefined;
  /** Resolves when the first attempt to register has ended: to whether it was refused for good. */
  readonly attempted: Promise<boolean>;
  /** Resolves, if ever, when this server cannot be a member any more. */
  readonly refused: Promise<Error>;

  constructor(store: ChunkStore, directory: DataDirectory, options: MetaLinkOptions) {
    this.#store = store;
    this.#directory = directory;
    this.#options = options;
    this.attempted = new Promise((resolve) => {
      this.#firstAttemptEnded = resolve;
    });
    this.refused = new Promise((resolve) => {
      this.#keepUp().then(undefined, (error: unknown) => {
        if (this.#stopping.signal.aborted) return;
        resolve(error instanceof Error ? error : new Error(String(error)));
      });
    });
  }

  /** Leaves; returns when no task touches the store any more. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#peer?.close('the chunk server is stopping');
    await this.#runner?.stop();
  }

  /** Ends only by throwing: on refusal, or because of stop. */
  async #keepUp(): Promise<never> {
    const { signal } = this.#stopping;
    for (;;) {
      const { peer, heartbeatMs } = await this.#registerAtLast();
      const sinceMs = performance.now();
      log.info('registered with the metadata server', { url: this.#options.metaUrl });
      await this.#serve(peer, heartbeatMs);
      signal.throwIfAborted();
      log.warn('lost the metadata server; connecting again', { url: this.#options.metaUrl });
      // One that takes us in and drops us at once is not asked again at once.
      const brief = performance.now() - sinceMs < limits.reconnectMaxMs;
      await sleep(brief ? limits.reconnectMaxMs / 2 : limits.reconnectMinMs, undefined, { signal });
    }
  }

  /** Tries until this server is registered. **Codes:** wrongCluster. */
  #registerAtLast(): Promise<Registered> {
    let said = false;
    return pRetry(() => this.#attempt(), {
      retries: Number.POSITIVE_INFINITY,
      minTimeout: limits.reconnectMinMs,
      maxTimeout: limits.reconnectMaxMs,
      randomize: true,
      signal: this.#stopping.signal,
      onFailedAttempt: ({ error }) => {
        if (said || isForGood(error)) return;
        said = true;
        log.warn('cannot register yet; trying on', { url: this.#options.metaUrl, why: error.message });
      },
      shouldRetry: ({ error }) => !isForGood(error),
    });
  }

  async #attempt(): Promise<Registered> {
    try {
      const registered = await this.#register();
      this.#firstAttemptEnded(false);
      return registered;
    } catch (error) {
      this.#firstAttemptEnded(isForGood(error));
      throw error;
    }
  }

  async #register(): Promise<Registered> {
    const { metaUrl, advertiseUrl, hostLabel, rack, weight } = this.#options;
    const transport = await connectWebSocket(metaUrl, { timeoutMs: limits.connectTimeoutMs });
    const peer: MetaPeer = new Peer(transport, {
      remote: metaMethods,
      local: metaCallbacks,
      handlers: ignoredCallbacks,
      name: 'metadata server',
    });
    this.#peer = peer;
    try {
      this.#stopping.signal.throwIfAborted();
      const { serverId: id, clusterId } = this.#directory;
      const self = { id, clusterId, url: advertiseUrl, host: hostLabel, rack, weight };
      const reply = await peer.call(
        'registerServer',
        { ...self, ...(await this.#space()) },
        { timeoutMs: limits.serverDownMs },
      );
      this.#join(reply.clusterId);
      return { peer, heartbeatMs: Math.max(HEARTBEAT_MIN_MS, reply.heartbeatMs) };
    } catch (error) {
      peer.close('registration failed');
      throw error;
    }
  }

  async #space(): Promise<ArgsOf<MetaMethods['serverHeartbeat']>> {
    const { capacityBytes, usedBytes, full } = await this.#store.usage();
    const disk = this.#options.disk?.();
    return { capacityBytes, usedBytes, full, ...(disk === undefined ? {} : { disk }) };
  }

  #join(clusterId: ClusterId): void {
    const { clusterId: ours, path } = this.#directory;
    if (ours !== null && ours !== clusterId)
      throw new ProtocolError(
        'wrongCluster',
        `${path} belongs to ${ours}, the metadata server to ${clusterId}`,
      );
    this.#directory.join(clusterId);
  }

  /** Sends heartbeats and runs tasks until the connection ends. */
  async #serve(peer: MetaPeer, heartbeatMs: number): Promise<void> {
    const runner = new TaskRunner(this.#store, peer);
    this.#runner = runner;
    const ended = new AbortController();
    peer.onClose = () => ended.abort();
    try {
      while (!peer.closed) {
        const { tasks } = await peer.call('serverHeartbeat', await this.#space(), {
          timeoutMs: limits.serverDownMs,
        });
        runner.accept(tasks);
        await sleep(heartbeatMs, undefined, { signal: ended.signal });
      }
    } catch (error) {
      if (!peer.closed) log.warn('a heartbeat failed', { why: String(error) });
      peer.close('a heartbeat failed');
    } finally {
      await runner.stop();
    }
  }
}

/** Errors that trying again does not cure: another cluster's metadata server, and bugs. */
function isForGood(error: unknown): boolean {
  if (error instanceof ProtocolError) return error.code === 'wrongCluster';
  return error instanceof InvariantError || error instanceof TypeError;
}
