/**
 * The cluster map as this mount knows it, and what follows from it: where a chunk is, and in which placement
 * groups one can be written now. A server that failed a call a moment ago is avoided for a while, whatever
 * the map says of it.
 *
 * INVARIANT: the map's epoch never goes back.
 */
import type { Clock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import {
  type ClusterMap,
  groupOfChunk,
  type Placement,
  placeGroup,
  type ServerEntry,
} from '../proto/cluster-map.js';
import type { ChunkId, ServerId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';

const log = makeLog('client');

export class ClusterView {
  readonly #clock: Clock;
  #map: ClusterMap;
  #placements = new Map<number, Placement>();
  readonly #avoidedUntilMs = new Map<ServerId, number>();
  /** Servers that another replica has outrun: good for writes, asked last for reads. */
  readonly #slowUntilMs = new Map<ServerId, number>();
  readonly #waiters = new Set<() => void>();

  constructor(map: ClusterMap, clock: Clock) {
    this.#map = map;
    this.#clock = clock;
  }

  get map(): ClusterMap {
    return this.#map;
  }

  update(map: ClusterMap): void {
    if (map.epoch < this.#map.epoch) return;
    this.#map = map;
    this.#placements = new Map();
    const known = new Set(map.servers.map((server) => server.id));
    for (const marked of [this.#avoidedUntilMs, this.#slowUntilMs])
      for (const id of marked.keys()) if (!known.has(id)) marked.delete(id);
    for (const wake of [...this.#waiters]) wake();
  }

  /** Asks this server last, and writes nothing to it, for a while. */
  avoid(server: ServerEntry, reason: string): void {
    if (!this.isAvoided(server))
      log.warn('avoiding a chunk server', { url: server.url, id: server.id, reason });
    this.#avoidedUntilMs.set(server.id, this.#clock.monotonicMs() + limits.serverAvoidMs);
  }

  /** Another replica has answered a read while this one was silent: it is asked last for a while. */
  outrun(server: ServerEntry): void {
    this.#slowUntilMs.set(server.id, this.#clock.monotonicMs() + limits.serverAvoidMs);
  }

  isAvoided(server: ServerEntry): boolean {
    return this.#isMarked(this.#avoidedUntilMs, server);
  }

  #isMarked(untilMs: Map<ServerId, number>, server: ServerEntry): boolean {
    const atMs = untilMs.get(server.id);
    if (atMs === undefined) return false;
    if (this.#clock.monotonicMs() < atMs) return true;
    untilMs.delete(server.id);
    return false;
  }

  #placement(group: number): Placement {
    let placement = this.#placements.get(group);
    if (placement === undefined) {
      placement = placeGroup(this.#map, group);
      this.#placements.set(group, placement);
    }
    return placement;
  }

  /**
   * Where to write chunk `id`: all of its replicas, or undefined while one of them takes nothing. Avoided
   * servers count as taking nothing unless `evenAvoided`.
   */
  writable(id: ChunkId, evenAvoided = false): readonly ServerEntry[] | undefined {
    return this.#writableGroup(groupOfChunk(id, this.#map.groups), evenAvoided);
  }

  /** Whether some group can be written now. */
  hasWritableGroup(evenAvoided = false): boolean {
    for (let group = 0; group < this.#map.groups; group++)
      if (this.#writableGroup(group, evenAvoided) !== undefined) return true;
    return false;
  }

  #writableGroup(group: number, evenAvoided: boolean): readonly ServerEntry[] | undefined {
    const { replicas } = this.#placement(group);
    const takes = (server: ServerEntry): boolean =>
      server.state === 'up' && (evenAvoided || !this.isAvoided(server));
    return replicas.length === this.#map.replicas && replicas.every(takes) ? replicas : undefined;
  }

  /** Whether it is full servers, and not missing ones, that leave no group to write. */
  get isFull(): boolean {
    const { servers, replicas } = this.#map;
    const notDown = servers.filter((server) => server.state !== 'down');
    return notDown.length >= replicas && notDown.some((server) => server.state === 'full');
  }

  /** Whom to ask for chunk `id`, likeliest first. */
  readable(id: ChunkId): readonly ServerEntry[] {
    const { replicas, others } = this.#placement(groupOfChunk(id, this.#map.groups));
    const all = [...replicas, ...others];
    const isLikely = (server: ServerEntry): boolean =>
      server.state !== 'down' && !this.isAvoided(server) && !this.#isMarked(this.#slowUntilMs, server);
    return [...all.filter(isLikely), ...all.filter((server) => !isLikely(server))];
  }

  /** Resolves when the map has changed, or after `atMostMs`. */
  changed(atMostMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        timer.cancel();
        this.#waiters.delete(wake);
        resolve();
      };
      const timer = this.#clock.after(atMostMs, wake);
      this.#waiters.add(wake);
    });
  }
}
