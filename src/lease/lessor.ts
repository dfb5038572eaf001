/**
 * Who may remember what: the leases of a whole filesystem, as the metadata server keeps them. Pure; it knows
 * no store, no connection and no clock but the times that are passed in (milliseconds, any origin, never
 * backwards).
 *
 * A lease is a session's right over an inode: `shared`, to remember it and answer from memory; `exclusive`, to
 * change it as well and say so later. There are many shared ones or one exclusive.
 *
 * Who wants to read or change something asks `inTheWay` first, in the same turn in which it does it. If leases
 * of others are in the way it is parked, which recalls them, and it asks again when `ready` names it. Nothing
 * else waits for it meanwhile: the holders' own requests conflict with nothing of their own, so they go ahead.
 * While somebody is parked, no new lease on the inodes that it wants is granted to anybody else, and for a
 * while afterwards none to anybody (back-off), no exclusive one where the recall was for a reader: an inode that
 * goes back and forth is served without leases until it calms down. Whoever asked last may `take` it meanwhile.
 *
 * INVARIANT: a lease that was recalled stays in force until it is acknowledged or its session has ended.
 * An epoch names one grant and is never used again, so an acknowledgement that is late, doubled or made up
 * ends nothing but what it names.
 */
import { assert } from '../base/assert.js';
import type { Ino, SessionId } from '../proto/ids.js';

export type LeaseMode = 'shared' | 'exclusive';

export interface Lease {
  readonly session: SessionId;
  readonly ino: Ino;
  readonly mode: LeaseMode;
  readonly epoch: number;
}

/** The inodes that an operation looks at and changes. */
export interface Access {
  readonly reads: Iterable<Ino>;
  readonly writes: Iterable<Ino>;
}

/** What a holder is asked for. `keep`: what it may go on with once it has acknowledged. */
export interface Recall extends Lease {
  readonly keep: 'shared' | 'none';
}

export type Ticket = number;

export interface LessorOptions {
  /** How long an inode goes without leases after its first recall; doubles with each that follows soon. */
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** Leases of one session, at most: beyond it, none is granted. */
  readonly maxPerSession: number;
}

interface Grant {
  lease: Lease;
  /** The strongest recall that was sent for it. */
  recalled: Recall['keep'] | undefined;
}

interface Parked {
  readonly session: SessionId;
  readonly reads: ReadonlySet<Ino>;
  readonly writes: ReadonlySet<Ino>;
}

interface InodeLeases {
  readonly grants: Map<SessionId, Grant>;
  readonly parked: Set<Ticket>;
  /** No lease before this, and no exclusive one before that. */
  quietUntilMs: number;
  sharedUntilMs: number;
  backoffMs: number;
  /** For whom it was recalled last. */
  askedBy: SessionId | undefined;
}

const TIDY_MIN_COUNT = 1024;

export class Lessor {
  readonly #options: LessorOptions;
  readonly #inodes = new Map<Ino, InodeLeases>();
  readonly #parked = new Map<Ticket, Parked>();
  readonly #ofSession = new Map<SessionId, Set<Ino>>();
  /** Epochs that were recalled and are still in force, oldest recall first, and when that was. */
  readonly #recalls = new Map<SessionId, Map<number, number>>();
  #nextEpoch: number;
  #nextTicket = 1;
  /** With so many inodes it is time to tidy. */
  #tidyAtCount = TIDY_MIN_COUNT;

  /** `firstEpoch`: above every epoch that was ever given out. */
  constructor(options: LessorOptions, firstEpoch = 1) {
    this.#options = options;
    this.#nextEpoch = firstEpoch;
  }

  /** Leases in the way of what `session` wants to do now; none: it may, in this turn. */
  inTheWay(session: SessionId, access: Access): Recall[] {
    const found = new Map<number, Recall>();
    const look = (ino: Ino, keep: Recall['keep']): void => {
      for (const { lease } of this.#inodes.get(ino)?.grants.values() ?? []) {
        if (lease.session === session) continue;
        if (keep === 'none' || lease.mode === 'exclusive') found.set(lease.epoch, { ...lease, keep });
      }
    };
    for (const ino of access.reads) look(ino, 'shared');
    for (const ino of access.writes) look(ino, 'none');
    return [...found.values()];
  }

  /**
   * Has an operation wait for the leases in its way. Answers its ticket, which `ready` will name, and the
   * recalls that have to be sent: those that were not sent yet.
   */
  park(session: SessionId, access: Access, nowMs: number): { ticket: Ticket; recalls: Recall[] } {
    const ticket = this.#nextTicket++;
    const parked = { session, reads: new Set(access.reads), writes: new Set(access.writes) };
    this.#parked.set(ticket, parked);
    for (const ino of inodesOf(parked)) this.#inode(ino).parked.add(ticket);
    const recalls = this.inTheWay(session, access).filter((recall) =>
      this.#recall(recall, { by: session, nowMs }),
    );
    return { ticket, recalls };
  }

  #recall(recall: Recall, { by, nowMs }: { by: SessionId; nowMs: number }): boolean {
    const inode = this.#inode(recall.ino);
    const grant = inode.grants.get(recall.session);
    if (grant === undefined || grant.recalled === 'none' || grant.recalled === recall.keep) return false;
    const { backoffMs, maxBackoffMs } = this.#options;
    const isAgain = nowMs < inode.sharedUntilMs + inode.backoffMs;
    inode.backoffMs =
      isAgain && inode.backoffMs > 0 ? Math.min(2 * inode.backoffMs, maxBackoffMs) : backoffMs;
    inode.sharedUntilMs = nowMs + inode.backoffMs;
    // Who wants to read may remember what was read at once; the holder does.
    if (recall.keep === 'none') inode.quietUntilMs = inode.sharedUntilMs;
    inode.askedBy = by;
    grant.recalled = recall.keep;
    const recalls = this.#recalls.get(recall.session) ?? new Map<number, number>();
    if (!recalls.has(recall.epoch)) recalls.set(recall.epoch, nowMs);
    this.#recalls.set(recall.session, recalls);
    return true;
  }

  /** The operation was done, or given up: it stands in nobody's way any more. */
  unpark(ticket: Ticket): void {
    const parked = this.#parked.get(ticket);
    if (parked === undefined) return;
    this.#parked.delete(ticket);
    for (const ino of inodesOf(parked)) this.#inodes.get(ino)?.parked.delete(ticket);
  }

  /**
   * Gives `session` a lease, or a stronger one in place of what it has; undefined when it does not get one
   * now. A weaker wish than what it has changes nothing.
   */
  grant(session: SessionId, ino: Ino, mode: LeaseMode, nowMs: number): Lease | undefined {
    const inode = this.#inodes.get(ino);
    const quietUntilMs = mode === 'shared' ? inode?.quietUntilMs : inode?.sharedUntilMs;
    return this.#grant(session, ino, mode, { nowMs, isQuiet: nowMs < (quietUntilMs ?? 0) });
  }

  /** As `grant` of an exclusive one, but for what was recalled for this session last: that is not backed off from. */
  take(session: SessionId, ino: Ino, nowMs: number): Lease | undefined {
    return this.#grant(session, ino, 'exclusive', { nowMs, isQuiet: !this.mayTake(session, ino, nowMs) });
  }

  /**
   * Whether leases of others may be recalled so that this session gets an exclusive one: not an exclusive one, whose
   * holder may have much to bring to the servers first, and not while an inode is backed off from.
   */
  mayTake(session: SessionId, ino: Ino, nowMs: number): boolean {
    const inode = this.#inodes.get(ino);
    if (inode === undefined) return true;
    for (const { lease } of inode.grants.values())
      if (lease.session !== session && lease.mode === 'exclusive') return false;
    return nowMs >= inode.sharedUntilMs || inode.askedBy === session;
  }

  #grant(
    session: SessionId,
    ino: Ino,
    mode: LeaseMode,
    { nowMs, isQuiet }: { nowMs: number; isQuiet: boolean },
  ): Lease | undefined {
    const inode = this.#inodes.get(ino);
    const held = inode?.grants.get(session);
    if (held?.recalled !== undefined) return undefined;
    if (held !== undefined && (held.lease.mode === mode || held.lease.mode === 'exclusive'))
      return held.lease;
    if (isQuiet || (inode !== undefined && !this.#mayGrant(inode, session, mode))) return undefined;
    const ofSession = this.#ofSession.get(session) ?? new Set();
    if (held === undefined && ofSession.size >= this.#options.maxPerSession) return undefined;
    if (inode === undefined && this.#inodes.size >= this.#tidyAtCount) this.tidy(nowMs);
    const lease = { session, ino, mode, epoch: this.#nextEpoch++ };
    this.#inode(ino).grants.set(session, { lease, recalled: undefined });
    this.#ofSession.set(session, ofSession.add(ino));
    return lease;
  }

  #mayGrant(inode: InodeLeases, session: SessionId, mode: LeaseMode): boolean {
    for (const ticket of inode.parked) if (this.#parked.get(ticket)?.session !== session) return false;
    for (const { lease } of inode.grants.values())
      if (lease.session !== session && (mode === 'exclusive' || lease.mode === 'exclusive')) return false;
    return true;
  }

  /**
   * The holder gives a lease up, or with `keep` the right to change the inode; asked or not. Answers the
   * operations that may try again; undefined when this epoch is not held, so that the caller may say so.
   */
  acknowledge(session: SessionId, ino: Ino, epoch: number, keep: Recall['keep']): Ticket[] | undefined {
    const inode = this.#inodes.get(ino);
    const grant = inode?.grants.get(session);
    if (inode === undefined || grant?.lease.epoch !== epoch) return undefined;
    if (keep === 'none') this.#end(inode, grant.lease);
    else {
      grant.lease = { ...grant.lease, mode: 'shared' };
      // Asked for more meanwhile: that recall is still under way.
      if (grant.recalled === 'shared') {
        grant.recalled = undefined;
        this.#answered(grant.lease);
      }
    }
    return this.#ready(inode);
  }

  /**
   * Why `acknowledge` knows nothing of an epoch: it is another's or was never given out (`foreign`), or else
   * it ended before.
   */
  whyNotHeld(ino: Ino, epoch: number): 'foreign' | 'ended' {
    if (epoch >= this.#nextEpoch) return 'foreign';
    for (const { lease } of this.#inodes.get(ino)?.grants.values() ?? [])
      if (lease.epoch === epoch) return 'foreign';
    return 'ended';
  }

  /** Whatever a session held is void. Answers the operations that may try again; its own stay parked. */
  endSession(session: SessionId): Ticket[] {
    const ready = new Set<Ticket>();
    for (const ino of [...(this.#ofSession.get(session) ?? [])]) {
      const inode = this.#inodes.get(ino);
      const grant = inode?.grants.get(session);
      if (inode === undefined || grant === undefined) continue;
      this.#end(inode, grant.lease);
      for (const ticket of this.#ready(inode)) ready.add(ticket);
    }
    return [...ready];
  }

  #end(inode: InodeLeases, lease: Lease): void {
    const { session, ino } = lease;
    inode.grants.delete(session);
    this.#answered(lease);
    const inodes = this.#ofSession.get(session);
    inodes?.delete(ino);
    if (inodes?.size === 0) this.#ofSession.delete(session);
  }

  #ready(inode: InodeLeases): Ticket[] {
    return [...inode.parked].filter((ticket) => {
      const parked = this.#parked.get(ticket);
      return parked !== undefined && this.inTheWay(parked.session, parked).length === 0;
    });
  }

  #answered({ session, epoch }: Lease): void {
    const recalls = this.#recalls.get(session);
    recalls?.delete(epoch);
    if (recalls?.size === 0) this.#recalls.delete(session);
  }

  /** When the oldest recall was sent that a session has not answered; undefined: it has answered all. */
  recalledAtMs(session: SessionId): number | undefined {
    for (const at of this.#recalls.get(session)?.values() ?? []) return at;
    return undefined;
  }

  /** This grant is in force, and nobody has asked for it back. */
  isUnasked(session: SessionId, ino: Ino, epoch: number): boolean {
    const grant = this.#inodes.get(ino)?.grants.get(session);
    return grant?.lease.epoch === epoch && grant.recalled === undefined;
  }

  leaseOf(session: SessionId, ino: Ino): Lease | undefined {
    return this.#inodes.get(ino)?.grants.get(session)?.lease;
  }

  leasesOf(session: SessionId): Lease[] {
    return [...(this.#ofSession.get(session) ?? [])].flatMap((ino) => this.leaseOf(session, ino) ?? []);
  }

  /** Inodes of which something is known. */
  get inodeCount(): number {
    return this.#inodes.size;
  }

  /** Forgets inodes of which there is nothing left to know. */
  tidy(nowMs: number): void {
    for (const [ino, { grants, parked, sharedUntilMs, backoffMs }] of this.#inodes)
      if (grants.size === 0 && parked.size === 0 && nowMs >= sharedUntilMs + backoffMs)
        this.#inodes.delete(ino);
    this.#tidyAtCount = Math.max(TIDY_MIN_COUNT, 2 * this.#inodes.size);
  }

  #inode(ino: Ino): InodeLeases {
    const known = this.#inodes.get(ino);
    if (known !== undefined) return known;
    const made = {
      grants: new Map(),
      parked: new Set<Ticket>(),
      quietUntilMs: 0,
      sharedUntilMs: 0,
      backoffMs: 0,
      askedBy: undefined,
    };
    this.#inodes.set(ino, made);
    return made;
  }

  /** Throws InvariantError when what it knows contradicts itself; for tests. */
  checkInvariants(): void {
    let count = 0;
    for (const [ino, { grants, parked }] of this.#inodes) {
      const leases = [...grants.values()].map((grant) => grant.lease);
      count += leases.length;
      assert(
        leases.length <= 1 || leases.every((lease) => lease.mode === 'shared'),
        'an exclusive lease is alone',
      );
      for (const [session, { lease, recalled }] of grants) {
        assert(lease.session === session && lease.ino === ino, 'a lease is where it is looked for');
        assert(this.#ofSession.get(session)?.has(ino) === true, 'a session knows its leases');
        assert(recalled !== 'shared' || lease.mode === 'exclusive', 'only what is exclusive can be weakened');
      }
      for (const ticket of parked) assert(this.#parked.has(ticket), 'who is parked has a ticket');
    }
    for (const [session, recalls] of this.#recalls) {
      const held = new Set(this.leasesOf(session).map((lease) => lease.epoch));
      for (const epoch of recalls.keys()) assert(held.has(epoch), 'what is recalled is held');
    }
    const known = [...this.#ofSession.values()].reduce((sum, inodes) => sum + inodes.size, 0);
    assert(known === count, 'leases are counted once');
    for (const [ticket, parked] of this.#parked) {
      const way = this.inTheWay(parked.session, parked);
      for (const ino of inodesOf(parked))
        assert(this.#inodes.get(ino)?.parked.has(ticket) === true, 'parked everywhere');
      for (const { ino, session } of way)
        assert(
          this.#inodes.get(ino)?.grants.get(session)?.recalled !== undefined,
          'what is in the way is recalled',
        );
    }
  }
}

const inodesOf = ({ reads, writes }: { reads: ReadonlySet<Ino>; writes: ReadonlySet<Ino> }): Set<Ino> =>
  new Set([...reads, ...writes]);
