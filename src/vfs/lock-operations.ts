/**
 * flock(2) and fcntl(2) locks: getlk, setlk, and what closing lets go of. The server holds them under this
 * mount's session; here is known who has locked what, so that nothing is sent for files without locks.
 *
 * Before a lock is given up, what was written to the file is committed, so that the next holder, on whatever
 * mount, reads it.
 *
 * A lock that is waited for has no time limit, over reconnects and restarts of the server: the request is
 * sent again with every connection. Everything else is bounded by the mount's timeout. Who gives up (a
 * signal, the time) while an exchange is on its way leaves it to end by itself: a lock that is granted to
 * nobody is taken back before the owner's next request is sent.
 *
 * A lost session has taken its locks with it, and others may have had them since. Linux has no way to tell who
 * held them; the handles through which they were got are broken for good instead (FileHandle). Unlocking what is
 * lost succeeds.
 */
import { present } from '../base/assert.js';
import { makeLog } from '../base/log.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { boundedWait } from '../client/bounded-wait.js';
import type { InterruptSource } from '../client/link-call.js';
import { changeRanges, LOCK_END, type RangeChange, restoringChanges } from '../lease/lock-ranges.js';
import { FsError } from '../proto/errno.js';
import type { Ino, LockOwner } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ReplyOf } from '../proto/method.js';
import { MountLockTable } from './lock-table.js';
import type { MountContext } from './mount-context.js';
import type { FileLock, Request } from './operations.js';
import type { OwnerLocks } from './owner-locks.js';

const log = makeLog('vfs');

type Outcome = ReplyOf<MetaMethods['setlk']>['outcome'];

/** A request that waits for its lock. */
interface Waiter {
  /** It is its turn, or the server may have forgotten it: it has to ask again. */
  woken: boolean;
  wake: (() => void) | undefined;
}

/** One way to an answer; closed once its caller has one, or wants none any more. */
interface Ticket {
  open: boolean;
  readonly answer: (outcome: Outcome) => void;
}

const everything = (pid: number): RangeChange => ({ start: 0, end: LOCK_END, type: 'unlock', pid });

export class LockOperations {
  readonly #mount: MountContext;
  readonly #table = new MountLockTable();
  readonly #waiters = new Map<number, Waiter>();
  #nextWait = 1;

  constructor(mount: MountContext) {
    this.#mount = mount;
    mount.fs.onLockReady = (waits) => {
      for (const wait of waits) this.#wake(this.#waiters.get(wait));
    };
    mount.fs.onConnected = () => {
      for (const waiter of this.#waiters.values()) this.#wake(waiter);
    };
  }

  /** The session that held what is locked here is gone. The handles through which something was locked. */
  sessionLost(): number[] {
    return this.#table.clear();
  }

  /** Whether something is locked that was got through this handle. */
  isLocked(fh: number): boolean {
    return this.#table.isLocked(fh);
  }

  /** Files and owners that this mount keeps track of; for tests. */
  get size(): number {
    return this.#table.size;
  }

  #wake(waiter: Waiter | undefined): void {
    if (waiter === undefined) return;
    waiter.woken = true;
    waiter.wake?.();
  }

  /** A lock that is in the way of this one, or undefined. `pid` is 0 when its holder is on another mount. */
  async getlk(request: Request, ino: Ino, lock: FileLock): Promise<FileLock | undefined> {
    const { space, owner, start, end, type } = lock;
    if (type === 'unlock') throw new FsError('EINVAL', 'getlk', { detail: 'no lock is asked about' });
    const { fs } = this.#mount;
    const reply = await fs.call('getlk', { ino, space, owner, start, end, type }, { request });
    if (reply.lock === null) return undefined;
    const { session, pid, ...found } = reply.lock;
    return { ...found, space, owner, pid: session === fs.session ? pid : 0 };
  }

  /**
   * Sets or clears a lock. **Errors:** EAGAIN (held by another, and not to be waited for), EDEADLK, ENOLCK;
   * EINTR, ETIMEDOUT, EIO.
   */
  async setlk(request: Request, ino: Ino, fh: number, lock: FileLock, wait: boolean): Promise<void> {
    const { space, owner } = lock;
    if (lock.type === 'unlock') {
      const locks = this.#table.find(ino, space, owner);
      if (locks !== undefined) await this.#unlock(locks, lock, request);
      return;
    }
    const locks = this.#table.enter(ino, fh, space, owner);
    try {
      if (lock.type === 'read' && locks.ranges.length > 0) await this.#writeBack(ino, request);
      if (wait) await this.#wait(request, locks, lock);
      else await this.#try(request, locks, lock);
    } finally {
      this.#table.leave(locks);
    }
  }

  /** A process closes a descriptor: its fcntl locks on the file go, whichever descriptor set them. */
  closed(request: Request, ino: Ino, owner: LockOwner | undefined): MaybePromise<void> {
    const locks = owner === undefined ? undefined : this.#table.find(ino, 'fcntl', owner);
    return locks === undefined ? undefined : this.#letGo(locks, request);
  }

  /** An open file description is gone: its flock lock goes, and what else was locked through it (OFD locks). */
  released(ino: Ino, fh: number, flockOwner: LockOwner | undefined): void {
    const locks = new Set(this.#table.closeHandle(fh));
    const flock = flockOwner === undefined ? undefined : this.#table.find(ino, 'flock', flockOwner);
    if (flock !== undefined) locks.add(flock);
    for (const of of locks) void this.#letGo(of, undefined);
  }

  /** Unlocks everything of an owner. Never fails: a close has other things to report. */
  async #letGo(locks: OwnerLocks, request: Request | undefined): Promise<void> {
    const unlocked = this.#unlock(locks, everything(request?.pid ?? 0), request).catch((error: unknown) => {
      log.info('a lock is let go later, or went with its session', { ino: locks.ino, error: String(error) });
    });
    // With the server away nobody else gets it anyway: it will be told when it is back.
    if (this.#mount.fs.isUp) await unlocked;
  }

  async #unlock(locks: OwnerLocks, change: RangeChange, request: Request | undefined): Promise<void> {
    // Nothing may come between this and the sending, so that requests keep their order when all is written. Who
    // asks for the lease of a file that is this mount's alone waits until it is written in any case.
    const { files, fs } = this.#mount;
    const unwritten = files.get(locks.ino)?.pending.isClean === false && !fs.leases.isExclusive(locks.ino);
    if (unwritten) await this.#writeBack(locks.ino, request);
    await this.#bounded(request, this.#mount.fs.timeoutMs, (done) => {
      this.#inTurn(locks, () => this.#clear(locks, change)).then(() => done(), done);
      return () => {};
    });
  }

  async #writeBack(ino: Ino, request: Request | undefined): Promise<void> {
    const state = this.#mount.files.get(ino);
    if (state === undefined || state.pending.isClean) return;
    try {
      await this.#mount.fs.writer.flush(state.pending, { durable: false, request });
    } catch (error) {
      // The file's next fsync or close reports it; the lock must not outlive its holder for that.
      log.warn('a lock is given up before what was written under it', { ino, error: String(error) });
    }
  }

  async #try(request: Request, locks: OwnerLocks, change: RangeChange): Promise<void> {
    const { timeoutMs } = this.#mount.fs;
    const outcome = await this.#ask(locks, change, { request, timeoutMs, wait: undefined });
    if (outcome !== 'granted') throw new FsError('EAGAIN', 'setlk', { detail: 'locked by another' });
  }

  async #wait(request: Request, locks: OwnerLocks, change: RangeChange): Promise<void> {
    const { clock, timeoutMs } = this.#mount.fs;
    const wait = this.#nextWait++;
    const waiter: Waiter = { woken: false, wake: undefined };
    this.#waiters.set(wait, waiter);
    let isWaiting = false;
    try {
      for (;;) {
        waiter.woken = false;
        const patienceMs = isWaiting ? Number.POSITIVE_INFINITY : timeoutMs;
        const outcome = await this.#ask(locks, change, { request, timeoutMs: patienceMs, wait });
        if (outcome === 'granted') return;
        isWaiting = true;
        const forEver = { clock, timeoutMs: Number.POSITIVE_INFINITY, request, op: 'setlk' };
        await boundedWait(forEver, (done) => {
          waiter.wake = done;
          if (waiter.woken) done();
          return () => {
            waiter.wake = undefined;
          };
        });
      }
    } catch (error) {
      if (isWaiting) await this.#cancel(wait);
      throw error;
    } finally {
      this.#waiters.delete(wait);
    }
  }

  /** Tells the server that nobody waits, and gives it a moment to know: others may ask at once. */
  async #cancel(wait: number): Promise<void> {
    const { fs } = this.#mount;
    // Without a connection there is nothing to cancel: the wait has ended with it.
    if (!fs.isUp) return;
    try {
      await fs.call('cancelLock', { wait }, { timeoutMs: limits.interruptGraceMs });
    } catch (error) {
      log.info('a wait for a lock was not cancelled in time', { wait, error: String(error) });
    }
  }

  /** Asks for a lock, and gives up asking when the time or the caller's patience is at its end. */
  async #ask(
    locks: OwnerLocks,
    change: RangeChange,
    options: { request: Request; timeoutMs: number; wait: number | undefined },
  ): Promise<Outcome> {
    const { request, timeoutMs, wait } = options;
    let outcome: Outcome | undefined;
    await this.#bounded(request, timeoutMs, (done) => {
      const answer = (got: Outcome): void => {
        outcome = got;
        done();
      };
      const ticket: Ticket = { open: true, answer };
      this.#inTurn(locks, () => this.#set(locks, change, ticket, wait)).catch(done);
      return () => {
        ticket.open = false;
      };
    });
    return present(outcome, 'an exchange that ended well has its outcome');
  }

  /** Counted, so that the owner is not forgotten while an exchange is under way, whoever waits for it. */
  async #inTurn(locks: OwnerLocks, exchange: () => Promise<void>): Promise<void> {
    locks.users++;
    try {
      await locks.inTurn(exchange);
    } finally {
      this.#table.leave(locks);
    }
  }

  #bounded(
    request: Request | undefined,
    timeoutMs: number,
    watch: (done: (error?: unknown) => void) => () => void,
  ): Promise<void> {
    const options = { clock: this.#mount.fs.clock, timeoutMs, op: 'setlk' };
    return boundedWait({ ...options, request: request && this.#patient(request) }, (done) =>
      watch((error) => {
        if (error === undefined || error instanceof FsError) done(error);
        else done(new FsError('EIO', 'setlk', { cause: error }));
      }),
    );
  }

  /** A signal ends the wait for an answer at once when none can come, and a little later when it is on its way. */
  #patient(request: Request): InterruptSource {
    const { fs } = this.#mount;
    return {
      interrupted: request.interrupted,
      onInterrupt: (listener) => {
        let stopTimer = (): void => {};
        const stop = request.onInterrupt(() => {
          if (!fs.isUp) listener();
          else {
            const timer = fs.clock.after(limits.interruptGraceMs, listener);
            stopTimer = () => timer.cancel();
          }
        });
        return () => {
          stop();
          stopTimer();
        };
      },
    };
  }

  async #set(
    locks: OwnerLocks,
    change: RangeChange,
    ticket: Ticket,
    wait: number | undefined,
  ): Promise<void> {
    while (ticket.open) {
      const { generation } = this.#mount.fs;
      let outcome: Outcome;
      try {
        outcome = await this.#send(locks, change, wait);
      } catch (error) {
        // Nothing is left of what a lost session was asked for: it can be asked again.
        if (this.#mount.fs.generation !== generation) continue;
        if (ticket.open) throw error;
        log.info('a lock request that nobody waits for failed', { ino: locks.ino, error: String(error) });
        return;
      }
      const before = locks.space === 'flock' && outcome === 'granted' ? [] : locks.ranges;
      if (outcome === 'granted') locks.ranges = changeRanges(locks.ranges, change);
      else if (locks.space === 'flock' && locks.ranges[0]?.type !== change.type) locks.ranges = [];
      if (ticket.open) ticket.answer(outcome);
      else if (outcome === 'granted')
        for (const back of restoringChanges(before, change, change.pid)) await this.#clear(locks, back);
      else if (wait !== undefined) await this.#cancel(wait);
      return;
    }
  }

  /** Unlocks a range, or puts it back to what it was. */
  async #clear(locks: OwnerLocks, change: RangeChange): Promise<void> {
    const { generation } = this.#mount.fs;
    try {
      await this.#send(locks, change, undefined);
    } catch (error) {
      if (this.#mount.fs.generation === generation) throw error;
      // It went with the session.
      return;
    }
    locks.ranges = changeRanges(locks.ranges, change);
  }

  async #send(locks: OwnerLocks, change: RangeChange, wait: number | undefined): Promise<Outcome> {
    const { ino, space, owner } = locks;
    const { start, end, type, pid } = change;
    const args = { ino, space, owner, start, end, type, pid, ...(wait === undefined ? {} : { wait }) };
    const { outcome } = await this.#mount.fs.call('setlk', args, { timeoutMs: Number.POSITIVE_INFINITY });
    return outcome;
  }
}
