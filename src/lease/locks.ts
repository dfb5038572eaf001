/**
 * The locks of a whole filesystem: who holds what, who waits, whose turn it is, and whether waiting could
 * ever end. Pure: it decides and remembers, and knows no store, no connection and no clock.
 *
 * `flock` and `fcntl` locks are two spaces that know nothing of each other, as on Linux's local filesystems.
 * An owner is a session with the kernel's lock owner in it: a process's open files (fcntl), or an open file
 * description (flock, and fcntl's OFD locks).
 *
 * A request that has to wait is remembered in its place. When nothing stands in its way any more it is
 * *ready*: its range is reserved for it, which counts as a lock for everybody else, until it asks again and
 * gets the lock, or is cancelled. So nothing is granted to somebody who has stopped waiting, and a lock is
 * only ever taken by a request whose reply is kept. Among waiters that conflict, first come is first served;
 * who conflicts with nothing held or reserved does not wait.
 *
 * A change is planned first and carried out later, by `carryOut`, once it has been written down. INVARIANT:
 * nothing else is carried out between a plan and its carrying out.
 *
 * Deadlock (fcntl only): a wait is refused when its owner would wait for an owner that waits, through any
 * number of others, for it. A process that waits in several threads waits for all they wait for, as in
 * Linux; unlike there an OFD lock counts as well, because the kernel does not tell them apart for FUSE.
 *
 * **Source:** fs/locks.c, posix_lock_inode(), flock_lock_inode(), posix_locks_deadlock(); flock(2), fcntl(2).
 */
import { assert } from '../base/assert.js';
import type { Ino, LockOwner, SessionId } from '../proto/ids.js';
import {
  type ByteRange,
  changeRanges,
  checkRanges,
  conflicts,
  type LockedRange,
  type LockType,
} from './lock-ranges.js';

export type LockSpace = 'fcntl' | 'flock';

export interface OwnerId {
  readonly session: SessionId;
  readonly owner: LockOwner;
}

/** A lock that is held. */
export interface HeldLock extends OwnerId, LockedRange {
  readonly ino: Ino;
  readonly space: LockSpace;
}

/** A lock to be set, or with type `unlock` a range to be cleared. */
export interface LockRequest extends OwnerId, ByteRange {
  readonly ino: Ino;
  readonly space: LockSpace;
  readonly type: LockType | 'unlock';
  readonly pid: number;
}

/** - `deadlock`: it would wait for ever; nothing changes. The others as the wire has them. */
export type LockOutcome = 'granted' | 'conflict' | 'waiting' | 'deadlock';

/** What a request comes to. Also a refused flock conversion changes something: the old lock is gone. */
export interface LockPlan {
  readonly request: LockRequest;
  readonly wait: number | undefined;
  readonly outcome: LockOutcome;
  readonly removed: readonly HeldLock[];
  readonly added: readonly HeldLock[];
}

/** A request that waits; `wait` is its session's number for it. */
export interface LockWait {
  readonly request: LockRequest & { readonly type: LockType };
  readonly wait: number;
  /** It is its turn, and its range is reserved. */
  ready: boolean;
}

interface LockFile {
  /** By owner. INVARIANT: no list is empty. */
  readonly held: Map<string, HeldLock[]>;
  /** In the order in which they came. */
  readonly waits: Set<LockWait>;
}

const ownerKey = ({ session, owner }: OwnerId): string => `${session}/${owner}`;
const fileKey = ({ ino, space }: { ino: Ino; space: LockSpace }): string => `${ino}/${space}`;
const waitKey = (session: SessionId, wait: number): string => `${session}/${wait}`;
const isLock = (request: LockRequest): request is LockWait['request'] => request.type !== 'unlock';

export class LockTable {
  /** INVARIANT: each has a lock or a waiter. */
  readonly #files = new Map<string, LockFile>();
  readonly #waits = new Map<string, LockWait>();
  readonly #waitsOfOwner = new Map<string, Set<LockWait>>();
  readonly #counts = new Map<SessionId, number>();

  constructor(held: Iterable<HeldLock> = []) {
    for (const lock of held) this.#add(lock);
  }

  /** How many locks a session holds; ranges, not bytes. */
  heldBy(session: SessionId): number {
    return this.#counts.get(session) ?? 0;
  }

  waitsOf(session: SessionId): LockWait[] {
    return [...this.#waits.values()].filter((wait) => wait.request.session === session);
  }

  findWait(session: SessionId, wait: number): LockWait | undefined {
    return this.#waits.get(waitKey(session, wait));
  }

  held(): HeldLock[] {
    return [...this.#files.values()].flatMap((file) => [...file.held.values()].flat());
  }

  heldBySession(session: SessionId): HeldLock[] {
    return this.held().filter((lock) => lock.session === session);
  }

  /** What stands in the way of a lock: of those that are held or reserved, the one that starts first. */
  blocker(request: LockRequest): (OwnerId & LockedRange) | undefined {
    const [first, ...others] = this.#blockers(request);
    return others.reduce(
      (best, lock) => (best === undefined || lock.start < best.start ? lock : best),
      first,
    );
  }

  #blockers(request: LockRequest): (OwnerId & LockedRange)[] {
    const file = this.#files.get(fileKey(request));
    if (file === undefined || !isLock(request)) return [];
    const own = ownerKey(request);
    const blockers: (OwnerId & LockedRange)[] = [];
    for (const [key, locks] of file.held)
      if (key !== own) blockers.push(...locks.filter((lock) => conflicts(lock, request)));
    for (const { ready, request: reserved } of file.waits)
      if (ready && ownerKey(reserved) !== own && conflicts(reserved, request)) blockers.push(reserved);
    return blockers;
  }

  /** What a request comes to now. `wait`: it is to wait under this number when it has to. */
  plan(request: LockRequest, wait: number | undefined): LockPlan {
    const before = this.#files.get(fileKey(request))?.held.get(ownerKey(request)) ?? [];
    const plan = (outcome: LockOutcome, after: readonly HeldLock[]): LockPlan => ({
      ...{ request, wait, outcome },
      removed: before.filter((lock) => !after.includes(lock)),
      added: after.filter((lock) => !before.includes(lock)),
    });
    if (request.space === 'flock' && before.some((lock) => lock.type === request.type))
      return plan('granted', before);
    const blockers = this.#blockers(request);
    if (blockers.length === 0) return plan('granted', heldAfter(before, request));
    // flock(2): a conversion first removes the lock that is there, whatever comes of it.
    const left = request.space === 'flock' ? [] : before;
    if (wait === undefined) return plan('conflict', left);
    if (request.space === 'fcntl' && this.#waitsFor(blockers, ownerKey(request)))
      return plan('deadlock', before);
    return plan('waiting', left);
  }

  /** Whether any of these owners waits for `target`, over however many others. */
  #waitsFor(owners: readonly OwnerId[], target: string): boolean {
    const seen = new Set<string>();
    const todo = owners.map(ownerKey);
    for (let key = todo.pop(); key !== undefined; key = todo.pop()) {
      if (key === target) return true;
      if (seen.has(key)) continue;
      seen.add(key);
      for (const { request, ready } of this.#waitsOfOwner.get(key) ?? [])
        if (!ready && request.space === 'fcntl') todo.push(...this.#blockers(request).map(ownerKey));
    }
    return false;
  }

  /** Does what was planned; answers whose turn has come by it. */
  carryOut(plan: LockPlan): LockWait[] {
    const { request, wait, outcome } = plan;
    for (const lock of plan.removed) this.#remove(lock);
    for (const lock of plan.added) this.#add(lock);
    if (wait !== undefined && outcome === 'waiting' && isLock(request)) this.#wait(request, wait);
    else if (wait !== undefined) this.#forget(this.findWait(request.session, wait));
    const changed = plan.removed.length > 0 || plan.added.length > 0 || wait !== undefined;
    return changed ? this.#next(request) : [];
  }

  /** A wait is given up; answers whose turn has come by it. Unknown ones are passed over. */
  cancel(session: SessionId, wait: number): LockWait[] {
    const found = this.findWait(session, wait);
    if (found === undefined) return [];
    this.#forget(found);
    return this.#next(found.request);
  }

  /** A session holds nothing any more and waits for nothing; answers whose turn has come by it. */
  endSession(session: SessionId): LockWait[] {
    const ended = this.heldBySession(session);
    const waits = this.waitsOf(session);
    for (const lock of ended) this.#remove(lock);
    for (const wait of waits) this.#forget(wait);
    const places = new Map([...ended, ...waits.map((wait) => wait.request)].map((at) => [fileKey(at), at]));
    return [...places.values()].flatMap((at) => this.#next(at));
  }

  /** Waiters of a file that nothing blocks any more, now ready, first come first. */
  #next(at: { ino: Ino; space: LockSpace }): LockWait[] {
    const file = this.#files.get(fileKey(at));
    const turns: LockWait[] = [];
    for (const wait of file?.waits ?? []) {
      if (wait.ready || this.#blockers(wait.request).length > 0) continue;
      wait.ready = true;
      turns.push(wait);
    }
    return turns;
  }

  #file(at: { ino: Ino; space: LockSpace }): LockFile {
    const file = this.#files.get(fileKey(at)) ?? { held: new Map(), waits: new Set() };
    this.#files.set(fileKey(at), file);
    return file;
  }

  #tidy(at: { ino: Ino; space: LockSpace }): void {
    const file = this.#files.get(fileKey(at));
    if (file?.held.size === 0 && file.waits.size === 0) this.#files.delete(fileKey(at));
  }

  #add(lock: HeldLock): void {
    const { held } = this.#file(lock);
    const locks = [...(held.get(ownerKey(lock)) ?? []), lock].sort((a, b) => a.start - b.start);
    held.set(ownerKey(lock), locks);
    this.#counts.set(lock.session, this.heldBy(lock.session) + 1);
  }

  #remove(lock: HeldLock): void {
    const { held } = this.#file(lock);
    const left = (held.get(ownerKey(lock)) ?? []).filter((other) => other !== lock);
    if (left.length > 0) held.set(ownerKey(lock), left);
    else held.delete(ownerKey(lock));
    const count = this.heldBy(lock.session) - 1;
    if (count > 0) this.#counts.set(lock.session, count);
    else this.#counts.delete(lock.session);
    this.#tidy(lock);
  }

  #wait(request: LockWait['request'], wait: number): void {
    const known = this.findWait(request.session, wait);
    if (known !== undefined) {
      known.ready = false;
      return;
    }
    const added = { request, wait, ready: false };
    this.#waits.set(waitKey(request.session, wait), added);
    this.#file(request).waits.add(added);
    const ofOwner = this.#waitsOfOwner.get(ownerKey(request)) ?? new Set();
    this.#waitsOfOwner.set(ownerKey(request), ofOwner.add(added));
  }

  #forget(wait: LockWait | undefined): void {
    if (wait === undefined) return;
    const { request } = wait;
    this.#waits.delete(waitKey(request.session, wait.wait));
    this.#files.get(fileKey(request))?.waits.delete(wait);
    const ofOwner = this.#waitsOfOwner.get(ownerKey(request));
    ofOwner?.delete(wait);
    if (ofOwner?.size === 0) this.#waitsOfOwner.delete(ownerKey(request));
    this.#tidy(request);
  }

  /** Throws InvariantError when locks contradict one another; for tests. */
  checkInvariants(): void {
    for (const file of this.#files.values()) {
      assert(file.held.size > 0 || file.waits.size > 0, 'a file has locks or waiters');
      for (const locks of file.held.values()) checkRanges(locks);
      const taken = [...file.held.values()].flat();
      for (const lock of taken)
        for (const other of taken)
          assert(ownerKey(lock) === ownerKey(other) || !conflicts(lock, other), 'locks held do not conflict');
      for (const wait of file.waits) {
        assert(this.findWait(wait.request.session, wait.wait) === wait, 'a wait has its number');
        assert(wait.ready === (this.#blockers(wait.request).length === 0), 'who is not blocked is ready');
      }
    }
    const counted = [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
    assert(counted === this.held().length, 'locks are counted');
  }
}

/** An owner's locks after a request, those that stay as they are being the same objects. */
function heldAfter(before: readonly HeldLock[], request: LockRequest): HeldLock[] {
  const { ino, space, session, owner } = request;
  const same = new Map(before.map((lock) => [lock.start, lock]));
  return changeRanges(before, request).map(({ start, end, type, pid }) => {
    const old = same.get(start);
    const stays = old !== undefined && old.end === end && old.type === type;
    return stays ? old : { ino, space, session, owner, start, end, type, pid };
  });
}
