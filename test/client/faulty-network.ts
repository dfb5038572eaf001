/**
 * A network whose faults a test commands: real WebSocket connections behind transports that can be cut,
 * frozen, refused, or made to lose the next answer.
 */
import { ProtocolError } from '../../src/proto/protocol-error.js';
import type { Transport } from '../../src/rpc/transport.js';
import { connectWebSocket } from '../../src/rpc/websocket.js';

/** What happens to one server's connections. */
interface Faults {
  refused: boolean;
  frozen: boolean;
  /** The next frame that arrives from the server is lost, and the connection with it. */
  loseNextAnswer: boolean;
  refuseThen: boolean;
  readonly open: Set<FaultyTransport>;
}

class FaultyTransport implements Transport {
  readonly #inner: Transport;
  readonly #faults: Faults;
  #held: (() => void)[] = [];
  #onClose: (reason: string) => void = () => {};
  #ended = false;

  constructor(inner: Transport, faults: Faults) {
    this.#inner = inner;
    this.#faults = faults;
    faults.open.add(this);
  }

  get remote(): string {
    return this.#inner.remote;
  }

  get bufferedBytes(): number {
    return this.#inner.bufferedBytes;
  }

  send(parts: readonly Uint8Array[]): void {
    this.#whenThawed(() => this.#inner.send(parts));
  }

  get onFrame(): (frame: Buffer) => void {
    return this.#inner.onFrame;
  }
  set onFrame(receive: (frame: Buffer) => void) {
    this.#inner.onFrame = (frame) => {
      if (this.#faults.loseNextAnswer) {
        this.#faults.loseNextAnswer = false;
        if (this.#faults.refuseThen) this.#faults.refused = true;
        this.cut();
        return;
      }
      this.#whenThawed(() => {
        if (!this.#ended) receive(frame);
      });
    };
  }

  get onClose(): (reason: string) => void {
    return this.#onClose;
  }
  set onClose(closed: (reason: string) => void) {
    this.#onClose = closed;
    this.#inner.onClose = (reason) => this.#end(reason);
  }

  close(code: number, reason: string): void {
    this.#inner.close(code, reason);
    setImmediate(() => this.#end(reason));
  }

  cut(): void {
    this.#inner.close(1000, 'cut by the test');
    setImmediate(() => this.#end('cut by the test'));
  }

  thaw(): void {
    for (const action of this.#held.splice(0)) action();
  }

  #whenThawed(action: () => void): void {
    if (this.#faults.frozen) this.#held.push(action);
    else action();
  }

  #end(reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#faults.open.delete(this);
    this.#onClose(reason);
  }
}

export class FaultyNetwork {
  readonly #faults = new Map<string, Faults>();
  /** Connections made so far. */
  connections = 0;

  #of(url: string): Faults {
    let faults = this.#faults.get(url);
    if (faults === undefined) {
      faults = { refused: false, frozen: false, loseNextAnswer: false, refuseThen: false, open: new Set() };
      this.#faults.set(url, faults);
    }
    return faults;
  }

  readonly connect = async (url: string, options: { timeoutMs: number }): Promise<Transport> => {
    const faults = this.#of(url);
    if (faults.refused) throw new ProtocolError('disconnected', `${url} is refused by the test`);
    const inner = await connectWebSocket(url, options);
    this.connections++;
    return new FaultyTransport(inner, faults);
  };

  /** Ends all connections to `url`. */
  cut(url: string): void {
    for (const transport of [...this.#of(url).open]) transport.cut();
  }

  /** Ends all connections and allows no new ones until `allow`. */
  refuse(url: string): void {
    this.#of(url).refused = true;
    this.cut(url);
  }

  allow(url: string): void {
    this.#of(url).refused = false;
  }

  /** Nothing gets through in either direction until `thaw`, as with a stopped process. */
  freeze(url: string): void {
    this.#of(url).frozen = true;
  }

  thaw(url: string): void {
    const faults = this.#of(url);
    faults.frozen = false;
    for (const transport of [...faults.open]) transport.thaw();
  }

  /** The connection ends with it; `refuse`: and no new one is allowed until `allow`. */
  loseNextAnswer(url: string, { refuse = false }: { refuse?: boolean } = {}): void {
    this.#of(url).loseNextAnswer = true;
    this.#of(url).refuseThen = refuse;
  }
}
