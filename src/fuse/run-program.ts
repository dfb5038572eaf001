/**
 * Runs a system program to its end, with a bound on the time and on what it may print. Needed where the
 * program has a right that we have not (fusermount3 is setuid) or may be stuck in the kernel where we must
 * not be (anything that touches a mount).
 */
import { spawn } from 'node:child_process';

export interface ProgramResult {
  /** undefined: did not end in time, or was killed. */
  readonly code: number | undefined;
  /** What it said on standard error, one line. */
  readonly message: string;
  /** The program is not installed. */
  readonly missing: boolean;
}

const MAX_MESSAGE = 4096;

/**
 * Runs `command`. `inherit`: a descriptor it gets as number 3. Never rejects. A program that is stuck in the
 * kernel past `timeoutMs` is killed and left behind; it ends when the kernel lets it.
 */
export function runProgram(
  command: string,
  args: readonly string[],
  options: { timeoutMs: number; inherit?: number; environment?: Record<string, string> },
): Promise<ProgramResult> {
  return new Promise((finish) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'ignore', 'pipe', ...(options.inherit === undefined ? [] : [options.inherit])],
      env: { ...process.env, LC_ALL: 'C', ...options.environment },
    });
    let message = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (message.length < MAX_MESSAGE) message += text;
    });
    const end = (code: number | undefined, missing: boolean): void => {
      clearTimeout(timer);
      finish({ code, message: message.trim().replaceAll('\n', '; '), missing });
    };
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      child.stderr?.destroy();
      child.unref();
      end(undefined, false);
    }, options.timeoutMs);
    child.once('error', (error) => {
      message ||= error.message;
      end(undefined, 'code' in error && error.code === 'ENOENT');
    });
    child.once('close', (code) => end(code ?? undefined, false));
  });
}
