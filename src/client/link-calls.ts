/**
 * The calls of a mount to its metadata server that are not settled: which of them wait for a connection,
 * which are on their way, the sequence numbers of mutations, deadlines and interruptions. Connections come
 * and go beneath it; a call stays until it is answered or has to be given up.
 *
 * INVARIANT: sequence numbers of a session rise in the order in which mutations were called;
 * `finishedBelow` never passes one that is not settled.
 */
import type { Clock, Timer } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import { FsError } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';
import type { InterruptSource, LinkCall, MetadataPeer } from './link-call.js';

const log = makeLog('client');

/** Calls of our own (heartbeats) beside those of programs. */
const RESERVED_CALLS = 16;
/** How often calls that wait for a connection are looked at for their deadline. */
const SWEEP_MS = 100;

export interface LinkCallsOptions {
  readonly clock: Clock;
  /** What a call gets whose time is up before it could be sent. */
  readonly unanswered: (op: string) => FsError;
}

export class LinkCalls {
  readonly #clock: Clock;
  readonly #unanswered: (op: string) => FsError;
  /** Everything not settled, in the order of the calls. */
  readonly #calls = new Set<LinkCall>();
  #unsent = new Set<LinkCall>();
  /** Mutations not settled, by sequence number; ascending, because they come so. */
  readonly #mutations = new Map<number, LinkCall>();
  #nextSequence = 1;
  #inFlight = 0;
  #peer: MetadataPeer | undefined;
  readonly #timers = new Set<Timer>();
  #sweeping = false;
  #isClosed = false;

  constructor(options: LinkCallsOptions) {
    this.#clock = options.clock;
    this.#unanswered = options.unanswered;
  }

  /** Calls not settled. */
  get size(): number {
    return this.#calls.size;
  }

  /** Every mutation with a smaller number is settled. */
  get finishedBelow(): number {
    for (const sequence of this.#mutations.keys()) return sequence;
    return this.#nextSequence;
  }

  /** Takes a call on, and sends it when there is a connection. `request`: who may interrupt it. */
  add(call: LinkCall, request: InterruptSource | undefined): void {
    if (this.#isClosed) {
      call.fail(new FsError('EIO', call.method, { detail: 'unmounted' }));
      return;
    }
    if (this.#calls.size >= limits.callsQueued) {
      call.fail(
        new FsError('EAGAIN', call.method, { detail: 'too many calls wait for the metadata server' }),
      );
      return;
    }
    this.#calls.add(call);
    if (call.isMutation) this.#number(call);
    this.#unsent.add(call);
    if (request !== undefined) call.stopListening = request.onInterrupt(() => this.#interrupt(call));
    // An interruption that had come before is told within onInterrupt, before there is a way to stop.
    if (call.settled) call.stopListening?.();
    this.#pump();
    if (this.#unsent.size > 0) this.#sweepLater();
  }

  /** There is a connection with an open session: what waits goes out on it, in order. */
  connected(peer: MetadataPeer): void {
    this.#peer = peer;
    this.#unsent = new Set([...this.#calls].filter((call) => !call.isSent));
    this.#pump();
  }

  /** The connection is gone; what was on its way on it waits for the next. */
  disconnected(): void {
    this.#peer = undefined;
  }

  /**
   * The session is over: mutations that may have been carried out under it fail with EIO, because nobody can
   * tell; the others get numbers of the next session.
   */
  sessionLost(): void {
    const detail = 'the session was lost before the answer came';
    const mutations = [...this.#mutations.values()];
    for (const call of mutations)
      if (call.wasSent) this.#fail(call, new FsError('EIO', call.method, { detail }));
    for (const call of [...this.#calls])
      if (call.endsWithSession) this.#fail(call, new FsError('EIO', call.method, { detail }));
    this.#mutations.clear();
    this.#nextSequence = 1;
    for (const call of mutations) if (!call.settled) this.#number(call);
  }

  /** Fails everything. */
  close(): void {
    this.#isClosed = true;
    for (const timer of this.#timers) timer.cancel();
    for (const call of [...this.#calls])
      this.#fail(call, new FsError('EIO', call.method, { detail: 'unmounted' }));
  }

  #number(call: LinkCall): void {
    call.sequence = this.#nextSequence++;
    this.#mutations.set(call.sequence, call);
  }

  /** Sends what waits, as far as the connection takes it. */
  #pump(): void {
    for (const call of this.#unsent) {
      if (this.#peer === undefined || this.#inFlight >= limits.callsPerConnection - RESERVED_CALLS) return;
      this.#unsent.delete(call);
      this.#send(call, this.#peer);
    }
  }

  #send(call: LinkCall, peer: MetadataPeer): void {
    const remainingMs = call.deadlineMs - this.#clock.monotonicMs();
    call.isSent = true;
    call.wasSent = true;
    this.#inFlight++;
    const attempt = {
      timeoutMs: Math.min(Math.max(1, remainingMs), 2 ** 31 - 1),
      sequence: call.sequence,
      finishedBelow: this.finishedBelow,
    };
    call
      .send(peer, attempt)
      .then(
        () => this.#remove(call),
        (error: unknown) => this.#sendFailed(call, peer, error),
      )
      .finally(() => {
        this.#inFlight--;
        if (call.settled) call.over();
        this.#pump();
      });
  }

  #remove(call: LinkCall): void {
    this.#calls.delete(call);
    this.#unsent.delete(call);
    if (call.sequence !== undefined && this.#mutations.get(call.sequence) === call)
      this.#mutations.delete(call.sequence);
  }

  #fail(call: LinkCall, error: FsError): void {
    this.#remove(call);
    call.fail(error);
  }

  #sendFailed(call: LinkCall, peer: MetadataPeer, error: unknown): void {
    call.isSent = false;
    if (call.settled || !this.#calls.has(call)) return;
    if (error instanceof FsError) this.#fail(call, error);
    else if (error instanceof ProtocolError) this.#protocolFailed(call, peer, error);
    else {
      log.error('a call to the metadata server failed unexpectedly', { method: call.method, error });
      this.#fail(call, new FsError('EIO', call.method, { cause: error }));
    }
  }

  #protocolFailed(call: LinkCall, peer: MetadataPeer, error: ProtocolError): void {
    switch (error.code) {
      case 'sessionLost':
      case 'fenced':
        // Refused, hence not carried out: it may go out again under the next session.
        call.wasSent = false;
        this.#waitForConnection(call);
        peer.close(`the session is over: ${error.message}`);
        break;
      case 'disconnected':
      case 'busy':
        if (call.isInterrupted) this.#fail(call, new FsError('EINTR', call.method));
        else this.#waitForConnection(call);
        break;
      default:
        this.#fail(call, error.toFsError(call.method));
    }
  }

  #waitForConnection(call: LinkCall): void {
    this.#unsent.add(call);
    this.#sweepLater();
  }

  #interrupt(call: LinkCall): void {
    if (call.settled || call.isInterrupted) return;
    call.isInterrupted = true;
    const giveUp = (): void => this.#fail(call, new FsError('EINTR', call.method));
    if (!call.isSent || this.#peer === undefined) giveUp();
    else this.#later(limits.interruptGraceMs, giveUp);
  }

  /** While calls wait for a connection, looks for those whose time is up. */
  #sweepLater(): void {
    if (this.#sweeping || this.#isClosed) return;
    this.#sweeping = true;
    this.#later(SWEEP_MS, () => {
      this.#sweeping = false;
      const nowMs = this.#clock.monotonicMs();
      for (const call of [...this.#unsent])
        if (call.deadlineMs <= nowMs) this.#fail(call, this.#unanswered(call.method));
      this.#pump();
      if (this.#unsent.size > 0) this.#sweepLater();
    });
  }

  #later(delayMs: number, fire: () => void): void {
    const timer = this.#clock.after(delayMs, () => {
      this.#timers.delete(timer);
      fire();
    });
    this.#timers.add(timer);
  }
}
