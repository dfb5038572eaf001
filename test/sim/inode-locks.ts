/** The kernel's lock of each inode: many who read or one who changes, in the order in which they came. */
import type { Ino } from '../../src/proto/ids.js';

type Kind = 'shared' | 'exclusive';

interface Waiting {
  readonly kind: Kind;
  readonly enter: () => void;
}

interface Lock {
  shared: number;
  exclusive: boolean;
  readonly waiting: Waiting[];
}

export class InodeLocks {
  readonly #locks = new Map<Ino, Lock>();

  /** Runs `body` with these inodes locked, smallest first. */
  async with<T>(kind: Kind, inodes: readonly Ino[], body: () => Promise<T>): Promise<T> {
    const ordered = [...new Set(inodes)].sort((a, b) => a - b);
    const taken: Ino[] = [];
    try {
      for (const ino of ordered) {
        await this.#take(ino, kind);
        taken.push(ino);
      }
      return await body();
    } finally {
      for (const ino of taken) this.#release(ino, kind);
    }
  }

  async #take(ino: Ino, kind: Kind): Promise<void> {
    const lock = this.#locks.get(ino) ?? { shared: 0, exclusive: false, waiting: [] };
    this.#locks.set(ino, lock);
    const isFree = !lock.exclusive && lock.waiting.length === 0 && (kind === 'shared' || lock.shared === 0);
    if (isFree) this.#enter(lock, kind);
    else await new Promise<void>((enter) => lock.waiting.push({ kind, enter }));
  }

  #enter(lock: Lock, kind: Kind): void {
    if (kind === 'shared') lock.shared++;
    else lock.exclusive = true;
  }

  #release(ino: Ino, kind: Kind): void {
    const lock = this.#locks.get(ino);
    if (lock === undefined) return;
    if (kind === 'shared') lock.shared--;
    else lock.exclusive = false;
    for (let next = lock.waiting[0]; next !== undefined; next = lock.waiting[0]) {
      if (lock.exclusive || (next.kind === 'exclusive' && lock.shared > 0)) return;
      lock.waiting.shift();
      this.#enter(lock, next.kind);
      next.enter();
    }
    if (lock.shared === 0 && !lock.exclusive) this.#locks.delete(ino);
  }
}
