/**
 * Chunk identifiers that were given up, on their way to the metadata server, which has what was stored of
 * them deleted. They are sent together; nobody waits. When the session ends first, the server finds them as
 * the garbage of an ended session.
 *
 * INVARIANT: at most limits.chunksPerMessage wait; more are left to that end.
 */
import { makeLog } from '../base/log.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';

const log = makeLog('client');

export class AbandonedChunks {
  readonly #send: (chunks: ChunkId[]) => Promise<unknown>;
  #waiting: ChunkId[] = [];
  #isSending = false;

  constructor(send: (chunks: ChunkId[]) => Promise<unknown>) {
    this.#send = send;
  }

  add(id: ChunkId): void {
    if (this.#waiting.length < limits.chunksPerMessage) this.#waiting.push(id);
    if (!this.#isSending) void this.#run();
  }

  /** The session they belonged to is over. */
  clear(): void {
    this.#waiting = [];
  }

  async #run(): Promise<void> {
    this.#isSending = true;
    while (this.#waiting.length > 0) {
      const chunks = this.#waiting;
      this.#waiting = [];
      try {
        await this.#send(chunks);
      } catch (error) {
        log.info('abandoned chunks are left to the end of the session', {
          chunks: chunks.length,
          error: String(error),
        });
      }
    }
    this.#isSending = false;
  }
}
