/**
 * Ends what cluster.json says is running and no `leasefs up` looks after any more: after a crash, or on
 * `down`. Each process is checked to be the one that was written down before it gets a signal.
 */
import { limits } from '../proto/limits.js';
import type { ClusterFile, ClusterProcess } from './cluster-file.js';
import { clearIfDead } from './mountpoint.js';
import { isAlive, stopProcess } from './process-identity.js';

/** The mount first, while it can still write back; the metadata server last. */
const STOP_ORDER: readonly (readonly [ClusterProcess['role'], number])[] = [
  ['mount', limits.mountStopMs],
  ['chunk', limits.serverStopMs],
  ['meta', limits.serverStopMs],
];

/** Those of `file` that still run, `up` itself excluded. */
export function findLeftovers(file: ClusterFile): ClusterProcess[] {
  return file.processes.filter((entry) => entry.role !== 'up' && isAlive(entry));
}

/** Stops them in order, then clears the dead mount that a killed one leaves. Bounded in time. */
export async function stopLeftovers(file: ClusterFile, report: (line: string) => void): Promise<void> {
  for (const [role, graceMs] of STOP_ORDER) {
    const entries = findLeftovers(file).filter((entry) => entry.role === role);
    await Promise.all(
      entries.map(async (entry) => {
        const result = await stopProcess(entry, graceMs);
        report(`${entry.role} (process ${entry.pid}), still running, ${result}`);
      }),
    );
  }
  if (file.mountpoint !== '' && (await clearIfDead(file.mountpoint)))
    report(`cleared the dead mount at ${file.mountpoint}`);
}
