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

/** What this mount has done by itself under exclusive leases. */
export interface OwnChanges {
  /** Does nothing more to these, and brings what was done to them to the server. Never fails. */
  settle(inodes: readonly Ino[]): Promise<void>;
  /** Brings everything to the server; nothing is done by itself any more under leases of earlier connections. Never fails. */
  settleAll(): Promise<void>;
  clear(): void;
}

/** What a mount has built on leases. */
export interface LeaseDependents {
  /** What was written to these is committed. **Errors:** why it cannot be. */
  writeBack(inodes: readonly Ino[]): Promise<void>;
  /** The kernel remembers no names, and no attributes of these inodes. Waits for no request of this mount. */
  forget(inodes: readonly Ino[]): Promise<void>;
  /** Nor pages under these leases, and the server knows what of their files is open here. May wait for requests of this mount. */
  settle(leases: readonly DroppedLease[]): Promise<void>;
}

/** As it crosses the wire: `keep` what the holder goes on with. */
export interface ReturnedLease extends HeldLease {
  readonly keep?: 'shared';
}

export interface LeaseReturns {
  /** Rises with every connection. */
  readonly connection: () => number;
  /** `all`: nothing is left of what was granted over earlier connections. */
  readonly send: (args: { leases: ReturnedLease[]; all?: boolean }) => Promise<unknown>;
}

export class LeaseHolder {
  readonly #cache: LeaseCache;
  readonly #returns: LeaseReturns;
  readonly #own: OwnChanges;
  dependents: LeaseDependents | undefined;
  /** Forgotten for want of a connection, and not settled yet. */
  #orphans: DroppedLease[] = [];
  /** Ends when those of earlier connections are settled. */
  #resettled: Promise<void> = Promise.resolve();

  constructor(cache: LeaseCache, returns: LeaseReturns, own: OwnChanges) {
    this.#cache = cache;
    this.#returns = returns;
    this.#own = own;
  }

  /** Others wait for these. Never fails. */
  async recalled(leases: readonly ReturnedLease[]): Promise<void> {
    // Replies that came before the recall are being taken in this turn.
    await new Promise<void>((resolve) => setImmediate(resolve));
    const connection = this.#returns.connection();
    const exclusive = inodesOf(leases).filter((ino) => this.#cache.isExclusive(ino));
    if (exclusive.length > 0) await this.#writeBack(exclusive);
    if (connection !== this.#returns.connection()) return;
    const kept = leases.filter(({ ino, keep }) => keep === 'shared' && this.#cache.shared(ino));
    if (kept.length > 0) await this.#return({ leases: kept });
    const rest = leases.filter((lease) => !kept.includes(lease)).map(({ ino, epoch }) => ({ ino, epoch }));
    if (rest.length === 0) return;
    const dropped = this.#cache.recalled(rest);
    await this.#resettled;
    await this.#giveUp(dropped, connection, { leases: rest });
  }

  /** Others are to see all that was done to these here. */
  async #writeBack(inodes: readonly Ino[]): Promise<void> {
    const settled = this.#own.settle(inodes);
    await this.dependents?.writeBack(inodes).catch((error: unknown) => {
      log.warn('what was written here cannot be stored now, and others do not see it', {
        error: String(error),
      });
    });
    await settled;
    // What was stored meanwhile has gone into the journal.
    await this.#own.settle(inodes);
  }

  /** There are too many. Never fails. */
  async giveBack(leases: readonly DroppedLease[]): Promise<void> {
    const exclusive = leases.filter(({ isExclusive }) => isExclusive);
    if (exclusive.length > 0) await this.#writeBack(inodesOf(exclusive));
    const returned = leases.map(({ ino, epoch }) => ({ ino, epoch }));
    await this.#giveUp(leases, this.#returns.connection(), { leases: returned });
  }

  /** A change of this mount whose outcome nobody waits for shows on these, or may do so. Never fails. */
  forgetInKernel(inodes: readonly Ino[]): void {
    this.dependents?.forget(inodes).catch(notForgotten);
  }

  /** There is going to be a new connection, over which none of them is in force. Never fails. */
  async disconnected(): Promise<void> {
    this.#own.clear();
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
    const exclusive = dropped.filter(({ isExclusive }) => isExclusive);
    // What the connection before has left behind may still be on its way out.
    this.#resettled = this.#resettled
      .then(() => this.#writeBack(inodesOf(exclusive)))
      .then(() => this.#own.settleAll())
      .then(() => this.#giveUp(dropped, connection, { leases: [], all: true }, { isForgotten: true }));
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
    await this.#return(args);
  }

  async #return(args: { leases: ReturnedLease[]; all?: boolean }): Promise<void> {
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
