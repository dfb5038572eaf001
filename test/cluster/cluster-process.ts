/**
 * One leasefs process of a test's cluster, started through the executable as a user would, that can be
 * killed, frozen and started again at the same address. It says that it is ready over the IPC channel that
 * `leasefs` has for whoever starts it (src/cmd/daemon.ts). Its output goes into a file.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { executable } from '../cmd/run-leasefs.js';
import type { ScratchDirectory } from './scratch-directory.js';

const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 30_000;
const LOG_TAIL_CHARS = 4_000;

export interface ProcessPlan {
  readonly name: string;
  readonly scratch: ScratchDirectory;
  readonly logPath: string;
  /** The command line after `leasefs`. `url`: where the process was reachable in its life before. */
  readonly args: (url: string | undefined) => readonly string[];
  /** Whose process it is; the test's own user unless given. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** The compiled `leasefs` of this project unless given. */
  readonly executable?: string;
}

interface ReadyMessage {
  readonly kind: 'ready';
  readonly url?: string;
}

function isReady(message: unknown): message is ReadyMessage {
  return typeof message === 'object' && message !== null && 'kind' in message && message.kind === 'ready';
}

export class ClusterProcess {
  readonly #plan: ProcessPlan;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #url: string | undefined;

  constructor(plan: ProcessPlan) {
    this.#plan = plan;
  }

  /** Where it listens (of a server, once it has been ready). */
  get url(): string {
    if (this.#url === undefined) throw new Error(`${this.#plan.name} has no address yet`);
    return this.#url;
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error(`${this.#plan.name} does not run`);
    return pid;
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  get logPath(): string {
    return this.#plan.logPath;
  }

  /** What it has logged last. */
  get log(): string {
    if (!existsSync(this.#plan.logPath)) return '(no log)';
    return readFileSync(this.#plan.logPath, 'utf8').slice(-LOG_TAIL_CHARS);
  }

  /** Starts it and waits until it serves. */
  async start(): Promise<void> {
    if (this.#child !== undefined) throw new Error(`${this.#plan.name} runs already`);
    const log = openSync(this.#plan.logPath, 'a');
    const child = spawn(
      process.execPath,
      ['--enable-source-maps', this.#plan.executable ?? executable, ...this.#plan.args(this.#url)],
      {
        stdio: ['ignore', log, log, 'ipc'],
        ...this.#plan.user,
        // Whatever the project lies in, this directory can be entered by everybody.
        cwd: this.#plan.scratch.path,
        env: { ...process.env, HOME: this.#plan.scratch.path },
      },
    );
    closeSync(log);
    const { pid } = child;
    if (pid !== undefined) this.#plan.scratch.addProcess(pid);
    this.#child = child;
    this.#exited = new Promise((resolve) => {
      const gone = (): void => {
        if (pid !== undefined) this.#plan.scratch.removeProcess(pid);
        this.#child = undefined;
        resolve();
      };
      child.once('exit', gone);
      child.once('error', gone);
    });
    const ready = await this.#firstWord(child);
    if (ready.url !== undefined) this.#url = ready.url;
  }

  #firstWord(child: ChildProcess): Promise<ReadyMessage> {
    return new Promise((resolve, reject) => {
      const onMessage = (message: unknown): void => {
        if (isReady(message)) settle(() => resolve(message));
        else fail(`cannot start: ${JSON.stringify(message)}`);
      };
      const onExit = (code: number | null, signal: string | null): void =>
        fail(`ended with ${signal ?? code}`);
      const timer = setTimeout(() => fail('is not ready in time'), READY_TIMEOUT_MS);
      const settle = (how: () => void): void => {
        clearTimeout(timer);
        child.off('message', onMessage);
        child.off('exit', onExit);
        how();
      };
      const fail = (what: string): void =>
        settle(() => reject(new Error(`${this.#plan.name} ${what}\n${this.log}`)));
      child.on('message', onMessage);
      child.on('exit', onExit);
    });
  }

  /** SIGKILL, as a crash would; resolves when it is gone. */
  async kill(): Promise<void> {
    process.kill(this.pid, 'SIGKILL');
    await this.exited();
  }

  /** SIGTERM, and waits until it has ended in order. */
  async stop(): Promise<void> {
    process.kill(this.pid, 'SIGTERM');
    await this.exited();
  }

  /** SIGSTOP: it is there and does not answer. */
  freeze(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  thaw(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  /** Resolves when the process has ended, by itself or not. */
  async exited(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`${this.#plan.name} does not end\n${this.log}`)),
        STOP_TIMEOUT_MS,
      );
    });
    try {
      await Promise.race([this.#exited, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}
