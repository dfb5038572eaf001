/**
 * A metadata server, chunk servers and a mount on one machine, as child processes kept running. It starts them
 * in the order in which they need one another, writes down what runs in cluster.json, and stops them in the
 * opposite order. Every wait is bounded.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { mountAt } from '../fuse/mount-table.js';
import { unmountPath } from '../fuse/unmount.js';
import { limits } from '../proto/limits.js';
import type { ClusterDirectory } from './cluster-directory.js';
import { type ClusterProcess, readClusterFile, writeClusterFile } from './cluster-file.js';
import { CommandError, lineOf } from './command-error.js';
import { DaemonFailed } from './daemon.js';
import { clearIfDead } from './mountpoint.js';
import { fetchStatus } from './observer.js';
import { identifyProcess } from './process-identity.js';
import { SupervisedProcess } from './supervised-process.js';

const HOST = '127.0.0.1';
const JOIN_POLL_MS = 100;

export interface ClusterPlan {
  readonly directory: ClusterDirectory;
  readonly mountpoint: string;
  readonly chunkServers: number;
  /** For a new filesystem; an old one keeps what it has. */
  readonly replicas: number;
  /** Further arguments of `leasefs mount`. */
  readonly mountArgs: readonly string[];
  readonly report: (line: string) => void;
}

export class LocalCluster {
  readonly #plan: ClusterPlan;
  readonly #meta: SupervisedProcess;
  readonly #chunks: readonly SupervisedProcess[];
  readonly #mount: SupervisedProcess;
  /** As in cluster.json: the metadata server's port, then the chunk servers'; 0: not chosen yet. */
  readonly #ports: number[];
  #metaUrl: string;
  #stopped = false;

  constructor(plan: ClusterPlan) {
    this.#plan = plan;
    const before = readClusterFile(plan.directory.path);
    this.#metaUrl = before?.metaUrl ?? '';
    const count = 1 + plan.chunkServers;
    this.#ports = Array.from({ length: count }, (_, index) => before?.ports[index] ?? 0);
    this.#meta = this.#supervise('meta', limits.serverStopMs, () => this.#metaArgs());
    this.#chunks = Array.from({ length: plan.chunkServers }, (_, index) =>
      this.#supervise(`chunk-${index + 1}`, limits.serverStopMs, () => this.#chunkArgs(index + 1)),
    );
    this.#mount = this.#supervise('mount', limits.mountStopMs, () => this.#mountArgs());
  }

  /** ws://HOST:PORT of the metadata server, once it has been started. */
  get metaUrl(): string {
    return this.#metaUrl;
  }

  /** Starts everything; when it returns the mount answers. Errors: CommandError; stop() is still to be called. */
  async start(): Promise<void> {
    this.#writeDown();
    await this.#startServer(this.#meta, 0);
    this.#metaUrl = this.#meta.url ?? '';
    this.#writeDown();
    await Promise.all(this.#chunks.map((chunk, index) => this.#startServer(chunk, index + 1)));
    await this.#waitForServers();
    await this.#named(this.#mount, () => this.#mount.start());
  }

  /** Stops everything in order; returns when nothing runs any more, or says what could not be ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#unmountIfFree();
    await this.#stopOne(this.#mount);
    if (await clearIfDead(this.#plan.mountpoint))
      this.#plan.report(`cleared the dead mount at ${this.#plan.mountpoint}`);
    await Promise.all(this.#chunks.map((chunk) => this.#stopOne(chunk)));
    await this.#stopOne(this.#meta);
    this.#writeDown();
  }

  /** Unmounts, and says so when that cannot be done without taking the mount away from programs. */
  async #unmountIfFree(): Promise<void> {
    const { mountpoint, report } = this.#plan;
    this.#mount.retire();
    if (this.#mount.identity === undefined || mountAt(mountpoint) === undefined) return;
    try {
      await unmountPath(mountpoint, { force: false });
    } catch (error) {
      report(
        `${lineOf(error).replace(/;.*/, '')}: it is taken away from the programs that use it (lazy unmount)`,
      );
    }
  }

  /** Ends every process at once. stop() is waiting or still to be called. */
  kill(): void {
    for (const each of [this.#mount, ...this.#chunks, this.#meta]) each.kill();
  }

  #supervise(name: string, stopMs: number, args: () => readonly string[]): SupervisedProcess {
    const { directory, report } = this.#plan;
    return new SupervisedProcess({
      name,
      stopMs,
      args,
      report,
      logPath: directory.logPath(name),
      // Unmounting from outside is a wish; a server has no reason to end.
      mayFinish: name === 'mount',
      onChange: () => this.#writeDown(),
    });
  }

  #metaArgs(): readonly string[] {
    const { directory, replicas } = this.#plan;
    const listen = `${HOST}:${this.#ports[0] ?? 0}`;
    return ['meta', '--data', directory.metaDir, '--listen', listen, '--replicas', String(replicas)];
  }

  #chunkArgs(number: number): readonly string[] {
    const listen = `${HOST}:${this.#ports[number] ?? 0}`;
    const dataDir = this.#plan.directory.chunkDir(number);
    return ['chunk', '--data', dataDir, '--listen', listen, '--meta', this.#metaUrl];
  }

  #mountArgs(): readonly string[] {
    const { directory, mountpoint, mountArgs } = this.#plan;
    // --force: the mount daemon that was here before may have left a dead mount.
    const fixed = ['--foreground', '--force', '--cache', directory.cacheDir];
    return ['mount', this.#metaUrl, mountpoint, ...fixed, ...mountArgs];
  }

  /** Starts a server on the port it had before, or on any free one when that is taken. */
  async #startServer(server: SupervisedProcess, portIndex: number): Promise<void> {
    await this.#named(server, async () => {
      try {
        await server.start();
      } catch (error) {
        if (!(error instanceof DaemonFailed && error.portTaken)) throw error;
        if ((this.#ports[portIndex] ?? 0) === 0) throw error;
        this.#plan.report(`port ${this.#ports[portIndex]} is taken; ${server.spec.name} gets another`);
        this.#ports[portIndex] = 0;
        await server.start();
      }
    });
    this.#ports[portIndex] = Number(new URL(server.url ?? '').port);
    this.#writeDown();
  }

  /** Runs `body`; a failure says which process it was about. */
  async #named(process: SupervisedProcess, body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      if (this.#stopped) throw error;
      throw new CommandError(`${process.spec.name}: ${lineOf(error)}`);
    }
  }

  /** Waits, for a bounded time, until as many chunk servers are up as were started. */
  async #waitForServers(): Promise<void> {
    const deadlineMs = performance.now() + limits.serverDownMs;
    for (;;) {
      const { map } = await fetchStatus(this.#metaUrl);
      const upCount = map.servers.filter((server) => server.state === 'up').length;
      if (upCount >= this.#chunks.length || this.#stopped) return;
      if (performance.now() >= deadlineMs) {
        this.#plan.report(`only ${upCount} of ${this.#chunks.length} chunk servers have joined so far`);
        return;
      }
      await sleep(JOIN_POLL_MS);
    }
  }

  async #stopOne(process: SupervisedProcess): Promise<void> {
    const result = await process.stop();
    const seconds = process.spec.stopMs / 1000;
    if (result === 'killed')
      this.#plan.report(`${process.spec.name} did not stop within ${seconds} s and was killed`);
    if (result === 'cannot be killed')
      this.#plan.report(
        `${process.spec.name} (process ${process.identity?.pid}) cannot be ended; it waits in the kernel`,
      );
  }

  #writeDown(): void {
    const processes: ClusterProcess[] = [];
    const add = (role: ClusterProcess['role'], process: SupervisedProcess): void => {
      const { identity, url } = process;
      if (identity !== undefined)
        processes.push({ role, ...identity, ...(url === undefined ? {} : { url }) });
    };
    const self = identifyProcess(process.pid);
    if (self !== undefined) processes.push({ role: 'up', ...self });
    add('meta', this.#meta);
    for (const chunk of this.#chunks) add('chunk', chunk);
    add('mount', this.#mount);
    const nothingLeft = this.#stopped && processes.length === 1;
    try {
      writeClusterFile(this.#plan.directory.path, {
        metaUrl: this.#metaUrl,
        mountpoint: this.#plan.mountpoint,
        processes: nothingLeft ? [] : processes,
        ports: this.#ports,
      });
    } catch (error) {
      // A full disk, or a directory that was taken away: no reason to leave processes without their keeper.
      this.#plan.report(`cluster.json cannot be written: ${lineOf(error)}`);
    }
  }
}
