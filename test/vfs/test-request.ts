/** A program's request that a test can interrupt. */
import type { Request } from '../../src/vfs/operations.js';

export class TestRequest implements Request {
  readonly uid: number;
  readonly gid: number;
  readonly pid = 1;
  interrupted = false;
  readonly #listeners = new Set<() => void>();

  constructor(uid = 0, gid = 0) {
    this.uid = uid;
    this.gid = gid;
  }

  onInterrupt(listener: () => void): () => void {
    if (this.interrupted) listener();
    else this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  interrupt(): void {
    this.interrupted = true;
    for (const listener of [...this.#listeners]) listener();
  }

  /** Who still listens. */
  get listeners(): number {
    return this.#listeners.size;
  }
}
