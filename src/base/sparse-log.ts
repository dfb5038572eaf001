/**
 * A log that says the same thing about the same subject once in a while, so that nobody can fill a disk by
 * doing something wrong again and again. What is left out is counted, and the count is in the next line.
 */
import type { Clock } from './clock.js';
import type { Log } from './log.js';

export interface SparseLogOptions {
  /** No line comes again before this. */
  readonly everyMs: number;
  /** Lines in that time, at most, whatever they are about. */
  readonly maxLines: number;
}

export class SparseLog {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #options: SparseLogOptions;
  /** By message and subject; the line that was written first comes first. */
  readonly #said = new Map<string, { readonly atMs: number; unsaid: number }>();

  constructor(log: Log, clock: Clock, options: SparseLogOptions) {
    this.#log = log;
    this.#clock = clock;
    this.#options = options;
  }

  /** `subject`: what tells this line from others with the same message. */
  warn(message: string, subject: string | number, fields: Record<string, unknown>): void {
    const key = `${message}: ${subject}`;
    const nowMs = this.#clock.monotonicMs();
    const said = this.#said.get(key);
    if (said !== undefined && nowMs - said.atMs < this.#options.everyMs) {
      said.unsaid += 1;
      return;
    }
    this.#said.delete(key);
    if (this.#said.size >= this.#options.maxLines) this.#forgetBefore(nowMs - this.#options.everyMs);
    if (this.#said.size >= this.#options.maxLines) return;
    this.#said.set(key, { atMs: nowMs, unsaid: 0 });
    this.#log.warn(
      message,
      said === undefined || said.unsaid === 0 ? fields : { ...fields, unsaid: said.unsaid },
    );
  }

  #forgetBefore(endMs: number): void {
    for (const [key, { atMs }] of this.#said) {
      if (atMs > endMs) break;
      this.#said.delete(key);
    }
  }
}
