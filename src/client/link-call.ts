/**
 * One call on its way to the metadata server, over however many connections it takes. It is settled once: by
 * an answer, its deadline, its caller's interruption, the loss of the session it belongs to, or the link's
 * end.
 */

import type { FsError } from '../proto/errno.js';
import type { MetaCallbacks, MetaMethods } from '../proto/meta-methods.js';
import type { Peer } from '../rpc/peer.js';

export type MetadataPeer = Peer<MetaMethods, MetaCallbacks>;

/** Who waits for a call, and may stop waiting. A vfs Request is one. */
export interface InterruptSource {
  readonly interrupted: boolean;
  /** Calls `listener` when interrupted (at once if it already was); returns the way to stop listening. */
  onInterrupt(listener: () => void): () => void;
}

/** What one attempt is sent with. */
export interface Attempt {
  readonly timeoutMs: number;
  readonly sequence: number | undefined;
  readonly finishedBelow: number;
}

export interface LinkCallOptions {
  readonly method: string;
  readonly isMutation: boolean;
  readonly deadlineMs: number;
  /** Not to be sent under another session. */
  readonly endsWithSession: boolean;
  /** Sends it; resolves when the answer has been handed on. */
  readonly send: (peer: MetadataPeer, attempt: Attempt) => Promise<void>;
  readonly fail: (error: FsError) => void;
  /** Nothing more comes of it, however it was settled. May be called again. */
  readonly over: () => void;
}

export class LinkCall {
  readonly method: string;
  readonly isMutation: boolean;
  readonly deadlineMs: number;
  readonly endsWithSession: boolean;
  readonly send: LinkCallOptions['send'];
  readonly #fail: LinkCallOptions['fail'];
  readonly over: LinkCallOptions['over'];
  /** Of a mutation, in the present session. */
  sequence: number | undefined;
  /** On its way over the present connection. */
  isSent = false;
  /** May have reached the server in the present session. */
  wasSent = false;
  isInterrupted = false;
  settled = false;
  stopListening: (() => void) | undefined;

  constructor(options: LinkCallOptions) {
    this.method = options.method;
    this.isMutation = options.isMutation;
    this.deadlineMs = options.deadlineMs;
    this.endsWithSession = options.endsWithSession;
    this.send = options.send;
    this.#fail = options.fail;
    this.over = options.over;
  }

  /** Notes that nothing more happens to it. False when that was so already. */
  settle(): boolean {
    if (this.settled) return false;
    this.settled = true;
    this.stopListening?.();
    return true;
  }

  fail(error: FsError): void {
    if (this.settle()) this.#fail(error);
    if (!this.isSent) this.over();
  }
}
