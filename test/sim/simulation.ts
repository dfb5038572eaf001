/**
 * One simulation from one seed: a cluster, programs on its mounts, faults while they run, then calm weather in
 * which everything has to work, and at the end one tree for all.
 */
import { assert } from '../../src/base/assert.js';
import { setLogLevel } from '../../src/base/log.js';
import { Prng } from '../../src/base/prng.js';
import { S_IFDIR } from '../../src/proto/attr.js';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { type Plant, SimCluster } from './cluster.js';
import { runFaults } from './faults.js';
import type { Kernel } from './kernel.js';
import { DIRECTORIES, Program } from './program.js';

/** Virtual time that a simulation may take. */
const MAX_MS = 900_000;
/** Once nothing is wrong any more, sessions are back and recalls answered after this. */
const RECOVERY_MS = limits.sessionTtlMs + limits.leaseTtlMs + 20_000;
/** What is remembered is looked at as often, at least. */
const PEEK_MS = 600;
/** In calm weather no answer takes longer. */
const CALM_ANSWER_MS = 5_000;

export interface SimulationResult {
  readonly seed: number;
  /** Of everything that happened. */
  readonly hash: number;
  readonly operations: number;
  /** Changes that mounts have made by themselves. */
  readonly own: number;
  /** Of those, what was in doubt when its leases ended without a word, and what was refused then. */
  readonly inDoubt: number;
  readonly refused: number;
  /** Answers held against the store. */
  readonly answers: number;
  readonly virtualMs: number;
}

/** What was violated, with the last of what happened. */
export class SimulationFailure extends Error {
  override name = 'SimulationFailure';
  readonly seed: number;
  readonly trace: readonly string[];

  constructor(seed: number, cause: unknown, trace: readonly string[]) {
    super(`seed ${seed}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.seed = seed;
    this.trace = trace;
  }
}

export interface SimulationOptions {
  readonly plant?: Plant;
  /** Every line of the trace goes to standard error at once. */
  readonly isLoud?: boolean;
}

/** **Throws** SimulationFailure. */
export async function simulate(seed: number, options: SimulationOptions = {}): Promise<SimulationResult> {
  if (process.env.LEASEFS_LOG === undefined) setLogLevel('none');
  const { plant = {}, isLoud = false } = options;
  // Errors are answers here, by the thousand: where they were made matters to who looks at one seed.
  const { stackTraceLimit } = Error;
  if (!isLoud) Error.stackTraceLimit = 0;
  const undo = plant.everywhere?.();
  const prng = new Prng(seed);
  const chunkServers = prng.int(1, 2);
  const slowUs = prng.pick([500, 2000, 20_000]);
  const delayUs = { min: 50, max: slowUs };
  const replicas = prng.int(1, chunkServers);
  const interrupted = prng.pick([0, 0.05, 0.5]);
  const cluster = new SimCluster(prng, { chunkServers, replicas, delayUs, interrupted }, plant);
  cluster.trace.isLoud = isLoud;
  try {
    const operations = await cluster.scheduler.run(() => story(cluster, prng), MAX_MS);
    const { trace, observer, scheduler, logical } = cluster;
    const { ownCount: own, doubtCount: inDoubt, refusedCount: refused } = logical;
    const { answers } = observer;
    return {
      seed,
      hash: trace.hash,
      operations,
      own,
      inDoubt,
      refused,
      answers,
      virtualMs: scheduler.nowMs,
    };
  } catch (error) {
    const asked = cluster.mounts.flatMap(({ kernel }) =>
      [...kernel.asked.values()].map(
        ({ what, sinceMs }) => `unanswered since ${sinceMs}: ${kernel.name} ${what}`,
      ),
    );
    throw new SimulationFailure(seed, error, [...cluster.trace.last(), ...asked]);
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
    undo?.();
    cluster.remove();
  }
}

async function story(cluster: SimCluster, prng: Prng): Promise<number> {
  const { scheduler, world, trace } = cluster;
  const mountCount = prng.int(2, 3);
  for (let number = 1; number <= mountCount; number++) await cluster.mount(`mount${number}`);
  await scheduler.sleep(300, world);
  const perMount = prng.int(1, 2);
  const thinkMs = prng.pick([2, 20, 150]);
  const faults = prng.next() < 0.2 ? 0 : prng.int(1, 4);
  // About as many operations whatever the pace.
  const withinMs = Math.max(thinkMs * 120, faults === 0 ? 0 : 15_000);
  let isOver = false;
  let value = 0;
  const directories = [...DIRECTORIES];
  const programs = cluster.mounts.flatMap(({ node: { name } }) => {
    const busy = { count: 0 };
    return Array.from(
      { length: perMount },
      () =>
        new Program({
          kernel: () => cluster.mounted(name).kernel,
          scheduler,
          prng,
          thinkMs: Math.max(thinkMs, withinMs / 300),
          busy,
          directories,
          value: () => `v${++value}`,
        }),
    );
  });
  const running = programs.map((program) => program.run(() => isOver));
  const peeking = peekNowAndThen(cluster, prng, () => isOver);
  await runFaults(cluster, prng, { count: faults, withinMs });
  await scheduler.sleep(faults === 0 ? withinMs : 1000, world);
  isOver = true;
  trace.note('story', 'nothing goes wrong from now on');
  await Promise.all([...running, peeking]);
  if (faults > 0) await scheduler.sleep(RECOVERY_MS, world);
  isOver = false;
  trace.note('story', 'calm weather');
  for (const { kernel } of cluster.mounts) kernel.calm = { answerMs: CALM_ANSWER_MS };
  const again = programs.map((program) => program.run(() => isOver));
  await scheduler.sleep(thinkMs * 20, world);
  isOver = true;
  await Promise.all(again);
  await agree(cluster);
  return programs.reduce((sum, { operations }) => sum + operations, 0);
}

async function peekNowAndThen(cluster: SimCluster, prng: Prng, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    await cluster.scheduler.sleep(prng.int(20, PEEK_MS), cluster.world);
    cluster.peek();
  }
}

/** All mounts see what the server has, and nothing was done that nobody asked for. */
async function agree(cluster: SimCluster): Promise<void> {
  const { scheduler, world, trace, observer } = cluster;
  await scheduler.sleep(3000, world);
  for (const { node, fs } of cluster.mounts)
    assert(
      fs.journal.size === 0 && fs.writer.dirtyBytes === 0,
      `${node.name} has brought everything to the servers: ${fs.journal.size} entries and ${fs.writer.dirtyBytes} bytes are left`,
    );
  trace.note('story', 'all look at everything');
  for (const { kernel } of cluster.mounts) await walk(kernel, ROOT_INO);
  for (const { kernel } of cluster.mounts) await walk(kernel, ROOT_INO);
  observer.settle();
  cluster.checkStore();
  for (const { node, vfs } of cluster.mounts) await scheduler.on(node, 0, () => vfs.close());
}

async function walk(kernel: Kernel, directory: Ino): Promise<void> {
  await kernel.getattr(directory);
  for (const { name, kind } of await kernel.readdir(directory, true)) {
    const ino = await kernel.lookup(directory, name);
    await kernel.getattr(ino);
    if (kind === S_IFDIR) await walk(kernel, ino);
    else {
      const fh = await kernel.open(ino, 0);
      await kernel.read(fh);
      await kernel.close(fh);
    }
  }
}
