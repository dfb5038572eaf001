/**
 * Many changes, one flush: what is asked for in one turn of the event loop, or while a commit runs, goes into
 * one durable transaction. If that fails, each of its changes is tried in a transaction of its own, so that
 * one that does not fit (a large blob on a full disk) takes no other down with it.
 *
 * Changes are applied in the order in which they were asked for. Bounded by limits.storeCommitBytes and
 * storeCommitChanges per transaction; how much may wait is the caller's business (disk-store.ts: its backlog).
 */
import { limits } from '../proto/limits.js';

interface Change {
  readonly bytes: number;
  readonly apply: () => void;
  readonly settle: (error?: unknown) => void;
}

export class GroupCommit {
  readonly #transaction: (body: () => void) => void;
  #waiting: Change[] = [];
  #scheduled = false;
  #commits = 0;

  constructor(transaction: (body: () => void) => void) {
    this.#transaction = transaction;
  }

  /** Transactions so far. */
  get commits(): number {
    return this.#commits;
  }

  /**
   * Runs `apply` inside a transaction; resolves when it is durable. `apply` writes `bytes` and may run twice:
   * it must change nothing but the database.
   */
  run(bytes: number, apply: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error?: unknown): void => (error === undefined ? resolve() : reject(error));
      this.#waiting.push({ bytes, apply, settle });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#commit(this.#take());
      if (this.#waiting.length > 0) this.#schedule();
    });
  }

  /** The next transaction's changes; at least one. */
  #take(): Change[] {
    let bytes = 0;
    let count = 0;
    for (const change of this.#waiting) {
      bytes += change.bytes;
      if (count > 0 && (bytes > limits.storeCommitBytes || count === limits.storeCommitChanges)) break;
      count++;
    }
    const group = this.#waiting.slice(0, count);
    this.#waiting = this.#waiting.slice(count);
    return group;
  }

  #commit(group: readonly Change[]): void {
    try {
      this.#commits++;
      this.#transaction(() => {
        for (const change of group) change.apply();
      });
    } catch (error) {
      if (group.length > 1) for (const change of group) this.#commit([change]);
      else for (const change of group) change.settle(error);
      return;
    }
    for (const change of group) change.settle();
  }
}
