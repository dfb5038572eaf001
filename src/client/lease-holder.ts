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
import { within } from './bounded-wait.js';
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
  /** Answered once the server has taken everything that was sent before. */
  readonly sync: () => Promise<unknown>;
}

export class LeaseHolder {
  readonly #cache: LeaseCache;
  readonly #returns: LeaseReturns;
  readonly #own: OwnChanges;
  dependents: LeaseDependents | undefined;
  /** Forgotten for want of a connection, and not settled yet. */
  #orphans: DroppedLease[] = [];
  /** Ends when what was given up unasked is forgotten and settled: a recall may be of that. */
  #leaving: Promise<unknown> = Promise.resolve();
  /** Ends when the kernel has forgotten all that was given up for doubts. */
  #forgotten: Promise<unknown> = Promise.resolve();

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
    // Only of an exclusive one something may be kept, whatever is remembered of it here.
    const exclusive = leases.filter(({ ino, keep }) => keep === 'shared' || this.#cache.isExclusive(ino));
    if (exclusive.length > 0) await this.#writeBack(inodesOf(exclusive));
    await this.#own.settle(inodesOf(leases));
    if (connection !== this.#returns.connection()) return;
    const kept = leases.filter(({ ino, keep }) => keep === 'shared' && this.#cache.shared(ino));
    if (kept.length > 0) await this.#send(connection, { leases: kept });
    const rest = leases.filter((lease) => !kept.includes(lease)).map(({ ino, epoch }) => ({ ino, epoch }));
    if (rest.length === 0) return;
    const dropped = this.#cache.recalled(rest);
    await Promise.all([this.#leaving, this.#forget(dropped).then(() => this.#settle(dropped))]);
    await this.#send(connection, { leases: rest });
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
    await this.#giveBack(leases, this.#forget(leases));
  }

  /**
   * A change was given up and may be carried out all the same; its caller is about to be told. Resolves when
   * nothing is remembered here or by the kernel, which stays so until the change is `over`: it can no longer
   * be carried out, or the answer to it has come. Never fails.
   */
  async doubt(over: Promise<void>): Promise<void> {
    const leases = this.#cache.doubt();
    this.#own.clear();
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
    const exclusive = leases.filter(({ isExclusive }) => isExclusive);
    const written = exclusive.length > 0 ? this.#writeBack(inodesOf(exclusive)) : Promise.resolve();
    await this.#leave(Promise.all([forgotten, written]).then(() => this.#settle(leases)));
    const returned = leases.map(({ ino, epoch }) => ({ ino, epoch }));
    for (let at = 0; at < returned.length; at += limits.leasesPerMessage)
      await this.#send(connection, { leases: returned.slice(at, at + limits.leasesPerMessage) });
    this.#cache.returned(returned);
  }

  #leave(work: Promise<unknown>): Promise<unknown> {
    this.#leaving = Promise.all([this.#leaving, work]);
    return this.#leaving;
  }

  /** These are not what the kernel was told. Never fails. */
  forgetInKernel(inodes: readonly Ino[]): void {
    this.dependents?.forget(inodes).catch(notForgotten);
  }

  /** There is going to be a new connection, over which none of them is in force. Never fails. */
  async disconnected(): Promise<void> {
    this.#own.clear();
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
    const exclusive = dropped.filter(({ isExclusive }) => isExclusive);
    const left = this.#leave(
      this.#writeBack(inodesOf(exclusive))
        .then(() => this.#own.settleAll())
        .then(() => this.#settle(dropped)),
    );
    void left.then(() => this.#send(connection, { leases: [], all: true }));
  }

  async #forget(leases: readonly DroppedLease[]): Promise<void> {
    await this.dependents?.forget(inodesOf(leases)).catch(notForgotten);
  }

  async #settle(leases: readonly DroppedLease[]): Promise<void> {
    await this.dependents?.settle(leases).catch(notForgotten);
  }

  async #send(connection: number, args: { leases: ReturnedLease[]; all?: boolean }): Promise<void> {
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
export const withinRecall = (work: Promise<unknown>, clock: Clock): Promise<void> =>
  within(work, limits.leaseSettleMs, clock);
