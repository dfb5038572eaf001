/**
 * The server's own work between requests: sessions that expired, servers that fell silent, orphans to take
 * apart, chunks that became garbage. All of it goes through group commit in bounded steps, as one more
 * source among the connections, so that requests are never kept waiting for long.
 *
 * INVARIANT: every step is a transaction that leaves the store consistent; a crash between two steps loses
 * nothing, because what is left to do is in the store.
 */
import type { Clock, Timer } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import { releaseSession } from '../names/open.js';
import { type Operation, runSync } from '../names/operation.js';
import { reap } from '../names/orphan.js';
import { FsError } from '../proto/errno.js';
import type { SessionId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { Task } from '../proto/meta-methods.js';
import { ProtocolError } from '../proto/protocol-error.js';
import type { Cluster } from './cluster.js';
import type { GroupCommit, MetaRequest } from './group-commit.js';
import type { Leases } from './leases.js';
import type { Locks } from './locks.js';
import { SERVER_SESSION, type Session, type Sessions } from './sessions.js';
import type { MetaStore } from './store.js';
import { joinChanges, Tasks } from './tasks.js';

const log = makeLog('meta');

export interface HousekeepingParts {
  readonly store: MetaStore;
  readonly commit: GroupCommit;
  readonly sessions: Sessions;
  readonly cluster: Cluster;
  readonly tasks: Tasks;
  readonly locks: Locks;
  readonly leases: Leases;
  readonly clock: Clock;
}

export class Housekeeping {
  readonly #parts: HousekeepingParts;
  /** This as a source of requests. */
  readonly #source = {};
  readonly #endings = new Set<SessionId>();
  #timer: Timer | undefined;
  #lastTickMs: number;
  #reaping = false;
  #collecting = false;
  #stopped = false;

  constructor(parts: HousekeepingParts) {
    this.#parts = parts;
    this.#lastTickMs = parts.clock.monotonicMs();
  }

  start(): void {
    this.#timer = this.#parts.clock.after(limits.housekeepingMs, () => this.#tick(), { background: true });
    this.wake();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** A transaction was committed: perhaps it left an orphan. */
  wake(): void {
    if (this.#reaping || this.#stopped) return;
    this.#reaping = true;
    this.#background('reap orphans', () => this.#reap()).finally(() => {
      this.#reaping = false;
    });
  }

  #tick(): void {
    if (this.#stopped) return;
    const { clock, sessions, cluster } = this.#parts;
    const lateMs = clock.monotonicMs() - this.#lastTickMs - limits.housekeepingMs;
    this.#lastTickMs = clock.monotonicMs();
    if (lateMs > limits.stallMs) {
      log.warn('the server stood still; sessions and chunk servers are given that time', { lateMs });
      sessions.grant(lateMs);
      cluster.grant(lateMs);
    }
    sessions.expire();
    for (const session of sessions.all()) if (session.ending) void this.endSession(session);
    for (const request of cluster.silent())
      this.#background('mark a server down', () => this.#submit(request));
    this.#collect();
    this.wake();
    this.#timer = clock.after(limits.housekeepingMs, () => this.#tick(), { background: true });
  }

  /** Runs something that nobody waits for: what fails is tried again by a later tick. */
  async #background(what: string, body: () => Promise<unknown>): Promise<void> {
    try {
      await body();
    } catch (error) {
      if (!(error instanceof FsError) && !(error instanceof ProtocolError)) throw error;
      if (!this.#stopped) log.warn(`could not ${what}, will try again`, { error });
    }
  }

  #submit<Reply>(request: MetaRequest<Reply>): Promise<Reply> {
    return this.#parts.commit.submit(this.#source, request);
  }

  /** Runs an operation of names/. */
  #perform<Reply>(operation: () => Operation<Reply>): Promise<Reply> {
    const { store } = this.#parts;
    return this.#submit({
      writes: true,
      durable: false,
      plan: () => {
        const outcome = runSync(operation(), (read) => store.answer(read));
        return () => {
          store.apply(outcome.changes);
          return outcome.reply;
        };
      },
    });
  }

  async #reap(): Promise<void> {
    const { store, clock } = this.#parts;
    for (;;) {
      const ino = store.reapable(1)[0];
      if (ino === undefined || this.#stopped) return;
      const context = { now: clock.now(), session: SERVER_SESSION };
      await this.#perform(() => reap(context, { ino, limit: limits.reapExtents }));
    }
  }

  #collect(): void {
    if (this.#collecting) return;
    this.#collecting = true;
    this.#background('collect garbage', () => this.#collectAll()).finally(() => {
      this.#collecting = false;
    });
  }

  async #collectAll(): Promise<void> {
    const { store, tasks } = this.#parts;
    while (store.garbageCount(1) > 0 && !this.#stopped) {
      await this.#submit({
        writes: true,
        durable: false,
        alone: true,
        plan: () => () => {
          return this.queueDeletion(store.takeGarbage(limits.chunksPerMessage));
        },
        committed: (change) => tasks.committed(change),
      });
    }
  }

  /**
   * Queues the deletion of chunks that are in no table any more, on every server, and makes sure that nobody
   * can commit them again. Inside a transaction; pass the result to `tasks.committed`.
   */
  queueDeletion(chunks: Parameters<MetaStore['retire']>[0]): ReturnType<Tasks['queue']> {
    const { store, sessions, cluster, tasks } = this.#parts;
    const committable = sessions.committable();
    store.retire(chunks.filter(committable));
    return joinChanges(Tasks.deleting(chunks).map((work) => tasks.queue(work, cluster.ids())));
  }

  /** Releases all that a session held, then forgets it. Idempotent; resolves when that is committed. */
  async endSession(session: Session): Promise<void> {
    if (this.#endings.has(session.id)) return;
    this.#endings.add(session.id);
    try {
      await this.#background(`end session ${session.id}`, () => this.#release(session));
    } finally {
      this.#endings.delete(session.id);
    }
  }

  async #release(session: Session): Promise<void> {
    const { store, sessions, tasks, locks, leases, cluster, clock } = this.#parts;
    leases.forget(session.id);
    // First, because others wait for them.
    await this.#submit({
      writes: true,
      durable: false,
      alone: true,
      plan: () => () => store.deleteLocks(session.id),
      committed: () => locks.ended(session),
    });
    for (let more = true; more; ) {
      const context = { now: clock.now(), session: session.id };
      const reply = await this.#perform(() => releaseSession(context, { limit: limits.releaseOpens }));
      more = reply.more;
    }
    await this.#submit({
      writes: true,
      durable: false,
      alone: true,
      plan: () => () => {
        for (const range of session.ranges) store.forgetRetired(range.first, range.last);
        store.deleteSession(session.id);
        return joinChanges(sweeps(session).map((work) => tasks.queue(work, cluster.ids())));
      },
      committed: (change) => {
        tasks.committed(change);
        sessions.forget(session);
      },
    });
    log.info('session ended', { session: session.id, mountpoint: session.row.mountpoint });
  }
}

/** What the session may have stored without committing it. */
function sweeps(session: Session): Task['work'][] {
  const { ranges } = session;
  const [first, last] = [ranges[0], ranges.at(-1)];
  if (first === undefined || last === undefined) return [];
  if (ranges.length > limits.sweepsPerSession)
    return [{ kind: 'sweep', first: first.first, last: last.last }];
  return ranges.map((range) => ({ kind: 'sweep', first: range.first, last: range.last }));
}
