/**
 * A whole cluster of real processes with real mounts, for one test: a metadata server, chunk servers and any
 * number of mounts, every one of which can be killed, frozen and started again. Everything lies in one
 * scratch directory and ends with the test.
 *
 * The test process never touches a mount itself: see on-mount.ts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Value } from '@sinclair/typebox/value';
import { type Status, tStatus } from '../../src/proto/meta-methods.js';
import { runLeasefs } from '../cmd/run-leasefs.js';
import { ClusterProcess } from './cluster-process.js';
import type { User } from './on-mount.js';
import { ScratchDirectory } from './scratch-directory.js';

const HOST = '127.0.0.1';

export interface ClusterOptions {
  readonly name: string;
  readonly chunkServers?: number;
  readonly replicas?: number;
  /** What each chunk server may store; those not named take it from their disk. */
  readonly capacitiesBytes?: readonly number[];
  /** Before anything runs. */
  readonly prepare?: (scratch: ScratchDirectory) => Promise<void>;
  /** Another `leasefs` than the one that was compiled here. */
  readonly executable?: string;
}

export interface MountSpec {
  readonly driver?: 'kernel' | 'fuse-native';
  /** For -o. */
  readonly options?: string;
  readonly user?: User;
  /** Where it finds the metadata server, if not at its own address. */
  readonly metaUrl?: string;
}

export interface ClusterMount {
  /** The mountpoint. */
  readonly path: string;
  readonly process: ClusterProcess;
}

export interface ClusterStatus {
  readonly healthy: boolean;
  readonly problems: readonly unknown[];
  readonly status: Status;
}

/** What a test offers for cleaning up after it. */
interface TestLike {
  teardown(body: () => unknown): unknown;
}

export class Cluster {
  readonly scratch: ScratchDirectory;
  readonly meta: ClusterProcess;
  readonly chunks: readonly ClusterProcess[];
  readonly #mounts: ClusterMount[] = [];
  readonly #executable: string | undefined;

  private constructor(options: ClusterOptions) {
    this.scratch = new ScratchDirectory(options.name);
    this.#executable = options.executable;
    const replicas = options.replicas ?? 2;
    this.meta = this.#process('meta', (url) => [
      ...['meta', '--data', this.scratch.directory('meta'), '--listen', listenAt(url)],
      ...['--replicas', String(replicas), '--groups', '64'],
    ]);
    this.chunks = Array.from({ length: options.chunkServers ?? 3 }, (_, index) =>
      this.#process(`chunk-${index + 1}`, (url) => [
        ...['chunk', '--data', this.scratch.directory(`chunk-${index + 1}`), '--listen', listenAt(url)],
        ...['--meta', this.meta.url, '--host-label', `host-${index + 1}`],
        ...capacityArgs(options.capacitiesBytes?.[index]),
      ]),
    );
  }

  /** Starts the servers; the cluster ends with the test. */
  static async start(t: TestLike, options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(options);
    t.teardown(() => cluster.scratch.end());
    await options.prepare?.(cluster.scratch);
    await cluster.meta.start();
    await Promise.all(cluster.chunks.map((chunk) => chunk.start()));
    await cluster.untilUp(cluster.chunks.length);
    return cluster;
  }

  #process(name: string, args: (url: string | undefined) => readonly string[], user?: User): ClusterProcess {
    return new ClusterProcess({
      name,
      scratch: this.scratch,
      logPath: `${this.scratch.path}/${name}.log`,
      args,
      ...(user === undefined ? {} : { user }),
      ...(this.#executable === undefined ? {} : { executable: this.#executable }),
    });
  }

  /** Mounts; resolves when the mount can be used. */
  async mount(spec: MountSpec = {}): Promise<ClusterMount> {
    const number = this.#mounts.length + 1;
    const path = this.scratch.directory(`mnt-${number}`);
    const cache = this.scratch.directory(`cache-${number}`);
    if (spec.user !== undefined) await giveTo(spec.user, [path, cache]);
    const process = this.#process(
      `mount-${number}`,
      () => [
        ...['mount', spec.metaUrl ?? this.meta.url, path, '--foreground', '--force', '--cache', cache],
        ...['--driver', spec.driver ?? 'kernel'],
        ...(spec.options === undefined ? [] : ['-o', spec.options]),
      ],
      spec.user,
    );
    const mount = { path, process };
    this.#mounts.push(mount);
    await process.start();
    return mount;
  }

  /** What `leasefs status` says. **Errors:** when the metadata server does not answer. */
  async status(): Promise<ClusterStatus> {
    const { stdout, stderr } = await runLeasefs(['status', this.meta.url, '--json'], { timeoutMs: 15_000 });
    let value: unknown;
    try {
      value = JSON.parse(stdout);
    } catch (cause) {
      throw new Error(`no status: ${stdout}${stderr}`, { cause });
    }
    if (!Value.Check(tStatus, value)) throw new Error(`not a status: ${stdout}`);
    const { healthy, problems } = readHealth(value);
    return { healthy, problems, status: value };
  }

  /** Waits until so many chunk servers are up. */
  async untilUp(count: number): Promise<void> {
    await this.until(`${count} chunk servers are up`, async () => {
      const { status } = await this.status();
      return status.map.servers.filter((server) => server.state === 'up').length >= count;
    });
  }

  /** Waits until the cluster says that it is healthy. */
  async untilHealthy(timeoutMs = 30_000): Promise<void> {
    let last: readonly unknown[] = [];
    await this.until(
      'the cluster is healthy',
      async () => {
        const { healthy, problems } = await this.status();
        last = problems;
        return healthy;
      },
      timeoutMs,
    ).catch((cause: unknown) => {
      throw new Error(`not healthy: ${JSON.stringify(last)}`, { cause });
    });
  }

  /** Asks again until `condition` holds; what it throws the last time is part of the failure. */
  async until(what: string, condition: () => Promise<boolean>, timeoutMs = 30_000): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs;
    let failure: unknown;
    for (;;) {
      try {
        failure = undefined;
        if (await condition()) return;
      } catch (error) {
        failure = error;
      }
      if (performance.now() > deadlineMs)
        throw new Error(
          `not within ${timeoutMs / 1000} s: ${what}${failure === undefined ? '' : ` (${failure})`}\n${this.logs()}`,
          { cause: failure },
        );
      await sleep(100);
    }
  }

  /** The ends of all log files, for messages about failures. */
  logs(): string {
    const named = [
      ['meta', this.meta] as const,
      ...this.chunks.map((chunk, index) => [`chunk-${index + 1}`, chunk] as const),
      ...this.#mounts.map((mount, index) => [`mount-${index + 1}`, mount.process] as const),
    ];
    return named.map(([name, process]) => `--- ${name}\n${process.log}`).join('\n');
  }
}

/** Where a server listens: where it did before, or at any free port. */
function listenAt(url: string | undefined): string {
  return `${HOST}:${url === undefined ? 0 : new URL(url).port}`;
}

function capacityArgs(capacityBytes: number | undefined): readonly string[] {
  return capacityBytes === undefined ? [] : ['--capacity', String(capacityBytes)];
}

function readHealth(value: object): { healthy: boolean; problems: readonly unknown[] } {
  if (!('healthy' in value) || typeof value.healthy !== 'boolean') throw new Error('status without health');
  const problems = 'problems' in value && Array.isArray(value.problems) ? value.problems : [];
  return { healthy: value.healthy, problems };
}

async function giveTo(user: User, paths: readonly string[]): Promise<void> {
  const { chown } = await import('node:fs/promises');
  await Promise.all(paths.map((path) => chown(path, user.uid, user.gid)));
}
