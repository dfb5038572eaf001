/**
 * Linux error numbers and FsError, the one error that crosses layers and the wire unchanged and reaches the
 * kernel. The numbers are Linux's on every platform, because the protocol speaks Linux.
 * **Source:** include/uapi/asm-generic/errno-base.h, errno.h.
 */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ETIMEDOUT: 110,
  ESTALE: 116,
  EDQUOT: 122,
} as const;

export type ErrnoName = keyof typeof Errno;

const NAMES = new Map<number, ErrnoName>(
  (Object.keys(Errno) as ErrnoName[]).map((name) => [Errno[name], name]),
);

/** The name of a Linux errno that this protocol uses, or undefined. */
export function errnoName(errno: number): ErrnoName | undefined {
  return NAMES.get(errno);
}

/**
 * A failure that a program gets to see as `errno`. `op` says what was attempted (for logs), `cause` what
 * lies beneath.
 */
export class FsError extends Error {
  override name = 'FsError';
  readonly code: ErrnoName;
  readonly op: string;

  constructor(code: ErrnoName, op: string, options?: { cause?: unknown; detail?: string }) {
    super(`${op}: ${code}${options?.detail === undefined ? '' : ` (${options.detail})`}`, {
      cause: options?.cause,
    });
    this.code = code;
    this.op = op;
  }

  /** Positive Linux error number. */
  get errno(): number {
    return Errno[this.code];
  }
}
