/**
 * One call that is being served, as its handler sees it. The abort signal costs nothing until a handler asks
 * for it: most calls are answered at once.
 */

/** The connection a call came over. Handlers may compare it by identity and keep state by it. */
export interface PeerHandle {
  /** What this side calls the connection, for logs. */
  readonly name: string;
  /** Who is on the other side, for logs. */
  readonly remote: string;
  readonly closed: boolean;
  close(reason: string): void;
}

export interface CallContext {
  /** Bulk bytes of the request, empty when there are none: a view of the frame, the handler's to keep. */
  readonly bulk: Buffer;
  readonly sequence: number | undefined;
  readonly finishedBelow: number | undefined;
  /** Fires when the caller withdrew the call, gave up waiting, or its connection ended. */
  readonly signal: AbortSignal;
  /** Whether the signal has fired; asking this is free. */
  readonly aborted: boolean;
  readonly peer: PeerHandle;
}

export class ServedCall implements CallContext {
  readonly id: number;
  readonly bulk: Buffer;
  readonly sequence: number | undefined;
  readonly finishedBelow: number | undefined;
  readonly peer: PeerHandle;
  /** Bulk bytes that are reserved for this call. */
  heldBytes = 0;
  #aborted = false;
  #controller: AbortController | undefined;

  constructor(
    request: {
      readonly id: number;
      readonly bulk: Buffer;
      readonly sequence: number | undefined;
      readonly finishedBelow: number | undefined;
    },
    peer: PeerHandle,
  ) {
    this.id = request.id;
    this.bulk = request.bulk;
    this.sequence = request.sequence;
    this.finishedBelow = request.finishedBelow;
    this.peer = peer;
  }

  get aborted(): boolean {
    return this.#aborted;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  /** Nobody waits for the answer any more. */
  abort(): void {
    this.#aborted = true;
    this.#controller?.abort();
  }
}
