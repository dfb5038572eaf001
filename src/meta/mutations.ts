/**
 * Exactly once: a mutation is carried out under its session and sequence number, its answer is kept in the
 * same transaction, and whoever sends it again (because the answer was lost with a connection or a server)
 * is answered with what was kept. All of it is decided while the request runs, one after another, so that a
 * retransmission finds its first execution however close behind it comes.
 */
import type { OperationContext } from '../names/operation.js';
import { FsError } from '../proto/errno.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ReplyOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import type { Connection } from './connection.js';
import type { MetaRequest } from './group-commit.js';
import { decodeKept, encodeKept, type Settled } from './kept-replies.js';
import type { Session, Sessions } from './sessions.js';
import type { MetaStore } from './store.js';

/** What a mutation is sent with. */
export interface Envelope {
  readonly sequence: number | undefined;
  readonly finishedBelow: number | undefined;
  readonly aborted: boolean;
}

/** What running a mutation's rules came to; `apply` writes, `committed` follows the commit. */
export interface Effect<Reply> {
  readonly reply: Reply;
  readonly apply: () => void;
  readonly committed?: () => void;
}

/** A mutation: its rules read and may throw FsError, ProtocolError; they write nothing. */
export type Rules<Reply> = (session: Session) => Effect<Reply>;

interface Done<Reply> {
  readonly settled: Settled<Reply>;
  readonly afterwards: () => void;
}

export class Mutations {
  readonly #store: MetaStore;
  readonly #sessions: Sessions;

  constructor(store: MetaStore, sessions: Sessions) {
    this.#store = store;
    this.#sessions = sessions;
  }

  /**
   * The request that carries out a mutation once.
   * **Errors** while planning: notAllowed, sessionLost, fenced, busy (too many kept replies), cancelled,
   * badMessage (no sequence number, or another method's), replayed (one that is finished with).
   */
  request<K extends keyof MetaMethods>(
    method: K,
    connection: Connection,
    envelope: Envelope,
    options: { durable: boolean; rules: Rules<ReplyOf<MetaMethods[K]>> },
  ): MetaRequest<Done<ReplyOf<MetaMethods[K]>>> {
    return {
      writes: true,
      durable: options.durable,
      plan: () => {
        const session = this.#sessions.live(connection);
        const sequence = checkEnvelope(session, envelope);
        const kept = this.#store.reply(session.id, sequence);
        if (kept !== undefined) {
          const settled = decodeKept(method, kept);
          return () => ({ settled, afterwards: () => {} });
        }
        this.#sessions.mayKeep(session);
        const effect = attempt(() => options.rules(session));
        return () => this.#carryOut(method, session, { ...envelope, sequence }, effect);
      },
      committed: (done) => done.afterwards(),
    };
  }

  #carryOut<Reply>(
    method: keyof MetaMethods,
    session: Session,
    envelope: Envelope & { sequence: number },
    effect: Effect<Reply> | FsError,
  ): Done<Reply> {
    const refused = effect instanceof FsError;
    if (!refused) effect.apply();
    const settled: Settled<Reply> = refused ? { error: effect } : { reply: effect.reply };
    const bytes = encodeKept(method, settled);
    this.#store.putReply(session.id, envelope.sequence, bytes);
    const progress = this.#sessions.progress(session, envelope.finishedBelow);
    if (progress !== undefined) this.#sessions.writeProgress(progress);
    return {
      settled,
      afterwards: () => {
        this.#sessions.committed(session, { progress, keptBytes: bytes.length });
        if (!refused) effect.committed?.();
      },
    };
  }
}

/** An FsError of the rules is an answer like any other. */
function attempt<Reply>(rules: () => Effect<Reply>): Effect<Reply> | FsError {
  try {
    return rules();
  } catch (error) {
    if (error instanceof FsError) return error;
    throw error;
  }
}

function checkEnvelope(session: Session, envelope: Envelope): number {
  const { sequence } = envelope;
  if (sequence === undefined) throw new ProtocolError('badMessage', 'a mutation has a sequence number');
  if (sequence < session.row.finishedBelow)
    throw new ProtocolError('replayed', `mutation ${sequence} is finished with`);
  if (envelope.aborted) throw new ProtocolError('cancelled', 'nobody waits for it');
  return sequence;
}

/** The reply, or the error thrown. */
export function unwrap<Reply>(settled: Settled<Reply>): Reply {
  if ('error' in settled) throw settled.error;
  return settled.reply;
}

/** What operations of names/ are told. */
export function contextOf(session: Session, now: OperationContext['now']): OperationContext {
  return { now, session: session.id };
}
