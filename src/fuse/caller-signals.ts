/**
 * What a signal means to a program that waits for us. The kernel says INTERRUPT for any signal, once, and waits
 * for the answer even when the signal kills; EINTR reaches the program whatever SA_RESTART says. On a local disk
 * a call ends early only when its program is being killed, and programs rely on that: PostgreSQL takes EINTR of
 * open(2) or fsync(2) for a failure, and its timers and children send it signals all the time.
 *
 * Hence: a killed program's call is interrupted at once. That of a program which catches the signal is given
 * limits.caughtSignalGraceMs to finish, and only then interrupted. Waiting for a lock is what signals may end,
 * on any filesystem: at once.
 *
 * **Source:** request_wait_answer() (fs/fuse/dev.c), complete_signal() (kernel/signal.c), proc_pid_status(5),
 * signal(7).
 */
import fs from 'node:fs';
import { limits } from '../proto/limits.js';
import type { FuseRequest } from './fuse-request.js';

/** How often a program that caught a signal is looked at: it may be killed next, which the kernel does not say. */
const LOOK_MS = 100;

const bit = (signal: number): bigint => 1n << BigInt(signal - 1);
const SIGKILL = 9;
/** CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH: they end nobody who does not catch them. */
const HARMLESS = [17, 18, 19, 20, 21, 22, 23, 28].reduce((mask, signal) => mask | bit(signal), 0n);

/**
 * Whether a thread whose `/proc/PID/status` this is has a signal before it that ends its process. A text that
 * does not say is taken for yes.
 */
export function isEndedBySignal(status: string): boolean {
  const mask = (name: string): bigint | undefined => {
    const digits = new RegExp(`^${name}:\\s*([0-9a-f]{1,32})$`, 'm').exec(status)?.[1];
    return digits === undefined ? undefined : BigInt(`0x${digits}`);
  };
  const [own, shared, blocked, ignored, caught] = ['SigPnd', 'ShdPnd', 'SigBlk', 'SigIgn', 'SigCgt'].map(
    mask,
  );
  if (own === undefined || shared === undefined) return true;
  if (blocked === undefined || ignored === undefined || caught === undefined) return true;
  const pending = own | shared;
  if ((pending & bit(SIGKILL)) !== 0n) return true;
  return (pending & ~(blocked | ignored | caught | HARMLESS)) !== 0n;
}

/** Whether the caller is being killed; yes also when that cannot be found out (gone, another PID namespace). */
function isBeingKilled(pid: number): boolean {
  try {
    return isEndedBySignal(fs.readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    // Nobody is there: what it asked for needs no patience.
    return true;
  }
}

/** The caller of `request` received a signal: interrupts the request now or later, unless it is over by then. */
export function passSignalOn(
  request: FuseRequest,
  options: { isLockWait: boolean; isOver(): boolean },
): void {
  if (options.isLockWait || isBeingKilled(request.pid)) {
    request.interrupt();
    return;
  }
  const sinceMs = performance.now();
  const timer = setInterval(() => {
    const over = options.isOver();
    const late = performance.now() - sinceMs >= limits.caughtSignalGraceMs;
    if (!over && !late && !isBeingKilled(request.pid)) return;
    clearInterval(timer);
    if (!over) request.interrupt();
  }, LOOK_MS);
  timer.unref();
}
