/**
 * How to wait for the next request: whether requests come densely enough that the loop should wait for a
 * moment by itself, and whether polling first makes that wait shorter. The second depends on what the
 * scheduler does with caller and daemon (on two cores polling saves a wake-up, on one it keeps the caller
 * from running, under load it is noise), so it is not guessed but tried: TRIAL waits with, TRIAL without,
 * then KEEP with the better one.
 *
 * Invariant: pure; time comes in as measured waits.
 */

/** A wait shorter than this is dense; it includes the wake-up, and a server's answer. */
const DENSE_MS = 0.5;
const DENSE_FROM = 3;
const DENSE_MOST = 6;
const TRIAL = 64;
const KEEP = 4096;

type Phase = 'trySpinning' | 'trySleeping' | 'keep';

export class WaitPolicy {
  #density = 0;
  #phase: Phase = 'trySpinning';
  #spins = true;
  #waits = 0;
  #sumMs = 0;
  #spinningMs = 0;

  /** Requests are dense: waiting for a moment costs less than a turn of the event loop. */
  get dense(): boolean {
    return this.#density >= DENSE_FROM;
  }

  /** Poll before waiting. */
  get spins(): boolean {
    return this.#spins;
  }

  /** The device was empty for `ms` before the next request was read. */
  waited(ms: number): void {
    const step = ms < DENSE_MS ? 1 : -2;
    this.#density = Math.min(DENSE_MOST, Math.max(0, this.#density + step));
    if (!this.dense) return;
    this.#sumMs += Math.min(ms, DENSE_MS);
    this.#waits += 1;
    if (this.#waits >= (this.#phase === 'keep' ? KEEP : TRIAL)) this.#nextPhase();
  }

  #nextPhase(): void {
    const sumMs = this.#sumMs;
    this.#sumMs = 0;
    this.#waits = 0;
    switch (this.#phase) {
      case 'trySpinning':
        this.#spinningMs = sumMs;
        this.#phase = 'trySleeping';
        this.#spins = false;
        break;
      case 'trySleeping':
        this.#phase = 'keep';
        this.#spins = this.#spinningMs < sumMs;
        break;
      case 'keep':
        this.#phase = 'trySpinning';
        this.#spins = true;
        break;
    }
  }
}
