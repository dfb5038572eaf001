/**
 * A network of simulated processes: connections whose frames take a time of their own, stay in order, and
 * can be stalled (nothing gets through until later, as with a network that recovers) or cut (what is on its
 * way is lost; each side learns of it in its own time). A frozen process sends and receives nothing.
 */
import type { Prng } from '../../src/base/prng.js';
import type { Connect } from '../../src/client/chunk-links.js';
import { ProtocolError } from '../../src/proto/protocol-error.js';
import { decodeFrame, type Frame } from '../../src/rpc/frame.js';
import type { Transport } from '../../src/rpc/transport.js';
import type { Scheduler, SimNode } from './scheduler.js';
import type { Trace } from './trace.js';

/** How long news of a cut takes to reach an end, at most. */
const CUT_NEWS_US = 50_000;

interface Listener {
  readonly node: SimNode;
  readonly accept: (transport: Transport) => void;
}

export interface NetworkOptions {
  readonly scheduler: Scheduler;
  readonly trace: Trace;
  readonly prng: Prng;
  /** Of one frame. Now and then one takes ten times as long. */
  readonly delayUs: { readonly min: number; readonly max: number };
}

/** Sees frames as they arrive. */
export type Sniffer = (frame: Frame, from: SimEnd, to: SimEnd) => void;

export class SimEnd implements Transport {
  readonly node: SimNode;
  readonly remote: string;
  readonly connection: Connection;
  readonly #network: Network;
  other: SimEnd | undefined;
  #ended = false;
  #told = false;
  #lastDueUs = 0;
  #onFrame: ((frame: Buffer) => void) | undefined;
  #onClose: ((reason: string) => void) | undefined;
  /** What came before the peer had set its functions. */
  #waiting: (() => void)[] = [];
  bufferedBytes = 0;

  constructor(network: Network, connection: Connection, node: SimNode, remote: string) {
    this.#network = network;
    this.connection = connection;
    this.node = node;
    this.remote = remote;
  }

  send(parts: readonly Uint8Array[]): void {
    if (this.#ended || this.other === undefined || this.node.crashed) return;
    const { other } = this;
    const frame = Buffer.concat(parts);
    other.#arrive(() => other.#receive(frame));
  }

  close(_code: number, reason: string): void {
    if (this.#ended) return;
    this.#end(reason, 0);
    const { other } = this;
    if (other !== undefined) other.#arrive(() => other.#end(reason, 0));
  }

  /** As a cable is cut: nothing that is on its way arrives. */
  cut(reason: string): void {
    const { prng } = this.#network.options;
    this.#end(reason, prng.int(0, CUT_NEWS_US));
    const { other } = this;
    if (other !== undefined) other.#end(reason, prng.int(0, CUT_NEWS_US));
  }

  get isEnded(): boolean {
    return this.#ended;
  }

  #arrive(what: () => void): void {
    const { scheduler } = this.#network.options;
    const dueUs = Math.max(
      scheduler.nowUs + this.#network.delayUs(),
      this.#lastDueUs,
      this.connection.stalledUntilUs,
    );
    this.#lastDueUs = dueUs;
    scheduler.after(dueUs - scheduler.nowUs, this.node, () => {
      // It was stalled while this was on its way.
      if (this.connection.stalledUntilUs > scheduler.nowUs) this.#arrive(what);
      else if (this.#onFrame === undefined || this.#onClose === undefined) this.#waiting.push(what);
      else what();
    });
  }

  #receive(frame: Buffer): void {
    if (this.#ended || this.other === undefined) return;
    if (!this.#network.seen(frame, this.other, this)) return;
    this.#onFrame?.(frame);
  }

  #end(reason: string, newsUs: number): void {
    if (this.#ended) return;
    this.#ended = true;
    this.connection.ended(this);
    const { scheduler, trace } = this.#network.options;
    scheduler.after(newsUs, this.node, () => {
      const tell = (): void => {
        if (this.#told) return;
        this.#told = true;
        trace.note(this.node.name, `connection to ${this.remote} ended: ${reason}`);
        this.#onClose?.(reason);
      };
      if (this.#onClose === undefined) this.#waiting.push(tell);
      else tell();
    });
  }

  get onFrame(): (frame: Buffer) => void {
    return this.#onFrame ?? (() => {});
  }
  set onFrame(receive: (frame: Buffer) => void) {
    this.#onFrame = receive;
    this.#ready();
  }

  get onClose(): (reason: string) => void {
    return this.#onClose ?? (() => {});
  }
  set onClose(closed: (reason: string) => void) {
    this.#onClose = closed;
    this.#ready();
  }

  #ready(): void {
    if (this.#onFrame === undefined || this.#onClose === undefined || this.#waiting.length === 0) return;
    this.#network.options.scheduler.after(0, this.node, () => {
      for (const what of this.#waiting.splice(0)) what();
    });
  }
}

class Connection {
  readonly #network: Network;
  readonly ends: SimEnd[] = [];
  stalledUntilUs = 0;
  /** Calls with a sequence number that are not answered. */
  readonly mutations = new Set<number>();

  constructor(network: Network) {
    this.#network = network;
  }

  ended(_end: SimEnd): void {
    if (this.ends.every((end) => end.isEnded)) this.#network.connections.delete(this);
  }

  joins(a: SimNode, b: SimNode): boolean {
    return this.ends.some((end) => end.node === a) && this.ends.some((end) => end.node === b);
  }
}

export class Network {
  readonly options: NetworkOptions;
  readonly connections = new Set<Connection>();
  readonly #listeners = new Map<string, Listener>();
  sniffer: Sniffer | undefined;
  /** Sees answers to mutations before they arrive; who takes one (true) has it lost. */
  readonly traps = new Set<(from: SimEnd, to: SimEnd) => boolean>();

  constructor(options: NetworkOptions) {
    this.options = options;
  }

  listen(url: string, listener: Listener): void {
    this.#listeners.set(url, listener);
  }

  delayUs(): number {
    const { prng, delayUs } = this.options;
    const usual = prng.int(delayUs.min, delayUs.max);
    return prng.next() < 0.02 ? usual * 10 : usual;
  }

  /** How `node` makes connections. */
  connector(node: SimNode): Connect {
    const { scheduler } = this.options;
    return async (url, { timeoutMs }) => {
      await scheduler.on(node, this.delayUs(), () => {});
      const target = this.#listeners.get(url)?.node;
      if (target === undefined || target.crashed)
        throw new ProtocolError('disconnected', `nobody listens at ${url}`);
      const accepted = scheduler.on(target, this.delayUs(), () => this.#accept(node, url));
      const late = scheduler.sleep(timeoutMs, node).then(() => undefined);
      const end = await Promise.race([accepted, late]);
      if (end !== undefined) return end;
      accepted.then((ours) => ours?.close(1000, 'nobody waits for it'));
      throw new ProtocolError('timeout', `no connection to ${url} within ${timeoutMs} ms`);
    };
  }

  #accept(node: SimNode, url: string): SimEnd | undefined {
    const listener = this.#listeners.get(url);
    if (listener === undefined) return undefined;
    const connection = new Connection(this);
    const ours = new SimEnd(this, connection, node, listener.node.name);
    const theirs = new SimEnd(this, connection, listener.node, node.name);
    ours.other = theirs;
    theirs.other = ours;
    connection.ends.push(ours, theirs);
    this.connections.add(connection);
    listener.accept(theirs);
    return ours;
  }

  /** Whether it arrives. */
  seen(bytes: Buffer, from: SimEnd, to: SimEnd): boolean {
    const frame = decodeFrame(bytes);
    const { mutations } = from.connection;
    if (frame.kind === 'request' && frame.sequence !== undefined) mutations.add(frame.id);
    if (frame.kind === 'reply' && to.node.name.startsWith('mount') && mutations.delete(frame.id))
      for (const trap of this.traps) if (trap(from, to)) return false;
    const { what, more } = described(frame);
    this.options.trace.note(to.node.name, `<- ${from.node.name}: ${what}`, more);
    this.sniffer?.(frame, from, to);
    return true;
  }

  cut(a: SimNode, b: SimNode, reason: string): void {
    for (const connection of [...this.connections])
      if (connection.joins(a, b)) for (const end of connection.ends) end.cut(reason);
  }

  /** All connections of a node. */
  cutAll(node: SimNode, reason: string): void {
    for (const connection of [...this.connections])
      if (connection.ends.some((end) => end.node === node))
        for (const end of connection.ends) end.cut(reason);
  }

  /** Nothing gets through between the two until then. */
  stall(a: SimNode, b: SimNode, ms: number): void {
    const untilUs = this.options.scheduler.nowUs + ms * 1000;
    for (const connection of this.connections)
      if (connection.joins(a, b)) connection.stalledUntilUs = Math.max(connection.stalledUntilUs, untilUs);
  }
}

function described(frame: Frame): { what: string; more?: () => string } {
  switch (frame.kind) {
    case 'request': {
      const { id, method, sequence, args } = frame;
      return {
        what: `${method}#${id}${sequence === undefined ? '' : ` seq ${sequence}`}`,
        more: () => brief(args),
      };
    }
    case 'reply':
      return { what: `reply #${frame.id}`, more: () => brief(frame.result) };
    case 'error':
      return { what: `error #${frame.id} ${frame.failure.fs ?? frame.failure.code}` };
    default:
      return { what: `cancel #${frame.id}` };
  }
}

/** For a trace: one short line, the same in every process. */
function brief(value: unknown): string {
  const text = JSON.stringify(value, (key, inner: unknown) => {
    if (key === 'pid' || key === 'host' || key === 'map' || key === 'atime' || key === 'crtime')
      return undefined;
    if (isBufferJson(inner)) return Buffer.from(inner.data).toString('latin1');
    return inner;
  });
  return text === undefined ? '' : text.slice(0, 200);
}

function isBufferJson(value: unknown): value is { type: 'Buffer'; data: number[] } {
  return (
    typeof value === 'object' &&
    value !== null &&
    'type' in value &&
    value.type === 'Buffer' &&
    'data' in value
  );
}
