/**
 * Locks over the wire: flock(2) and fcntl(2) locks, held by the metadata server under the mount's session.
 * They end with it.
 *
 * Who has to wait is told so (`waiting`), and later, by the `lockReady` callback, to ask again: the range is
 * reserved for it until it does, cancels, or its connection ends. Waits live in the server's memory and with
 * the connection they came over: after a reconnect the mount asks again. Asking again for what one holds
 * already is granted, so a lost answer does no harm.
 */
import { Type } from '@sinclair/typebox';
import { limits } from './limits.js';
import { method } from './method.js';
import { tCount, tIno, tLockOwner, tNothing, tSessionId, tU32 } from './schema.js';

const tLockRange = { start: tCount, end: tCount };
export const tLockType = Type.Union([Type.Literal('read'), Type.Literal('write')]);

const tLockPlace = {
  ino: tIno,
  /** Two worlds that do not know each other. OFD locks are fcntl locks with an owner of their own. */
  space: Type.Union([Type.Literal('fcntl'), Type.Literal('flock')]),
  owner: tLockOwner,
  /** Bytes, both included; `end` 2^53 - 1: whatever the file's size. */
  ...tLockRange,
};

export const lockMethods = {
  /**
   * Sets or clears a lock. With `wait` (this session's number for the request) a lock that cannot be had is
   * waited for; without, it is a `conflict`. A flock conversion that has to wait, or is refused, has lost the
   * old lock. **Errors:** EDEADLK: waiting could never end (fcntl); ENOLCK: too many locks or waits; EINVAL:
   * end before start.
   */
  setlk: method('mutation', {
    args: Type.Object({
      ...tLockPlace,
      type: Type.Union([tLockType, Type.Literal('unlock')]),
      pid: tU32,
      wait: Type.Optional(tCount),
    }),
    reply: Type.Object({
      outcome: Type.Union([Type.Literal('granted'), Type.Literal('conflict'), Type.Literal('waiting')]),
    }),
    errnos: ['EDEADLK', 'ENOLCK', 'EINVAL'],
  }),
  /** The lock, of those in the way of this one, that starts first; null when it could be set now. */
  getlk: method('read', {
    args: Type.Object({ ...tLockPlace, type: tLockType }),
    reply: Type.Object({
      lock: Type.Union([
        Type.Null(),
        Type.Object({ ...tLockRange, type: tLockType, session: tSessionId, pid: tU32 }),
      ]),
    }),
    errnos: ['EINVAL'],
  }),
  /** Nobody waits under this number any more. It never undoes a lock. Unknown ones are passed over. */
  cancelLock: method('control', { args: Type.Object({ wait: tCount }), reply: tNothing }),
} as const;

export const lockCallbacks = {
  /** It is these requests' turn: their ranges are reserved until they are sent again or cancelled. */
  lockReady: method('control', {
    args: Type.Object({ waits: Type.Array(tCount, { maxItems: limits.lockWaitsPerSession }) }),
    reply: tNothing,
  }),
} as const;
