/**
 * The toy filesystem mounted by a process of its own, for tests: every wait is bounded, and `remove` leaves
 * nothing behind, also after a failure and for a daemon that was killed.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chownSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { mountAt } from '../../src/fuse/mount-table.js';
import { unmountPath } from '../../src/fuse/unmount.js';

const DAEMON = fileURLToPath(new URL('./toy-daemon.js', import.meta.url));
const WAIT_MS = 15_000;

export const isRoot = process.geteuid?.() === 0;
/** An ordinary user's uid and gid. */
export const USER_ID = 1000;

export interface ProgramEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a shell script, bounded; as `uid` when given (and we are root). */
export function shell(
  script: string,
  options: { cwd?: string; uid?: number; timeoutMs?: number } = {},
): Promise<ProgramEnd> {
  const identity = options.uid === undefined || !isRoot ? {} : { uid: options.uid, gid: options.uid };
  return new Promise((resolve) => {
    const child = execFile(
      'sh',
      // Not by `cwd`: that is entered before the user is changed, and root may not enter a user's mount.
      ['-c', options.cwd === undefined ? script : `cd '${options.cwd}' || exit\n${script}`],
      {
        timeout: options.timeoutMs ?? WAIT_MS,
        killSignal: 'SIGKILL',
        maxBuffer: 2 ** 24,
        env: { ...process.env, LC_ALL: 'C' },
        ...identity,
      },
      (_error, stdout, stderr) => resolve({ code: child.exitCode, signal: child.signalCode, stdout, stderr }),
    );
  });
}

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A fresh directory to mount at; the ordinary user's when `uid` is given. */
export function newMountpoint(uid?: number): string {
  const directory = mkdtempSync(join(tmpdir(), 'toy-mount-'));
  if (uid !== undefined && isRoot) chownSync(directory, uid, uid);
  return directory;
}

export class ToyMount {
  readonly directory: string;
  readonly daemon: ChildProcess;
  /** Lines that the daemon printed and that were not taken yet. */
  readonly #lines: string[] = [];
  #log = '';
  #arrived: () => void = () => {};

  private constructor(directory: string, daemon: ChildProcess) {
    this.directory = directory;
    this.daemon = daemon;
    let rest = '';
    daemon.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      this.#lines.push(...lines);
      this.#arrived();
    });
    daemon.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#log += text;
    });
  }

  /** Starts a daemon at `directory` (a new one unless given) and gives its first line: `ready` or `error ...`. */
  static async start(
    args: readonly string[] = [],
    options: { directory?: string; uid?: number; mountpoint?: string; inherit?: number } = {},
  ): Promise<{ mount: ToyMount; answer: string }> {
    const directory = options.directory ?? newMountpoint(options.uid);
    const identity = options.uid === undefined || !isRoot ? {} : { uid: options.uid, gid: options.uid };
    const daemon = spawn(process.execPath, [DAEMON, options.mountpoint ?? directory, ...args], {
      stdio: ['pipe', 'pipe', 'pipe', ...(options.inherit === undefined ? [] : [options.inherit])],
      ...identity,
    });
    const mount = new ToyMount(directory, daemon);
    return { mount, answer: await mount.line() };
  }

  /** The daemon's next line. Rejects when none comes in time. */
  async line(timeoutMs: number = WAIT_MS): Promise<string> {
    const until = Date.now() + timeoutMs;
    while (this.#lines.length === 0) {
      if (Date.now() > until) throw new Error(`the daemon said nothing: ${this.#log}`);
      await Promise.race([
        sleep(50),
        new Promise<void>((resolve) => {
          this.#arrived = resolve;
        }),
      ]);
    }
    return this.#lines.shift() ?? '';
  }

  /** Gives the daemon a command; its answer. */
  command(line: string): Promise<string> {
    this.daemon.stdin?.write(`${line}\n`);
    return this.line();
  }

  get log(): string {
    return this.#log;
  }

  /** Waits for the daemon's process to end. */
  async exited(timeoutMs: number = WAIT_MS): Promise<void> {
    const until = Date.now() + timeoutMs;
    while (this.daemon.exitCode === null && this.daemon.signalCode === null) {
      if (Date.now() > until) throw new Error('the daemon did not end');
      await sleep(20);
    }
  }

  /** CPU time that the daemon has used, in seconds. */
  cpuSeconds(): number {
    const fields = readFileSync(`/proc/${this.daemon.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  /** Unmounts, ends the daemon and removes the directory, whatever state they are in. */
  async remove(): Promise<void> {
    const mounted = mountAt(this.directory);
    if (mounted !== undefined) {
      abort(mounted.device);
      await unmountPath(this.directory, { force: true }).catch(() => {});
    }
    this.daemon.kill('SIGKILL');
    await this.exited().catch(() => {});
    rmdirSync(this.directory);
  }
}

/** Ends a connection by force, so that nothing that still waits for it can hold up the tests. */
function abort(device: string): void {
  try {
    writeFileSync(`/sys/fs/fuse/connections/${device.split(':')[1]}/abort`, '1');
  } catch {
    // Not there when the control filesystem is not mounted; the unmount below is then the only means.
  }
}
