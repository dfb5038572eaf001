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
import { makeLog } from '../base/log.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { ClusterMap } from '../proto/cluster-map.js';
import type { FsError } from '../proto/errno.js';
import type { Ino, SessionId } from '../proto/ids.js';
import type { Removal } from '../proto/lease-methods.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { connectWebSocket } from '../rpc/websocket.js';
import type { ChunkLinks, Connect } from './chunk-links.js';
import type { ChunkReader } from './chunk-reader.js';
import type { ChunkWriter } from './chunk-writer.js';
import { ClusterView } from './cluster-view.js';
import { type MadeParts, makeParts, type Parts } from './filesystem-parts.js';
import type { Journal } from './journal.js';
import type { LeaseCache } from './lease-cache.js';
import type { LeaseDependents, LeaseHolder } from './lease-holder.js';
import type { OwnObserver } from './local-operations.js';
import { type MetadataCallOptions, MetadataLink } from './metadata-link.js';
import type { PendingFile } from './pending-file.js';
import { recoverSession } from './recovery.js';

const log = makeLog('client');

export interface FilesystemOptions {
  readonly metaUrl: string;
  /** For people, in `leasefs status`. */
  readonly mountpoint: string;
  /** A directory of this mount alone; made when missing. */
  readonly cacheDir: string;
  /** How long a call waits for servers before the program gets an errno. */
  readonly timeoutMs: number;
  readonly readOnly: boolean;
  /** Changes nothing by itself: everything goes to the metadata server at once. */
  readonly asksAlways?: boolean;
  /** Bytes that may be uncommitted; default limits.dirtyBytes, at least one chunk. */
  readonly dirtyBytes?: number;
  /** Memory for chunk blocks; default limits.blockCacheBytes. */
  readonly blockCacheBytes?: number;
  /** Chunk blocks on this machine's disk; default limits.diskCacheBytes, 0: none. */
  readonly diskCacheBytes?: number;
  /** There too, what is known of inodes; default: a sixteenth of that, at most limits.hintBytes. */
  readonly hintBytes?: number;
  readonly clock?: Clock;
  /** Told of what this mount does by itself; for tests. */
  readonly ownObserver?: OwnObserver;
  /** How connections are made; WebSocket unless a test says otherwise. */
  readonly connect?: Connect;
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
  readonly #parts: Parts;
  /** What was done here and is not the server's yet. */
  readonly journal: Journal;
  /** What is remembered, and answered, without asking the server. */
  readonly leases: LeaseCache;
  /** Called when the session was lost, after everything that belonged to it was given up. */
  onSessionLost: (() => void) | undefined;
  /** Called with inodes of which this mount has answered something that it had to give up, and why. */
  onLost: ((inodes: readonly Ino[], why: FsError) => void) | undefined;
  /** Called with a file whose contents are not what its handles here have made them: others', or of a lost session. */
  onChanged: ((ino: Ino) => void) | undefined;
  /** Called with what others have removed for good; some of it, some time afterwards. */
  onRemoved: ((removals: readonly Removal[]) => void) | undefined;
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
    this.#parts = parts;
    this.journal = parts.journal;
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

  /** The server is changing an inode for this mount. */
  isChanging(ino: Ino): boolean {
    return this.#parts.own.isChanging(ino);
  }

  /** Whether what the server said is still its word; false once the session may have expired. */
  get isValid(): boolean {
    return this.#link.isValid;
  }

  /** Until this is over, what programs were told is done is not to be seen everywhere. */
  get recovering(): Promise<void> | undefined {
    return this.#parts.calls.recovering;
  }

  /**
   * Calls a method of the metadata server; what can be answered here is answered, or thrown, at once.
   * **Errors:** the method's; EINTR, ETIMEDOUT, EIO, EAGAIN.
   */
  call<K extends keyof MetaMethods & string>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    options: MetadataCallOptions<ReplyOf<MetaMethods[K]>> = {},
  ): MaybePromise<ReplyOf<MetaMethods[K]>> {
    return this.#parts.calls.call(method, args, options);
  }

  /** Whether there is no such name, as is known here; `call` would throw ENOENT for a lookup. */
  lacksName(parent: Ino, name: Uint8Array): boolean {
    return this.#parts.calls.lacksName(parent, name);
  }

  /** Whether there is no such extended attribute, as is known here; `call` would throw ENODATA for getxattr. */
  lacksXattr(ino: Ino, name: Uint8Array): boolean {
    return this.#parts.calls.lacksXattr(ino, name);
  }

  /**
   * A descriptor of a file is closed. True: what is pending of it is safe on this machine, and whoever else wants
   * to see the file waits for it. **Errors:** ENOSPC, EIO of this machine's disk.
   */
  keptOnClose(file: PendingFile): boolean {
    const state = this.#parts.own.stateOf(file.ino);
    return state !== undefined && this.#parts.kept.keep(file, state);
  }

  /** What is pending of a file behind `size` is not to be in it. */
  cutPending(file: PendingFile, size: number): void {
    file.truncate(size);
    this.pendingChanged(file, size);
  }

  /** What is pending of a file has changed otherwise than by a write; it was cut to `size`. */
  pendingChanged(file: PendingFile, size?: number): void {
    this.#parts.kept.changed(file, size);
  }

  /** The time on the server, later than all that it was seen to give. */
  now(): Timespec {
    return this.#link.serverClock.now();
  }

  /** The server has given `attr` its times: this mount's own times come after them. */
  seen(attr: { readonly ctime: { readonly sec: number; readonly nsec: number } }): void {
    this.#link.serverClock.seen(attr.ctime);
  }

  /** Throws InvariantError when what is known here contradicts itself; for tests. */
  checkInvariants(): void {
    this.writer.checkInvariants();
    this.#parts.own.rows.checkInvariants();
  }

  /** Ends without a word to anybody, as `kill -9` does, but for the lock on the database; for tests. */
  abandon(): void {
    this.#parts.db.close();
    void this.#parts.blocks.close({ drains: false });
    this.#parts.cache.close();
  }

  /** Ends the session and all connections. What is not committed by then is lost: flush first. */
  async close(): Promise<void> {
    await this.journal.flush().catch((error: unknown) => {
      log.error('what was changed here stays in the journal for the next mount', { error: String(error) });
    });
    await this.#parts.remembering.close();
    await this.#link.close();
    this.journal.close();
    this.#parts.kept.tidy();
    this.#parts.db.close();
    this.#links.close();
    await this.#parts.blocks.close({ drains: true });
    this.#parts.cache.close();
  }
}

/**
 * Connects to the filesystem at `metaUrl`. **Errors:** FsError EIO or ETIMEDOUT when there is no session
 * within `timeoutMs`; Node's own for a cache directory that cannot be written.
 */
export async function connectFilesystem(options: FilesystemOptions): Promise<Filesystem> {
  const clock = options.clock ?? systemClock;
  const connect = options.connect ?? connectWebSocket;
  let map: ClusterMap | undefined;
  let parts: MadeParts | undefined;
  let filesystem: Filesystem | undefined;
  const { cacheDir, timeoutMs } = options;
  const recovering = { cacheDir, timeoutMs, clock, connect };
  const link: MetadataLink = new MetadataLink({
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
    onRemoved: (removals) => filesystem?.onRemoved?.(removals),
    onRecall: (recalled) => void parts?.holder.recalled(recalled),
    recover: (peer, opened) => recoverSession(peer, opened, { ...recovering, serverClock: link.serverClock }),
    beforeSession: async () => await parts?.holder.disconnected(),
    onConnected: () => {
      parts?.connected();
      filesystem?.onConnected?.();
    },
  });
  await link.start();
  const view = new ClusterView(present(map, 'a session comes with a map'), clock);
  const onLost = (inodes: readonly Ino[], why: FsError): void => filesystem?.onLost?.(inodes, why);
  const onChanged = (ino: Ino): void => filesystem?.onChanged?.(ino);
  parts = makeParts({ link, view, clock, connect, onLost, onChanged }, options);
  filesystem = new Filesystem(parts, options);
  return filesystem;
}
