/**
 * A running metadata server over a store: takes connections from any transport, answers them, and does its
 * own work in between. It knows no sockets and no files; server.ts brings both.
 *
 * INVARIANT: after `stop` has resolved the store is closed and nothing of this server runs any more.
 */
import { type Clock, systemClock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import { FsError } from '../proto/errno.js';
import type { SessionId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { type MetaCallbacks, type MetaMethods, metaCallbacks, metaMethods } from '../proto/meta-methods.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { Peer } from '../rpc/peer.js';
import type { Transport } from '../rpc/transport.js';
import { Cluster } from './cluster.js';
import { Connection, type RemoteEnd } from './connection.js';
import { GroupCommit } from './group-commit.js';
import { Housekeeping } from './housekeeping.js';
import { Leases } from './leases.js';
import { Locks } from './locks.js';
import { MapPush } from './map-push.js';
import { Mutations } from './mutations.js';
import { Refusals } from './refusals.js';
import { RemovedPush } from './removed-push.js';
import { type MetaParts, serve } from './service.js';
import { Sessions } from './sessions.js';
import type { MetaStore } from './store.js';
import { Tasks } from './tasks.js';

const log = makeLog('meta');

export interface MetadataServerOptions {
  readonly store: MetaStore;
  readonly clock?: Clock;
  /** Life of a session without a heartbeat; default limits.sessionTtlMs. */
  readonly sessionTtlMs?: number;
  /** Told when leases end without their holder's word; for tests. */
  readonly onLeasesVoid?: (session: SessionId) => void;
}

export class MetadataServer {
  readonly #parts: MetaParts;
  readonly #connections = new Set<Connection>();
  readonly #push: MapPush;
  readonly #refusals: Refusals;
  #stopping: Promise<void> | undefined;

  constructor(options: MetadataServerOptions) {
    const { store } = options;
    const clock = options.clock ?? systemClock;
    this.#refusals = new Refusals(clock);
    const commit = new GroupCommit({ store, clock, onCommitted: () => this.#parts.housekeeping.wake() });
    const sessions = new Sessions(store, clock, options.sessionTtlMs);
    const cluster = new Cluster(store, clock);
    const tasks = new Tasks(store, clock);
    const locks = new Locks(store);
    const leases = new Leases(clock, sessions);
    if (options.onLeasesVoid !== undefined) leases.onVoid = options.onLeasesVoid;
    sessions.onBound = (session) => leases.resumed(session);
    this.#parts = {
      store,
      clock,
      commit,
      sessions,
      cluster,
      tasks,
      locks,
      leases,
      mutations: new Mutations(store, sessions),
      removed: new RemovedPush(sessions),
      housekeeping: new Housekeeping({ store, commit, sessions, cluster, tasks, locks, leases, clock }),
      startedAt: clock.now(),
    };
    this.#push = new MapPush(this.#connections, () => cluster.map(), clock);
    cluster.onChange = () => this.#push.changed();
    this.#parts.housekeeping.start();
  }

  /** Serves whoever is on the other side, until either side ends it. */
  accept(transport: Transport): void {
    const connection: Connection = new Connection(remoteEnd(() => peer));
    const peer: Peer<MetaCallbacks, MetaMethods> = new Peer(transport, {
      remote: metaCallbacks,
      local: metaMethods,
      handlers: serve(this.#parts, connection),
      clock: this.#parts.clock,
      name: 'a client of the metadata server',
    });
    this.#connections.add(connection);
    peer.onClose = (reason) => this.#closed(connection, reason);
    peer.onRefused = (method, error) => {
      if (this.#stopping === undefined) this.#refusals.note(connection, method, error);
    };
    if (this.#stopping !== undefined) peer.close('the metadata server is stopping');
  }

  #closed(connection: Connection, reason: string): void {
    if (!this.#connections.delete(connection)) return;
    const { session } = connection.binding ?? {};
    log.debug('connection ended', { remote: connection.end.remote, session, reason });
    this.#parts.sessions.disconnected(connection);
    this.#parts.locks.disconnected(connection);
    if (this.#stopping !== undefined) return;
    const down = this.#parts.cluster.disconnected(connection);
    if (down === undefined) return;
    this.#parts.commit.submit(connection, down).catch((error: unknown) => {
      // The server stays as it was; its silence will be noticed.
      if (!(error instanceof FsError) && !(error instanceof ProtocolError)) throw error;
      log.warn('could not mark a server down', { error });
    });
  }

  /** Throws InvariantError when what memory keeps contradicts the store; for tests. */
  checkInvariants(): void {
    this.#parts.locks.checkInvariants();
    this.#parts.leases.checkInvariants();
  }

  /** Answers what has been asked, refuses the rest, and leaves everything on disk. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    const { housekeeping, commit, store, leases } = this.#parts;
    housekeeping.stop();
    leases.stop();
    this.#push.stop();
    await commit.stop();
    for (const connection of [...this.#connections]) connection.end.close('the metadata server is stopping');
    store.close();
  }
}

/** A peer as connections see it; it does not exist yet when they are made. */
function remoteEnd(peer: () => Peer<MetaCallbacks, MetaMethods>): RemoteEnd {
  return {
    get remote() {
      return peer().remote;
    },
    get closed() {
      return peer().closed;
    },
    close: (reason) => peer().close(reason),
    sendMap: async (map) => {
      await peer().call('mapChanged', map);
    },
    sendLockReady: async (waits) => {
      await peer().call('lockReady', { waits });
    },
    sendRemoved: async (removals) => {
      await peer().call('removed', { removals });
    },
    sendRecall: async (leases) => {
      for (let at = 0; at < leases.length; at += limits.leasesPerMessage)
        await peer().call('recallLeases', { leases: leases.slice(at, at + limits.leasesPerMessage) });
    },
  };
}
