/**
 * A chunk server in a simulation: the service and the tasks of the real one over chunks in memory, with a
 * membership that runs on virtual time (the real one's waits for real timers and sockets).
 */
import type { Timer } from '../../src/base/clock.js';
import { MemoryStore } from '../../src/chunk/memory-store.js';
import { chunkHandlers, type ServerIdentity } from '../../src/chunk/service.js';
import { TaskRunner } from '../../src/chunk/task-runner.js';
import { chunkMethods } from '../../src/proto/chunk-methods.js';
import { asServerId, type ChunkId, type ClusterId, type ServerId } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { ignoredCallbacks, metaCallbacks, metaMethods } from '../../src/proto/meta-methods.js';
import { ProtocolError } from '../../src/proto/protocol-error.js';
import { Peer } from '../../src/rpc/peer.js';
import type { Network } from './network.js';
import type { SimNode } from './scheduler.js';

/** Remembers every chunk, for who looks at contents; stores what is put. */
class RememberingStore extends MemoryStore {
  readonly #chunks: Map<ChunkId, Buffer>;

  constructor(chunks: Map<ChunkId, Buffer>) {
    super({ capacityBytes: 1 << 30 });
    this.#chunks = chunks;
  }

  override async put(id: ChunkId, crc: number, bytes: Uint8Array): Promise<void> {
    await super.put(id, crc, bytes);
    this.#chunks.set(id, Buffer.from(bytes));
  }
}

export class SimChunkServer implements ServerIdentity {
  readonly serverId: ServerId;
  clusterId: ClusterId | null = null;
  readonly node: SimNode;
  readonly #network: Network;
  readonly #url: string;
  readonly #store: RememberingStore;

  constructor(options: { node: SimNode; network: Network; number: number; chunks: Map<ChunkId, Buffer> }) {
    const { node, network, number, chunks } = options;
    this.node = node;
    this.#network = network;
    this.#url = `ws://${node.name}`;
    this.serverId = asServerId(`aaaaaaaa-bbbb-4ccc-8ddd-${String(number).padStart(12, '0')}`);
    this.#store = new RememberingStore(chunks);
    const handlers = chunkHandlers(this.#store, this);
    network.listen(this.#url, {
      node,
      accept: (transport) => {
        new Peer(transport, { remote: {}, local: chunkMethods, handlers, clock: node.clock, name: 'mount' });
      },
    });
    node.clock.after(0, () => void this.#stayMember());
  }

  async #stayMember(): Promise<never> {
    for (;;) {
      try {
        await this.#member();
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
      }
      await this.#sleep(limits.reconnectMinMs * 5);
    }
  }

  async #member(): Promise<void> {
    const { clock } = this.node;
    const transport = await this.#network.connector(this.node)('ws://meta', {
      timeoutMs: limits.connectTimeoutMs,
    });
    const peer = new Peer(transport, {
      remote: metaMethods,
      local: metaCallbacks,
      handlers: ignoredCallbacks,
      clock,
      name: 'metadata server',
    });
    const space = { capacityBytes: 1 << 30, usedBytes: 0, full: false };
    const { serverId: id, clusterId } = this;
    const self = { id, clusterId, url: this.#url, host: this.node.name, rack: 'rack', weight: 1 };
    const runner = new TaskRunner(this.#store, peer);
    const timeoutMs = limits.serverDownMs;
    try {
      const joined = await peer.call('registerServer', { ...self, ...space }, { timeoutMs });
      this.clusterId = joined.clusterId;
      while (!peer.closed) {
        const { tasks } = await peer.call('serverHeartbeat', space, { timeoutMs });
        runner.accept(tasks);
        await this.#sleep(joined.heartbeatMs);
      }
    } finally {
      peer.close('a heartbeat failed');
      await runner.stop();
    }
  }

  #sleep(ms: number): Promise<Timer | undefined> {
    return new Promise((resolve) => this.node.clock.after(ms, () => resolve(undefined)));
  }
}
