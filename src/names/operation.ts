/**
 * How one semantics runs in several places. An operation is a generator: it yields the rows it needs to read
 * and returns what changes and what to reply, or throws FsError before it has changed anything. Who runs it
 * answers the reads: synchronously from a SQLite transaction or a client's cache, asynchronously from a
 * remote database. INVARIANT: an operation is pure; it has no clock, no I/O and no state of its own.
 */
import type { Timespec } from '../base/clock.js';
import type { SessionId } from '../proto/ids.js';
import type { RowAnswers, RowChange, RowRead } from './rows.js';

/** What an operation is told besides its arguments. */
export interface OperationContext {
  /** The time that changed attributes get. */
  readonly now: Timespec;
  /** On whose behalf; what it opens belongs to it. */
  readonly session: SessionId;
}

export interface Outcome<Reply> {
  readonly reply: Reply;
  readonly changes: readonly RowChange[];
}

export type Answer = RowAnswers[keyof RowAnswers];
export type Operation<Reply> = Generator<RowRead, Outcome<Reply>, Answer>;
/** A part of an operation that only reads. */
export type Reading<T> = Generator<RowRead, T, Answer>;

/** Asks for rows. The one place where an answer gets its type. */
export function* ask<Read extends RowRead>(read: Read): Reading<RowAnswers[Read['read']]> {
  const answer = yield read;
  return answer as RowAnswers[Read['read']];
}

/** Runs an operation against rows that can be read at once. */
export function runSync<Reply>(
  operation: Operation<Reply>,
  answer: (read: RowRead) => Answer,
): Outcome<Reply> {
  let step = operation.next();
  while (step.done !== true) {
    let rows: Answer;
    try {
      rows = answer(step.value);
    } catch (error) {
      step = operation.throw(error);
      continue;
    }
    step = operation.next(rows);
  }
  return step.value;
}
