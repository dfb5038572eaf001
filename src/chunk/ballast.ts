/**
 * A file that takes up space so that it can be given up: on a disk that is full to the last byte (filled by
 * somebody else, perhaps) even a deletion needs room, for the database's log, and so does opening the database
 * after a crash. Giving the ballast up makes both possible; deleting chunks makes room for it again.
 */
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeLog } from '../base/log.js';

const log = makeLog('chunk');
/** More than the database's log grows to between two checkpoints (chunk-index.ts). */
const BALLAST_BYTES = 6 * 1024 * 1024;

export class Ballast {
  readonly #path: string;
  #held: boolean;

  /** Holds what an earlier run took; `load` takes what is missing. */
  constructor(directory: string) {
    this.#path = join(directory, 'ballast');
    this.#held = statSync(this.#path, { throwIfNoEntry: false })?.size === BALLAST_BYTES;
  }

  /** Takes the space, if it is not held and there is enough. */
  load(): void {
    if (this.#held) return;
    try {
      writeFileSync(this.#path, Buffer.alloc(BALLAST_BYTES));
      this.#held = true;
    } catch (error) {
      log.warn('no space for the ballast: deleting may fail while the disk is full', { error });
      rmSync(this.#path, { force: true });
    }
  }

  /** Gives the space up; false when it was not held. */
  drop(): boolean {
    if (!this.#held) return false;
    this.#held = false;
    rmSync(this.#path, { force: true });
    log.warn('the disk is full: gave up the ballast to go on at all', { ballast: this.#path });
    return true;
  }
}
