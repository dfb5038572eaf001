/**
 * Calls that were refused because they must not be made: by a mount that lost its session, by one that is
 * wrong, by somebody who means harm. Each kind is logged for each session, or for each host that has none,
 * and only now and then; who goes on and on with what no mount does by itself is disconnected.
 */
import type { Clock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import { SparseLog } from '../base/sparse-log.js';
import { limits } from '../proto/limits.js';
import { type ProtocolCode, ProtocolError } from '../proto/protocol-error.js';
import type { Connection } from './connection.js';

/** What a mount does at most now and then, when answers to it were lost. */
const SELDOM: ReadonlySet<ProtocolCode> = new Set(['leaseGone', 'notHolder', 'replayed', 'notYours']);
const MINUTE_MS = 60_000;
/** Of text that comes from the other side. */
const SHOWN_CHARS = 200;

/** For warnings that the other side of a connection can cause at will. */
export function makeSparseLog(clock: Clock): SparseLog {
  const options = { everyMs: limits.logRepeatMs, maxLines: limits.logLinesSparse };
  return new SparseLog(makeLog('meta'), clock, options);
}

export class Refusals {
  readonly #clock: Clock;
  readonly #log: SparseLog;
  readonly #counts = new WeakMap<Connection, { readonly sinceMs: number; seldom: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#log = makeSparseLog(clock);
  }

  /** A call over this connection got this error. */
  note(connection: Connection, method: string, error: unknown): void {
    // Errnos are for programs; a call is cancelled by its caller.
    if (!(error instanceof ProtocolError) || error.code === 'cancelled') return;
    const { end, binding } = connection;
    const { code } = error;
    const who = binding === undefined ? hostOf(end.remote) : binding.session;
    this.#log.warn('a call is refused', `${code} ${who}`, {
      code,
      session: binding?.session,
      remote: end.remote,
      method: method.slice(0, SHOWN_CHARS),
      why: error.message.slice(0, SHOWN_CHARS),
    });
    if (SELDOM.has(code) && this.#isTooMuch(connection)) end.close('too many calls that must not be made');
  }

  #isTooMuch(connection: Connection): boolean {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#counts.get(connection);
    const isOver = known === undefined || nowMs - known.sinceMs >= MINUTE_MS;
    const count = isOver ? { sinceMs: nowMs, seldom: 0 } : known;
    this.#counts.set(connection, count);
    count.seldom += 1;
    return count.seldom > limits.refusalsPerMinute;
  }
}

/** Without the port, which is another one for each connection. */
const hostOf = (remote: string): string => remote.replace(/:\d+$/, '');
