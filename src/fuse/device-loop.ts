/**
 * Reads requests from the device and hands them on, in order, from the event loop of the main thread. What
 * costs is waking a sleeping core (50 to 100 µs on a virtual machine), so while requests are dense the loop
 * polls for a moment before it lets the process sleep, if that measures as the faster way (wait-policy.ts).
 *
 * Two ways to wait, one interface: `WatchedLoop` has libuv watch the device along with everything else
 * (no thread, one wake-up per request at most), `ParkedLoop` keeps one fs.read in the thread pool and is
 * for a Node that does not export libuv's functions.
 *
 * Invariants: a turn of the event loop handles at most TURN_REQUESTS requests and begins none after TURN_MS,
 * so that sockets and timers get theirs; after a request whose operation did not answer at once all microtasks
 * run, and when that has not answered it the loop returns to the event loop before it polls; an idle device costs nothing.
 *
 * **Source:** native-notes/fuse-kernel.md, "Waiting for requests".
 */
import { read } from 'node:fs';
import { REQUEST_BYTES } from './abi.js';
import { type DescriptorWatch, readInto, setNonBlocking, watchReadable } from './libc.js';
import { RequestSlabs } from './request-slabs.js';
import { WaitPolicy } from './wait-policy.js';

const ENOENT = 2;
const EINTR = 4;
const EAGAIN = 11;
const ENODEV = 19;

/** What the loop does with a request: see Session.serve. */
export type Serve = (frame: Buffer) => Promise<void> | undefined;

export interface DeviceLoop {
  start(): void;
  /** Stops reading, for good; the descriptor may be closed afterwards. Idempotent. */
  stop(): void;
}

export interface LoopOptions {
  readonly fd: number;
  readonly serve: Serve;
  /** Called once: undefined when the filesystem was unmounted, else what went wrong. */
  readonly onEnd: (error: Error | undefined) => void;
}

const TURN_REQUESTS = 32;
const TURN_MS = 2;

/** Longest polling before waiting; about what a wake-up costs. */
export const SPIN_MS = 0.05;
/** How long the loop then waits in one poll of its own, which costs half of a turn of the event loop. */
const DENSE_WAIT_MS = 0.2;
/** Without a request for so long, the loop waits in libuv alone, even while that is busy with other things. */
const QUIET_MS = 2;

/** A turn of the event loop. */
interface Turn {
  handled: number;
  readonly untilMs: number;
  /** Somebody else has to answer for a request of this turn. */
  isWaitedFor: boolean;
}

/** A request that is not answered yet. */
interface UnderWay {
  isSettled: boolean;
}

/** Waits in libuv, polls in between. */
export class WatchedLoop implements DeviceLoop {
  readonly #options: LoopOptions;
  readonly #spinMs: number;
  readonly #slabs = new RequestSlabs();
  readonly #policy = new WaitPolicy();
  #watch: DescriptorWatch | undefined;
  #scheduled = false;
  /** When the device was last found empty after a request; undefined once the next one has come. */
  #emptySinceMs: number | undefined;

  /** `spinMs` 0: never poll. */
  constructor(options: LoopOptions, spinMs: number = SPIN_MS) {
    this.#options = options;
    this.#spinMs = spinMs;
  }

  start(): void {
    this.#watch = watchReadable(this.#options.fd, () => this.#schedule());
  }

  stop(): void {
    if (this.#watch === undefined) return;
    this.#watch.close();
    this.#watch = undefined;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#turn();
    });
  }

  /** Handles what is there; then waits, or leaves that to libuv by returning without a turn scheduled. */
  #turn(): void {
    this.#go({ handled: 0, untilMs: performance.now() + TURN_MS, isWaitedFor: false });
  }

  #go(turn: Turn): void {
    while (turn.handled < TURN_REQUESTS && this.#watch !== undefined && performance.now() < turn.untilMs) {
      const taken = this.#take();
      if (taken === 'ended') return;
      if (taken === 'empty') {
        this.#emptySinceMs ??= performance.now();
        if (turn.isWaitedFor) break;
        const found = this.#await(this.#watch, this.#emptySinceMs);
        if (found === 'loop') break;
        if (found === 'nothing') return;
      } else if (taken !== 'again') {
        turn.handled += 1;
        if (taken === 'answered') continue;
        this.#goOn(turn, taken);
        return;
      }
    }
    this.#schedule();
  }

  /** Goes on once nothing is left to do for a request but what others have to answer. */
  #goOn(turn: Turn, request: UnderWay): void {
    queueMicrotask(() =>
      // Runs when there are no microtasks left.
      process.nextTick(() => {
        turn.isWaitedFor ||= !request.isSettled;
        this.#go(turn);
      }),
    );
  }

  #take(): 'answered' | UnderWay | 'empty' | 'again' | 'ended' {
    const room = this.#slabs.room();
    const count = readInto(this.#options.fd, room);
    if (count > 0) {
      this.#noteWait();
      const using = this.#options.serve(room.subarray(0, count));
      if (using === undefined) return 'answered';
      const unpin = this.#slabs.pin(count);
      const request = { isSettled: false };
      using.then(() => {
        request.isSettled = true;
        unpin();
      });
      return request;
    }
    if (count === -EAGAIN) return 'empty';
    if (count === -EINTR || count === -ENOENT) return 'again';
    this.stop();
    this.#options.onEnd(endReason(count));
    return 'ended';
  }

  #noteWait(): void {
    if (this.#emptySinceMs === undefined) return;
    this.#policy.waited(performance.now() - this.#emptySinceMs);
    this.#emptySinceMs = undefined;
  }

  /** Waits for a request or anything else that the event loop waits for, for a moment, where that pays. */
  #await(watch: DescriptorWatch, emptySinceMs: number): 'watched' | 'loop' | 'nothing' {
    const startMs = performance.now();
    if (!this.#policy.dense || startMs - emptySinceMs > QUIET_MS) return 'nothing';
    if (this.#policy.spins && this.#spinMs > 0) {
      const untilMs = startMs + this.#spinMs;
      do {
        const found = watch.look();
        if (found !== 'nothing') return found;
      } while (performance.now() < untilMs);
    }
    return watch.wait(DENSE_WAIT_MS);
  }
}

/** Waits in the thread pool: one read of the device is always parked there. */
export class ParkedLoop implements DeviceLoop {
  readonly #options: LoopOptions;
  readonly #slabs = new RequestSlabs();
  #stopped = false;

  constructor(options: LoopOptions) {
    this.#options = options;
  }

  start(): void {
    setNonBlocking(this.#options.fd, false);
    this.#read();
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
  }

  #read(): void {
    const room = this.#slabs.room();
    read(this.#options.fd, room, 0, REQUEST_BYTES, null, (error, count) => {
      if (this.#stopped) return;
      if (error === null) {
        const using = this.#options.serve(room.subarray(0, count));
        if (using !== undefined) using.then(this.#slabs.pin(count));
      } else if (error.errno !== -EINTR && error.errno !== -ENOENT && error.errno !== -EAGAIN) {
        this.stop();
        this.#options.onEnd(endReason(error.errno ?? 0));
        return;
      }
      this.#read();
    });
  }
}

function endReason(result: number): Error | undefined {
  return result === -ENODEV ? undefined : new Error(`reading the FUSE device failed with errno ${-result}`);
}
