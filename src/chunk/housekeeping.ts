/**
 * What the disk store does when nobody asks. At the start it removes chunk files that no row names (a crash
 * left them). Then, and after deletions, it gives the database's unused pages back to the filesystem and takes
 * up the ballast again. One step at a time, each short; failures are logged and left to the next time.
 */
import { makeLog } from '../base/log.js';
import type { Ballast } from './ballast.js';
import type { ChunkFiles } from './chunk-files.js';
import type { ChunkIndex } from './chunk-index.js';

const log = makeLog('chunk');
/** Unused pages (4 KiB) that stay for the next small chunks. */
const PAGES_KEPT = 1024;
const PAGES_PER_STEP = 64;
/** Deletions come in runs: shrink when a run is over. */
const SHRINK_AFTER_MS = 1_000;
const STEP_PAUSE_MS = 10;

export class Housekeeping {
  readonly #index: ChunkIndex;
  readonly #files: ChunkFiles;
  readonly #ballast: Ballast;
  readonly #swept: Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(index: ChunkIndex, files: ChunkFiles, ballast: Ballast) {
    this.#index = index;
    this.#files = files;
    this.#ballast = ballast;
    this.#swept = this.#sweep();
    this.#shrinkIn(SHRINK_AFTER_MS);
  }

  /** Chunks were removed: their pages can be given back before long. */
  spaceFreed(): void {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    this.#shrinkIn(SHRINK_AFTER_MS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#swept;
  }

  async #sweep(): Promise<void> {
    let removed = 0;
    try {
      for await (const { id, name } of this.#files.fromEarlierRuns()) {
        if (this.#stopped) break;
        if (this.#index.find(id)?.file === name) continue;
        await this.#files.discard(name);
        removed++;
      }
    } catch (error) {
      log.warn('looking for files that a crash left has failed', { error });
    }
    if (removed > 0) log.info('removed files that a crash left', { removed });
  }

  #shrinkIn(delayMs: number): void {
    this.#timer = setTimeout(() => this.#shrink(), delayMs);
    this.#timer.unref();
  }

  #shrink(): void {
    try {
      if (this.#index.freePages > PAGES_KEPT + PAGES_PER_STEP) {
        this.#index.shrink(PAGES_PER_STEP);
        this.#shrinkIn(STEP_PAUSE_MS);
      } else {
        this.#index.checkpoint();
        this.#ballast.load();
      }
    } catch (error) {
      log.warn('giving back the database’s unused space has failed', { error });
    }
  }
}
