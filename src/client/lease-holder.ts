/**
 * Gives leases up: because others wait for them, because there are too many, or because the connection over
 * which they were granted is gone. What a mount has built on a lease goes first, then the lease.
 *
 * INVARIANT: a lease is given back only after `forget` and `settle` have run for it, or have failed; a later
 * recall waits for what an earlier connection has left behind.
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
}

export class LeaseHolder {
  readonly #cache: LeaseCache;
  readonly #returns: LeaseReturns;
  dependents: LeaseDependents | undefined;
  /** Forgotten for want of a connection, and not settled yet. */
  #orphans: DroppedLease[] = [];
  /** Ends when those of earlier connections are settled. */
  #resettled: Promise<void> = Promise.resolve();

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
    await this.#resettled;
    await this.#giveUp(dropped, connection, { leases: [...leases] });
  }

  /** There are too many. Never fails. */
  async giveBack(leases: readonly DroppedLease[]): Promise<void> {
    const returned = leases.map(({ ino, epoch }) => ({ ino, epoch }));
    await this.#giveUp(leases, this.#returns.connection(), { leases: returned });
  }

  /** A change of this mount whose outcome nobody waits for shows on these, or may do so. Never fails. */
  forgetInKernel(inodes: readonly Ino[]): void {
    this.dependents?.forget(inodes).catch(notForgotten);
  }

  /** There is going to be a new connection, over which none of them is in force. Never fails. */
  async disconnected(): Promise<void> {
    const dropped = this.#cache.clear();
    this.#orphans.push(...dropped);
    await this.dependents?.forget(inodesOf(dropped)).catch(notForgotten);
  }

  /** There is a new connection. */
  connected(): void {
    const dropped = this.#orphans;
    this.#orphans = [];
    const connection = this.#returns.connection();
    if (connection <= 1) return;
    this.#resettled = this.#giveUp(dropped, connection, { leases: [], all: true }, { isForgotten: true });
  }

  async #giveUp(
    leases: readonly DroppedLease[],
    connection: number,
    args: { leases: HeldLease[]; all?: boolean },
    { isForgotten = false } = {},
  ): Promise<void> {
    try {
      if (!isForgotten) await this.dependents?.forget(inodesOf(leases));
      await this.dependents?.settle(leases);
    } catch (error) {
      notForgotten(error);
    }
    // Over another connection they are none of the server's any more.
    if (connection !== this.#returns.connection()) return;
    await this.#returns.send(args).catch((error: unknown) => {
      log.warn('leases could not be given back', { inodes: leases.length, error: String(error) });
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
