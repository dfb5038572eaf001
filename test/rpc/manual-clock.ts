/**
 * A clock that a test moves by hand. Timers fire in the order of their time, then of their making.
 */
import type { Clock, Timer, Timespec } from '../../src/base/clock.js';

export class ManualClock implements Clock {
  #nowMs = 0;
  #timers: { readonly atMs: number; readonly fire: () => void }[] = [];

  monotonicMs(): number {
    return this.#nowMs;
  }

  now(): Timespec {
    return { sec: Math.floor(this.#nowMs / 1000), nsec: (this.#nowMs % 1000) * 1_000_000 };
  }

  after(delayMs: number, fire: () => void): Timer {
    const timer = { atMs: this.#nowMs + delayMs, fire };
    this.#timers.push(timer);
    return { cancel: () => this.#remove(timer) };
  }

  /** Timers that have neither fired nor been cancelled. */
  get pending(): number {
    return this.#timers.length;
  }

  /** Moves on by `ms`, firing what falls due, and lets promises settle after each timer. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    for (;;) {
      // sort is stable: of equal times the older timer is first.
      const next = this.#timers.toSorted((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined || next.atMs > endMs) break;
      this.#remove(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.fire();
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#nowMs = endMs;
  }

  #remove(timer: { readonly atMs: number }): void {
    this.#timers = this.#timers.filter((other) => other !== timer);
  }
}
