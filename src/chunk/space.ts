/**
 * How many bytes of chunks fit: the operator's capacity, or what the filesystem below has left, whichever is
 * less. Part of the filesystem is kept free, so that the database can always commit, deletions included.
 */
import { statfsSync } from 'node:fs';

const MIB = 1024 * 1024;
/** The filesystem is asked at most this often; in between, what is stored is counted. */
const ASK_EVERY_MS = 100;

export class Space {
  readonly #path: string;
  readonly #capacityBytes: number;
  readonly #reserveBytes: number;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #limitBytes = 0;

  /** `capacityBytes`: no more than this, whatever the disk offers. `reserveBytes`: by default 2 % of the disk, at least 8 MiB and at most 1 GiB. */
  constructor(options: { path: string; capacityBytes?: number; reserveBytes?: number }) {
    this.#path = options.path;
    this.#capacityBytes = options.capacityBytes ?? Number.MAX_SAFE_INTEGER;
    this.#reserveBytes = options.reserveBytes ?? defaultReserve(options.path);
  }

  /** Bytes of chunks that fit in all, given that chunks of `usedBytes` are stored now. */
  capacityBytes(usedBytes: number): number {
    const nowMs = performance.now();
    if (nowMs - this.#askedAtMs >= ASK_EVERY_MS) {
      const disk = statfsSync(this.#path);
      this.#limitBytes = usedBytes + Math.max(0, disk.bavail * disk.bsize - this.#reserveBytes);
      this.#askedAtMs = nowMs;
    }
    return Math.max(0, Math.min(this.#capacityBytes, this.#limitBytes));
  }
}

function defaultReserve(path: string): number {
  const disk = statfsSync(path);
  return Math.min(1024 * MIB, Math.max(8 * MIB, Math.floor((disk.blocks * disk.bsize) / 50)));
}
