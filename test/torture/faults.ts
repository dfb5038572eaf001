/** What happens to processes and connections while a history runs, from its seed. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Prng } from '../../src/base/prng.js';
import { limits } from '../../src/proto/limits.js';
import type { ClusterProcess } from '../cluster/cluster-process.js';
import type { BadLink } from './bad-link.js';
import type { Harm } from './history.js';

export type FaultKind =
  | 'delay'
  | 'kill-meta'
  | 'kill-meta-alone'
  | 'kill-chunk'
  | 'kill-mount'
  | 'stop-meta'
  | 'stop-chunk'
  | 'stop-mount'
  | 'stop-mount-long'
  | 'stop-meta-long'
  | 'cut'
  | 'freeze-link'
  | 'freeze-link-long';

export interface Fault {
  readonly kind: FaultKind;
  /** Which mount or chunk server. */
  readonly index: number;
  /** From the beginning of the history. */
  readonly atMs: number;
  /** Until it is over. */
  readonly forMs: number;
}

export interface Targets {
  readonly meta: ClusterProcess;
  readonly chunks: readonly ClusterProcess[];
  readonly mounts: readonly ClusterProcess[];
  /** Between each mount and the metadata server. */
  readonly proxies: readonly BadLink[];
}

/** A kind, how often it comes, and the shortest and longest time that it lasts. */
const KINDS: readonly (readonly [kind: FaultKind, weight: number, minMs: number, maxMs: number])[] = [
  ['delay', 10, 1, 30],
  ['cut', 6, 0, 0],
  ['kill-meta', 5, 0, 400],
  // One mount finds it again later than the others.
  ['kill-meta-alone', 3, 500, 2_500],
  ['kill-mount', 5, 0, 300],
  ['kill-chunk', 3, 0, 300],
  ['stop-mount', 5, 100, 1_500],
  ['stop-meta', 3, 100, 1_500],
  ['stop-chunk', 3, 100, 1_000],
  ['freeze-link', 5, 100, 1_500],
  // Longer than limits.leaseTtlMs.
  ['stop-mount-long', 1, 10_500, 13_000],
  ['freeze-link-long', 1, 10_500, 13_000],
  ['stop-meta-long', 0.5, 10_500, 12_000],
];

export function pickFault(prng: Prng, of: { mounts: number; chunks: number }, only?: FaultKind): Fault {
  const kinds = only === undefined ? KINDS : KINDS.filter(([kind]) => kind === only);
  let left = prng.next() * kinds.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [kind, weight, minMs, maxMs] of kinds) {
    left -= weight;
    if (left >= 0) continue;
    const index = prng.int(0, (kind.endsWith('chunk') ? of.chunks : of.mounts) - 1);
    const atMs = isAlone(kind) ? prng.int(500, 800) : prng.int(20, 250);
    return { kind, index, atMs, forMs: prng.int(minMs, maxMs) };
  }
  throw new Error(`no such fault: ${only}`);
}

/** How long a server takes to start on a machine that does much else. */
const RESTART_MS = 4_000;

/** How long a history with this fault is to last. */
export const lastMs = (fault: Fault | undefined): number =>
  fault === undefined
    ? 0
    : fault.kind === 'delay'
      ? 0
      : fault.atMs + fault.forMs + (fault.kind === 'kill-meta-alone' ? RESTART_MS : 700);

const isAlone = (kind: FaultKind): boolean => kind.startsWith('freeze-link') || kind === 'kill-meta-alone';

/** The mount that has to do without the metadata server for a while. */
export const isolated = (fault: Fault | undefined): number | undefined =>
  fault !== undefined && isAlone(fault.kind) ? fault.index : undefined;

/** Carries a fault out; resolves, when it is over, to what it did harm to. */
export async function inflict(fault: Fault, targets: Targets): Promise<Harm[]> {
  const { kind, index, atMs, forMs } = fault;
  const proxy = targets.proxies[index];
  const target = processOf(fault, targets);
  if (kind === 'delay') {
    for (const each of targets.proxies) each.delayMs = () => Math.random() * forMs;
    return [];
  }
  await sleep(atMs);
  const harms: Harm[] = kind === 'kill-mount' ? [{ mount: index, atNs: nowNs() }] : [];
  // Its leases end, and what another mount removes then is gone although it is open (README, Limits).
  if (kind === 'freeze-link-long' || kind === 'stop-mount-long')
    harms.push({ mount: index, atNs: nowNs() + (limits.leaseTtlMs - limits.heartbeatMs) * 1e6 });
  if (kind === 'cut') proxy?.cut();
  else if (kind === 'kill-meta-alone') {
    proxy?.freeze();
    await target?.kill();
    await target?.start();
    await sleep(forMs);
    proxy?.thaw();
  } else if (kind.startsWith('freeze-link')) {
    proxy?.freeze();
    await sleep(forMs);
    proxy?.thaw();
  } else if (kind.startsWith('stop-')) {
    target?.freeze();
    await sleep(forMs);
    target?.thaw();
  } else {
    await target?.kill();
    await sleep(forMs);
    await target?.start();
  }
  return harms;
}

const nowNs = (): number => Number(process.hrtime.bigint());

function processOf({ kind, index }: Fault, targets: Targets): ClusterProcess | undefined {
  if (kind.includes('meta')) return targets.meta;
  return kind.includes('chunk') ? targets.chunks[index] : targets.mounts[index];
}

/** After the history: connections are good again. */
export function endFaults(targets: Targets): void {
  for (const proxy of targets.proxies) proxy.delayMs = () => 0;
}
