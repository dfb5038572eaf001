/**
 * A connection that carries whole frames, as the Peer sees it. A transport knows nothing of what is in a
 * frame.
 *
 * INVARIANT: frames arrive whole, once and in the order in which they were sent, or the connection is dead;
 * nothing is ever left out in the middle. onFrame and onClose are never called from within send or close.
 * After onClose, and after this side's close, no frame arrives any more.
 *
 * Frames and the close that come before the Peer has set its functions wait for it.
 */
export interface Transport {
  /**
   * Sends one frame, given in parts that are sent one after the other. The parts are not copied and must not
   * change afterwards. On a connection that is closed or closing it does nothing: onClose tells.
   */
  send(parts: readonly Uint8Array[]): void;
  /** Bytes accepted but not yet handed to the operating system. */
  readonly bufferedBytes: number;
  /** Called with every frame that arrives; the receiver owns it. Must not throw for bad input. */
  onFrame: (frame: Buffer) => void;
  /** Called exactly once, however the connection ended, this side's close included. */
  onClose: (reason: string) => void;
  /** Frames sent before are delivered first. `code` is a WebSocket close code; `reason` is cut to fit. */
  close(code: number, reason: string): void;
  /** Who is on the other side, for logs. */
  readonly remote: string;
}

/** WebSocket close codes that this project sends. **Source:** RFC 6455, section 7.4.1. */
export const CloseCode = {
  normal: 1000,
  goingAway: 1001,
  protocolError: 1002,
  unsupportedData: 1003,
  invalidPayload: 1007,
  policyViolation: 1008,
  tooBig: 1009,
  internalError: 1011,
} as const;
