/**
 * Runs the tasks that the metadata server leases to this server, one at a time, and reports progress and the
 * end of each. A task that is interrupted (the connection ends, the server stops) is simply dropped: its
 * lease runs out and the metadata server hands it out again, and doing part of it twice does no harm.
 *
 * Tasks that arrive while others wait are queued, bounded: what does not fit is left to its lease. A task
 * that is handed out again while it is here already is passed over.
 */
import { makeLog } from '../base/log.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaCallbacks, MetaMethods, Task } from '../proto/meta-methods.js';
import type { Peer } from '../rpc/peer.js';
import type { ChunkStore } from './store.js';

const log = makeLog('chunk');
/** Chunks deleted between two reports. */
const BATCH_CHUNKS = 256;
/** A report renews the lease; sending one more often than this says nothing new. */
const REPORT_EVERY_MS = 1_000;

export type MetaPeer = Pick<Peer<MetaMethods, MetaCallbacks>, 'call'>;

interface Progress {
  done: number;
  total: number;
}

export class TaskRunner {
  readonly #store: ChunkStore;
  readonly #meta: MetaPeer;
  /** INVARIANT: holds the running task and those that wait, at most limits.tasksHeld. */
  readonly #held = new Map<number, Task>();
  readonly #stopping = new AbortController();
  #running: Promise<void> | undefined;

  /** Reports go over `meta`, the connection the tasks came by. */
  constructor(store: ChunkStore, meta: MetaPeer) {
    this.#store = store;
    this.#meta = meta;
  }

  accept(tasks: readonly Task[]): void {
    if (this.#stopping.signal.aborted) return;
    for (const task of tasks) {
      if (this.#held.has(task.id)) continue;
      if (this.#held.size >= limits.tasksHeld) break;
      this.#held.set(task.id, task);
    }
    if (this.#held.size > 0) this.#running ??= this.#runAll();
  }

  /** Drops what waits and returns when the running task has left the store alone. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #runAll(): Promise<void> {
    // Maps keep insertion order, and a task accepted meanwhile goes to the end.
    for (const task of this.#held.values()) {
      if (this.#stopping.signal.aborted) break;
      await this.#run(task);
      this.#held.delete(task.id);
    }
    this.#running = undefined;
  }

  async #run(task: Task): Promise<void> {
    const progress: Progress = { done: 0, total: 0 };
    try {
      const { work } = task;
      if (work.kind === 'delete') await this.#delete(task, work.chunks, progress);
      else await this.#sweep(task, work, progress);
      if (!this.#stopping.signal.aborted) await this.#report(task, 'done', progress);
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      log.warn('a task failed', { task: task.id, kind: task.work.kind, error });
      await this.#reportFailure(task, progress, error);
    }
  }

  async #delete(task: Task, chunks: readonly ChunkId[], progress: Progress): Promise<void> {
    progress.total = chunks.length;
    let reportedAtMs = performance.now();
    for (let first = 0; first < chunks.length && !this.#stopping.signal.aborted; first += BATCH_CHUNKS) {
      const batch = chunks.slice(first, first + BATCH_CHUNKS);
      await this.#store.delete(batch);
      progress.done += batch.length;
      if (performance.now() - reportedAtMs < REPORT_EVERY_MS) continue;
      await this.#report(task, 'running', progress);
      reportedAtMs = performance.now();
    }
  }

  async #sweep(task: Task, range: { first: number; last: number }, progress: Progress): Promise<void> {
    const { signal } = this.#stopping;
    let after = range.first - 1;
    for (let end = false; !end && !signal.aborted; ) {
      const page = await this.#store.list(after, range.last, limits.chunksPerMessage);
      const stored = page.chunks.map((chunk) => chunk.id);
      const last = stored.at(-1);
      if (last === undefined) return;
      const { garbage } = await this.#meta.call('findGarbage', { chunks: stored }, { signal });
      const asked = new Set(stored);
      await this.#store.delete(garbage.filter((id) => asked.has(id)));
      progress.done += stored.length;
      progress.total = progress.done;
      after = last;
      end = page.end;
      if (!end) await this.#report(task, 'running', progress);
    }
  }

  async #report(task: Task, state: 'running' | 'done', progress: Progress): Promise<void> {
    const { signal } = this.#stopping;
    await this.#meta.call('reportTask', { id: task.id, state, ...progress, message: '' }, { signal });
  }

  async #reportFailure(task: Task, progress: Progress, error: unknown): Promise<void> {
    const message = error instanceof Error ? error.message.slice(0, 1000) : 'unknown';
    const { signal } = this.#stopping;
    try {
      await this.#meta.call('reportTask', { id: task.id, state: 'failed', ...progress, message }, { signal });
    } catch (reportError) {
      log.warn('the end of a task could not be reported: its lease will run out', {
        task: task.id,
        error: reportError,
      });
    }
  }
}
