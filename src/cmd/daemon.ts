/**
 * Programs that go on in the background. A daemon is this same executable, started again in a session of its
 * own (so that Ctrl-C in the terminal reaches only who started it) with its output in a log file. Over an IPC
 * channel it says once either that it is ready or why it failed; then the channel is closed and both go on
 * alone. Its starter waits for that word for a bounded time.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, renameSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { CommandError, ExitCode, lineOf, systemCode, UsageError } from './command-error.js';
import { identifyProcess, type ProcessIdentity } from './process-identity.js';

const tMessage = Type.Union([
  Type.Object({ kind: Type.Literal('ready'), url: Type.Optional(Type.String()) }),
  Type.Object({
    kind: Type.Literal('failed'),
    message: Type.String(),
    usage: Type.Boolean(),
    portTaken: Type.Boolean(),
  }),
]);
type Message = Static<typeof tMessage>;

/** A log file beyond this is moved to `.1` when its daemon is started. */
const LOG_BYTES = 16 * 1024 * 1024;

/** Why a daemon did not come up, in its own words. */
export class DaemonFailed extends CommandError {
  /** The address it was to listen on is in use. */
  readonly portTaken: boolean;

  constructor(message: string, portTaken: boolean) {
    super(message);
    this.portTaken = portTaken;
  }
}

export interface Daemon {
  readonly child: ChildProcess;
  readonly identity: ProcessIdentity;
  /** Where it listens, if it does. */
  readonly url: string | undefined;
}

export interface DaemonOptions {
  /** What follows `leasefs` on the command line. */
  readonly args: readonly string[];
  readonly logPath: string;
  readonly timeoutMs: number;
  /** When aborted, the daemon is stopped and waiting for it ends. */
  readonly signal?: AbortSignal;
}

/** This machine's `leasefs` executable: the file that the package's `bin` names. */
export const executablePath = fileURLToPath(new URL('./leasefs.js', import.meta.url));

function openLog(path: string): number {
  try {
    if (statSync(path).size > LOG_BYTES) renameSync(path, `${path}.1`);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
  return openSync(path, 'a', 0o600);
}

/**
 * Starts a daemon and waits until it is ready. **Errors:** UsageError and DaemonFailed as it reported;
 * DaemonFailed when it ended without a word or took longer than `timeoutMs` (it is killed then).
 */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const log = openLog(options.logPath);
  const child = spawn(process.execPath, ['--enable-source-maps', executablePath, ...options.args], {
    stdio: ['ignore', log, log, 'ipc'],
    detached: true,
  });
  closeSync(log);
  try {
    const ready = await firstWord(child, options);
    const identity = child.pid === undefined ? undefined : identifyProcess(child.pid);
    if (identity === undefined) throw new DaemonFailed(`ended at once; see ${options.logPath}`, false);
    return { child, identity, url: ready.url };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  } finally {
    if (child.connected) child.disconnect();
  }
}

function firstWord(child: ChildProcess, options: DaemonOptions): Promise<Message & { kind: 'ready' }> {
  return new Promise((resolve, reject) => {
    const fail = (message: string) => reject(new DaemonFailed(message, false));
    const timer = setTimeout(
      () => fail(`not ready after ${options.timeoutMs / 1000} s; see ${options.logPath}`),
      options.timeoutMs,
    );
    const onAbort = () => fail('stopped before it was ready');
    options.signal?.addEventListener('abort', onAbort, { once: true });
    if (options.signal?.aborted === true) onAbort();
    child.once('error', (error) => fail(`cannot be started: ${error.message}`));
    child.once('exit', (code, signal) =>
      fail(`ended with ${signal ?? `status ${code}`}; see ${options.logPath}`),
    );
    child.once('message', (value: unknown) => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      if (!Value.Check(tMessage, value)) fail(`says something else than expected; see ${options.logPath}`);
      else if (value.kind === 'ready') resolve(value);
      else
        reject(
          value.usage ? new UsageError(value.message) : new DaemonFailed(value.message, value.portTaken),
        );
    });
    child.once('close', () => clearTimeout(timer));
  });
}

/** Whether this process was started by startDaemon and still owes its word. */
export function isDaemon(): boolean {
  return process.send !== undefined && process.connected;
}

function send(message: Message): Promise<void> {
  return new Promise((resolve) => {
    if (!isDaemon() || process.send === undefined) resolve();
    // A starter that is gone has nobody to tell; the daemon goes on.
    else process.send(message, undefined, {}, () => resolve());
  });
}

/** In a daemon: it serves. Elsewhere nothing happens. */
export async function reportReady(info: { url?: string }): Promise<void> {
  await send({ kind: 'ready', ...info });
  if (process.connected) process.disconnect();
}

/** In a daemon: it could not start. Elsewhere nothing happens. */
export async function reportFailure(error: unknown): Promise<void> {
  await send({
    kind: 'failed',
    message: lineOf(error),
    usage: error instanceof UsageError,
    portTaken: isPortTaken(error),
  });
}

function isPortTaken(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (
    systemCode(error) === 'EADDRINUSE' || error.message.includes('EADDRINUSE') || isPortTaken(error.cause)
  );
}

/** The status with which a process ends because of `error`. */
export function exitCodeOf(error: unknown): number {
  return error instanceof UsageError ? ExitCode.usage : ExitCode.failure;
}
