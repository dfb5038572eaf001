/**
 * A mount's connection to the metadata server, kept up over restarts of either side: it registers the
 * session, renews it, reconnects with back-off, resumes the session, and sends again what was not answered,
 * mutations with the sequence number they had, so that the server carries each out once.
 *
 * Every call ends: with an answer, or by its deadline (ETIMEDOUT when the server did not answer, EIO when it
 * could not be reached), or EINTR when its caller was interrupted: at once while the link is down, after
 * limits.interruptGraceMs while the call is on its way.
 *
 * A session that is lost (expired or fenced) takes its outstanding mutations with it: each that may have
 * reached the server fails with EIO, because nobody can tell any more whether it was carried out. Then a new
 * session is opened and `generation` rises.
 *
 * INVARIANT: the session counts as valid from when the heartbeat that renewed it was sent, so this side gives
 * up before the server does.
 *
 * It keeps no answers: whoever caches them looks at `generation`, `connections` and `isValid`.
 */
import type { Clock, Timer } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { ClusterMap } from '../proto/cluster-map.js';
import { FsError } from '../proto/errno.js';
import type { SessionId } from '../proto/ids.js';
import type { Removal } from '../proto/lease-methods.js';
import { limits } from '../proto/limits.js';
import type { MetaCallbacks } from '../proto/meta-methods.js';
import { type MetaMethods, metaCallbacks, metaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { type Handlers, Peer } from '../rpc/peer.js';
import type { Transport } from '../rpc/transport.js';
import type { ReturnedLease } from './lease-holder.js';
import { type InterruptSource, LinkCall, type MetadataPeer } from './link-call.js';
import { LinkCalls } from './link-calls.js';
import { ServerClock } from './server-clock.js';
import { type OpenedReply, type OpenedSession, SessionKeeper } from './session-keeper.js';

const log = makeLog('client');

/** How long the server gets to take note that we leave. */
const CLOSE_MS = 2_000;

export interface MetadataLinkOptions {
  readonly url: string;
  readonly host: string;
  readonly pid: number;
  readonly mountpoint: string;
  /** Where the session's identity is written; undefined: nowhere. */
  readonly cacheDir?: string | undefined;
  /** How long a call waits for its server. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly connect: (url: string, options: { timeoutMs: number }) => Promise<Transport>;
  readonly onMap: (map: ClusterMap) => void;
  /** The old session is over and what belonged to it void; a new one is there when calls go on. */
  readonly onSessionLost: () => void;
  /** It is the turn of these lock requests. */
  readonly onLockReady?: (waits: readonly number[]) => void;
  /** Leases are asked back; `returnLeases` answers. */
  readonly onRecall?: (leases: readonly ReturnedLease[]) => void;
  /** Others have removed these for good. */
  readonly onRemoved?: (removals: readonly Removal[]) => void;
  /** A session that an earlier daemon has left is open once more, before it is closed. */
  readonly recover?: (peer: MetadataPeer, opened: OpenedReply) => Promise<void>;
  /** Before a session goes on over a new connection: leases of the last one will be void. */
  readonly beforeSession?: () => Promise<void>;
  /** A connection with an open session is there; what it forgot with the last one has to be said again. */
  readonly onConnected?: () => void;
}

export interface MetadataCallOptions<Reply> {
  /** Whose wait it is; absent: nobody's that could be interrupted. */
  readonly request?: InterruptSource | undefined;
  /** Instead of the mount's; Infinity: until it is answered, or the session or link ends. */
  readonly timeoutMs?: number;
  /** Gets the answer that came after the caller had been told something else. */
  readonly onLate?: (reply: Reply) => void;
  /** It is not kept waiting until what is left of a lost session is brought back. */
  readonly duringRecovery?: boolean;
  /** It has been kept waiting for other changes of this mount, and is not again. */
  readonly hasWaited?: boolean;
  /** It means nothing under another session: it fails with EIO when this one is lost. */
  readonly endsWithSession?: boolean;
  /** The call has an outcome, and no answer comes late any more. What is sent from now on finds the server so. */
  readonly onOver?: () => void;
}

export class MetadataLink {
  readonly serverClock: ServerClock;
  /** How many sessions were lost before the present one. */
  generation = 0;
  /** The present session, once there is one. */
  session: SessionId | undefined;
  /** How many connections there have been. */
  connections = 0;
  /** How often leases have ended before this mount gave them back. */
  lapses = 0;
  readonly #options: MetadataLinkOptions;
  readonly #clock: Clock;
  readonly #keeper: SessionKeeper;
  readonly #calls: LinkCalls;
  /** The present connection, once its session is open. */
  #peer: MetadataPeer | undefined;
  #validUntilMs = 0;
  #leasesUntilMs = 0;
  #leaseTtlMs = 0;
  #mapEpoch = 0;
  #lastFailure: unknown;
  #isClosed = false;
  #timers = new Set<Timer>();
  #refreshing = false;
  #wakeFirst: (() => void)[] = [];

  constructor(options: MetadataLinkOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.serverClock = new ServerClock(options.clock);
    this.#keeper = new SessionKeeper(options);
    this.#calls = new LinkCalls({ clock: options.clock, unanswered: (op) => this.#unansweredError(op) });
  }

  /** Whether the server still keeps its promises to this session, as far as this side can know. */
  get isValid(): boolean {
    return this.#clock.monotonicMs() < this.#validUntilMs;
  }

  /** How much longer leases of the present connection can be trusted; not above 0: they cannot. */
  get leasesTrustedMs(): number {
    return this.#peer === undefined ? 0 : this.#leasesUntilMs - this.#clock.monotonicMs();
  }

  get isUp(): boolean {
    return this.#peer !== undefined;
  }

  /** Calls not settled. */
  get outstanding(): number {
    return this.#calls.size;
  }

  /**
   * Connects for the first time and goes on connecting from then on. **Errors:** EIO or ETIMEDOUT when there
   * is no session within the mount's timeout; nothing goes on then.
   */
  async start(): Promise<void> {
    const first = new Promise<void>((resolve) => this.#wakeFirst.push(resolve));
    void this.#stayConnected();
    let timer: Timer | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = this.#clock.after(this.#options.timeoutMs, () => resolve('late'));
    });
    const outcome = await Promise.race([first, late]);
    timer?.cancel();
    if (outcome !== 'late') return;
    await this.close();
    throw this.#unansweredError('connect');
  }

  /**
   * Calls a method of the metadata server.
   * **Errors:** those of the method; EINTR, ETIMEDOUT and EIO as the file header says; EAGAIN when more calls
   * wait than limits.callsQueued.
   */
  call<K extends keyof MetaMethods & string>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    options: MetadataCallOptions<ReplyOf<MetaMethods[K]>> = {},
  ): Promise<ReplyOf<MetaMethods[K]>> {
    return new Promise((resolve, reject) => {
      const call = new LinkCall({
        method,
        isMutation: metaMethods[method].kind === 'mutation',
        deadlineMs: this.#clock.monotonicMs() + (options.timeoutMs ?? this.#options.timeoutMs),
        endsWithSession: options.endsWithSession === true,
        fail: reject,
        over: () => options.onOver?.(),
        send: async (peer, attempt) => {
          const { timeoutMs, sequence, finishedBelow } = attempt;
          const reply = await peer.call(method, args, {
            timeoutMs,
            ...(sequence === undefined ? {} : { sequence, finishedBelow }),
          });
          if (call.settle()) resolve(reply);
          else options.onLate?.(reply);
        },
      });
      this.#calls.add(call, options.request);
    });
  }

  /** Ends the session and the connection; calls still outstanding fail with EIO. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const peer = this.#peer;
    if (peer !== undefined) {
      try {
        await peer.call('closeSession', {}, { timeoutMs: CLOSE_MS });
        this.#keeper.forget();
      } catch (error) {
        log.warn('the session could not be closed and will expire', { error });
      }
      peer.close('unmounted');
    }
    for (const timer of this.#timers) timer.cancel();
    this.#calls.close();
  }

  #unansweredError(op: string): FsError {
    const cause = this.#lastFailure;
    const refused = cause instanceof ProtocolError && cause.code !== 'timeout';
    const detail = `no answer from the metadata server at ${this.#options.url}`;
    return new FsError(refused ? 'EIO' : 'ETIMEDOUT', op, { cause, detail });
  }

  #later(delayMs: number, fire: () => void): void {
    const timer = this.#clock.after(delayMs, () => {
      this.#timers.delete(timer);
      fire();
    });
    this.#timers.add(timer);
  }

  // The connection

  async #stayConnected(): Promise<void> {
    let pauseMs: number = limits.reconnectMinMs;
    while (!this.#isClosed) {
      try {
        const closed = await this.#connect();
        pauseMs = limits.reconnectMinMs;
        this.#lastFailure = new ProtocolError('disconnected', await closed);
      } catch (error) {
        this.#lastFailure = error;
        log.warn('cannot reach the metadata server', {
          url: this.#options.url,
          pauseMs,
          error: String(error),
        });
      }
      if (this.#isClosed) return;
      const delayMs = pauseMs * (0.5 + Math.random() / 2);
      pauseMs = Math.min(pauseMs * 2, limits.reconnectMaxMs);
      await new Promise<void>((resolve) => this.#later(delayMs, resolve));
    }
  }

  /** Opens a connection and the session on it; resolves to the promise of the connection's end. */
  async #connect(): Promise<Promise<string>> {
    const transport = await this.#options.connect(this.#options.url, { timeoutMs: limits.connectTimeoutMs });
    const handlers: Handlers<MetaCallbacks> = {
      mapChanged: (map) => {
        this.#takeMap(map);
        return {};
      },
      lockReady: ({ waits }) => {
        this.#options.onLockReady?.(waits);
        return {};
      },
      removed: ({ removals }) => {
        this.#options.onRemoved?.(removals);
        return {};
      },
      recallLeases: ({ leases }) => {
        this.#options.onRecall?.(leases);
        return {};
      },
    };
    const peer = new Peer(transport, {
      remote: metaMethods,
      local: metaCallbacks,
      handlers,
      clock: this.#clock,
      name: 'metadata server',
    });
    const closed = new Promise<string>((resolve) => {
      peer.onClose = (reason) => {
        this.#down(peer, reason);
        resolve(reason);
      };
    });
    try {
      await this.#options.beforeSession?.();
      const opened = await this.#keeper.open(peer, () => this.#loseSession());
      if (this.#isClosed) throw new ProtocolError('disconnected', 'unmounted');
      this.#up(peer, opened);
    } catch (error) {
      peer.close('no session');
      throw error;
    }
    return closed;
  }

  #up(peer: MetadataPeer, opened: OpenedSession): void {
    if (peer.closed) return;
    this.connections++;
    if (opened.left.lapsed) this.lapses++;
    this.session = opened.session;
    this.#validUntilMs = opened.sentAtMs + opened.ttlMs;
    this.#leaseTtlMs = opened.leaseTtlMs - limits.leaseMarginMs;
    this.#leasesUntilMs = opened.sentAtMs + this.#leaseTtlMs;
    this.serverClock.observe(opened.now, this.#clock.monotonicMs() - opened.sentAtMs);
    this.#mapEpoch = 0;
    this.#takeMap(opened.map);
    this.#peer = peer;
    this.#heartbeatLater(peer, opened.ttlMs);
    this.#calls.connected(peer);
    this.#options.onConnected?.();
    for (const wake of this.#wakeFirst.splice(0)) wake();
  }

  #down(peer: MetadataPeer, reason: string): void {
    if (this.#peer !== peer) return;
    this.#peer = undefined;
    this.#calls.disconnected();
    if (!this.#isClosed) log.warn('lost the connection to the metadata server', { reason });
  }

  /** The session is over: what may have been carried out under it fails, the rest starts over. */
  #loseSession(): void {
    log.error('the session was lost: uncommitted writes of this mount fail with EIO');
    this.generation++;
    this.#validUntilMs = 0;
    this.#calls.sessionLost();
    this.#options.onSessionLost();
  }

  #takeMap(map: ClusterMap): void {
    if (map.epoch <= this.#mapEpoch && this.#mapEpoch !== 0) return;
    this.#mapEpoch = map.epoch;
    this.#options.onMap(map);
  }

  #heartbeatLater(peer: MetadataPeer, ttlMs: number): void {
    this.#later(limits.heartbeatMs, () => {
      if (this.#peer !== peer) return;
      void this.#heartbeat(peer, ttlMs);
      this.#heartbeatLater(peer, ttlMs);
    });
  }

  async #heartbeat(peer: MetadataPeer, ttlMs: number): Promise<void> {
    const sentAtMs = this.#clock.monotonicMs();
    try {
      const reply = await peer.call(
        'heartbeat',
        { finishedBelow: this.#calls.finishedBelow },
        { timeoutMs: ttlMs / 2 },
      );
      this.#validUntilMs = Math.max(this.#validUntilMs, sentAtMs + ttlMs);
      this.#leasesUntilMs = Math.max(this.#leasesUntilMs, sentAtMs + this.#leaseTtlMs);
      this.serverClock.observe(reply.now, this.#clock.monotonicMs() - sentAtMs);
      if (reply.mapEpoch > this.#mapEpoch) this.refreshMap();
    } catch (error) {
      log.warn('a heartbeat failed', { error: String(error) });
      if (error instanceof ProtocolError) peer.close('a heartbeat was not answered');
    }
  }

  /** Begins to fetch the cluster map, unless that is going on; onMap gets it. */
  refreshMap(): void {
    if (this.#refreshing || this.#isClosed) return;
    this.#refreshing = true;
    this.call('map', {})
      .then((map) => this.#takeMap(map))
      .catch((error: unknown) => log.debug('the cluster map could not be fetched', { error: String(error) }))
      .finally(() => {
        this.#refreshing = false;
      });
  }
}
