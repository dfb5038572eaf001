/**
 * A metadata server over a real database on a clock moved by hand, with mounts and chunk servers connected
 * in memory. Every test that uses one ends with a check of the store's invariants.
 */
import { join } from 'node:path';
import type { Test } from 'tap';
import { setLogLevel } from '../../src/base/log.js';
import type { Prng } from '../../src/base/prng.js';
import { MetadataServer } from '../../src/meta/metadata-server.js';
import { FIRST_SESSION } from '../../src/meta/sessions.js';
import { openSqliteStore, type SqliteStore } from '../../src/meta/sqlite-store.js';
import { rootInode } from '../../src/names/inode.js';
import type { ClusterMap } from '../../src/proto/cluster-map.js';
import type { Extent } from '../../src/proto/extent.js';
import {
  asChunkId,
  asClusterId,
  asServerId,
  type ChunkId,
  type Ino,
  ROOT_INO,
  type ServerId,
} from '../../src/proto/ids.js';
import type { Removal } from '../../src/proto/lease-methods.js';
import {
  type MetaCallbacks,
  type MetaMethods,
  metaCallbacks,
  metaMethods,
  type Task,
} from '../../src/proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../../src/proto/method.js';
import { memoryTransportPair } from '../../src/rpc/memory-transport.js';
import { Peer } from '../../src/rpc/peer.js';
import { ManualClock } from '../rpc/manual-clock.js';

// What goes wrong on purpose here is not worth a line; what is wrong fails a test.
setLogLevel('error');

export const CLUSTER = asClusterId('11111111-2222-4333-8444-555555555555');
export const owner = { uid: 1000, gid: 100 };
export const name = (text: string): Buffer => Buffer.from(text);

/** A manual clock that can also jump, as it looks to a process that was stopped meanwhile. */
class JumpingClock extends ManualClock {
  #jumpedMs = 0;

  override monotonicMs(): number {
    return super.monotonicMs() + this.#jumpedMs;
  }

  /** Time passes without a timer firing. */
  jump(ms: number): void {
    this.#jumpedMs += ms;
  }
}

export class Rig {
  readonly clock = new JumpingClock();
  readonly #path: string;
  store: SqliteStore;
  server: MetadataServer;
  readonly #clients: Client[] = [];

  constructor(t: Test) {
    this.#path = join(t.testdir(), 'meta.db');
    this.store = this.#open();
    this.server = new MetadataServer({ store: this.store, clock: this.clock });
    t.teardown(async () => {
      this.store.checkInvariants();
      await this.server.stop();
    });
  }

  #open(): SqliteStore {
    const createdAt = this.clock.now();
    const format = { clusterId: CLUSTER, replicas: 2, groups: 16, createdAt };
    return openSqliteStore(this.#path, { ...format, firstInode: ROOT_INO + 1, firstSession: FIRST_SESSION }, [
      { put: 'inode', row: rootInode(createdAt) },
    ]);
  }

  /** Stops the server and starts another one on its database. Everybody is disconnected. */
  async restart(): Promise<void> {
    await this.server.stop();
    this.store = this.#open();
    this.server = new MetadataServer({ store: this.store, clock: this.clock });
    for (const client of this.#clients) await client.gone();
  }

  /** A connection that has said nothing yet, and that may be cut by any frame sent. */
  connect(cuts?: { prng: Prng; cutProbability: number }): Client {
    const [here, there] = memoryTransportPair(cuts);
    this.server.accept(there);
    const client = new Client(here);
    this.#clients.push(client);
    return client;
  }

  async mount(
    mountpoint = '/m',
    more: Pick<ArgsOf<MetaMethods['openSession']>, 'leases' | 'resume'> = {},
  ): Promise<Client> {
    const client = this.connect();
    client.session = await client.call('openSession', { host: 'h', pid: 7, mountpoint, ...more });
    return client;
  }

  /** A new connection for the session of a mount that takes leases. */
  async resume(mount: Client): Promise<Client> {
    const client = await this.mount('/m', { leases: true, resume: mount.ticket });
    client.nextSequence = mount.nextSequence;
    return client;
  }

  /** A registered chunk server. */
  async chunkServer(
    id: ServerId,
    more: Partial<ArgsOf<MetaMethods['registerServer']>> = {},
  ): Promise<Client> {
    const client = this.connect();
    await client.call('registerServer', { ...registration(id), ...more });
    return client;
  }

  status(): Promise<ReplyOf<MetaMethods['status']>> {
    return this.connect().call('status', {});
  }

  /** Lets the server's own work happen, for `ms` of its time. */
  async pass(ms: number): Promise<void> {
    await this.clock.advance(ms);
    for (let turn = 0; turn < 12; turn++) await new Promise((resolve) => setImmediate(resolve));
  }
}

export class Client {
  readonly peer: Peer<MetaMethods, MetaCallbacks>;
  readonly maps: ClusterMap[] = [];
  /** Lock requests that the server has said it is the turn of. */
  readonly readyLocks: number[] = [];
  /** What it was told that others have removed. */
  readonly removals: Removal[] = [];
  /** Leases that it has been asked for. */
  readonly recalls: { ino: number; epoch: number }[] = [];
  session: ReplyOf<MetaMethods['openSession']> | undefined;
  nextSequence = 1;
  #closed: (() => void)[] = [];

  constructor(transport: ConstructorParameters<typeof Peer<MetaMethods, MetaCallbacks>>[0]) {
    this.peer = new Peer(transport, {
      remote: metaMethods,
      local: metaCallbacks,
      handlers: {
        mapChanged: (map) => {
          this.maps.push(map);
          return {};
        },
        lockReady: ({ waits }) => {
          this.readyLocks.push(...waits);
          return {};
        },
        removed: ({ removals }) => {
          this.removals.push(...removals);
          return {};
        },
        recallLeases: ({ leases }) => {
          this.recalls.push(...leases);
          return {};
        },
      },
      name: 'the metadata server',
    });
    this.peer.onClose = () => {
      for (const resolve of this.#closed) resolve();
    };
  }

  /** Resolves when the connection has ended. */
  gone(): Promise<void> {
    if (this.peer.closed) return Promise.resolve();
    return new Promise((resolve) => this.#closed.push(resolve));
  }

  call<K extends keyof MetaMethods & string>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    options: { sequence?: number; finishedBelow?: number } = {},
  ): Promise<ReplyOf<MetaMethods[K]>> {
    return this.peer.call(method, args, options);
  }

  /** A mutation with the next sequence number, everything before it finished. */
  do<K extends keyof MetaMethods & string>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
  ): Promise<ReplyOf<MetaMethods[K]>> {
    const sequence = this.nextSequence++;
    return this.call(method, args, { sequence });
  }

  /** Whom to resume. */
  get ticket(): {
    session: ReplyOf<MetaMethods['openSession']>['session'];
    token: ReplyOf<MetaMethods['openSession']>['token'];
  } {
    if (this.session === undefined) throw new Error('no session');
    return { session: this.session.session, token: this.session.token };
  }

  async create(text: string): Promise<Ino> {
    const reply = await this.do('create', createArgs(text));
    return reply.attr.ino;
  }

  unlink(text: string): Promise<unknown> {
    return this.do('unlink', { parent: ROOT_INO, name: name(text) });
  }

  async reserveChunks(count: number): Promise<ChunkId> {
    const { first } = await this.do('reserveIds', { kind: 'chunk', count });
    return asChunkId(first);
  }

  /** Commits a chunk that a file consists of. */
  write(ino: Ino, chunk: ChunkId, length = 1000): Promise<unknown> {
    return this.do('commit', commitArgs(ino, chunk, length));
  }

  /** Takes what work there is, as a chunk server. */
  async tasks(): Promise<Task[]> {
    const reply = await this.call('serverHeartbeat', { capacityBytes: 1000, usedBytes: 10, full: false });
    return reply.tasks;
  }

  report(task: Task, state: 'running' | 'done' | 'failed'): Promise<unknown> {
    return this.call('reportTask', { id: task.id, state, done: 1, total: 2, message: 'as it is' });
  }
}

export function createArgs(text: string): ArgsOf<MetaMethods['create']> {
  return { parent: ROOT_INO, name: name(text), owner, mode: 0o644, exclusive: true, truncate: false };
}

export function commitArgs(
  ino: Ino,
  chunk: ChunkId,
  length: number,
  durable = false,
): ArgsOf<MetaMethods['commit']> {
  const extents: Extent[] = [{ offset: 0, length, chunk, chunkOffset: 0 }];
  return {
    chunks: [{ id: chunk, length, crc: 1 }],
    files: [{ ino, extents, minSize: 0, mtime: { sec: 1, nsec: 1 }, clearPrivileges: false }],
    durable,
  };
}

export function serverId(number: number): ServerId {
  return asServerId(`aaaaaaaa-bbbb-4ccc-8ddd-${String(number).padStart(12, '0')}`);
}

export function registration(id: ServerId): ArgsOf<MetaMethods['registerServer']> {
  return {
    id,
    clusterId: null,
    url: 'ws://127.0.0.1:9',
    host: id,
    rack: id,
    weight: 1,
    capacityBytes: 1000,
    usedBytes: 10,
    full: false,
  };
}
