/**
 * Memory that requests are read into. The kernel wants room for the largest WRITE at every read, but most
 * requests are small: a request that is answered at once leaves its memory to the next one, and one that is
 * not keeps only the bytes it has (`pin`), the next being read behind it.
 *
 * Invariants: pinned bytes are never read into before they are let go; `room()` always has REQUEST_BYTES;
 * at most KEPT_SLABS free slabs are kept. Slabs in use are bounded by the requests under way, which the
 * kernel bounds (one per waiting thread, and max_background).
 */
import { assert } from '../base/assert.js';
import { REQUEST_BYTES } from './abi.js';

const SLAB_BYTES = 4 * REQUEST_BYTES;
const KEPT_SLABS = 2;
const ALIGNMENT = 64;

interface Slab {
  readonly memory: Buffer;
  /** Requests that still use some of its bytes. */
  pins: number;
}

export class RequestSlabs {
  readonly #free: Slab[] = [];
  #slab: Slab = newSlab();
  #cursor = 0;
  #room: Buffer;

  constructor() {
    this.#room = this.#slab.memory.subarray(0, REQUEST_BYTES);
  }

  /** Where the next request may be read. The same memory until `pin` is called. */
  room(): Buffer {
    return this.#room;
  }

  /** Keeps the first `bytes` of the present room until the returned function is called (once). */
  pin(bytes: number): () => void {
    assert(bytes <= REQUEST_BYTES, 'a request fits its room');
    const slab = this.#slab;
    slab.pins += 1;
    this.#moveTo(this.#cursor + Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);
    return () => this.#unpin(slab);
  }

  #moveTo(cursor: number): void {
    if (cursor + REQUEST_BYTES > SLAB_BYTES) {
      this.#slab = this.#free.pop() ?? newSlab();
      this.#cursor = 0;
    } else {
      this.#cursor = cursor;
    }
    this.#room = this.#slab.memory.subarray(this.#cursor, this.#cursor + REQUEST_BYTES);
  }

  #unpin(slab: Slab): void {
    slab.pins -= 1;
    assert(slab.pins >= 0, 'a request is let go once');
    if (slab.pins > 0) return;
    if (slab === this.#slab) this.#moveTo(0);
    else if (this.#free.length < KEPT_SLABS) this.#free.push(slab);
  }
}

function newSlab(): Slab {
  return { memory: Buffer.allocUnsafeSlow(SLAB_BYTES), pins: 0 };
}
