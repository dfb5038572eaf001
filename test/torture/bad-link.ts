/**
 * A TCP connection's bad days: stands between a mount and a server and passes bytes on, later, not at all for
 * a while, or never again.
 */
import { createServer, connect as dial, type Server, type Socket } from 'node:net';

const HOST = '127.0.0.1';

export class BadLink {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** How long bytes are under way, in milliseconds, asked for each piece; order is kept. */
  delayMs: () => number = () => 0;
  #thawed: Promise<void> | undefined;
  #thaw = (): void => {};

  private constructor(server: Server) {
    this.#server = server;
  }

  /** One that leads to `port` of this machine. */
  static async start(port: number): Promise<BadLink> {
    const server = createServer();
    const proxy = new BadLink(server);
    server.on('connection', (inbound) => proxy.#accept(inbound, port));
    await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy does not listen');
    return address.port;
  }

  #accept(inbound: Socket, port: number): void {
    const outbound = dial(port, HOST);
    const pair = [inbound, outbound] as const;
    this.#pairs.add(pair);
    for (const [from, to] of [
      [inbound, outbound],
      [outbound, inbound],
    ] as const) {
      from.setNoDelay(true);
      from.on('error', () => this.#endLater(pair));
      from.on('close', () => this.#endLater(pair));
      this.#pass(from, to);
    }
  }

  /** That one side is gone comes through like everything else. */
  #endLater(pair: readonly [Socket, Socket]): void {
    if (this.#thawed === undefined) this.#end(pair);
    else void this.#thawed.then(() => this.#end(pair));
  }

  #end(pair: readonly [Socket, Socket]): void {
    this.#pairs.delete(pair);
    for (const socket of pair) socket.destroy();
  }

  #pass(from: Socket, to: Socket): void {
    let last: Promise<void> = Promise.resolve();
    let waiting = 0;
    let lastDueMs = 0;
    from.on('data', (bytes) => {
      const delayMs = this.delayMs();
      if (delayMs <= 0 && waiting === 0 && this.#thawed === undefined) {
        to.write(bytes);
        return;
      }
      const dueMs = Math.max(performance.now() + delayMs, lastDueMs);
      lastDueMs = dueMs;
      waiting++;
      last = last.then(async () => {
        const leftMs = dueMs - performance.now();
        if (leftMs > 0) await new Promise((resolve) => setTimeout(resolve, leftMs));
        await this.#thawed;
        waiting--;
        if (!to.destroyed) to.write(bytes);
      });
    });
  }

  /** Connections break; new ones are taken. */
  cut(): void {
    for (const pair of this.#pairs) this.#end(pair);
  }

  /** Nothing comes through, and nobody is told. */
  freeze(): void {
    this.#thawed ??= new Promise((resolve) => {
      this.#thaw = resolve;
    });
  }

  thaw(): void {
    this.#thaw();
    this.#thawed = undefined;
  }

  stop(): void {
    this.thaw();
    this.#server.close();
    this.cut();
  }
}
