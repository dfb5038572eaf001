/**
 * Why a mountpoint cannot be mounted or unmounted: a reason for programs, one line for people that says what
 * was attempted, on what, why it failed and what to do.
 */
export type MountErrorReason =
  | 'missing'
  | 'notDirectory'
  | 'notEmpty'
  | 'alreadyMounted'
  /** "Transport endpoint is not connected": the daemon that served it is gone. */
  | 'dead'
  /** The mount's daemon does not answer. */
  | 'silent'
  | 'notMounted'
  | 'busy'
  | 'notAllowed'
  | 'badOption'
  | 'noDevice'
  | 'noFusermount'
  | 'failed';

export class MountError extends Error {
  override name = 'MountError';
  readonly reason: MountErrorReason;

  constructor(reason: MountErrorReason, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}
