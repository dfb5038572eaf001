/**
 * The leases that mounts have, and what waits for them: lease/lessor.ts with sessions, connections and time.
 *
 * An operation asks `check` while it is planned, with what it would change. When leases of other sessions are
 * in the way it is refused with LeasesInTheWay; `settled` then recalls them and submits it again once they
 * are given back or void. Nothing else waits meanwhile.
 *
 * A mount that does not answer loses its leases limits.leaseTtlMs after its last heartbeat came; it has
 * stopped trusting them by then, because it counts from when it sent that heartbeat. Leases live in memory.
 * INVARIANT: after a start nothing is answered before every session of before has come back and said that
 * nothing is left of its leases, or limits.leaseTtlMs have passed.
 */
import type { Clock, Timer, Timespec } from '../base/clock.js';
import type { SparseLog } from '../base/sparse-log.js';
import { type Access, type Lease, Lessor, type Recall, type Ticket } from '../lease/lessor.js';
import type { RowChange } from '../names/rows.js';
import type { Attr } from '../proto/attr.js';
import type { Ino, SessionId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { makeSparseLog } from './refusals.js';
import type { Session, Sessions } from './sessions.js';

/** Leases of others have to be given back first. */
export class LeasesInTheWay extends ProtocolError {
  readonly session: SessionId;
  /** Undefined: leases that this server, just started, does not know of. */
  readonly access: Access | undefined;

  constructor(session: SessionId, access: Access | undefined) {
    super('busy', 'leases of other mounts are in the way');
    this.session = session;
    this.access = access;
  }
}

/** The inodes that changes of rows show on. */
export function inodesOf(changes: readonly RowChange[]): Set<Ino> {
  const inodes = new Set<Ino>();
  for (const change of changes) {
    if ('adjust' in change) continue;
    if ('put' in change) {
      if (change.put === 'inode' || change.put === 'extent' || change.put === 'xattr')
        inodes.add(change.row.ino);
      else if (change.put === 'dentry') inodes.add(change.row.parent);
    } else if (change.delete === 'dentry') inodes.add(change.parent);
    else if (change.delete !== 'open') inodes.add(change.ino);
  }
  return inodes;
}

export type Granted = ReadonlyMap<Ino, Lease>;

/** As it crosses the wire. */
export interface ReturnedLease {
  readonly ino: Ino;
  readonly epoch: number;
  readonly keep?: 'shared';
}

export class Leases {
  readonly #clock: Clock;
  readonly #log: SparseLog;
  readonly #sessions: Sessions;
  readonly #lessor: Lessor;
  readonly #waiters = new Map<Ticket, () => void>();
  /** Sessions of before the start, whose leases nobody knows. */
  readonly #unknown = new Set<SessionId>();
  /** Sessions whose leases have ended without their doing. */
  readonly #lapsed = new Set<SessionId>();
  readonly #unknownUntilMs: number;
  readonly #startWaiters = new Set<() => void>();
  /** Sessions that have come back and have not said yet that their leases of before are gone: how long they may. */
  readonly #resuming = new Map<SessionId, Timer>();
  /** Sessions that a timer looks after. */
  readonly #watched = new Set<SessionId>();
  readonly #timers = new Set<Timer>();
  #stopped = false;
  /** A session's leases end without its word: what it did under them and has not said may come too late. */
  onVoid: (session: SessionId) => void = () => {};

  constructor(clock: Clock, sessions: Sessions) {
    this.#clock = clock;
    this.#log = makeSparseLog(clock);
    this.#sessions = sessions;
    const options = {
      backoffMs: limits.leaseBackoffMs,
      maxBackoffMs: limits.leaseBackoffMaxMs,
      maxPerSession: limits.leasesPerSession,
    };
    // Above all epochs of servers before: a mount may send again what it could not tell one of those.
    this.#lessor = new Lessor(options, firstEpochAt(clock.now()));
    for (const session of sessions.all()) if (session.row.leases) this.#unknown.add(session.id);
    this.#unknownUntilMs = clock.monotonicMs() + limits.leaseTtlMs;
  }

  /** Before an operation of `session` is answered that reads and changes these. Throws LeasesInTheWay. */
  check(session: SessionId, access: Access): void {
    if (this.#isSettlingIn(session)) throw new LeasesInTheWay(session, undefined);
    this.checkKnown(session, access);
  }

  /** As `check`, for what a session did under leases that this server, just started, does not know of. */
  checkKnown(session: SessionId, access: Access): void {
    if (this.#lessor.inTheWay(session, access).length > 0) throw new LeasesInTheWay(session, access);
  }

  #isSettlingIn(session: SessionId): boolean {
    if (this.#unknown.size === 0) return false;
    this.#settleUnknown();
    return this.#unknown.size > (this.#unknown.has(session) ? 1 : 0);
  }

  /**
   * Leases for the inodes of a reply, those that are granted; for `markLeases`. To be called while planning.
   * `born` is new, and the session's alone to change.
   */
  grant(session: Session, attrs: readonly Attr[], born?: Ino): Granted {
    const granted = new Map<Ino, Lease>();
    if (!session.row.leases || this.#resuming.has(session.id)) return granted;
    const nowMs = this.#clock.monotonicMs();
    for (const { ino } of attrs) {
      const lease = this.#lessor.grant(session.id, ino, ino === born ? 'exclusive' : 'shared', nowMs);
      if (lease !== undefined) granted.set(ino, lease);
    }
    return granted;
  }

  /**
   * An exclusive lease on an inode that nobody else has one on, and the epoch of the lease that it stands in for;
   * undefined: not now. Recalls nothing.
   */
  take(session: Session, ino: Ino): { lease: Lease; was: number | undefined } | undefined {
    if (!this.#mayTake(session)) return undefined;
    const was = this.#lessor.leaseOf(session.id, ino)?.epoch;
    const lease = this.#lessor.take(session.id, ino, this.#clock.monotonicMs());
    return lease && { lease, was };
  }

  /** Before `take`: recalls what others have on these as far as Lessor.mayTake. Throws LeasesInTheWay. */
  recall(session: Session, inos: Iterable<Ino>): void {
    if (!this.#mayTake(session)) return;
    const nowMs = this.#clock.monotonicMs();
    const writes = [...inos].filter((ino) => this.#lessor.mayTake(session.id, ino, nowMs));
    this.checkKnown(session.id, { reads: [], writes });
  }

  #mayTake(session: Session): boolean {
    return session.row.leases && !this.#resuming.has(session.id) && !this.#isSettlingIn(session.id);
  }

  /** The exclusive lease on an inode that `session` has made by itself. */
  grantBorn(session: SessionId, ino: Ino): Lease | undefined {
    return this.#lessor.grant(session, ino, 'exclusive', this.#clock.monotonicMs());
  }

  /** Those of the granted leases that have not been recalled meanwhile: the others must not be announced. */
  stillGranted(granted: Granted): Granted {
    return new Map(
      [...granted].filter(([ino, { session, epoch }]) => this.#lessor.isUnasked(session, ino, epoch)),
    );
  }

  /** Runs `submit` until no leases are in its way. **Errors:** its other ones. */
  async settled<Reply>(submit: () => Promise<Reply>): Promise<Reply> {
    let ticket: Ticket | undefined;
    try {
      for (;;) {
        try {
          return await submit();
        } catch (error) {
          if (!(error instanceof LeasesInTheWay) || this.#stopped) throw error;
          if (ticket !== undefined) this.#lessor.unpark(ticket);
          ticket = await this.#wait(error);
        }
      }
    } finally {
      if (ticket !== undefined) this.#lessor.unpark(ticket);
    }
  }

  async #wait({ session, access }: LeasesInTheWay): Promise<Ticket | undefined> {
    if (access === undefined) {
      await new Promise<void>((resolve) => {
        this.#startWaiters.add(resolve);
        this.#after(this.#unknownUntilMs - this.#clock.monotonicMs(), () => this.#settledIn());
      });
      return undefined;
    }
    const { ticket, recalls } = this.#lessor.park(session, access, this.#clock.monotonicMs());
    const free = new Promise<void>((resolve) => this.#waiters.set(ticket, resolve));
    // Replies of this turn that carry grants go before their recalls.
    setImmediate(() => this.#send(recalls));
    await free;
    return ticket;
  }

  #settledIn(): void {
    this.#settleUnknown();
    for (const resolve of this.#startWaiters) resolve();
    this.#startWaiters.clear();
  }

  #send(recalls: readonly Recall[]): void {
    const ofSession = new Map<SessionId, ReturnedLease[]>();
    for (const { session, ino, epoch, keep } of recalls) {
      const asked = ofSession.get(session) ?? [];
      asked.push(keep === 'shared' ? { ino, epoch, keep } : { ino, epoch });
      ofSession.set(session, asked);
    }
    for (const [id, leases] of ofSession) {
      const session = this.#sessions.find(id);
      session?.connection?.end.sendRecall(leases).catch((error: unknown) => {
        this.#log.warn('a mount does not take a recall', id, { session: id, error: String(error) });
      });
      if (!this.#watched.has(id)) this.#watch(id);
    }
  }

  /**
   * While a session has recalls to answer: ends its leases once it has been silent for so long that it does not
   * trust them any more, and closes its connection when it goes on renewing and does not answer: nothing was
   * granted over the connections that follow, so that as long afterwards they are over whatever it does.
   */
  #watch(id: SessionId): void {
    this.#watched.delete(id);
    const recalledAtMs = this.#lessor.recalledAtMs(id);
    if (recalledAtMs === undefined) return;
    const nowMs = this.#clock.monotonicMs();
    const session = this.#sessions.find(id);
    const answerByMs = recalledAtMs + limits.leaseTtlMs;
    const endMs = Math.min((session?.renewedAtMs ?? 0) + limits.leaseTtlMs, answerByMs + limits.leaseTtlMs);
    if (session === undefined || nowMs >= endMs) {
      this.#log.warn('a mount is silent: its leases are void', id, { session: id });
      // Its next heartbeat must not make it trust them again.
      session?.connection?.end.close('it was silent: its leases are void');
      this.#lapse(id);
      return;
    }
    if (nowMs >= answerByMs && session.connection !== undefined) {
      this.#log.warn('a mount does not return leases: disconnecting it', id, { session: id });
      session.connection.end.close('it does not return leases');
    }
    this.#watched.add(id);
    const nextMs = nowMs < answerByMs ? Math.min(answerByMs, endMs) : endMs;
    this.#after(nextMs - nowMs, () => this.#watch(id));
  }

  #after(delayMs: number, fire: () => void): Timer {
    const timer = this.#clock.after(Math.max(delayMs, 0), () => {
      this.#timers.delete(timer);
      fire();
    });
    this.#timers.add(timer);
    return timer;
  }

  #wake(tickets: readonly Ticket[]): void {
    for (const ticket of tickets) {
      const resolve = this.#waiters.get(ticket);
      this.#waiters.delete(ticket);
      resolve?.();
    }
  }

  /** A mount gives leases up. **Codes:** notHolder, leaseGone, when that is done of which it had some. */
  returned(session: Session, leases: readonly ReturnedLease[]): void {
    const notHeld = { foreign: 0, ended: 0 };
    for (const { ino, epoch, keep = 'none' } of leases) {
      const ready = this.#lessor.acknowledge(session.id, ino, epoch, keep);
      if (ready === undefined) notHeld[this.#lessor.whyNotHeld(ino, epoch)] += 1;
      else this.#wake(ready);
    }
    const of = `of ${leases.length} leases`;
    if (notHeld.foreign > 0) throw new ProtocolError('notHolder', `${notHeld.foreign} ${of} are not its own`);
    if (notHeld.ended > 0) throw new ProtocolError('leaseGone', `${notHeld.ended} ${of} ended before`);
  }

  /**
   * A session goes on over another connection. It remembers nothing of before, but may have to say so much.
   * If that connection ends before it has, the next one does not give it more time: others wait.
   */
  resumed(session: SessionId): void {
    const hasNone = this.#lessor.leasesOf(session).length === 0 && !this.#unknown.has(session);
    if (hasNone || this.#resuming.has(session)) return;
    this.#resuming.set(
      session,
      this.#after(limits.leaseTtlMs, () => this.#lapse(session)),
    );
  }

  /** Nothing is left of what a session had over earlier connections; what it was granted since stays. */
  returnedAll(session: SessionId): void {
    this.#lapsed.delete(session);
    if (this.#resuming.has(session)) this.#forget(session);
  }

  /** It has not given back what it had, and others go on all the same. */
  #lapse(session: SessionId): void {
    this.#lapsed.add(session);
    this.forget(session);
  }

  /** Whether leases of a session have ended without its doing, and it has not said since that none is left. */
  hasLapsed(session: SessionId): boolean {
    this.#settleUnknown();
    return this.#lapsed.has(session);
  }

  /** Whoever has not come back in time has lost what it had. */
  #settleUnknown(): void {
    if (this.#clock.monotonicMs() < this.#unknownUntilMs) return;
    for (const session of this.#unknown) {
      this.#lapsed.add(session);
      this.onVoid(session);
    }
    this.#unknown.clear();
  }

  /** A session has ended, or does not say what is left of its leases: nothing is. */
  forget(session: SessionId): void {
    this.onVoid(session);
    this.#forget(session);
  }

  #forget(session: SessionId): void {
    const timer = this.#resuming.get(session);
    if (timer !== undefined) {
      timer.cancel();
      this.#timers.delete(timer);
      this.#resuming.delete(session);
    }
    this.#wake(this.#lessor.endSession(session));
    if (this.#unknown.delete(session)) this.#settledIn();
  }

  /** Whoever waits is woken, and refused. */
  stop(): void {
    this.#stopped = true;
    for (const timer of this.#timers) timer.cancel();
    this.#wake([...this.#waiters.keys()]);
    for (const resolve of this.#startWaiters) resolve();
  }

  /** Throws InvariantError when it contradicts itself; for tests. */
  checkInvariants(): void {
    this.#lessor.checkInvariants();
  }
}

/** A thousand for each millisecond since 1970: more than are ever given out in that time. */
const firstEpochAt = ({ sec, nsec }: Timespec): number =>
  (Math.max(0, sec) * 1000 + Math.floor(nsec / 1e6)) * 1000 + 1;

export function markLeases(attrs: readonly Attr[], granted: Granted, born?: Ino): void {
  for (const attr of attrs) {
    const lease = granted.get(attr.ino);
    if (lease === undefined) continue;
    attr.lease = lease.epoch;
    if (lease.mode === 'exclusive' && attr.ino === born) attr.exclusive = true;
  }
}
