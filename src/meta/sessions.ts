/**
 * Sessions: which mounts are registered, until when, under which fencing token, and over which connection.
 *
 * A session lives while heartbeats renew it. Resuming raises its token: the connection that acted under the
 * older one is closed, and what it sent is refused with `fenced`. A session that has expired or was closed is
 * `ending` until everything it held is released (session-end.ts); nothing is done for it any more.
 *
 * Opening and resuming are on disk before they are answered: a token that was given out is never given again,
 * whatever happens to the server's machine.
 *
 * Who resumes a session knows its token. The first one is not to be guessed, so that nobody claims another's
 * session by mistake or for mischief; all that follow it share its upper part.
 *
 * A restart knows all sessions from the store and gives each a whole life from then on, because the time
 * without a server must not count against mounts.
 *
 * INVARIANT: memory changes only after the transaction that changed the store has been committed; `ending`
 * never goes back.
 */
import { randomInt } from 'node:crypto';
import type { Clock } from '../base/clock.js';
import {
  asFencingToken,
  asSessionId,
  type ChunkId,
  type FencingToken,
  type SessionId,
} from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ReplyOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import type { Binding, Connection } from './connection.js';
import type { MetaRequest } from './group-commit.js';
import type { ChunkRange, MetaStore, SessionRow } from './store.js';

/** The session in whose name the server itself acts. */
export const SERVER_SESSION = asSessionId(1);
export const FIRST_SESSION = 2;
/** How often a session is resumed before the part of its token changes that is not to be guessed. */
const TOKENS_PER_SECRET = 2 ** 16;
const SECRETS = 2 ** 36;

export interface Session {
  readonly id: SessionId;
  row: SessionRow;
  expiresAtMs: number;
  /** When the last heartbeat came, or the connection was made. */
  renewedAtMs: number;
  connection: Connection | undefined;
  /** Ascending, adjoining ones joined. */
  readonly ranges: ChunkRange[];
  keptCount: number;
  keptBytes: number;
  /** Entries of its journal that were refused, as long as the answer may have been lost. */
  refused: ReplyOf<MetaMethods['journal']>['refused'];
  ending: boolean;
}

/** What a request under a session wrote besides its own. */
export interface Written {
  readonly session: Session;
  readonly progress: SessionRow | undefined;
}

/** Who mounts, as openSession says it. */
export interface MountInfo {
  readonly host: string;
  readonly pid: number;
  readonly mountpoint: string;
  readonly leases?: boolean;
}

export class Sessions {
  readonly #store: MetaStore;
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #sessions = new Map<SessionId, Session>();

  constructor(store: MetaStore, clock: Clock, ttlMs: number = limits.sessionTtlMs) {
    this.#store = store;
    this.#clock = clock;
    this.#ttlMs = ttlMs;
    const ranges = store.ranges();
    for (const row of store.sessions()) {
      const session = this.#add(row, undefined);
      const kept = store.keptReplies(row.id);
      session.keptCount = kept.count;
      session.keptBytes = kept.bytes;
      for (const range of ranges) if (range.session === row.id) addRange(session, range);
    }
  }

  /** A session has begun on a connection. */
  onBound: (session: SessionId) => void = () => {};

  get ttlMs(): number {
    return this.#ttlMs;
  }

  find(id: SessionId): Session | undefined {
    return this.#sessions.get(id);
  }

  /** Every session, ending ones included. */
  all(): Iterable<Session> {
    return this.#sessions.values();
  }

  #add(row: SessionRow, connection: Connection | undefined): Session {
    const session: Session = {
      id: row.id,
      row,
      expiresAtMs: this.#clock.monotonicMs() + this.#ttlMs,
      renewedAtMs: this.#clock.monotonicMs(),
      connection,
      ranges: [],
      keptCount: 0,
      keptBytes: 0,
      refused: [],
      ending: false,
    };
    this.#sessions.set(row.id, session);
    return session;
  }

  /**
   * The session that a connection acts for, if it still may.
   * **Errors:** notAllowed when it never opened one, sessionLost when that has ended, fenced when a newer
   * token exists.
   */
  live(connection: Connection): Session {
    const { binding } = connection;
    if (binding === undefined) throw new ProtocolError('notAllowed', 'openSession comes first');
    const session = this.#sessions.get(binding.session);
    if (session === undefined || session.ending)
      throw new ProtocolError('sessionLost', `session ${binding.session} has ended`);
    if (session.row.token !== binding.token)
      throw new ProtocolError('fenced', `session ${session.id} goes on under a newer token`);
    return session;
  }

  /** A request that opens a session, or answers with the one that this connection has already. */
  open(connection: Connection, mount: MountInfo): MetaRequest<Binding> {
    return {
      writes: true,
      durable: true,
      alone: true,
      plan: () => {
        connection.mayBindSession();
        const bound = this.#liveBinding(connection);
        if (bound !== undefined) return () => bound;
        if (this.#sessions.size >= limits.sessions) throw new ProtocolError('busy', 'too many sessions');
        return () => {
          const id = asSessionId(this.#store.allocate('session', 1));
          const token = asFencingToken(randomInt(SECRETS) * TOKENS_PER_SECRET + 1);
          this.#store.putSession(newRow({ session: id, token }, mount));
          return { session: id, token };
        };
      },
      committed: ({ session, token }) => {
        if (this.#sessions.has(session)) return;
        this.#add(newRow({ session, token }, mount), undefined);
        this.#bind(connection, { session, token });
      },
    };
  }

  #liveBinding(connection: Connection): Binding | undefined {
    const { binding } = connection;
    if (binding === undefined) return undefined;
    const session = this.#sessions.get(binding.session);
    return session !== undefined && !session.ending && session.row.token === binding.token
      ? binding
      : undefined;
  }

  /**
   * A request that goes on with a session under a new token. An older token will do as well, back to the last
   * one under which something has come: the answers that gave out the newer ones may all have been lost.
   * **Errors:** sessionLost, notYours, fenced.
   */
  resume(connection: Connection, mount: MountInfo, from: Binding): MetaRequest<Binding> {
    const next = (): SessionRow => {
      const session = this.#sessions.get(from.session);
      if (session === undefined || session.ending)
        throw new ProtocolError('sessionLost', `session ${from.session} has ended`);
      const { row } = session;
      if (secretOf(from) !== secretOf(row))
        throw new ProtocolError('notYours', `session ${session.id} is another mount's`);
      if (from.token > row.token || from.token < row.confirmedToken)
        throw new ProtocolError('fenced', `session ${session.id} goes on under another token`);
      return { ...row, ...mountOnly(mount), token: asFencingToken(row.token + 1) };
    };
    return {
      writes: true,
      durable: true,
      alone: true,
      plan: () => {
        connection.mayBindSession();
        const row = next();
        return () => {
          this.#store.putSession(row);
          return { session: row.id, token: row.token };
        };
      },
      committed: (binding) => {
        const session = this.#sessions.get(binding.session);
        if (session === undefined) return;
        session.row = { ...session.row, ...mountOnly(mount), token: binding.token };
        this.#bind(connection, binding);
      },
    };
  }

  #bind(connection: Connection, binding: Binding): void {
    const session = this.#sessions.get(binding.session);
    if (session === undefined) return;
    const before = session.connection;
    connection.bindSession(binding);
    this.onBound(session.id);
    session.connection = connection.end.closed ? undefined : connection;
    this.renew(session);
    if (before !== undefined && before !== connection)
      before.end.close(`fenced: session ${session.id} goes on elsewhere`);
  }

  /** A heartbeat has come. */
  renew(session: Session): void {
    session.renewedAtMs = this.#clock.monotonicMs();
    session.expiresAtMs = session.renewedAtMs + this.#ttlMs;
  }

  /** The connection is gone; its session goes on until it expires. */
  disconnected(connection: Connection): void {
    const session = connection.binding && this.#sessions.get(connection.binding.session);
    if (session?.connection === connection) session.connection = undefined;
  }

  /** What a heartbeat brings that is worth writing, as a request. */
  news(connection: Connection, finishedBelow: number): MetaRequest<Written> | undefined {
    if (this.progress(this.live(connection), finishedBelow) === undefined) return undefined;
    return {
      writes: true,
      durable: false,
      plan: () => {
        const session = this.live(connection);
        const progress = this.progress(session, finishedBelow);
        return () => {
          if (progress !== undefined) this.writeProgress(progress);
          return { session, progress };
        };
      },
      committed: ({ session, progress }) => this.committed(session, { progress, keptBytes: 0 }),
    };
  }

  /** A request that ends this connection's session; what it held is released afterwards. */
  close(connection: Connection): MetaRequest<Session> {
    return {
      writes: false,
      durable: false,
      alone: true,
      plan: () => {
        const session = this.live(connection);
        return () => session;
      },
      committed: (session) => this.end(session, 'closed'),
    };
  }

  /** Sessions whose time is up, marked ending. */
  expire(): Session[] {
    const nowMs = this.#clock.monotonicMs();
    const expired = [...this.#sessions.values()].filter(
      (session) => !session.ending && session.expiresAtMs <= nowMs,
    );
    for (const session of expired) this.end(session, 'expired');
    return expired;
  }

  /** Nothing is done for this session from now on. */
  end(session: Session, why: string): void {
    session.ending = true;
    if (why !== 'closed') session.connection?.end.close(`session ${session.id} ${why}`);
    session.connection = undefined;
  }

  /** The server stood still for `ms`: no session can be blamed for that time. */
  grant(ms: number): void {
    for (const session of this.#sessions.values()) session.expiresAtMs += ms;
  }

  /** Everything of an ending session is released and committed. */
  forget(session: Session): void {
    this.#sessions.delete(session.id);
  }

  // Kept replies

  /** **Errors:** busy when nothing more can be kept for this session. */
  mayKeep(session: Session): void {
    if (session.keptCount >= limits.repliesPerSession || session.keptBytes >= limits.replyBytesPerSession)
      throw new ProtocolError('busy', 'too many replies are kept: finishedBelow has to rise');
  }

  /**
   * What a request under this session must write besides its own: the token it came under, and which replies
   * are no longer needed. Returns undefined when there is nothing worth writing.
   */
  progress(session: Session, finishedBelow: number | undefined): SessionRow | undefined {
    const { row } = session;
    const below = Math.max(row.finishedBelow, finishedBelow ?? 0);
    if (row.confirmedToken === row.token && below < row.finishedBelow + limits.repliesPrunedAtOnce)
      return undefined;
    return { ...row, confirmedToken: row.token, finishedBelow: below };
  }

  /** Writes what `progress` returned. Inside the transaction. */
  writeProgress(row: SessionRow): void {
    this.#store.putSession(row);
    this.#store.pruneReplies(row.id, row.finishedBelow);
  }

  /** The transaction in which a reply was kept, or progress written, is committed. */
  committed(session: Session, written: { progress: SessionRow | undefined; keptBytes: number }): void {
    const { progress } = written;
    session.keptCount += written.keptBytes > 0 ? 1 : 0;
    session.keptBytes += written.keptBytes;
    if (progress === undefined) return;
    const { confirmedToken, finishedBelow } = progress;
    session.row = {
      ...session.row,
      confirmedToken: Math.max(session.row.confirmedToken, confirmedToken),
      finishedBelow: Math.max(session.row.finishedBelow, finishedBelow),
    };
    const kept = this.#store.keptReplies(session.id);
    session.keptCount = kept.count;
    session.keptBytes = kept.bytes;
  }

  // Chunk ids

  /** The session has this range now, and the transaction that says so is committed. */
  granted(session: Session, range: ChunkRange): void {
    addRange(session, range);
  }

  /** Tells of chunk ids, as things are now, whether a live session may commit them. */
  committable(): (id: ChunkId) => boolean {
    const live = [...this.#sessions.values()].filter((session) => !session.ending);
    const ranges = live.flatMap((session) => session.ranges).sort((a, b) => a.first - b.first);
    return (id) => {
      let [low, high] = [0, ranges.length];
      while (low < high) {
        const middle = (low + high) >>> 1;
        if ((ranges[middle]?.last ?? 0) < id) low = middle + 1;
        else high = middle;
      }
      return (ranges[low]?.first ?? Number.POSITIVE_INFINITY) <= id;
    };
  }
}

const secretOf = ({ token }: { readonly token: FencingToken }): number =>
  Math.floor(token / TOKENS_PER_SECRET);

function mountOnly({ host, pid, mountpoint, leases = false }: MountInfo): Required<MountInfo> {
  return { host, pid, mountpoint, leases };
}

function newRow({ session, token }: Binding, mount: MountInfo): SessionRow {
  return { id: session, token, confirmedToken: 0, ...mountOnly(mount), finishedBelow: 0 };
}

/** Whether this chunk id was given to this session. */
export function mayCommit(session: Session, id: ChunkId): boolean {
  return session.ranges.some((range) => range.first <= id && id <= range.last);
}

function addRange(session: Session, range: ChunkRange): void {
  const last = session.ranges.at(-1);
  if (last !== undefined && last.last + 1 === range.first)
    session.ranges[session.ranges.length - 1] = { ...last, last: range.last };
  else session.ranges.push(range);
}
