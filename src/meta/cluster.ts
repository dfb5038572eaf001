/**
 * The cluster map as the metadata server keeps it: which chunk servers there are, which of them are up. A
 * change of membership or state raises the epoch, is written down, and only then takes effect; what a server
 * says about its disk changes the map in memory alone.
 *
 * A server is `down` when its connection is lost or it was silent for limits.serverDownMs. After a restart
 * servers keep the state they had and have that long to come back.
 *
 * INVARIANT: the epoch in memory is the store's, and rises with every change that others must know.
 */
import type { Static } from '@sinclair/typebox';
import type { Clock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { ClusterMap, ServerEntry, ServerState } from '../proto/cluster-map.js';
import type { ServerId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods, tDisk } from '../proto/meta-methods.js';
import type { ArgsOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import type { Connection } from './connection.js';
import type { MetaRequest } from './group-commit.js';
import type { MetaStore } from './store.js';

const log = makeLog('meta');

interface Member {
  entry: ServerEntry;
  seenMs: number;
  /** The disk below it, as it said last; undefined: its own, or not heard of since the start. */
  disk: Disk | undefined;
}

type Disk = Static<typeof tDisk>;

/** What a server says of its disk with every heartbeat. */
export interface DiskReport {
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly full: boolean;
  readonly disk?: Disk;
}

export class Cluster {
  readonly #store: MetaStore;
  readonly #clock: Clock;
  readonly #members = new Map<ServerId, Member>();
  /** The one connection that speaks for a server, from the moment it says so. */
  readonly #connections = new Map<ServerId, Connection>();
  #map: ClusterMap | undefined;
  /** Called when the map has changed and the change is committed. */
  onChange: () => void = () => {};

  constructor(store: MetaStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    for (const entry of store.servers()) {
      this.#members.set(entry.id, { entry, seenMs: clock.monotonicMs(), disk: undefined });
    }
  }

  map(): ClusterMap {
    const { clusterId, groups, replicas } = this.#store.filesystem;
    this.#map ??= {
      clusterId,
      epoch: this.#store.epoch,
      groups,
      replicas,
      servers: [...this.#members.values()].map((member) => member.entry),
    };
    return this.#map;
  }

  /** How often servers are to call. */
  get heartbeatMs(): number {
    return limits.serverHeartbeatMs;
  }

  get epoch(): number {
    return this.#store.epoch;
  }

  ids(): Iterable<ServerId> {
    return this.#members.keys();
  }

  /**
   * Whether this may be one of our servers. From here on the connection speaks for it, and an older one does
   * not. **Errors:** wrongCluster, notAllowed.
   */
  greet(connection: Connection, args: ArgsOf<MetaMethods['registerServer']>): void {
    const { clusterId } = this.#store.filesystem;
    if (args.clusterId !== null && args.clusterId !== clusterId)
      throw new ProtocolError(
        'wrongCluster',
        `this is ${clusterId}, the chunk server is of ${args.clusterId}`,
      );
    if (!this.#members.has(args.id) && this.#members.size >= limits.servers)
      throw new ProtocolError('notAllowed', `a cluster has at most ${limits.servers} chunk servers`);
    connection.bindServer(args.id);
    const before = this.#connections.get(args.id);
    this.#connections.set(args.id, connection);
    if (before !== undefined && before !== connection) before.end.close(`server ${args.id} connected again`);
  }

  /** The request that makes a greeted server a member and `up` (or `full`). */
  register(connection: Connection, args: ArgsOf<MetaMethods['registerServer']>): MetaRequest<void> {
    const request = this.#change(args.id, () => {
      if (this.#connections.get(args.id) !== connection || connection.end.closed)
        throw new ProtocolError('disconnected', 'the chunk server has gone, or connected again');
      const { id, url, host, rack, weight, capacityBytes, usedBytes } = args;
      return { id, url, host, rack, weight, capacityBytes, usedBytes, state: upOrFull(args.full) };
    });
    return {
      ...request,
      committed: () => {
        request.committed?.();
        const member = this.#members.get(args.id);
        if (member !== undefined) member.disk = args.disk;
      },
    };
  }

  /**
   * A heartbeat: takes note of it, and returns the request that makes its news known, if there is any.
   * **Errors:** notAllowed when another connection speaks for the server.
   */
  heartbeat(connection: Connection, disk: DiskReport): MetaRequest<void> | undefined {
    const id = connection.requireServer();
    const member = this.#members.get(id);
    if (this.#connections.get(id) !== connection || member === undefined)
      throw new ProtocolError('notAllowed', `another connection speaks for server ${id}`);
    member.seenMs = this.#clock.monotonicMs();
    const { capacityBytes, usedBytes } = disk;
    member.entry = { ...member.entry, capacityBytes, usedBytes };
    member.disk = disk.disk;
    this.#map = undefined;
    return member.entry.state === upOrFull(disk.full)
      ? undefined
      : this.#stateChange(id, upOrFull(disk.full));
  }

  /** A connection is gone; returns the request that marks its server down, if it was one's. */
  disconnected(connection: Connection): MetaRequest<void> | undefined {
    const id = connection.server;
    if (id === undefined || this.#connections.get(id) !== connection) return undefined;
    this.#connections.delete(id);
    return this.#stateChange(id, 'down');
  }

  /** Requests that mark down who has been silent for too long. */
  silent(): MetaRequest<void>[] {
    const sinceMs = this.#clock.monotonicMs() - limits.serverDownMs;
    const requests: MetaRequest<void>[] = [];
    for (const [id, member] of this.#members) {
      if (member.entry.state === 'down' || member.seenMs > sinceMs) continue;
      this.#connections.get(id)?.end.close(`server ${id} was silent for too long`);
      this.#connections.delete(id);
      requests.push(this.#stateChange(id, 'down'));
    }
    return requests;
  }

  /** The server itself stood still for `ms`: nobody was silent in that time. */
  grant(ms: number): void {
    for (const member of this.#members.values()) member.seenMs += ms;
  }

  #stateChange(id: ServerId, state: ServerState): MetaRequest<void> {
    return this.#change(id, () => {
      const entry = this.#members.get(id)?.entry;
      // Down, but back in the meantime; or up, but gone.
      if (entry === undefined || (state === 'down') === this.#connections.has(id)) return undefined;
      return { ...entry, state };
    });
  }

  /** Writes the entry that `next` gives, unless that is nothing new. */
  #change(id: ServerId, next: () => ServerEntry | undefined): MetaRequest<void> {
    let entry: ServerEntry | undefined;
    let news = false;
    return {
      writes: true,
      durable: false,
      alone: true,
      plan: () => {
        entry = next();
        const before = this.#members.get(id)?.entry;
        news = entry !== undefined && (before === undefined || differs(before, entry));
        return () => {
          if (entry === undefined) return;
          this.#store.putServer(entry);
          if (news) this.#store.setEpoch(this.#store.epoch + 1);
        };
      },
      committed: () => {
        if (entry === undefined) return;
        const { disk } = this.#members.get(id) ?? { disk: undefined };
        this.#members.set(id, { entry, seenMs: this.#clock.monotonicMs(), disk });
        this.#map = undefined;
        if (!news) return;
        log.info('chunk server', { id, url: entry.url, state: entry.state, epoch: this.#store.epoch });
        this.onChange();
      },
    };
  }

  /**
   * Bytes count one replica; what is free counts only where something can be stored now, and once for all
   * servers on one disk.
   */
  space(): { totalBytes: number; freeBytes: number } {
    const { replicas } = this.#store.filesystem;
    const members = [...this.#members.values()];
    const open = members.filter(({ entry }) => entry.state === 'up');
    const used = members.reduce((sum, { entry }) => sum + entry.usedBytes, 0);
    const needed = Math.max(1, Math.min(replicas, members.length));
    return {
      totalBytes: Math.floor((used + freeOn(members)) / needed),
      freeBytes: open.length < needed ? 0 : Math.floor(freeOn(open) / needed),
    };
  }
}

/** Bytes of chunks that these servers can take in together. */
function freeOn(members: readonly Member[]): number {
  let free = 0;
  const shared = new Map<string, { free: number; onDisk: number }>();
  for (const { entry, disk } of members) {
    const own = Math.max(0, entry.capacityBytes - entry.usedBytes);
    if (disk === undefined) free += own;
    else shared.set(disk.name, { free: (shared.get(disk.name)?.free ?? 0) + own, onDisk: disk.freeBytes });
  }
  for (const disk of shared.values()) free += Math.min(disk.free, disk.onDisk);
  return free;
}

const upOrFull = (full: boolean): ServerState => (full ? 'full' : 'up');

function differs(a: ServerEntry, b: ServerEntry): boolean {
  return (
    a.url !== b.url || a.host !== b.host || a.rack !== b.rack || a.weight !== b.weight || a.state !== b.state
  );
}
