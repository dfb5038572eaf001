/**
 * The locks that sessions hold, in memory and as rows in the store, and the requests that wait for one. What
 * conflicts, splits or waits is decided in lease/locks.ts; this puts it into requests, so that a lock changes
 * in the transaction that keeps the reply, and tells mounts whose turn it is.
 *
 * INVARIANT: between requests the table has exactly the locks that the store has. Lock requests therefore run
 * alone in their transaction. A wait belongs to the connection that it came over last, and ends with it.
 */
import { assert } from '../base/assert.js';
import { makeLog } from '../base/log.js';
import { LOCK_END } from '../lease/lock-ranges.js';
import { type HeldLock, type LockPlan, LockTable, type LockWait } from '../lease/locks.js';
import { FsError } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import type { Connection } from './connection.js';
import type { Effect } from './mutations.js';
import type { Session } from './sessions.js';
import type { MetaStore } from './store.js';

const log = makeLog('meta');

type SetlkReply = ReplyOf<MetaMethods['setlk']>;

export class Locks {
  readonly #store: MetaStore;
  readonly #table: LockTable;
  /** Where each of the table's waits came from, both ways. */
  readonly #origins = new Map<LockWait, Connection>();
  readonly #waits = new Map<Connection, Set<LockWait>>();

  constructor(store: MetaStore) {
    this.#store = store;
    this.#table = new LockTable(store.locks());
  }

  /** The rules of `setlk`. **Errors:** EDEADLK, ENOLCK, EINVAL. */
  set(connection: Connection, session: Session, args: ArgsOf<MetaMethods['setlk']>): Effect<SetlkReply> {
    const { wait, ...asked } = args;
    checkRange(asked, 'setlk');
    const range = asked.space === 'flock' ? { start: 0, end: LOCK_END } : {};
    const plan = this.#table.plan({ ...asked, ...range, session: session.id }, wait);
    const { outcome } = plan;
    if (outcome === 'deadlock') throw new FsError('EDEADLK', 'setlk');
    this.#checkCounts(connection, plan);
    return {
      reply: { outcome },
      apply: () => {
        for (const lock of plan.removed) this.#store.deleteLock(lock);
        for (const lock of plan.added) this.#store.putLock(lock);
      },
      committed: () => this.#carryOut(connection, plan),
    };
  }

  #checkCounts(connection: Connection, { request, wait, outcome, added, removed }: LockPlan): void {
    const { session } = request;
    const held = this.#table.heldBy(session) + added.length - removed.length;
    if (added.length > removed.length && held > limits.locksPerSession)
      throw new FsError('ENOLCK', 'setlk', { detail: `session ${session} holds too many locks` });
    const waiting = this.#waits.get(connection)?.size ?? 0;
    const isNew = wait !== undefined && this.#table.findWait(session, wait) === undefined;
    if (outcome === 'waiting' && isNew && waiting >= limits.lockWaitsPerSession)
      throw new FsError('ENOLCK', 'setlk', { detail: `too many requests of session ${session} wait` });
  }

  #carryOut(connection: Connection, plan: LockPlan): void {
    const { wait } = plan;
    const { session } = plan.request;
    const before = wait === undefined ? undefined : this.#table.findWait(session, wait);
    if (before !== undefined) this.#unbind(before);
    const turns = this.#table.carryOut(plan);
    const after = wait === undefined ? undefined : this.#table.findWait(session, wait);
    if (after !== undefined) this.#bind(after, connection);
    this.#tell(turns);
    // It closed while its request was on its way here: nobody will say so again.
    if (after !== undefined && connection.end.closed) this.disconnected(connection);
  }

  #bind(wait: LockWait, connection: Connection): void {
    this.#origins.set(wait, connection);
    this.#waits.set(connection, (this.#waits.get(connection) ?? new Set()).add(wait));
  }

  #unbind(wait: LockWait): void {
    const connection = this.#origins.get(wait);
    this.#origins.delete(wait);
    if (connection === undefined) return;
    const waits = this.#waits.get(connection);
    waits?.delete(wait);
    if (waits?.size === 0) this.#waits.delete(connection);
  }

  /** Tells mounts that it is their turn. One that cannot be told loses its connection, and asks again. */
  #tell(turns: readonly LockWait[]): void {
    const told = new Map<Connection, number[]>();
    for (const turn of turns) {
      const connection = this.#origins.get(turn);
      if (connection !== undefined) told.set(connection, [...(told.get(connection) ?? []), turn.wait]);
    }
    for (const [connection, waits] of told)
      connection.end.sendLockReady(waits).catch((error: unknown) => {
        if (connection.end.closed) return;
        log.warn('a mount does not take news of its locks', { remote: connection.end.remote, error });
        connection.end.close('it does not take news of its locks');
      });
  }

  /** The rules of `getlk`. **Errors:** EINVAL. */
  test(session: Session, args: ArgsOf<MetaMethods['getlk']>): ReplyOf<MetaMethods['getlk']> {
    checkRange(args, 'getlk');
    const found = this.#table.blocker({ ...args, session: session.id, pid: 0 });
    if (found === undefined) return { lock: null };
    const { start, end, type, session: holder, pid } = found;
    return { lock: { start, end, type, session: holder, pid } };
  }

  cancel(session: Session, wait: number): void {
    const found = this.#table.findWait(session.id, wait);
    if (found === undefined) return;
    this.#unbind(found);
    this.#tell(this.#table.cancel(session.id, wait));
  }

  /** What came over this connection waits no longer; what is held stays held. */
  disconnected(connection: Connection): void {
    for (const wait of [...(this.#waits.get(connection) ?? [])]) {
      this.#unbind(wait);
      this.#tell(this.#table.cancel(wait.request.session, wait.wait));
    }
  }

  /** A session's locks are gone from the store, and the transaction is committed. */
  ended(session: Session): void {
    for (const wait of this.#table.waitsOf(session.id)) this.#unbind(wait);
    this.#tell(this.#table.endSession(session.id));
  }

  /** Every lock that is held; for `leasefs status` and tests. */
  held(): HeldLock[] {
    return this.#table.held();
  }

  /** Throws InvariantError when table, store and connections contradict one another; for tests. */
  checkInvariants(): void {
    this.#table.checkInvariants();
    const text = (locks: readonly HeldLock[]): string =>
      JSON.stringify(locks.map((l) => [l.ino, l.space, l.session, l.owner, l.start, l.end, l.type]).sort());
    assert(text(this.#table.held()) === text(this.#store.locks()), 'memory has the locks of the store');
    for (const [wait, connection] of this.#origins)
      assert(this.#waits.get(connection)?.has(wait) === true, 'a connection knows its waits');
  }
}

function checkRange({ start, end }: { start: number; end: number }, op: string): void {
  if (end < start) throw new FsError('EINVAL', op, { detail: 'end before start' });
}
