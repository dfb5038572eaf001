/**
 * One request under way: who asked, and the way to tell its operation that the caller was interrupted.
 * Invariant: every listener is called at most once, and never after it was taken back.
 */
import type { Request } from '../vfs/operations.js';
import type { Header } from './decode.js';

export class FuseRequest implements Request {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly opcode: number;
  #interrupted = false;
  #listeners: Set<() => void> | undefined;

  constructor(header: Header) {
    this.uid = header.uid;
    this.gid = header.gid;
    this.pid = header.pid;
    this.opcode = header.opcode;
  }

  get interrupted(): boolean {
    return this.#interrupted;
  }

  onInterrupt(listener: () => void): () => void {
    if (this.#interrupted) {
      listener();
      return () => {};
    }
    this.#listeners ??= new Set();
    this.#listeners.add(listener);
    return () => this.#listeners?.delete(listener);
  }

  /** The caller received a signal, or nobody can be answered any more. Idempotent. */
  interrupt(): void {
    if (this.#interrupted) return;
    this.#interrupted = true;
    const listeners = this.#listeners;
    this.#listeners = undefined;
    for (const listener of listeners ?? []) listener();
  }
}
