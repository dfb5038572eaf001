/**
 * What every Transport does, as a suite over a factory. The peer relies on each of these.
 */
import type { Test } from 'tap';
import { limits } from '../../src/proto/limits.js';
import type { Transport } from '../../src/rpc/transport.js';

export interface TransportPair {
  readonly a: Transport;
  readonly b: Transport;
  /** Frees what the pair stands on. */
  end(): Promise<void>;
}

/** Collects what arrives at a transport, from now on. */
export class Arrivals {
  readonly frames: Buffer[] = [];
  readonly closes: string[] = [];
  readonly #waiting: { readonly ready: () => boolean; readonly resolve: () => void }[] = [];

  constructor(transport: Transport) {
    transport.onFrame = (frame) => {
      this.frames.push(frame);
      this.#wake();
    };
    transport.onClose = (reason) => {
      this.closes.push(reason);
      this.#wake();
    };
  }

  /** Resolves when so many frames have arrived; the test's own timeout bounds the wait. */
  count(frames: number): Promise<void> {
    return this.#until(() => this.frames.length >= frames);
  }

  closed(): Promise<void> {
    return this.#until(() => this.closes.length > 0);
  }

  #until(ready: () => boolean): Promise<void> {
    if (ready()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ ready, resolve }));
  }

  #wake(): void {
    for (const waiter of this.#waiting) if (waiter.ready()) waiter.resolve();
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Bytes that differ from place to place and from `salt` to `salt`. */
function pattern(length: number, salt: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let index = 0; index < length; index++) bytes[index] = (index * 7 + (index >> 8) + salt) & 0xff;
  return bytes;
}

export function transportContract(t: Test, name: string, makePair: () => Promise<TransportPair>): void {
  const check = (what: string, body: (t: Test, pair: TransportPair) => Promise<void>): void => {
    t.test(`${name}: ${what}`, async (t) => {
      const pair = await makePair();
      t.teardown(() => pair.end());
      await body(t, pair);
    });
  };

  check('frames arrive whole and in order, both ways at once', async (t, { a, b }) => {
    const [atA, atB] = [new Arrivals(a), new Arrivals(b)];
    const count = 500;
    for (let index = 0; index < count; index++) {
      a.send([pattern((index * 37) % 3000, index)]);
      b.send([pattern((index * 53) % 2000, index + 1)]);
    }
    await Promise.all([atA.count(count), atB.count(count)]);
    for (let index = 0; index < count; index++) {
      if (atB.frames[index]?.equals(pattern((index * 37) % 3000, index)) !== true) t.fail(`a→b ${index}`);
      if (atA.frames[index]?.equals(pattern((index * 53) % 2000, index + 1)) !== true) t.fail(`b→a ${index}`);
    }
    t.equal(atB.frames.length, count);
  });

  check('frames of every size arrive unchanged, whatever their parts', async (t, { a, b }) => {
    const [atA, atB] = [new Arrivals(a), new Arrivals(b)];
    const sizes = [0, 1, 125, 126, 127, 16_383, 16_384, 16_385, 65_535, 65_536, 1_048_576, limits.frameBytes];
    for (const [index, size] of sizes.entries()) {
      const frame = pattern(size, index);
      const cuts = [0, Math.min(8, size), Math.floor(size / 3), size];
      const parts = cuts.slice(1).map((end, part) => frame.subarray(Math.min(cuts[part] ?? 0, end), end));
      const joined = Buffer.concat(parts);
      for (const [from, to] of [[a, atB] as const, [b, atA] as const]) {
        from.send(parts);
        await to.count(index + 1);
        t.ok(to.frames[index]?.equals(joined), `${size} bytes`);
      }
    }
  });

  check('what was sent before a close arrives before it', async (t, { a, b }) => {
    const [atA, atB] = [new Arrivals(a), new Arrivals(b)];
    for (let index = 0; index < 20; index++) a.send([pattern(100_000, index)]);
    a.close(1000, 'that was all');
    t.strictSame([atA.closes, atB.closes], [[], []], 'nobody is told from within close');
    a.close(1000, 'closing twice is closing once');
    a.send([pattern(10, 0)]);
    await Promise.all([atA.closed(), atB.closed()]);
    await pause(30);
    t.equal(atB.frames.length, 20);
    t.equal(atA.closes.length, 1);
    t.equal(atB.closes.length, 1);
    t.match(atB.closes[0], /that was all/);
    a.send([pattern(10, 0)]);
    b.send([pattern(10, 0)]);
    b.close(1000, 'too late');
    await pause(30);
    t.equal(atA.frames.length + atB.frames.length, 20, 'a closed connection carries nothing');
    t.equal(atA.closes.length + atB.closes.length, 2);
  });

  check('no frame arrives behind this side’s close', async (t, { a, b }) => {
    const [atA, atB] = [new Arrivals(a), new Arrivals(b)];
    b.send([pattern(10, 1)]);
    await atA.count(1);
    for (let index = 0; index < 10; index++) b.send([pattern(10, index)]);
    a.close(1000, 'enough');
    await Promise.all([atA.closed(), atB.closed()]);
    t.equal(atA.frames.length, 1);
  });

  check('both sides may close at once', async (t, { a, b }) => {
    const [atA, atB] = [new Arrivals(a), new Arrivals(b)];
    a.close(1000, 'from a');
    b.close(1000, 'from b');
    await Promise.all([atA.closed(), atB.closed()]);
    await pause(30);
    t.strictSame([atA.closes.length, atB.closes.length], [1, 1]);
  });

  check('frames and the close wait until somebody listens', async (t, { a, b }) => {
    a.send([Buffer.from('early')]);
    a.send([Buffer.from('bird')]);
    a.close(1000, 'gone');
    await pause(50);
    const [atA, atB] = [new Arrivals(a), new Arrivals(b)];
    await Promise.all([atA.closed(), atB.closed()]);
    t.strictSame(atB.frames.map(String), ['early', 'bird']);
    t.match(atB.closes, [/gone/]);
  });

  check('a reason that is too long for a close is cut', async (t, { a, b }) => {
    const [atA, atB] = [new Arrivals(a), new Arrivals(b)];
    a.close(1000, 'ä'.repeat(500));
    await Promise.all([atA.closed(), atB.closed()]);
    t.match(atB.closes[0], /^ä{50,}/);
  });

  check('buffered bytes are counted and run dry', async (t, { a, b }) => {
    const [, atB] = [new Arrivals(a), new Arrivals(b)];
    t.equal(a.bufferedBytes, 0);
    const sent = 16 * 1_000_000;
    for (let index = 0; index < 16; index++) a.send([pattern(1_000_000, index)]);
    t.ok(a.bufferedBytes > 0 && a.bufferedBytes < sent + 1000, `${a.bufferedBytes} of ${sent}`);
    await atB.count(16);
    await pause(20);
    t.equal(a.bufferedBytes, 0);
  });

  check('a transport says who is on the other side', async (t, { a, b }) => {
    for (const end of [a, b]) new Arrivals(end);
    t.match(a.remote, /.+/);
    t.match(b.remote, /.+/);
  });
}
