/**
 * The metadata server's wall clock as this mount estimates it, so that times set here (a write's mtime) and
 * times set there (a rename's ctime) can be compared. The estimate comes from replies that carry the
 * server's time: half a round trip is the error, so the fastest reply wins, and ages, because clocks drift.
 *
 * INVARIANT: `now` never goes back and is never before a time that the server was seen to have set.
 */
import { type Clock, compareTimespec, type Timespec } from '../base/clock.js';

const NS_PER_SEC = 1_000_000_000n;
/** An older estimate counts as this much worse for each second of its age. */
const DRIFT_MS_PER_SEC = 0.05;
/** A time seen further ahead than this was set on purpose (utimensat) and does not move our clock. */
const BELIEVED_AHEAD_SEC = 1;

const toNs = (time: Timespec): bigint => BigInt(time.sec) * NS_PER_SEC + BigInt(time.nsec);

function fromNs(ns: bigint): Timespec {
  const nsec = ((ns % NS_PER_SEC) + NS_PER_SEC) % NS_PER_SEC;
  return { sec: Number((ns - nsec) / NS_PER_SEC), nsec: Number(nsec) };
}

export class ServerClock {
  readonly #clock: Clock;
  #offsetNs = 0n;
  #errorMs = Number.POSITIVE_INFINITY;
  #estimatedAtMs = 0;
  #latest: Timespec = { sec: 0, nsec: 0 };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A reply that says it is `serverNow` there has just come, `roundTripMs` after it was asked for. */
  observe(serverNow: Timespec, roundTripMs: number): void {
    const nowMs = this.#clock.monotonicMs();
    const agedErrorMs = this.#errorMs + ((nowMs - this.#estimatedAtMs) / 1000) * DRIFT_MS_PER_SEC;
    if (roundTripMs / 2 > agedErrorMs) return;
    const halfNs = BigInt(Math.round((roundTripMs / 2) * 1e6));
    this.#offsetNs = toNs(serverNow) + halfNs - toNs(this.#clock.now());
    this.#errorMs = roundTripMs / 2;
    this.#estimatedAtMs = nowMs;
  }

  /** The server has given this time to something. */
  seen(time: Timespec): void {
    if (compareTimespec(time, this.#latest) <= 0) return;
    if (time.sec <= this.#estimate().sec + BELIEVED_AHEAD_SEC) this.#latest = time;
  }

  now(): Timespec {
    const estimate = this.#estimate();
    // Equal times are told apart by a nanosecond: a write is later than what it follows.
    if (compareTimespec(estimate, this.#latest) <= 0) this.#latest = fromNs(toNs(this.#latest) + 1n);
    else this.#latest = estimate;
    return this.#latest;
  }

  #estimate(): Timespec {
    return this.#offsetNs === 0n ? this.#clock.now() : fromNs(toNs(this.#clock.now()) + this.#offsetNs);
  }
}
