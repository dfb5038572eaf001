/**
 * Two transports joined in memory, for tests and simulations: no sockets, no processes, the same semantics.
 * Delays and cuts come from a Prng and a Clock, so that a seed replays them.
 *
 * A connection is ordered or dead: a frame may be late, and later frames are then late too, but none
 * overtakes another and none is missing before one that arrives. A cut loses everything on its way, and each
 * side learns of it in its own time; cutting twice is cutting once.
 */
import { assert } from '../base/assert.js';
import { type Clock, systemClock } from '../base/clock.js';
import type { Prng } from '../base/prng.js';
import type { Transport } from './transport.js';

export interface MemoryTransportOptions {
  /** Drives deliveries; without one they come in the next turn of the event loop. */
  readonly clock?: Clock;
  /** Decides delays and cuts; without one there are none. */
  readonly prng?: Prng;
  /** How long a frame, or the news of a close, is on its way; default 0. */
  readonly delayMs?: { readonly min: number; readonly max: number };
  /** Probability that sending a frame cuts the connection, the frame lost; default 0. */
  readonly cutProbability?: number;
}

type Delivery = { readonly dueMs: number } & ({ readonly frame: Buffer } | { readonly closed: string });

/** One end. Besides what a Transport does it can be cut, as a cable is. */
export class MemoryTransport implements Transport {
  readonly remote: string;
  readonly #options: MemoryTransportOptions;
  readonly #clock: Clock;
  #other: MemoryTransport | undefined;
  /** What is on its way to this end, in order. Bounded by the calls of the peers above. */
  #arriving: Delivery[] = [];
  #bytesArriving = 0;
  #scheduled = false;
  /** This end takes no frame any more, in either direction. */
  #ended = false;
  #onFrame: ((frame: Buffer) => void) | undefined;
  #onClose: ((reason: string) => void) | undefined;

  constructor(remote: string, options: MemoryTransportOptions) {
    this.remote = remote;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Makes two ends one connection. */
  static join(a: MemoryTransport, b: MemoryTransport): void {
    assert(a.#other === undefined && b.#other === undefined, 'an end is joined once');
    a.#other = b;
    b.#other = a;
  }

  send(parts: readonly Uint8Array[]): void {
    const other = this.#other;
    if (this.#ended || other === undefined || other.#ended) return;
    const { prng, cutProbability } = this.#options;
    if (prng !== undefined && cutProbability !== undefined && prng.next() < cutProbability) {
      this.cut('connection lost');
      return;
    }
    // Copied: over a network, too, neither side sees what the other does to its buffers afterwards.
    const frame = Buffer.concat(parts);
    other.#bytesArriving += frame.length;
    other.#expect({ frame });
  }

  get bufferedBytes(): number {
    return this.#other === undefined ? 0 : this.#other.#bytesArriving;
  }

  close(_code: number, reason: string): void {
    if (this.#ended) return;
    this.#end(reason);
    if (this.#other !== undefined && !this.#other.#ended) this.#other.#expect({ closed: reason });
  }

  /** Ends the connection without goodbye: what is on its way in either direction is lost. */
  cut(reason: string): void {
    this.#end(reason);
    if (this.#other !== undefined) this.#other.#end(reason);
  }

  get onFrame(): (frame: Buffer) => void {
    return this.#onFrame ?? (() => {});
  }
  set onFrame(receive: (frame: Buffer) => void) {
    this.#onFrame = receive;
    this.#schedule();
  }

  get onClose(): (reason: string) => void {
    return this.#onClose ?? (() => {});
  }
  set onClose(closed: (reason: string) => void) {
    this.#onClose = closed;
    this.#schedule();
  }

  #end(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#arriving = [];
    this.#bytesArriving = 0;
    this.#expect({ closed: reason });
  }

  #expect(what: { readonly frame: Buffer } | { readonly closed: string }): void {
    const { prng, delayMs } = this.#options;
    const delay = prng === undefined || delayMs === undefined ? 0 : prng.int(delayMs.min, delayMs.max);
    const notBefore = this.#arriving.at(-1)?.dueMs ?? 0;
    this.#arriving.push({ ...what, dueMs: Math.max(this.#clock.monotonicMs() + delay, notBefore) });
    this.#schedule();
  }

  #schedule(): void {
    const next = this.#arriving[0];
    if (next === undefined || this.#scheduled) return;
    if (this.#onFrame === undefined || this.#onClose === undefined) return;
    this.#scheduled = true;
    const waitMs = next.dueMs - this.#clock.monotonicMs();
    if (waitMs <= 0 && this.#options.clock === undefined) setImmediate(() => this.#deliver());
    else this.#clock.after(Math.max(0, waitMs), () => this.#deliver());
  }

  #deliver(): void {
    this.#scheduled = false;
    const nowMs = this.#clock.monotonicMs();
    // Bounded: what is sent meanwhile is delivered in a later turn.
    for (let due = this.#arriving.length; due > 0; due--) {
      const next = this.#arriving[0];
      if (next === undefined || next.dueMs > nowMs) break;
      this.#arriving.shift();
      if ('frame' in next) {
        this.#bytesArriving -= next.frame.length;
        this.#onFrame?.(next.frame);
      } else {
        this.#ended = true;
        this.#onClose?.(next.closed);
      }
    }
    this.#schedule();
  }
}

/** Two ends of one connection. */
export function memoryTransportPair(
  options: MemoryTransportOptions = {},
): [MemoryTransport, MemoryTransport] {
  const pair: [MemoryTransport, MemoryTransport] = [
    new MemoryTransport('memory:b', options),
    new MemoryTransport('memory:a', options),
  ];
  MemoryTransport.join(pair[0], pair[1]);
  return pair;
}
