/**
 * Two mounts of one cluster, and several programs on each that do everything to the same few directories and
 * files. Nobody may wait for long: a call that takes more than LIMITS.callMs is a lock that two sides wait for,
 * or a wake-up that was missed.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { unmountPath } from '../../src/fuse/unmount.js';
import { Cluster, type ClusterMount } from '../cluster/cluster.js';
import { sh } from '../cluster/on-mount.js';
import { add, type CallTimes, type KindTimes } from './call-times.js';
import { uninterruptible, whereabouts } from './kernel-state.js';
import { DIRECTORIES, type LongCall, type Order, type Outcome } from './worker.js';

export const LIMITS = { callMs: 2_000, unmountMs: 1_000, staleRatio: 1 / 10_000 };
const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));
const MOUNTS = 2;
/** A worker that has not said anything by then, after its time, hangs. */
const END_MS = 20_000;
const LOOK_MS = 500;

export interface HammeringOptions {
  readonly seconds: number;
  readonly workersPerMount: number;
  readonly seed: number;
}

export interface Hammered {
  readonly seconds: number;
  readonly workers: number;
  readonly times: CallTimes;
  /** Calls of more than half a second. */
  readonly long: readonly LongCall[];
  readonly unmountMs: readonly number[];
  /** Of the machine, over one minute, at the beginning and at the end. */
  readonly load: readonly [number, number];
  /** What was wrong; empty: nothing. */
  readonly complaints: readonly string[];
}

interface TestLike {
  teardown(body: () => unknown): unknown;
}

interface Worker {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly name: string;
  readonly notePath: string;
  outcome: Outcome | undefined;
}

export async function hammer(t: TestLike, options: HammeringOptions): Promise<Hammered> {
  const cluster = await Cluster.start(t, { name: 'deadlock', chunkServers: 2 });
  const mounts: ClusterMount[] = [];
  for (let count = 0; count < MOUNTS; count++) mounts.push(await cluster.mount());
  await sh(`mkdir ${DIRECTORIES.join(' ')}`, { cwd: mounts[0]?.path ?? '' });
  const loadBefore = loadavg()[0] ?? 0;
  const startMs = performance.now();
  const workers = mounts.flatMap((mount, index) =>
    Array.from({ length: options.workersPerMount }, (_, number) =>
      startWorker(cluster, mount, { name: `${index + 1}-${number + 1}`, ...options }),
    ),
  );
  const complaints = await watch(workers, options.seconds * 1000 + END_MS);
  const seconds = (performance.now() - startMs) / 1000;
  const load = [loadBefore, loadavg()[0] ?? 0] as const;
  const processes = [cluster.meta, ...cluster.chunks, ...mounts.map((mount) => mount.process)];
  for (const pid of [...workers.map((worker) => worker.pid), ...processes.map((process) => process.pid)])
    complaints.push(...(await stuck(pid)));
  for (const { child } of workers) child.disconnect();
  complaints.push(...(await compareTrees(mounts)), ...(await healthOf(cluster)));
  const unmountMs: number[] = [];
  for (const mount of mounts) unmountMs.push(await unmount(mount, complaints));
  const times: CallTimes = {};
  const long: LongCall[] = [];
  for (const { name, outcome } of workers) {
    if (outcome === undefined) continue;
    add(times, outcome.times);
    long.push(...outcome.long);
    complaints.push(...outcome.unexpected.map((what) => `worker ${name}: ${what}`));
  }
  complaints.push(...complaintsOf(times));
  return { seconds, workers: workers.length, times, long, unmountMs, load, complaints };
}

function complaintsOf(times: CallTimes): string[] {
  const complaints: string[] = [];
  const all = Object.entries(times);
  for (const [kind, { longestMs }] of all)
    if (longestMs > LIMITS.callMs) complaints.push(`a ${kind} took ${Math.round(longestMs)} ms`);
  const sum = (of: (times: KindTimes) => number): number => all.reduce((total, [, at]) => total + of(at), 0);
  const stale = sum(({ errnos }) => errnos.ESTALE ?? 0);
  // One is by chance.
  if (stale > 1 + LIMITS.staleRatio * sum(({ count }) => count))
    complaints.push(`${stale} calls gave ESTALE`);
  return complaints;
}

function startWorker(
  cluster: Cluster,
  mount: ClusterMount,
  { name, seconds, seed }: { name: string; seconds: number; seed: number },
): Worker {
  const notes = cluster.scratch.directory('workers');
  const child = fork(WORKER, { cwd: '/' });
  const { pid } = child;
  if (pid === undefined) throw new Error(`worker ${name} cannot be started`);
  cluster.scratch.addProcess(pid);
  const worker: Worker = { child, pid, name, notePath: `${notes}/${name}`, outcome: undefined };
  child.once('message', (outcome: Outcome) => {
    worker.outcome = outcome;
  });
  child.once('exit', () => cluster.scratch.removeProcess(pid));
  writeFileSync(worker.notePath, '');
  const order: Order = {
    directory: mount.path,
    notePath: worker.notePath,
    scratchPath: `${notes}/${name}-scratch`,
    seed: Math.imul(seed + pid, 2_654_435_761),
    seconds,
  };
  child.send(order);
  return worker;
}

/** Waits until all have ended, at most so long. What it says: who hangs, died, or was seen in a long call. */
async function watch(workers: readonly Worker[], withinMs: number): Promise<string[]> {
  const complaints: string[] = [];
  const reported = new Set<string>();
  const endMs = performance.now() + withinMs;
  const isWorking = ({ child, outcome }: Worker): boolean =>
    outcome === undefined && child.exitCode === null && child.signalCode === null;
  while (workers.some(isWorking) && performance.now() < endMs) {
    await sleep(LOOK_MS);
    for (const worker of workers.filter(isWorking)) {
      const note = readFileSync(worker.notePath, 'utf8').trim();
      if (note === '' || Date.now() - Number.parseInt(note, 10) < LIMITS.callMs || reported.has(note))
        continue;
      reported.add(note);
      complaints.push(`worker ${worker.name} is in a long call: ${note}; ${whereabouts(worker.pid)}`);
    }
  }
  for (const { child, name, outcome } of workers)
    if (outcome === undefined)
      complaints.push(`worker ${name} did not end (${child.signalCode ?? child.exitCode ?? 'it hangs'})`);
  return complaints;
}

/** Threads of a process that are in state D now and a second later: an fsync of the disk is over by then. */
async function stuck(pid: number): Promise<string[]> {
  let seen = uninterruptible(pid);
  for (let looks = 0; looks < 4 && seen.length > 0; looks++) {
    await sleep(250);
    const now = uninterruptible(pid);
    seen = seen.filter((thread) => now.includes(thread));
  }
  return seen.map((thread) => `process ${pid} is in state D: thread ${thread}`);
}

/** Once nobody changes anything, both mounts show the same. */
async function compareTrees(mounts: readonly ClusterMount[]): Promise<string[]> {
  const listing = "find . -printf '%p %i %y %n %s %m %T@\\n' | sort; find . -type f | sort | xargs -r md5sum";
  const seen: string[] = [];
  for (const { path } of mounts) seen.push(await sh(listing, { cwd: path }));
  return seen.every((text) => text === seen[0]) ? [] : [`the mounts differ:\n${seen.join('\n')}`];
}

async function healthOf(cluster: Cluster): Promise<string[]> {
  const { healthy, problems } = await cluster.status();
  return healthy ? [] : [`the cluster is not healthy: ${JSON.stringify(problems)}`];
}

/** From unmounting until the daemon has ended. */
async function unmount(mount: ClusterMount, complaints: string[]): Promise<number> {
  const startMs = performance.now();
  try {
    await unmountPath(mount.path, { force: false });
    await mount.process.exited();
  } catch (error) {
    complaints.push(String(error));
  }
  const ms = performance.now() - startMs;
  if (ms > LIMITS.unmountMs) complaints.push(`an unmount took ${Math.round(ms)} ms`);
  return ms;
}
