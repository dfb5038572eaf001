/**
 * Which process is meant, beyond its pid. A pid is reused; a pid together with the boot and the clock tick in
 * which the process was started is not. Everything that signals a process by a number read from a file goes
 * through here.
 *
 * **Source:** proc_pid_stat(5), fields 3 (state) and 22 (starttime); random(4), boot_id.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemCode } from './command-error.js';

export interface ProcessIdentity {
  readonly pid: number;
  /** Boot id and start time; equal only for the very same process. */
  readonly start: string;
}

const POLL_MS = 50;

function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}

/** The process that has this pid now, or undefined when there is none or it is a zombie. */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  const stat = readProc(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The second field is the program's name in parentheses, and may hold spaces and parentheses itself.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, startTicks] = [fields[0], fields[19]];
  if (startTicks === undefined || state === 'Z' || state === 'X') return undefined;
  return { pid, start: `${readProc('/proc/sys/kernel/random/boot_id')?.trim() ?? ''}/${startTicks}` };
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identifyProcess(identity.pid)?.start === identity.start;
}

/** The first process whose command line (split into arguments) `matches`. */
export function findProcess(matches: (args: readonly string[]) => boolean): ProcessIdentity | undefined {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const commandLine = readProc(`/proc/${name}/cmdline`);
    if (commandLine !== undefined && matches(commandLine.split('\0'))) return identifyProcess(Number(name));
  }
  return undefined;
}

/** Waits until the process has ended; false when it has not after `timeoutMs`. */
export async function waitForEnd(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs;
  while (isAlive(identity)) {
    if (performance.now() >= deadlineMs) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/** Sends `signal` if the process is still that one. Errors: EPERM when it is another user's. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, signal);
  } catch (error) {
    if (systemCode(error) !== 'ESRCH') throw error;
  }
}

export type StopResult = 'was not running' | 'stopped' | 'killed' | 'cannot be killed';

/** SIGTERM, then SIGKILL after `graceMs`. Bounded: a process in an uninterruptible wait is given up on. */
export async function stopProcess(identity: ProcessIdentity, graceMs: number): Promise<StopResult> {
  if (!isAlive(identity)) return 'was not running';
  signalProcess(identity, 'SIGTERM');
  if (await waitForEnd(identity, graceMs)) return 'stopped';
  signalProcess(identity, 'SIGKILL');
  return (await waitForEnd(identity, 5_000)) ? 'killed' : 'cannot be killed';
}
