/**
 * A cluster under torture: client programs on its mounts, histories of what they saw, and the faults that
 * were done to it meanwhile. One cluster serves many histories, each in a directory of its own.
 */
import { readFileSync } from 'node:fs';
import { Prng } from '../../src/base/prng.js';
import { Cluster, type ClusterMount } from '../cluster/cluster.js';
import { ScratchDirectory } from '../cluster/scratch-directory.js';
import { BadLink } from './bad-link.js';
import { check, checkCounts, unexpectedErrors, type Verdict } from './checker.js';
import { ClientProcess } from './client-process.js';
import {
  endFaults,
  type Fault,
  type FaultKind,
  inflict,
  isolated,
  lastMs,
  pickFault,
  type Targets,
} from './faults.js';
import { type Harm, type History, historyOf, readLog } from './history.js';
import { planOf } from './plan.js';
import { type PlantName, plant } from './planted.js';

export interface TortureOptions {
  readonly seed: number;
  readonly mounts: number;
  /** Client programs, spread over the mounts. */
  readonly clients: number;
  /** Part of the histories that a fault is done to. */
  readonly faultRatio: number;
  /** Faults of this kind only. */
  readonly fault?: FaultKind | undefined;
  readonly plant?: PlantName | undefined;
  readonly chunkServers?: number;
}

export interface Tortured {
  readonly seed: number;
  readonly fault: Fault | undefined;
  readonly history: History;
  readonly verdict: Verdict;
  /** What was wrong besides the verdict. */
  readonly complaints: readonly string[];
}

const CHUNK_SERVERS = 3;
const SET_UP_MS = 60_000;
/** Longer than a call waits for servers, which is 30 s. */
const RUN_MS = 75_000;
const STEPS = 110;

interface TestLike {
  teardown(body: () => unknown): unknown;
}

export class Torture {
  readonly #options: TortureOptions;
  readonly #cluster: Cluster;
  readonly #mounts: readonly ClusterMount[];
  readonly #clients: readonly ClientProcess[];
  readonly #targets: Targets;
  #number = 0;

  private constructor(options: TortureOptions, cluster: Cluster, mounts: ClusterMount[], proxies: BadLink[]) {
    this.#options = options;
    this.#cluster = cluster;
    this.#mounts = mounts;
    this.#clients = Array.from(
      { length: options.clients },
      (_, index) => new ClientProcess(index % options.mounts, cluster.scratch),
    );
    const { meta, chunks } = cluster;
    this.#targets = { meta, chunks, mounts: mounts.map((mount) => mount.process), proxies };
  }

  static async start(t: TestLike, options: TortureOptions): Promise<Torture> {
    const { chunkServers = CHUNK_SERVERS } = options;
    const planted = options.plant === undefined ? {} : { executable: plantedIn(t, options.plant) };
    const cluster = await Cluster.start(t, { name: 'torture', chunkServers, ...planted });
    const mounts: ClusterMount[] = [];
    const proxies: BadLink[] = [];
    for (let count = 0; count < options.mounts; count++) {
      const proxy = await BadLink.start(Number(new URL(cluster.meta.url).port));
      proxies.push(proxy);
      mounts.push(await cluster.mount({ metaUrl: `ws://127.0.0.1:${proxy.port}` }));
    }
    const torture = new Torture(options, cluster, mounts, proxies);
    t.teardown(() => torture.#end());
    return torture;
  }

  #end(): void {
    for (const client of this.#clients) client.end();
    for (const proxy of this.#targets.proxies) proxy.stop();
  }

  get logs(): string {
    return this.#cluster.logs();
  }

  /** Has the next history made, and checks it. */
  async next(): Promise<Tortured> {
    const seed = this.#options.seed + this.#number++;
    const prng = new Prng(Math.imul(seed, 2_654_435_761));
    const { mounts, clients, faultRatio } = this.#options;
    const isFaulty = prng.next() < faultRatio;
    const fault = isFaulty
      ? pickFault(prng, { mounts, chunks: this.#targets.chunks.length }, this.#options.fault)
      : undefined;
    const steps = Math.round(STEPS / clients / (isFaulty ? 1.5 : 1));
    const alone = isolated(fault);
    const lookers = this.#clients.flatMap((client, index) =>
      client.mount === alone && prng.next() < 0.8 ? [index] : [],
    );
    const plans = planOf(prng, { clients, steps, lastMs: lastMs(fault), lookers, quietMs: fault?.atMs ?? 0 });
    const name = `h${seed}`;
    const first = prng.pick(this.#clients);
    await first.ask({ do: 'set up', directory: this.#directory(first, name) }, SET_UP_MS);
    const logs = this.#cluster.scratch.directory('histories');
    const startNs = Number(process.hrtime.bigint()) + 30e6;
    const inflicted = fault === undefined ? [] : inflict(fault, this.#targets);
    const done = this.#clients.map(async (client, index) => {
      const logPath = `${logs}/${name}-${index}`;
      const directory = this.#directory(client, name);
      const request = {
        do: 'run',
        directory,
        logPath,
        client: index,
        startNs,
        steps: plans[index] ?? [],
      } as const;
      const isDone = await client.ask(request, RUN_MS);
      return { index, mount: client.mount, log: readFileSync(logPath, 'utf8'), isDone };
    });
    const clientLogs = await Promise.all(done);
    const harms = await inflicted;
    endFaults(this.#targets);
    const late = clientLogs.filter(({ isDone }) => !isDone).map(({ index }) => `client ${index} hangs`);
    const history = this.#read(clientLogs, harms);
    return { seed, fault, history, ...judge(history, late) };
  }

  #directory(client: ClientProcess, name: string): string {
    return `${this.#mounts[client.mount]?.path}/${name}`;
  }

  #read(logs: readonly { index: number; mount: number; log: string }[], harms: Harm[]): History {
    const ops = logs.flatMap(({ index, mount, log }) => {
      const at = harms.filter((harm) => harm.mount === mount).map(({ atNs }) => atNs);
      return readLog(log, { client: index, mount }, Math.min(...at));
    });
    return historyOf(ops, harms);
  }
}

/** What comes of a history; `complaints`: what is wrong with it already. */
export function judge(
  history: History,
  complaints: readonly string[],
): { verdict: Verdict; complaints: readonly string[] } {
  const found = [...complaints];
  for (const { id, answer } of unexpectedErrors(history.ops))
    found.push(`#${id} failed: ${answer !== undefined && 'error' in answer ? answer.error : ''}`);
  const counts = checkCounts(history.ops);
  if (counts !== undefined) found.push(counts);
  return { verdict: check(history), complaints: found };
}

export const isAnomaly = ({ verdict, complaints }: Pick<Tortured, 'verdict' | 'complaints'>): boolean =>
  verdict.verdict === 'anomaly' || complaints.length > 0;

function plantedIn(t: TestLike, name: PlantName): string {
  const scratch = new ScratchDirectory('planted');
  t.teardown(() => scratch.end());
  return plant(name, scratch.path);
}
