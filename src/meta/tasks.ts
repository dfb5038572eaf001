/**
 * The durable task queue: work for chunk servers, one row for each server that has to do it. A task is leased
 * to its server through a heartbeat's reply and is gone once the server reports it done. A lease that runs
 * out, a server that comes back, a failure: the task is given out again, after a pause that grows with every
 * failure. Everything a task asks for may be done twice.
 *
 * Leases and progress live in memory: after a restart every task is simply waiting again.
 *
 * INVARIANT: the tasks in memory are those in the store whenever no transaction is open.
 */
import type { Clock } from '../base/clock.js';
import { asChunkId, type ChunkId, type ServerId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { Status, Task } from '../proto/meta-methods.js';
import type { MetaStore, TaskRow } from './store.js';

interface Waiting {
  row: TaskRow;
  /** Leased until then; given out again from then on. */
  notBeforeMs: number;
  leased: boolean;
  done: number;
  total: number;
}

/** What a transaction did to the queue, to be done to memory once it is committed. */
export interface QueueChange {
  readonly put: readonly TaskRow[];
  readonly deleted: readonly number[];
}

export interface TaskReport {
  readonly id: number;
  readonly state: 'running' | 'done' | 'failed';
  readonly done: number;
  readonly total: number;
  readonly message: string;
}

export class Tasks {
  readonly #store: MetaStore;
  readonly #clock: Clock;
  readonly #byServer = new Map<ServerId, Map<number, Waiting>>();

  constructor(store: MetaStore, clock: Clock) {
    this.#store = store;
    this.#clock = clock;
    this.committed({ put: store.tasks(), deleted: [] });
  }

  /** Writes a task for each server. Inside a transaction; pass the result to `committed` afterwards. */
  queue(work: Task['work'], servers: Iterable<ServerId>): QueueChange {
    const put: TaskRow[] = [];
    const deleted: number[] = [];
    for (const server of servers) {
      const waiting = this.#byServer.get(server);
      const full = waiting !== undefined && waiting.size >= limits.tasksPerServer;
      if (full) deleted.push(...waiting.keys());
      const id = this.#store.allocate('task', 1);
      put.push({ id, server, work: full ? this.#everything() : work, attempts: 0, message: '' });
    }
    for (const id of deleted) this.#store.deleteTask(id);
    for (const row of put) this.#store.putTask(row);
    return { put, deleted };
  }

  #everything(): Task['work'] {
    const last = asChunkId(Math.max(1, this.#store.nextId('chunk') - 1));
    return { kind: 'sweep', first: asChunkId(1), last };
  }

  /** Work that deletes these chunks, as tasks that fit a message. */
  static deleting(chunks: readonly ChunkId[]): Task['work'][] {
    const works: Task['work'][] = [];
    for (let start = 0; start < chunks.length; start += limits.chunksPerMessage)
      works.push({ kind: 'delete', chunks: chunks.slice(start, start + limits.chunksPerMessage) });
    return works;
  }

  committed(change: QueueChange): void {
    for (const id of change.deleted) {
      for (const [server, waiting] of this.#byServer) {
        if (waiting.delete(id) && waiting.size === 0) this.#byServer.delete(server);
      }
    }
    for (const row of change.put) {
      const waiting = this.#byServer.get(row.server) ?? new Map<number, Waiting>();
      this.#byServer.set(row.server, waiting);
      const notBeforeMs = this.#clock.monotonicMs() + retryAfterMs(row.attempts);
      waiting.set(row.id, { row, notBeforeMs, leased: false, done: 0, total: sizeOf(row.work) });
    }
  }

  /** Leases what is due to this server, oldest first. */
  lease(server: ServerId): Task[] {
    const nowMs = this.#clock.monotonicMs();
    const leased: Task[] = [];
    for (const waiting of this.#byServer.get(server)?.values() ?? []) {
      if (leased.length === limits.tasksPerHeartbeat) break;
      if (waiting.notBeforeMs > nowMs) continue;
      waiting.leased = true;
      waiting.notBeforeMs = nowMs + limits.taskLeaseMs;
      leased.push({ id: waiting.row.id, leaseMs: limits.taskLeaseMs, work: waiting.row.work });
    }
    return leased;
  }

  /** The server is back: whatever it had leased it may have forgotten. */
  returned(server: ServerId): void {
    for (const waiting of this.#byServer.get(server)?.values() ?? []) {
      if (waiting.leased) waiting.notBeforeMs = this.#clock.monotonicMs();
      waiting.leased = false;
    }
  }

  /** Takes note of progress, which renews the lease. A task that is not known any more is passed over. */
  progress(server: ServerId, report: TaskReport): void {
    const waiting = this.#byServer.get(server)?.get(report.id);
    if (waiting?.leased !== true) return;
    waiting.done = report.done;
    waiting.total = report.total;
    waiting.notBeforeMs = this.#clock.monotonicMs() + limits.taskLeaseMs;
  }

  /** Writes the end of a task, good or bad. Inside a transaction; pass the result to `committed`. */
  settle(server: ServerId, report: TaskReport): QueueChange {
    const waiting = this.#byServer.get(server)?.get(report.id);
    if (waiting === undefined) return { put: [], deleted: [] };
    if (report.state === 'done') {
      this.#store.deleteTask(report.id);
      return { put: [], deleted: [report.id] };
    }
    const row = { ...waiting.row, attempts: waiting.row.attempts + 1, message: report.message };
    this.#store.putTask(row);
    return { put: [row], deleted: [] };
  }

  get size(): number {
    let size = 0;
    for (const waiting of this.#byServer.values()) size += waiting.size;
    return size;
  }

  status(): Status['tasks'] {
    const shown: Status['tasks'] = [];
    for (const [server, tasks] of this.#byServer) {
      for (const { row, leased, done, total } of tasks.values()) {
        if (shown.length === limits.tasksShown) return shown;
        const state = leased ? 'running' : row.attempts > 0 ? 'failed' : 'queued';
        shown.push({ id: row.id, kind: row.work.kind, server, state, done, total, attempts: row.attempts });
      }
    }
    return shown;
  }
}

function retryAfterMs(attempts: number): number {
  return attempts === 0
    ? 0
    : Math.min(limits.taskRetryMaxMs, limits.taskRetryMinMs * 2 ** Math.min(attempts - 1, 30));
}

function sizeOf(work: Task['work']): number {
  return work.kind === 'delete' ? work.chunks.length : work.last - work.first + 1;
}

/** Two changes of one transaction as one. */
export function joinChanges(changes: readonly QueueChange[]): QueueChange {
  return {
    put: changes.flatMap((change) => change.put),
    deleted: changes.flatMap((change) => change.deleted),
  };
}
