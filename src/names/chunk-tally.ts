/**
 * By how many bytes an operation changes each chunk's usage. Summed over the whole operation, so that a
 * chunk whose bytes only move from one extent to another never looks unused in between.
 */
import type { ChunkId } from '../proto/ids.js';
import type { RowChange } from './rows.js';

export class ChunkTally {
  readonly #used = new Map<ChunkId, number>();

  /** Counts `bytes` newly referenced (> 0) or no longer (< 0). */
  add(chunk: ChunkId, bytes: number): void {
    this.#used.set(chunk, (this.#used.get(chunk) ?? 0) + bytes);
  }

  /** What was counted for a chunk; it is then no longer among `changes`. */
  take(chunk: ChunkId): number {
    const bytes = this.#used.get(chunk) ?? 0;
    this.#used.delete(chunk);
    return bytes;
  }

  changes(): RowChange[] {
    const changes: RowChange[] = [];
    for (const [id, used] of this.#used) if (used !== 0) changes.push({ adjust: 'chunk', id, used });
    return changes;
  }
}
