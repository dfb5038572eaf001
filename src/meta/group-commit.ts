/**
 * Group commit: requests that arrived in one turn of the event loop run in one store transaction and are
 * answered after its commit. One commit (and one disk flush, when any of them asked for durability) serves
 * them all; a flush makes everything earlier durable as well (native-notes/sqlite.md).
 *
 * A request is planned, then carried out. Planning reads and may refuse: that concerns this request alone.
 * Carrying out writes: if the store fails there or at the commit, the whole batch is rolled back and every
 * request in it fails with that error. Reads take the same way, so a read sees every write that was answered
 * before it was sent; a batch of reads alone opens no transaction.
 *
 * After an I/O error nobody knows what reached the disk, and a later flush would not tell (the kernel reports
 * a failed write once): the process stops, and recovery decides from checksums what is there.
 *
 * Sources (connections, the server's own work) are served in turn, one request each, and each may have only
 * so many waiting: who sends too much waits for himself, or is refused with `busy`. Requests of one source
 * keep their order.
 *
 * INVARIANT: every promise that `submit` returned is settled, unless the process stops (InvariantError).
 */
import { InvariantError } from '../base/assert.js';
import { type Clock, systemClock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import { FsError } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';
import type { MetaStore } from './store.js';

const log = makeLog('meta');

export interface MetaRequest<Reply> {
  /** Whether carrying it out may write. */
  readonly writes: boolean;
  /** Whether it must be on disk before it is answered, and everything before it. */
  readonly durable: boolean;
  /**
   * Runs in a transaction of its own, so that what comes behind it sees what memory keeps of it: for
   * requests about sessions and servers, which are few.
   */
  readonly alone?: boolean;
  /** Reads; returns what is left to do. Throws FsError or ProtocolError when it refuses; writes nothing. */
  readonly plan: () => () => Reply;
  /** Called after the commit, before the request is answered: what memory keeps of it changes here. */
  readonly committed?: (reply: Reply) => void;
}

interface Waiting {
  readonly alone: boolean;
  readonly writes: boolean;
  readonly durable: boolean;
  /** Plans; what it returns carries out; what that returns answers. */
  plan(): () => () => void;
  fail(error: unknown): void;
}

export interface GroupCommitOptions {
  readonly store: MetaStore;
  readonly clock?: Clock;
  /** Called after every batch that was committed. */
  readonly onCommitted?: () => void;
  /**
   * Told of an InvariantError, or of an I/O error of a transaction; must end the process. Default: throws it
   * out of the event loop.
   */
  readonly onBroken?: (error: unknown) => void;
}

export class GroupCommit {
  readonly #store: MetaStore;
  readonly #clock: Clock;
  readonly #onCommitted: () => void;
  readonly #onBroken: (error: unknown) => void;
  /** INVARIANT: no queue in it is empty. */
  readonly #queues = new Map<object, Waiting[]>();
  /** What is left of a batch that took too long, or was broken up by a request that runs alone. */
  #rest: readonly Waiting[] = [];
  #scheduled = false;
  #stopped = false;
  #idle: (() => void)[] = [];
  /** Transactions that were committed. */
  transactions = 0;

  constructor(options: GroupCommitOptions) {
    this.#store = options.store;
    this.#clock = options.clock ?? systemClock;
    this.#onCommitted = options.onCommitted ?? (() => {});
    this.#onBroken =
      options.onBroken ??
      ((error) => {
        throw error;
      });
  }

  /**
   * Queues a request. **Errors:** what planning refuses with; the store's FsError; EIO for a bug in
   * planning; ProtocolError busy when this source has too much waiting, or after `stop`.
   */
  submit<Reply>(source: object, request: MetaRequest<Reply>): Promise<Reply> {
    const queue = this.#queues.get(source) ?? [];
    if (this.#stopped) return Promise.reject(new ProtocolError('busy', 'the metadata server is stopping'));
    if (queue.length >= limits.callsPerConnection)
      return Promise.reject(new ProtocolError('busy', 'too many requests of one connection are waiting'));
    return new Promise((resolve, reject) => {
      queue.push({
        alone: request.alone ?? false,
        writes: request.writes,
        durable: request.durable,
        plan: () => {
          const carryOut = request.plan();
          return () => {
            const reply = carryOut();
            return () => {
              request.committed?.(reply);
              resolve(reply);
            };
          };
        },
        fail: reject,
      });
      this.#queues.set(source, queue);
      this.#schedule();
    });
  }

  /** Resolves when nothing waits. */
  async idle(): Promise<void> {
    if (!this.#waiting) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** Carries out what waits, refuses what comes. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.idle();
  }

  get #waiting(): boolean {
    return this.#queues.size > 0 || this.#rest.length > 0;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#runBatch();
      if (this.#waiting) this.#schedule();
      else for (const resolve of this.#idle.splice(0)) resolve();
    });
  }

  #runBatch(): void {
    const batch = this.#rest.length > 0 ? this.#rest : this.#takeBatch();
    this.#rest = [];
    try {
      this.#rest = batch.slice(this.#runPart(batch));
    } catch (error) {
      this.#onBroken(error);
    }
  }

  /** One request of each source in turn. */
  #takeBatch(): Waiting[] {
    const batch: Waiting[] = [];
    // A queue that is put back comes up again behind all others, in this very loop.
    for (const [source, queue] of this.#queues) {
      if (batch.length === limits.batchRequests) break;
      const next = queue.shift();
      if (next !== undefined) batch.push(next);
      this.#queues.delete(source);
      if (queue.length > 0) this.#queues.set(source, queue);
    }
    return batch;
  }

  /** Runs the first requests of what is left of a batch, as many as go together; returns how many. */
  #runPart(rest: readonly Waiting[]): number {
    const batch = leading(rest);
    const durable = batch.some((waiting) => waiting.durable);
    const answers: (() => void)[] = [];
    const run = (): void => this.#runWithin(batch, answers);
    const writes = durable || batch.some((waiting) => waiting.writes);
    try {
      if (writes) this.#store.transaction(durable, run);
      else run();
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      log.error('a transaction failed and was rolled back', { requests: batch.length, error });
      for (const waiting of batch) waiting.fail(error);
      if (error.code === 'EIO') this.#onBroken(error);
      return batch.length;
    }
    for (const answer of answers) answer();
    if (writes) {
      this.transactions += 1;
      this.#onCommitted();
    }
    return answers.length;
  }

  /** Plans and carries out requests until their time is up, one at least; collects how to answer them. */
  #runWithin(batch: readonly Waiting[], answers: (() => void)[]): void {
    const endMs = this.#clock.monotonicMs() + limits.batchMs;
    for (const waiting of batch) {
      answers.push(runOne(waiting));
      if (this.#clock.monotonicMs() > endMs) break;
    }
  }
}

/** The first request if it runs alone, else all before the first that does. */
function leading(rest: readonly Waiting[]): readonly Waiting[] {
  const alone = rest.findIndex((waiting) => waiting.alone);
  return alone === -1 ? rest : rest.slice(0, Math.max(alone, 1));
}

function runOne(waiting: Waiting): () => void {
  let carryOut: () => () => void;
  try {
    carryOut = waiting.plan();
  } catch (error) {
    if (error instanceof InvariantError) throw error;
    return () => waiting.fail(error);
  }
  return carryOut();
}
