/**
 * The process that works on a directory under test, because the one that reports must never wait for a mount.
 * Over IPC it is told a workload and a run, and answers how many units it did in how many seconds.
 */
import { dropCaches, type Place } from './place.js';
import { workloads } from './workloads.js';

export interface Order {
  /** `older`: makes what has to be there before the mount `again` is. */
  readonly stage: 'older' | 'run';
  readonly workload: string;
  readonly run: number;
  readonly place: Place;
}

export type Report = { readonly seconds: number; readonly units: number } | { readonly error: string };

const prepared = new Set<string>();

function carryOut({ stage, workload: name, run, place }: Order): Report {
  const workload = workloads.find((each) => each.name === name);
  if (workload === undefined) return { error: `no such workload: ${name}` };
  try {
    if (stage === 'older') {
      workload.older?.(place, run);
      dropCaches();
      return { units: 0, seconds: 0 };
    }
    if (!prepared.has(name)) workload.prepare?.(place);
    prepared.add(name);
    workload.before?.(place, run);
    const startNs = process.hrtime.bigint();
    const units = workload.run(place, run);
    return { units, seconds: Number(process.hrtime.bigint() - startNs) / 1e9 };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

function isOrder(message: unknown): message is Order {
  return typeof message === 'object' && message !== null && 'workload' in message && 'place' in message;
}

process.on('message', (message: unknown) => {
  if (isOrder(message)) process.send?.(carryOut(message));
});
