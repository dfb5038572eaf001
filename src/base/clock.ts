/**
 * Time as something handed in, so that everything with a timeout can be driven by a fake clock.
 * Wall time is for timestamps that users see; monotonic time is for timeouts and lease validity.
 */

/** A cancellable timer. */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since an arbitrary start; never goes back. */
  monotonicMs(): number;
  /** Wall-clock time as POSIX keeps it. */
  now(): Timespec;
  /** Calls `fire` once after `delayMs`. `background` timers do not keep the process alive. */
  after(delayMs: number, fire: () => void, options?: { background?: boolean }): Timer;
}

/** Seconds since 1970 (may be negative) and nanoseconds 0..999,999,999. */
export interface Timespec {
  readonly sec: number;
  readonly nsec: number;
}

const startWallNs = BigInt(Date.now()) * 1_000_000n;
const startHrNs = process.hrtime.bigint();
/** Resynchronise with the system's wall clock when it has drifted or was stepped by more than this. */
const MAX_WALL_DRIFT_MS = 5;
let correctionNs = 0n;

function wallNow(): Timespec {
  let ns = startWallNs + (process.hrtime.bigint() - startHrNs) + correctionNs;
  const driftMs = Date.now() - Number(ns / 1_000_000n);
  if (Math.abs(driftMs) > MAX_WALL_DRIFT_MS) {
    correctionNs += BigInt(driftMs) * 1_000_000n;
    ns += BigInt(driftMs) * 1_000_000n;
  }
  return { sec: Number(ns / 1_000_000_000n), nsec: Number(ns % 1_000_000_000n) };
}

/** The machine's own clock. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  now: wallNow,
  after(delayMs, fire, options) {
    const handle = setTimeout(fire, delayMs);
    if (options?.background === true) handle.unref();
    return { cancel: () => clearTimeout(handle) };
  },
};

/** Negative, zero or positive as `a` is before, equal to or after `b`. */
export function compareTimespec(a: Timespec, b: Timespec): number {
  return a.sec !== b.sec ? a.sec - b.sec : a.nsec - b.nsec;
}
