/**
 * Waiting for something that this mount itself brings about, no longer than a call may take and no longer
 * than the caller wants: the promise ends with the event, with EINTR, or with the error that stands for the
 * time being up.
 */
import type { Clock } from '../base/clock.js';
import { FsError } from '../proto/errno.js';
import type { InterruptSource } from './link-call.js';

export interface WaitOptions {
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly request?: InterruptSource | undefined;
  /** For the error's text. */
  readonly op: string;
  /** The error when the time is up; default ETIMEDOUT. */
  readonly late?: () => FsError;
}

/** Begins to watch for the event: calls the given function once; returns the way to stop. */
export type Watch = (done: (error?: FsError) => void) => () => void;

/** **Errors:** what the event came with; EINTR; `late`. */
export function boundedWait(options: WaitOptions, watch: Watch): Promise<void> {
  const { clock, timeoutMs, request, op } = options;
  return new Promise((resolve, reject) => {
    let over = false;
    const cleanUp: (() => void)[] = [];
    const end = (error?: FsError): void => {
      if (over) return;
      over = true;
      for (const undo of cleanUp) undo();
      if (error === undefined) resolve();
      else reject(error);
    };
    const during = (undo: () => void): void => {
      if (over) undo();
      else cleanUp.push(undo);
    };
    during(watch(end));
    if (timeoutMs !== Number.POSITIVE_INFINITY) {
      const timer = clock.after(timeoutMs, () => end(options.late?.() ?? new FsError('ETIMEDOUT', op)));
      during(() => timer.cancel());
    }
    if (request !== undefined) during(request.onInterrupt(() => end(new FsError('EINTR', op))));
  });
}

/** Tells of the end of something that cannot be called off, however it ends. */
export const endOf =
  (event: Promise<unknown>): Watch =>
  (done) => {
    void event.finally(() => done());
    return () => {};
  };

/** Resolves with `work`, or after `ms`; what is worked on goes on. **Errors:** `work`'s. */
export function within(work: Promise<unknown>, ms: number, clock: Clock): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const timer = clock.after(ms, resolve);
    work.then(() => resolve(), reject).finally(() => timer.cancel());
  });
}

/** `promise`, or EINTR as soon as the caller is interrupted; what was promised goes on without it. */
export function unlessInterrupted<T>(
  request: InterruptSource | undefined,
  op: string,
  promise: Promise<T>,
): Promise<T> {
  if (request === undefined) return promise;
  return new Promise((resolve, reject) => {
    const stop = request.onInterrupt(() => reject(new FsError('EINTR', op)));
    promise.then(resolve, reject).finally(stop);
  });
}
