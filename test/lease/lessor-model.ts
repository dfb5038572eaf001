/**
 * A server with a Lessor and clients that believe in their leases, over queues that deliver whenever the
 * explorer says: every interleaving of a few operations can be walked through.
 *
 * One value per inode. A client answers a read alone while it holds a lease, and a write alone under an
 * exclusive one; else it asks the server, one operation at a time. INVARIANT: what a client would answer alone
 * is the truth: the value at the exclusive holder, or else at the server; except while its own write is under
 * way, when its answer may come before or after it.
 */
import { assert } from '../../src/base/assert.js';
import {
  type LeaseMode,
  Lessor,
  type LessorOptions,
  type Recall,
  type Ticket,
} from '../../src/lease/lessor.js';
import { asIno, type Ino, type SessionId } from '../../src/proto/ids.js';

export interface Step {
  readonly kind: 'read' | 'write';
  readonly ino: number;
  /** The lease that is asked for along with it. */
  readonly wants?: LeaseMode;
}

type ToServer =
  | { type: 'call'; step: Step; value: number }
  | { type: 'acknowledge'; ino: Ino; epoch: number; keep: Recall['keep']; value: number | undefined };
type ToClient =
  | { type: 'reply'; ino: Ino; value: number; lease: { mode: LeaseMode; epoch: number } | undefined }
  | { type: 'recall'; ino: Ino; epoch: number; keep: Recall['keep'] };

interface Cached {
  mode: LeaseMode;
  epoch: number;
  value: number;
  dirty: boolean;
}

class Client {
  readonly cache = new Map<Ino, Cached>();
  readonly toServer: ToServer[] = [];
  readonly toClient: ToClient[] = [];
  /** Recalls that it has read and not acknowledged. */
  readonly recalls: { ino: Ino; epoch: number; keep: Recall['keep'] }[] = [];
  next = 0;
  /** The operation it waits for. */
  busy: Step | undefined;
}

/** Faults that a test plants, to see that they are found. */
export interface Planted {
  /** Acknowledges at once and goes on answering from what it gave up. */
  readonly keepsAfterAcknowledging?: boolean;
  /** The server does not look for leases of others before a write. */
  readonly skipsRecall?: boolean;
}

export class LessorModel {
  readonly lessor: Lessor;
  readonly clients: readonly Client[];
  readonly #scripts: readonly (readonly Step[])[];
  readonly #server = new Map<Ino, number>();
  readonly #waiting = new Map<Ticket, { client: number; step: Step; value: number }>();
  readonly #planted: Planted;
  #nextValue = 1;
  #nowMs = 0;

  constructor(options: LessorOptions, scripts: readonly (readonly Step[])[], planted: Planted = {}) {
    this.lessor = new Lessor(options);
    this.#scripts = scripts;
    this.#planted = planted;
    this.clients = scripts.map(() => new Client());
  }

  /** What can happen next, as names for `perform`. */
  actions(): string[] {
    const names: string[] = [];
    for (const [index, client] of this.clients.entries()) {
      if (client.busy === undefined && client.next < (this.#scripts[index]?.length ?? 0))
        names.push(`start ${index}`);
      if (client.toServer.length > 0) names.push(`up ${index}`);
      if (client.toClient.length > 0) names.push(`down ${index}`);
      if (client.recalls.length > 0) names.push(`acknowledge ${index}`);
    }
    return names;
  }

  perform(action: string): void {
    const [what, which] = action.split(' ');
    const index = Number(which);
    const client = this.clients[index];
    assert(client !== undefined, 'an action names a client');
    this.#nowMs += 1;
    if (what === 'start') this.#start(client, index);
    else if (what === 'up') this.#atServer(index, client.toServer.shift());
    else if (what === 'down') this.#atClient(client, client.toClient.shift());
    else this.#acknowledge(client);
    this.lessor.checkInvariants();
    this.#checkTruth();
  }

  get isOver(): boolean {
    return this.clients.every(
      (client, index) => client.busy === undefined && client.next === this.#scripts[index]?.length,
    );
  }

  #start(client: Client, index: number): void {
    const step = this.#scripts[index]?.[client.next];
    assert(step !== undefined, 'a step is left');
    client.next += 1;
    const cached = client.cache.get(asIno(step.ino));
    const value = this.#nextValue++;
    if (cached !== undefined && step.kind === 'read') return;
    if (cached?.mode === 'exclusive') {
      cached.value = value;
      cached.dirty = true;
      return;
    }
    client.busy = step;
    client.toServer.push({ type: 'call', step, value });
  }

  #atServer(index: number, message: ToServer | undefined): void {
    if (message?.type === 'call') this.#serve(index, message.step, message.value);
    if (message?.type !== 'acknowledge') return;
    const { ino, epoch, keep, value } = message;
    const held = this.lessor.leaseOf(sessionOf(index), ino);
    if (value !== undefined && held?.epoch === epoch) this.#server.set(ino, value);
    for (const ticket of this.lessor.acknowledge(sessionOf(index), ino, epoch, keep) ?? []) {
      const waiting = this.#waiting.get(ticket);
      if (waiting === undefined) continue;
      this.#waiting.delete(ticket);
      this.#serve(waiting.client, waiting.step, waiting.value);
      this.lessor.unpark(ticket);
    }
  }

  #serve(index: number, step: Step, value: number): void {
    const ino = asIno(step.ino);
    const session = sessionOf(index);
    const access = step.kind === 'read' ? { reads: [ino], writes: [] } : { reads: [], writes: [ino] };
    const skips = this.#planted.skipsRecall === true && step.kind === 'write';
    if (!skips && this.lessor.inTheWay(session, access).length > 0) {
      const { ticket, recalls } = this.lessor.park(session, access, this.#nowMs);
      this.#waiting.set(ticket, { client: index, step, value });
      for (const { session: holder, ino, epoch, keep } of recalls)
        this.clients[indexOf(holder)]?.toClient.push({ type: 'recall', ino, epoch, keep });
      return;
    }
    if (step.kind === 'write') this.#server.set(ino, value);
    const lease = step.wants && this.lessor.grant(session, ino, step.wants, this.#nowMs);
    const reply = { type: 'reply', ino, value: this.#server.get(ino) ?? 0, lease } as const;
    this.clients[index]?.toClient.push(reply);
  }

  #atClient(client: Client, message: ToClient | undefined): void {
    if (message?.type === 'recall') client.recalls.push(message);
    if (message?.type !== 'reply') return;
    client.busy = undefined;
    const { ino, value, lease } = message;
    const cached = client.cache.get(ino);
    if (lease !== undefined) client.cache.set(ino, { ...lease, value, dirty: false });
    else if (cached !== undefined) cached.value = value;
  }

  #acknowledge(client: Client): void {
    const recall = client.recalls.shift();
    assert(recall !== undefined, 'there is a recall to acknowledge');
    const { ino, epoch, keep } = recall;
    const cached = client.cache.get(ino);
    const isHeld = cached?.epoch === epoch;
    const value = isHeld && cached.dirty ? cached.value : undefined;
    if (isHeld && this.#planted.keepsAfterAcknowledging !== true) {
      if (keep === 'none') client.cache.delete(ino);
      else client.cache.set(ino, { ...cached, mode: 'shared', dirty: false });
    }
    client.toServer.push({ type: 'acknowledge', ino, epoch, keep, value });
  }

  #checkTruth(): void {
    for (const [index, client] of this.clients.entries())
      for (const [ino, cached] of client.cache) {
        if (client.busy?.ino === Number(ino)) continue;
        assert(cached.value === this.#truth(ino, index), `client ${index} answers with the truth`);
      }
  }

  #truth(ino: Ino, asked: number): number {
    for (const client of this.clients) {
      const cached = client.cache.get(ino);
      if (cached?.mode === 'exclusive') return cached.value;
      const flushed = client.toServer.find(
        (m) => m.type === 'acknowledge' && m.ino === ino && m.value !== undefined,
      );
      if (flushed?.type === 'acknowledge' && client === this.clients[asked]) return flushed.value ?? 0;
    }
    return this.#server.get(ino) ?? 0;
  }
}

const sessionOf = (index: number): SessionId => (index + 1) as SessionId;
const indexOf = (session: SessionId): number => Number(session) - 1;

/**
 * Walks through every order of events, to the end of all scripts. Answers how many ways there were. Throws at
 * the first that breaks an invariant or in which somebody waits for ever.
 */
export function explore(make: () => LessorModel, atMost: number): number {
  let ways = 0;
  const walk = (path: readonly string[]): void => {
    if (ways >= atMost) return;
    const model = make();
    for (const action of path) model.perform(action);
    const actions = model.actions();
    if (actions.length === 0) {
      ways += 1;
      assert(model.isOver, `everybody is answered: ${path.join(', ')}`);
    }
    for (const action of actions) {
      try {
        walk([...path, action]);
      } catch (error) {
        if (error instanceof Error && !error.message.includes(' after '))
          error.message += ` after ${[...path, action].join(', ')}`;
        throw error;
      }
    }
  };
  walk([]);
  return ways;
}
