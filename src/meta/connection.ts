/**
 * What the metadata server knows of one connection: a mount's (it opened a session), a chunk server's (it
 * registered), or an observer's (neither). A connection that is one never becomes the other.
 */
import type { ClusterMap } from '../proto/cluster-map.js';
import type { FencingToken, Ino, ServerId, SessionId } from '../proto/ids.js';
import type { Removal } from '../proto/lease-methods.js';
import { ProtocolError } from '../proto/protocol-error.js';

/** Which session a connection acts for, and under which of its tokens. */
export interface Binding {
  readonly session: SessionId;
  readonly token: FencingToken;
}

/** What the server does with the other side. */
export interface RemoteEnd {
  readonly remote: string;
  readonly closed: boolean;
  close(reason: string): void;
  /** Resolves when it has the map; rejects when it is gone. */
  sendMap(map: ClusterMap): Promise<void>;
  /** As sendMap, for the numbers of lock requests whose turn it is. */
  sendLockReady(waits: number[]): Promise<void>;
  /** As sendMap, for leases that others wait for. */
  sendRecall(leases: { ino: Ino; epoch: number }[]): Promise<void>;
  /** As sendMap, for what others have removed. */
  sendRemoved(removals: Removal[]): Promise<void>;
}

export class Connection {
  readonly end: RemoteEnd;
  #binding: Binding | undefined;
  #server: ServerId | undefined;

  constructor(end: RemoteEnd) {
    this.end = end;
  }

  get binding(): Binding | undefined {
    return this.#binding;
  }

  get server(): ServerId | undefined {
    return this.#server;
  }

  /** **Errors:** notAllowed for a chunk server's connection. */
  bindSession(binding: Binding): void {
    this.mayBindSession();
    this.#binding = binding;
  }

  mayBindSession(): void {
    if (this.#server !== undefined)
      throw new ProtocolError('notAllowed', 'this connection belongs to a chunk server');
  }

  /** **Errors:** notAllowed for a mount's connection, or another chunk server's. */
  bindServer(id: ServerId): void {
    if (this.#binding !== undefined || (this.#server !== undefined && this.#server !== id))
      throw new ProtocolError('notAllowed', 'this connection belongs to a mount or to another chunk server');
    this.#server = id;
  }

  /** **Errors:** notAllowed unless the connection belongs to a chunk server. */
  requireServer(): ServerId {
    if (this.#server === undefined)
      throw new ProtocolError('notAllowed', 'only a registered chunk server may call this');
    return this.#server;
  }
}
