/**
 * Failures of the protocol itself. They are settled between leasefs programs and never reach the kernel:
 * whoever cannot retry turns one into its final errno here.
 */
import { type ErrnoName, FsError } from './errno.js';

interface CodeRule {
  /** The same call may be sent again (after reconnecting, refreshing the map, or waiting). */
  readonly retryable: boolean;
  /** What a program gets when retrying has come to its end. */
  readonly finalErrno: ErrnoName;
}

export const protocolCodes = {
  /** Connection lost or not there yet. */
  disconnected: { retryable: true, finalErrno: 'EIO' },
  /** No answer within the time allowed. */
  timeout: { retryable: true, finalErrno: 'ETIMEDOUT' },
  /** Too many calls outstanding, or the server is starting or stopping. */
  busy: { retryable: true, finalErrno: 'EAGAIN' },
  /** The session expired or was never there; a new one is needed, old promises are void. */
  sessionLost: { retryable: false, finalErrno: 'EIO' },
  /** A newer fencing token exists for this session. */
  fenced: { retryable: false, finalErrno: 'EIO' },
  /** The session to be resumed is another mount's: its token was never given to the caller. */
  notYours: { retryable: false, finalErrno: 'EIO' },
  /** A mutation that its session has said to be finished with. */
  replayed: { retryable: false, finalErrno: 'EIO' },
  /** Leases that were given back already, or ended otherwise. */
  leaseGone: { retryable: false, finalErrno: 'EIO' },
  /** Leases that are another's, or that nobody was ever given. */
  notHolder: { retryable: false, finalErrno: 'EIO' },
  /** The caller acted on an old cluster map. */
  staleMap: { retryable: true, finalErrno: 'EIO' },
  /** The chunk is not on this server. */
  noChunk: { retryable: false, finalErrno: 'EIO' },
  /** The chunk is on this server, but its bytes do not match their checksum. */
  corrupt: { retryable: false, finalErrno: 'EIO' },
  /** A chunk with this id and other bytes exists. */
  chunkConflict: { retryable: false, finalErrno: 'EIO' },
  /** The chunk server's disk is full. */
  serverFull: { retryable: false, finalErrno: 'ENOSPC' },
  /** Arguments or reply do not have the method's shape, or the frame is malformed. */
  badMessage: { retryable: false, finalErrno: 'EIO' },
  unknownMethod: { retryable: false, finalErrno: 'ENOSYS' },
  /** The programs speak different versions of the protocol. */
  badVersion: { retryable: false, finalErrno: 'EIO' },
  /** The server belongs to another filesystem. */
  wrongCluster: { retryable: false, finalErrno: 'EIO' },
  /** This connection has not said hello, or may not call this method. */
  notAllowed: { retryable: false, finalErrno: 'EPERM' },
  /** The call was withdrawn by its caller. */
  cancelled: { retryable: false, finalErrno: 'EINTR' },
} as const satisfies Record<string, CodeRule>;

export type ProtocolCode = keyof typeof protocolCodes;

export function isProtocolCode(value: unknown): value is ProtocolCode {
  return typeof value === 'string' && Object.hasOwn(protocolCodes, value);
}

export class ProtocolError extends Error {
  override name = 'ProtocolError';
  readonly code: ProtocolCode;

  constructor(code: ProtocolCode, message: string, options?: { cause?: unknown }) {
    super(`${code}: ${message}`, options);
    this.code = code;
  }

  get retryable(): boolean {
    return protocolCodes[this.code].retryable;
  }

  /** The same failure as a program sees it, once nothing can be retried. */
  toFsError(op: string): FsError {
    return new FsError(protocolCodes[this.code].finalErrno, op, { cause: this, detail: this.message });
  }
}
