/**
 * Tells every mount and chunk server of a changed cluster map. Changes that follow one another closely go
 * out as one, and nobody has more than one map on its way: whoever is slow gets the newest when it is ready.
 */
import type { Clock, Timer } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { ClusterMap } from '../proto/cluster-map.js';
import { limits } from '../proto/limits.js';
import type { Connection } from './connection.js';

const log = makeLog('meta');

export class MapPush {
  readonly #connections: Iterable<Connection>;
  readonly #map: () => ClusterMap;
  readonly #clock: Clock;
  /** Who has a map on its way, and whether that is the newest. */
  readonly #sending = new Map<Connection, { stale: boolean }>();
  #timer: Timer | undefined;

  constructor(connections: Iterable<Connection>, map: () => ClusterMap, clock: Clock) {
    this.#connections = connections;
    this.#map = map;
    this.#clock = clock;
  }

  /** The map has changed. */
  changed(): void {
    this.#timer ??= this.#clock.after(limits.mapCoalesceMs, () => {
      this.#timer = undefined;
      for (const connection of this.#connections) this.#tell(connection);
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #tell(connection: Connection): void {
    if (connection.binding === undefined && connection.server === undefined) return;
    const sending = this.#sending.get(connection);
    if (sending !== undefined) {
      sending.stale = true;
      return;
    }
    const state = { stale: false };
    this.#sending.set(connection, state);
    connection.end
      .sendMap(this.#map())
      .catch((error: unknown) => {
        log.debug('a cluster map was not taken', { remote: connection.end.remote, error });
      })
      .finally(() => {
        this.#sending.delete(connection);
        if (state.stale && !connection.end.closed) this.#tell(connection);
      });
  }
}
