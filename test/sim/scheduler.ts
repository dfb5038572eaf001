/**
 * Virtual time for a simulation: events in the order of their time, then of their making. Everything that
 * runs belongs to a node (a process of the cluster); a frozen node's events wait until it thaws, those of one
 * that crashed never come.
 *
 * A step is one event, with all promises and immediates that follow from it: the next event begins when
 * nothing is left to run. `setImmediate` and `Math.random` are the simulation's own meanwhile, so that the
 * order of everything follows from the seed.
 *
 * It does not: let anything of the simulated programs wait for real time, files or sockets; whoever does is
 * not simulated.
 */
import type { Clock, Timer, Timespec } from '../../src/base/clock.js';
import type { Prng } from '../../src/base/prng.js';

const realSetImmediate = globalThis.setImmediate;
const realRandom = Math.random;
/** Turns taken in one round of the real event loop, each with what follows from it. */
const TURNS_PER_ROUND = 64;
/** Wall time at the start of every simulation. */
const EPOCH_SEC = 1_750_000_000;
/** A step with more immediates than this goes on for ever. */
const IMMEDIATES_PER_STEP = 100_000;

interface Event {
  readonly atUs: number;
  readonly order: number;
  readonly node: SimNode;
  readonly fire: () => void;
  isCancelled: boolean;
}

export interface NodeOptions {
  /** How fast its clock runs: 1 is right. */
  readonly rate?: number;
  /** What its monotonic clock says at the start, and how far its wall clock is off. */
  readonly originMs?: number;
  readonly wallOffsetMs?: number;
}

/** One process. */
export class SimNode {
  readonly name: string;
  readonly clock: NodeClock;
  frozen = false;
  crashed = false;
  /** Fell due while it was frozen, in order. */
  readonly held: Event[] = [];

  constructor(name: string, scheduler: Scheduler, options: NodeOptions = {}) {
    this.name = name;
    this.clock = new NodeClock(this, scheduler, options);
  }
}

class NodeClock implements Clock {
  readonly #node: SimNode;
  readonly #scheduler: Scheduler;
  readonly #rate: number;
  readonly #originMs: number;
  readonly #wallOffsetMs: number;
  #ticks = 0;

  constructor(node: SimNode, scheduler: Scheduler, options: NodeOptions) {
    this.#node = node;
    this.#scheduler = scheduler;
    this.#rate = options.rate ?? 1;
    this.#originMs = options.originMs ?? 0;
    this.#wallOffsetMs = options.wallOffsetMs ?? 0;
  }

  #elapsedUs(): number {
    return Math.floor(this.#scheduler.nowUs * this.#rate);
  }

  monotonicMs(): number {
    return this.#originMs + this.#elapsedUs() / 1000;
  }

  /** Never the same twice: a microsecond here stands for many moments. */
  now(): Timespec {
    const ms = Math.floor(this.#elapsedUs() / 1000) + this.#wallOffsetMs;
    const us = this.#elapsedUs() % 1000;
    this.#ticks = (this.#ticks + 1) % 1000;
    const sec = Math.floor(ms / 1000);
    return { sec: EPOCH_SEC + sec, nsec: (ms - sec * 1000) * 1_000_000 + us * 1000 + this.#ticks };
  }

  /** As a real timer: never early, sometimes a little late. */
  after(delayMs: number, fire: () => void): Timer {
    const lateUs = this.#scheduler.prng.int(0, 1000);
    const delayUs = Math.ceil((Math.max(0, delayMs) * 1000) / this.#rate) + 1 + lateUs;
    return this.#scheduler.after(delayUs, this.#node, fire);
  }
}

export class Scheduler {
  readonly prng: Prng;
  nowUs = 0;
  /** Whose event is being carried out. */
  current: SimNode | undefined;
  /** Called after every step; what it throws ends the run. */
  onStep: (() => void) | undefined;
  steps = 0;
  /** A binary heap. */
  readonly #events: Event[] = [];
  #order = 0;
  #immediates: { readonly node: SimNode | undefined; readonly run: () => void }[] = [];
  #immediatesOfStep = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(prng: Prng) {
    this.prng = prng;
  }

  get nowMs(): number {
    return this.nowUs / 1000;
  }

  after(delayUs: number, node: SimNode, fire: () => void): Timer {
    const atUs = this.nowUs + Math.max(0, Math.round(delayUs));
    const event = { atUs, order: this.#order++, node, fire, isCancelled: false };
    this.#push(event);
    return {
      cancel: () => {
        event.isCancelled = true;
      },
    };
  }

  /** Runs `body` on a node after `delayUs`; its result. */
  on<T>(node: SimNode, delayUs: number, body: () => T | Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.after(delayUs, node, () => {
        new Promise<T>((inner) => inner(body())).then(resolve, reject);
      });
    });
  }

  sleep(ms: number, node: SimNode): Promise<void> {
    return new Promise((resolve) => this.after(ms * 1000, node, resolve));
  }

  freeze(node: SimNode): void {
    node.frozen = true;
  }

  /** What fell due meanwhile happens now, in order. */
  thaw(node: SimNode): void {
    node.frozen = false;
    for (const event of node.held.splice(0))
      if (!event.isCancelled) this.#push({ ...event, atUs: this.nowUs, order: this.#order++ });
  }

  /** Nothing of it happens any more. */
  crash(node: SimNode): void {
    node.crashed = true;
    node.held.length = 0;
  }

  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  /**
   * Runs until `body` has come to its end. Throws what it throws, what an event or a step's check throws, or
   * an Error when virtual time passes `untilMs`.
   */
  async run<T>(body: () => Promise<T>, untilMs: number): Promise<T> {
    let outcome: { value: T } | undefined;
    const rejected = (error: unknown): void => this.fail(error);
    globalThis.setImmediate = this.#setImmediate();
    Math.random = () => this.prng.next();
    process.on('unhandledRejection', rejected);
    try {
      body().then((value) => {
        outcome = { value };
      }, rejected);
      await this.#turns(() => outcome !== undefined, untilMs * 1000);
    } finally {
      globalThis.setImmediate = realSetImmediate;
      Math.random = realRandom;
      process.off('unhandledRejection', rejected);
    }
    if (outcome === undefined) throw new Error('it ended without an outcome');
    return outcome.value;
  }

  /** Takes turns until `isOver`: Node settles promises between one immediate and the next. */
  #turns(isOver: () => boolean, untilUs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let hasEnded = false;
      const turn = (): void => {
        if (hasEnded) return;
        try {
          hasEnded = this.#turn(isOver, untilUs);
          if (hasEnded) resolve();
        } catch (error) {
          hasEnded = true;
          reject(error);
        }
      };
      const round = (): void => {
        for (let count = 0; count < TURNS_PER_ROUND && !hasEnded; count++) realSetImmediate(turn);
        if (!hasEnded) realSetImmediate(round);
      };
      round();
    });
  }

  /** An immediate, or, when none is left of the last event, the next event; whether it is all over. */
  #turn(isOver: () => boolean, untilUs: number): boolean {
    if (this.#failure !== undefined) throw this.#failure.error;
    const immediate = this.#immediates.shift();
    if (immediate !== undefined) {
      if (++this.#immediatesOfStep > IMMEDIATES_PER_STEP) throw new Error('a step that does not end');
      if (immediate.node?.crashed !== true) this.#guarded(immediate.node, immediate.run);
      return false;
    }
    this.#immediatesOfStep = 0;
    this.steps++;
    this.onStep?.();
    if (isOver()) return true;
    const event = this.#pop();
    if (event === undefined) throw new Error('nothing will ever happen any more');
    if (event.atUs > untilUs) throw new Error(`not at its end after ${untilUs / 1000} ms of its time`);
    this.nowUs = event.atUs;
    if (event.isCancelled || event.node.crashed) return false;
    if (event.node.frozen) event.node.held.push(event);
    else this.#guarded(event.node, event.fire);
    return false;
  }

  /** Typed as Node's own, of which programs use the callback alone. */
  #setImmediate(): typeof globalThis.setImmediate {
    const schedule = (callback: (...args: unknown[]) => void, ...args: unknown[]): object => {
      this.#immediates.push({ node: this.current, run: () => callback(...args) });
      return {};
    };
    return Object.assign(schedule, {
      __promisify__: realSetImmediate.__promisify__,
    }) as typeof realSetImmediate;
  }

  #guarded(node: SimNode | undefined, fire: () => void): void {
    this.current = node;
    try {
      fire();
    } catch (error) {
      this.fail(error);
    }
  }

  // The heap

  #push(event: Event): void {
    const heap = this.#events;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = heap[up];
      if (parent === undefined || !isBefore(event, parent)) break;
      heap[at] = parent;
      at = up;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#events;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      const [left, right] = [heap[2 * at + 1], heap[2 * at + 2]];
      if (left === undefined) break;
      const down = right !== undefined && isBefore(right, left) ? 2 * at + 2 : 2 * at + 1;
      const child = heap[down];
      if (child === undefined || !isBefore(child, last)) break;
      heap[at] = child;
      at = down;
    }
    heap[at] = last;
    return first;
  }
}

const isBefore = (a: Event, b: Event): boolean => (a.atUs !== b.atUs ? a.atUs < b.atUs : a.order < b.order);
