/**
 * A daemon that is kept running: when it ends without having been told to, it is reported and started again,
 * at first soon, then after pauses that double up to limits.restartMaxMs.
 *
 * INVARIANT: after stop() or retire() has been called no new daemon is started.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { limits } from '../proto/limits.js';
import { lineOf } from './command-error.js';
import { type Daemon, startDaemon } from './daemon.js';
import {
  isAlive,
  type ProcessIdentity,
  type StopResult,
  signalProcess,
  stopProcess,
} from './process-identity.js';

/** A daemon that lived this long had started well: the next pause is the shortest again. */
const SETTLED_MS = 30_000;

export interface SupervisedSpec {
  /** For people and its log file: `meta`, `chunk-2`, `mount`. */
  readonly name: string;
  readonly logPath: string;
  /** What follows `leasefs` on the command line, asked for at each start. */
  readonly args: () => readonly string[];
  /** How long it may take to stop before it is killed. */
  readonly stopMs: number;
  /** A daemon that ends with status 0 by itself has done what it was to do and is not started again. */
  readonly mayFinish: boolean;
  /** Tells a person. */
  readonly report: (line: string) => void;
  /** It runs, with another pid than before, or it does not run any more. */
  readonly onChange: () => void;
}

export class SupervisedProcess {
  readonly spec: SupervisedSpec;
  #daemon: Daemon | undefined;
  #startedMs = 0;
  #pauseMs: number = limits.restartMinMs;
  readonly #stopping = new AbortController();
  /** The restart or first start under way, so that stop() can wait for it. */
  #starting: Promise<void> = Promise.resolve();

  constructor(spec: SupervisedSpec) {
    this.spec = spec;
  }

  /** The process that runs now. */
  get identity(): ProcessIdentity | undefined {
    const identity = this.#daemon?.identity;
    return identity !== undefined && isAlive(identity) ? identity : undefined;
  }

  /** Where it listens or last listened. */
  get url(): string | undefined {
    return this.#daemon?.url;
  }

  /** Starts it and waits until it is ready. Errors: as startDaemon; it is not tried again then. */
  start(): Promise<void> {
    const starting = this.#launch();
    this.#starting = starting.catch(() => {});
    return starting;
  }

  async #launch(): Promise<void> {
    const { args, logPath, onChange } = this.spec;
    const daemon = await startDaemon({
      args: args(),
      logPath,
      timeoutMs: limits.startMs,
      signal: this.#stopping.signal,
    });
    this.#daemon = daemon;
    this.#startedMs = performance.now();
    onChange();
    daemon.child.once('exit', (code, signal) => this.#ended(code, signal));
    // It may have ended between its word and this line.
    if (daemon.child.exitCode !== null || daemon.child.signalCode !== null)
      this.#ended(daemon.child.exitCode, daemon.child.signalCode);
  }

  #ended(code: number | null, signal: NodeJS.Signals | null): void {
    this.#daemon?.child.removeAllListeners('exit');
    this.spec.onChange();
    if (this.#stopping.signal.aborted) return;
    const how = signal ?? `status ${code}`;
    if (code === 0 && this.spec.mayFinish) {
      this.spec.report(`${this.spec.name} has ended by itself`);
      return;
    }
    if (performance.now() - this.#startedMs > SETTLED_MS) this.#pauseMs = limits.restartMinMs;
    this.spec.report(
      `${this.spec.name} ended unexpectedly (${how}); starting it again. Log: ${this.spec.logPath}`,
    );
    this.#starting = this.#restart();
  }

  async #restart(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const pauseMs = this.#pauseMs;
      this.#pauseMs = Math.min(pauseMs * 2, limits.restartMaxMs);
      await sleep(pauseMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
      if (this.#stopping.signal.aborted) return;
      try {
        await this.#launch();
        this.spec.report(`${this.spec.name} runs again`);
        return;
      } catch (error) {
        if (!this.#stopping.signal.aborted)
          this.spec.report(`${this.spec.name} could not be started: ${lineOf(error)}; trying again`);
      }
    }
  }

  /** From now on it is not started again; stop() is still to be called. */
  retire(): void {
    this.#stopping.abort();
  }

  /** Ends it: politely, and after stopMs by force. */
  async stop(): Promise<StopResult> {
    this.retire();
    await this.#starting;
    const identity = this.#daemon?.identity;
    return identity === undefined ? 'was not running' : await stopProcess(identity, this.spec.stopMs);
  }

  /** Ends it at once; stop() is still to be called, or waiting. */
  kill(): void {
    this.#stopping.abort();
    if (this.#daemon !== undefined) signalProcess(this.#daemon.identity, 'SIGKILL');
  }
}
