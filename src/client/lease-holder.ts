/**
 * Gives leases up: because others wait for them, because there are too many, or because the connection over
 * which they were granted is gone. What a mount has built on a lease goes first, then the lease.
 *
 * INVARIANT: a lease is given back only after `forget` and `settle` have run for it, or have failed, whoever
 * asks for it meanwhile.
 */
import type { Clock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { DroppedLease, HeldLease, LeaseCache } from './lease-cache.js';

const log = makeLog('client');

/** What a mount has built on leases. */
export interface LeaseDependents {
  /** The kernel remembers no names, and no attributes of these inodes. Waits for no request of this mount. */
  forget(inodes: readonly Ino[]): Promise<void>;
  /** Nor pages under these leases, and the server knows what of their files is open here. May wait for requests of this mount. */
  settle(leases: readonly DroppedLease[]): Promise<void>;
}

export interface LeaseReturns {
  /** Rises with every connection. */
  readonly connection: () => number;
  /** `all`: nothing is left of what was granted over earlier connections. */
  readonly send: (args: { leases: HeldLease[]; all?: boolean }) => Promise<unknown>;
  /** Answered once the server has taken everything that was sent before. */
  readonly sync: () => Promise<unknown>;
}

export class LeaseHolder {
  readonly #cache: LeaseCache;
  readonly #returns: LeaseReturns;
  dependents: LeaseDependents | undefined;
  /** Forgotten for want of a connection, and not settled yet. */
  #orphans: DroppedLease[] = [];
  /** Ends when what was given up unasked is forgotten and settled: a recall may be of that. */
  #leaving: Promise<unknown> = Promise.resolve();
  /** Ends when the kernel has forgotten all that was given up for doubts. */
  #forgotten: Promise<unknown> = Promise.resolve();

  constructor(cache: LeaseCache, returns: LeaseReturns) {
    this.#cache = cache;
    this.#returns = returns;
  }

  /** Others wait for these. Never fails. */
  async recalled(leases: readonly HeldLease[]): Promise<void> {
    // Replies that came before the recall are being taken in this turn.
    await new Promise<void>((resolve) => setImmediate(resolve));
    const connection = this.#returns.connection();
    const dropped = this.#cache.recalled(leases);
    await Promise.all([this.#leaving, this.#forget(dropped).then(() => this.#settle(dropped))]);
    await this.#send(connection, { leases: [...leases] });
  }

  /** There are too many. Never fails. */
  async giveBack(leases: readonly DroppedLease[]): Promise<void> {
    await this.#giveBack(leases, this.#forget(leases));
  }

  /**
   * A change was given up and may be carried out all the same; its caller is about to be told. Resolves when
   * nothing is remembered here or by the kernel, which stays so until the change is `over`: it can no longer
   * be carried out, or the answer to it has come. Never fails.
   */
  async doubt(over: Promise<void>): Promise<void> {
    const leases = this.#cache.doubt();
    this.#forgotten = Promise.all([this.#forgotten, this.#forget(leases)]);
    const forgotten = this.#forgotten;
    void this.#giveBack(leases, forgotten);
    const endDoubt = (): void => this.#cache.doubtOver();
    // Where the answer did not come in time the server is told so: it has read that when it answers this.
    void over.then(() => this.#returns.sync()).then(endDoubt, endDoubt);
    await forgotten;
  }

  async #giveBack(leases: readonly DroppedLease[], forgotten: Promise<unknown>): Promise<void> {
    const connection = this.#returns.connection();
    await this.#leave(forgotten.then(() => this.#settle(leases)));
    const returned = leases.map(({ ino, epoch }) => ({ ino, epoch }));
    for (let at = 0; at < returned.length; at += limits.leasesPerMessage)
      await this.#send(connection, { leases: returned.slice(at, at + limits.leasesPerMessage) });
    this.#cache.returned(returned);
  }

  #leave(work: Promise<unknown>): Promise<unknown> {
    this.#leaving = Promise.all([this.#leaving, work]);
    return this.#leaving;
  }

  /** There is going to be a new connection, over which none of them is in force. Never fails. */
  async disconnected(): Promise<void> {
    const dropped = this.#cache.clear();
    this.#orphans.push(...dropped);
    await this.#forget(dropped);
  }

  /** There is a new connection. */
  connected(): void {
    const dropped = this.#orphans;
    this.#orphans = [];
    const connection = this.#returns.connection();
    if (connection <= 1) return;
    const left = this.#leave(this.#settle(dropped));
    void left.then(() => this.#send(connection, { leases: [], all: true }));
  }

  async #forget(leases: readonly DroppedLease[]): Promise<void> {
    await this.dependents?.forget(inodesOf(leases)).catch(notForgotten);
  }

  async #settle(leases: readonly DroppedLease[]): Promise<void> {
    await this.dependents?.settle(leases).catch(notForgotten);
  }

  async #send(connection: number, args: { leases: HeldLease[]; all?: boolean }): Promise<void> {
    // Over another connection they are none of the server's any more.
    if (connection !== this.#returns.connection()) return;
    await this.#returns.send(args).catch((error: unknown) => {
      log.warn('leases could not be given back', { inodes: args.leases.length, error: String(error) });
    });
  }
}

const inodesOf = (leases: readonly HeldLease[]): Ino[] => leases.map(({ ino }) => ino);

/** The kernel's answers run out with the session's leases at the latest (limits.leaseTtlMs). */
const notForgotten = (error: unknown): void => {
  log.warn('leases are given up although not all of what was built on them could be', {
    error: String(error),
  });
};

/** Resolves with `work`, or when a holder of leases has no more time: others wait. */
export function withinRecall(work: Promise<unknown>, clock: Clock): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const timer = clock.after(limits.leaseSettleMs, resolve);
    work.then(() => resolve(), reject).finally(() => timer.cancel());
  });
}
