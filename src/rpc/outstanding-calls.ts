/**
 * The calls of one peer that wait for their answer, and the time by which it has to come. One timer serves
 * all of them: it is set to the earliest deadline and finds what is due. INVARIANT: a call is settled once,
 * by the answer, its deadline, its cancellation or the end of the connection, whichever takes it out first.
 */
import type { Clock, Timer } from '../base/clock.js';

export interface OutstandingCall {
  readonly method: string;
  readonly deadlineMs: number;
  /** Takes the answer, after the call was taken out. */
  readonly answered: (result: unknown, bulk: Buffer) => void;
  readonly failed: (error: Error) => void;
  /** Stops listening for the caller's cancellation. */
  stopListening: (() => void) | undefined;
}

export class OutstandingCalls {
  readonly #clock: Clock;
  readonly #expired: (id: number, call: OutstandingCall) => void;
  readonly #calls = new Map<number, OutstandingCall>();
  #timer: Timer | undefined;
  #timerMs = Number.POSITIVE_INFINITY;

  /** `expired` gets each call that was not answered in time, already taken out. */
  constructor(clock: Clock, expired: (id: number, call: OutstandingCall) => void) {
    this.#clock = clock;
    this.#expired = expired;
  }

  get size(): number {
    return this.#calls.size;
  }

  add(id: number, call: OutstandingCall): void {
    this.#calls.set(id, call);
    if (call.deadlineMs < this.#timerMs) this.#setTimer(call.deadlineMs);
  }

  /** Takes a call out; undefined when it is settled already or never was. */
  take(id: number): OutstandingCall | undefined {
    const call = this.#calls.get(id);
    if (call === undefined) return undefined;
    this.#calls.delete(id);
    call.stopListening?.();
    return call;
  }

  /** Takes all calls out and stops the timer. */
  takeAll(): OutstandingCall[] {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#timerMs = Number.POSITIVE_INFINITY;
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const call of calls) call.stopListening?.();
    return calls;
  }

  #setTimer(deadlineMs: number): void {
    this.#timer?.cancel();
    this.#timerMs = deadlineMs;
    const delayMs = Math.max(0, Math.ceil(deadlineMs - this.#clock.monotonicMs()));
    this.#timer = this.#clock.after(delayMs, () => this.#expire(), { background: true });
  }

  #expire(): void {
    this.#timer = undefined;
    this.#timerMs = Number.POSITIVE_INFINITY;
    const nowMs = this.#clock.monotonicMs();
    let nextMs = Number.POSITIVE_INFINITY;
    const due: [number, OutstandingCall][] = [];
    for (const [id, call] of this.#calls) {
      if (call.deadlineMs <= nowMs) due.push([id, call]);
      else nextMs = Math.min(nextMs, call.deadlineMs);
    }
    if (nextMs !== Number.POSITIVE_INFINITY) this.#setTimer(nextMs);
    for (const [id, call] of due) {
      if (this.take(id) !== undefined) this.#expired(id, call);
    }
  }
}
