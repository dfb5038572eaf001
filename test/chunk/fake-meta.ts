/** A metadata server as a chunk server sees it: what it registers, its heartbeats, the tasks handed to it. */
import { asClusterId, type ChunkId, type ClusterId } from '../../src/proto/ids.js';
import {
  ignoredCallbacks,
  type MetaCallbacks,
  type MetaMethods,
  metaCallbacks,
  metaMethods,
  type Task,
} from '../../src/proto/meta-methods.js';
import type { ArgsOf } from '../../src/proto/method.js';
import { ProtocolError } from '../../src/proto/protocol-error.js';
import { type Handlers, Peer } from '../../src/rpc/peer.js';
import type { Transport } from '../../src/rpc/transport.js';
import { listenWebSocket, type WebSocketListener } from '../../src/rpc/websocket.js';

const { registerServer, serverHeartbeat, reportTask, findGarbage } = metaMethods;
const table = { registerServer, serverHeartbeat, reportTask, findGarbage };
type Table = typeof table;
type Report = ArgsOf<typeof reportTask>;

export const CLUSTER = asClusterId('11111111-2222-3333-4444-555555555555');

/** The metadata server's end of one connection: handlers of one's own over ones that agree to everything. */
export interface MetaSide {
  readonly table: Table;
  readonly handlers: Handlers<Table>;
  readonly reports: Report[];
  /** Resolves when so many tasks have been reported done or failed. */
  finished(count: number): Promise<void>;
  /** The chunk server's end. */
  connect(transport: Transport): Peer<MetaMethods, MetaCallbacks>;
}

export function metaSide(handlers: Partial<Handlers<Table>>): MetaSide {
  const reports: Report[] = [];
  let reported: () => void = () => undefined;
  const ended = (): number => reports.filter((report) => report.state !== 'running').length;
  return {
    table,
    reports,
    handlers: {
      registerServer: () => {
        throw new ProtocolError('notAllowed', 'no registration expected');
      },
      serverHeartbeat: () => ({ tasks: [] }),
      findGarbage: () => ({ garbage: [] }),
      reportTask: (report) => {
        reports.push(report);
        reported();
        return {};
      },
      ...handlers,
    },
    finished: (count) =>
      new Promise((resolve) => {
        reported = () => {
          if (ended() >= count) resolve();
        };
        reported();
      }),
    connect: (transport) =>
      new Peer(transport, {
        remote: metaMethods,
        local: metaCallbacks,
        handlers: ignoredCallbacks,
        name: 'metadata server',
      }),
  };
}

export class FakeMeta {
  clusterId: ClusterId = CLUSTER;
  readonly registrations: ArgsOf<typeof registerServer>[] = [];
  readonly heartbeats: ArgsOf<typeof serverHeartbeat>[] = [];
  /** Handed out with the next heartbeat. */
  tasks: Task[] = [];
  garbage = new Set<ChunkId>();
  refuseHeartbeats = false;
  #listener: WebSocketListener | undefined;
  readonly #peers = new Set<Peer<MetaCallbacks, Table>>();
  readonly #side = metaSide({
    registerServer: (args) => this.#register(args),
    serverHeartbeat: (args) => {
      if (this.refuseHeartbeats) throw new ProtocolError('notAllowed', 'register first');
      this.heartbeats.push(args);
      return { tasks: this.tasks.splice(0, 16) };
    },
    findGarbage: ({ chunks }) => ({ garbage: chunks.filter((id) => this.garbage.has(id)) }),
  });

  get url(): string {
    if (this.#listener === undefined) throw new Error('the fake metadata server is not there');
    return this.#listener.url;
  }

  get reports(): readonly Report[] {
    return this.#side.reports;
  }

  get connections(): number {
    return this.#peers.size;
  }

  async start(port = 0): Promise<void> {
    const { handlers } = this.#side;
    this.#listener = await listenWebSocket({
      host: '127.0.0.1',
      port,
      onTransport: (transport) => {
        const peer = new Peer(transport, {
          remote: metaCallbacks,
          local: table,
          handlers,
          name: 'chunk server',
        });
        this.#peers.add(peer);
        peer.onClose = () => this.#peers.delete(peer);
      },
    });
  }

  /** Cuts every connection, as a crash does; goes on listening. */
  dropConnections(): void {
    for (const peer of this.#peers) peer.close('dropped');
  }

  async stop(): Promise<void> {
    await this.#listener?.close();
    this.#listener = undefined;
  }

  #register(args: ArgsOf<typeof registerServer>) {
    if (args.clusterId !== null && args.clusterId !== this.clusterId)
      throw new ProtocolError('wrongCluster', `this is cluster ${this.clusterId}`);
    this.registrations.push(args);
    const map = { clusterId: this.clusterId, epoch: 1, groups: 16, replicas: 1, servers: [] };
    return { clusterId: this.clusterId, heartbeatMs: 20, map };
  }
}
