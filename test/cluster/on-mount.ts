/**
 * Programs that touch a mount: always as child processes, as some user, under a deadline that holds even when
 * the program is stuck in the kernel.
 */
import { execFileSync, spawn } from 'node:child_process';

/** An ordinary user, who need not have an account. */
export const ORDINARY = { uid: 1000, gid: 1000 } as const;
export type User = { readonly uid: number; readonly gid: number };

export function isInstalled(program: string): boolean {
  try {
    execFileSync('bash', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

export interface ProgramOptions {
  readonly cwd: string;
  readonly user?: User;
  /** SIGKILL after this; default 30 s. */
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
}

export interface ProgramOutcome {
  /** Exit status; undefined when it was killed. */
  readonly status: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  /** The deadline passed. */
  readonly late: boolean;
  readonly stdout: string;
  readonly stderr: string;
  readonly elapsedMs: number;
}

const TIMEOUT_MS = 30_000;
/** How long a killed program is waited for: one that is stuck in the kernel is left behind. */
const KILL_GRACE_MS = 2_000;

export interface RunningProgram {
  readonly pid: number;
  readonly outcome: Promise<ProgramOutcome>;
  /** To the program and everything that it started. */
  signal(signal: NodeJS.Signals): void;
  /** Resolves with what the program has printed so far once that contains `text`; rejects when it ends first. */
  printed(text: string): Promise<string>;
}

/** Starts a program in a process group of its own. */
export function start(command: string, args: readonly string[], options: ProgramOptions): RunningProgram {
  const startMs = performance.now();
  // Starting a program waits until it has changed its directory: that must not be this process's wait.
  const child = spawn('bash', ['-c', 'cd "$0" && exec "$@"', options.cwd, command, ...args], {
    cwd: '/',
    ...options.user,
    env: { ...process.env, LC_ALL: 'C', HOME: '/nonexistent', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let stdout = '';
  let stderr = '';
  let late = false;
  let over = false;
  let onOutput: () => void = () => {};
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    onOutput();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const signal = (name: NodeJS.Signals): void => {
    if (child.pid === undefined || over) return;
    try {
      process.kill(-child.pid, name);
    } catch (error) {
      // All of it has ended, and that is not told yet.
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
    }
  };
  const outcome = new Promise<ProgramOutcome>((resolve) => {
    const finish = (status: number | null, signalName: NodeJS.Signals | null): void => {
      clearTimeout(timer);
      over = true;
      onOutput();
      const elapsedMs = performance.now() - startMs;
      resolve({
        status: status ?? undefined,
        signal: signalName ?? undefined,
        late,
        stdout,
        stderr,
        elapsedMs,
      });
    };
    const timer = setTimeout(() => {
      late = true;
      signal('SIGKILL');
      setTimeout(() => {
        if (over) return;
        child.unref();
        child.stdout.destroy();
        child.stderr.destroy();
        finish(null, 'SIGKILL');
      }, KILL_GRACE_MS);
    }, options.timeoutMs ?? TIMEOUT_MS);
    child.once('close', finish);
    child.once('error', (error) => {
      stderr += error.message;
      finish(null, null);
    });
  });
  const printed = (text: string): Promise<string> =>
    new Promise((resolve, reject) => {
      onOutput = () => {
        if (stdout.includes(text)) resolve(stdout);
        else if (over) reject(new Error(`ended without saying '${text}': ${stdout}${stderr}`));
      };
      onOutput();
    });
  return { pid: child.pid ?? 0, outcome, signal, printed };
}

/** Runs a bash script and waits for it. `set -e` and `pipefail` hold. */
export function attempt(script: string, options: ProgramOptions): Promise<ProgramOutcome> {
  return startScript(script, options).outcome;
}

/** Starts a bash script. */
export function startScript(script: string, options: ProgramOptions): RunningProgram {
  return start('bash', ['-c', `set -eo pipefail\n${script}`], options);
}

/** Runs a bash script that must succeed; what it printed. */
export async function sh(script: string, options: ProgramOptions): Promise<string> {
  const outcome = await attempt(script, options);
  if (outcome.status !== 0) {
    const how = outcome.late ? 'took too long' : `status ${outcome.status ?? outcome.signal}`;
    throw new Error(
      `${how} after ${Math.round(outcome.elapsedMs)} ms: ${script}\n${outcome.stdout}${outcome.stderr}`,
    );
  }
  return outcome.stdout;
}

/** Runs JavaScript in a node of its own; `script` may await. What it printed. */
export async function node(script: string, options: ProgramOptions): Promise<string> {
  const program = start(process.execPath, ['--input-type=module', '-e', script], options);
  const outcome = await program.outcome;
  if (outcome.status !== 0) {
    const how = outcome.late ? 'took too long' : `status ${outcome.status ?? outcome.signal}`;
    throw new Error(`${how} after ${Math.round(outcome.elapsedMs)} ms\n${outcome.stdout}${outcome.stderr}`);
  }
  return outcome.stdout;
}
