/**
 * Files kept open for reading, the least recently used one closed first: opening and closing cost a ranged
 * read two more trips through the thread pool.
 *
 * A file that is forgotten (because it is removed) is closed as soon as its last reader is done, so that its
 * space comes back.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { makeLog } from '../base/log.js';

const log = makeLog('chunk');

interface Entry {
  readonly handle: Promise<FileHandle>;
  readers: number;
  /** Not in the map any more: the last reader closes it. */
  dropped: boolean;
}

export class OpenFiles {
  readonly #most: number;
  /** INVARIANT: in order of use, the last one used last; at most #most. */
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();

  constructor(most: number) {
    this.#most = most;
  }

  /** Files open now, those that are just being read and dropped not counted. */
  get size(): number {
    return this.#entries.size;
  }

  /** Calls `read` with the file, opened if need be. Rejects as open(2) or `read` does. */
  async use<T>(path: string, read: (file: FileHandle) => Promise<T>): Promise<T> {
    const entry = this.#take(path);
    entry.readers++;
    try {
      return await read(await entry.handle);
    } catch (error) {
      // Whatever it was (never opened, a bad disk), the next reader starts afresh.
      if (this.#entries.get(path) === entry) this.forget(path);
      throw error;
    } finally {
      entry.readers--;
      if (entry.dropped) this.#closeUnread(entry);
    }
  }

  /** Closes the file as soon as nobody reads it; one that is not open is passed over. */
  forget(path: string): void {
    const entry = this.#entries.get(path);
    if (entry === undefined) return;
    this.#entries.delete(path);
    entry.dropped = true;
    this.#closeUnread(entry);
  }

  /** Closes everything; nobody may be reading. */
  async close(): Promise<void> {
    for (const path of [...this.#entries.keys()]) this.forget(path);
    await Promise.all(this.#closing);
  }

  #take(path: string): Entry {
    let entry = this.#entries.get(path);
    if (entry === undefined) entry = { handle: open(path, 'r'), readers: 0, dropped: false };
    else this.#entries.delete(path);
    this.#entries.set(path, entry);
    if (this.#entries.size > this.#most) {
      const [oldest] = this.#entries.keys();
      if (oldest !== undefined) this.forget(oldest);
    }
    return entry;
  }

  #closeUnread(entry: Entry): void {
    if (entry.readers > 0) return;
    const closed: Promise<void> = entry.handle
      .then(
        (file) => file.close(),
        () => undefined, // It was never opened; its reader has been told.
      )
      .catch((error: unknown) => log.warn('closing a chunk file failed', { error }))
      .finally(() => this.#closing.delete(closed));
    this.#closing.add(closed);
  }
}
