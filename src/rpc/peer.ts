/**
 * One side of a connection: calls the other side's methods and serves its own, both checked against method
 * tables. Either side may call at any time; answers come in any order.
 *
 * Who fails how:
 * - arguments or reply that do not have their method's shape: that call gets `badMessage`, nothing else
 *   happens (the handler has not run, or its reply is withheld from the caller's program);
 * - a frame that cannot be read, or a call id used twice: this connection is closed, with a log line;
 * - a method that is not in the table: `unknownMethod`; more than limits.callsPerConnection calls, or more bulk
 *   than limits.connectionBulkBytes: `busy`;
 * - a handler's FsError or ProtocolError reaches the caller unchanged, any other exception as EIO
 *   (call-failure.ts); an InvariantError stops the process and is answered by nobody;
 * - the connection ends: outstanding calls reject with `disconnected`, served ones see their signal fire.
 *
 * A call that is cancelled or timed out may or may not have been carried out: who must know sends it again
 * with the same sequence number. INVARIANT: every promise that call returns is settled, by the answer, its
 * timeout, its signal or the end of the connection.
 */
import { assert } from '../base/assert.js';
import { type Clock, systemClock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { limits } from '../proto/limits.js';
import type { ArgsOf, MethodTable, ReplyOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { errorOf, failureOf } from './call-failure.js';
import {
  type Bulk,
  decodeFrame,
  encodeCancel,
  encodeError,
  encodeReply,
  encodeRequest,
  type Frame,
  type RequestFrame,
} from './frame.js';
import { checksOf, type TableChecks, whatIsWrong } from './method-checks.js';
import { OutstandingCalls } from './outstanding-calls.js';
import { type CallContext, type PeerHandle, ServedCall } from './served-call.js';
import { CloseCode, type Transport } from './transport.js';

export type { CallContext, PeerHandle } from './served-call.js';

const log = makeLog('rpc');

export interface CallOptions {
  /** Sent beside the arguments, not copied; must not change until the call is settled. */
  bulk?: Bulk;
  /** Default limits.callTimeoutMs. */
  timeoutMs?: number;
  /** Withdraws the call: it rejects with `cancelled` at once, and the other side is told. */
  signal?: AbortSignal;
  /** Of a mutation, see MethodKind. */
  sequence?: number;
  /** Every mutation with a lower sequence number is settled: its kept reply may be forgotten. */
  finishedBelow?: number;
}

/** What a handler returns to send bulk bytes beside its reply, where the method has bulk 'reply'. */
export class WithBulk<R> {
  constructor(
    readonly reply: R,
    readonly bulk: Bulk,
  ) {}
}

/** One function for each method of a table. It may answer at once or later; the arguments are its to keep. */
export type Handlers<Local extends MethodTable> = {
  readonly [K in keyof Local]: (
    args: ArgsOf<Local[K]>,
    context: CallContext,
  ) => MaybePromise<ReplyOf<Local[K]> | WithBulk<ReplyOf<Local[K]>>>;
};

export interface PeerOptions<Remote extends MethodTable, Local extends MethodTable> {
  /** What the other side serves. */
  readonly remote: Remote;
  /** What this side serves, and how. */
  readonly local: Local;
  readonly handlers: Handlers<Local>;
  readonly clock?: Clock;
  /** What to call this connection in logs. */
  readonly name: string;
}

export class Peer<Remote extends MethodTable, Local extends MethodTable> implements PeerHandle {
  readonly name: string;
  /**
   * Called once when the connection has ended, for whatever reason, close included. Set it in the turn in
   * which the peer is made, or look at `closed` first.
   */
  onClose: ((reason: string) => void) | undefined;
  /** Told of every call of the other side that fails, with what it fails with. */
  onRefused: ((method: string, error: unknown) => void) | undefined;
  readonly #transport: Transport;
  readonly #remote: Remote;
  readonly #local: Local;
  readonly #handlers: Handlers<Local>;
  readonly #clock: Clock;
  readonly #remoteChecks: TableChecks<Remote>;
  readonly #localChecks: TableChecks<Local>;
  readonly #outstanding: OutstandingCalls;
  readonly #served = new Map<number, ServedCall>();
  /** INVARIANT: the sum of heldBytes over #served. */
  #heldBytes = 0;
  #nextId = 1;
  #closedFor: string | undefined;

  constructor(transport: Transport, options: PeerOptions<Remote, Local>) {
    this.name = options.name;
    this.#transport = transport;
    this.#remote = options.remote;
    this.#local = options.local;
    this.#handlers = options.handlers;
    this.#clock = options.clock ?? systemClock;
    this.#remoteChecks = checksOf(options.remote);
    this.#localChecks = checksOf(options.local);
    this.#outstanding = new OutstandingCalls(this.#clock, (id, call) => {
      this.#transport.send(encodeCancel(id));
      call.failed(new ProtocolError('timeout', `${call.method}: no answer from ${this.#who()}`));
    });
    transport.onClose = (reason) => this.#end(reason);
    transport.onFrame = (bytes) => this.#receive(bytes);
  }

  get remote(): string {
    return this.#transport.remote;
  }

  get closed(): boolean {
    return this.#closedFor !== undefined;
  }

  /** Calls of this side that wait for an answer. */
  get outstanding(): number {
    return this.#outstanding.size;
  }

  /** Calls of the other side being served. */
  get serving(): number {
    return this.#served.size;
  }

  /** Bytes of frames that have not reached the operating system yet. */
  get bufferedBytes(): number {
    return this.#transport.bufferedBytes;
  }

  /**
   * Calls a method of the other side; bulk bytes of the reply are dropped.
   * **Errors:** FsError and ProtocolError of the handler; ProtocolError disconnected, timeout, cancelled, busy
   * (too many outstanding calls), badMessage (the request does not fit a frame, or the reply has not its
   * method's shape).
   */
  call<K extends keyof Remote & string>(
    method: K,
    args: ArgsOf<Remote[K]>,
    options: CallOptions = {},
  ): Promise<ReplyOf<Remote[K]>> {
    return new Promise((resolve, reject) => this.#start(method, args, options, resolve, reject));
  }

  /** As call, for methods whose reply comes with bulk bytes: a view of the frame, the caller's to keep. */
  callForBulk<K extends keyof Remote & string>(
    method: K,
    args: ArgsOf<Remote[K]>,
    options: CallOptions = {},
  ): Promise<{ reply: ReplyOf<Remote[K]>; bulk: Buffer }> {
    return new Promise((resolve, reject) => {
      this.#start(method, args, options, (reply, bulk) => resolve({ reply, bulk }), reject);
    });
  }

  /** Ends the connection; what was sent before still goes out. */
  close(reason: string): void {
    this.#closeWith(CloseCode.normal, reason);
  }

  #closeWith(code: number, reason: string): void {
    this.#transport.close(code, reason);
    this.#end(reason);
  }

  /** Settles everything that waits for this connection. */
  #end(reason: string): void {
    if (this.#closedFor !== undefined) return;
    this.#closedFor = reason;
    for (const call of this.#served.values()) call.abort();
    for (const call of this.#outstanding.takeAll()) {
      call.failed(new ProtocolError('disconnected', `${call.method}: ${reason}`));
    }
    this.onClose?.(reason);
  }

  #who(): string {
    return `${this.name} (${this.#transport.remote})`;
  }

  // Calling

  #start<K extends keyof Remote & string>(
    method: K,
    args: ArgsOf<Remote[K]>,
    options: CallOptions,
    answered: (reply: ReplyOf<Remote[K]>, bulk: Buffer) => void,
    failed: (error: Error) => void,
  ): void {
    const refusal = this.#refusal(method, options);
    if (refusal !== undefined) {
      failed(refusal);
      return;
    }
    const id = this.#nextId++;
    const { bulk, sequence, finishedBelow, signal } = options;
    const parts = encodeRequest({ id, method, args, sequence, finishedBelow, bulk });
    const timeoutMs = options.timeoutMs ?? limits.callTimeoutMs;
    this.#outstanding.add(id, {
      method,
      deadlineMs: this.#clock.monotonicMs() + timeoutMs,
      answered: (result, replyBulk) => {
        if (replyBulk.length > 0 && this.#remote[method]?.bulk !== 'reply')
          failed(new ProtocolError('badMessage', `${method}: a reply with bulk bytes that it must not have`));
        else if (this.#isReply(method, result)) answered(result, replyBulk);
        else failed(new ProtocolError('badMessage', `${method}: ${this.#wrongReply(method, result)}`));
      },
      failed,
      stopListening: signal === undefined ? undefined : this.#listenForCancel(id, signal),
    });
    log.debug('call', { to: this.name, method, id });
    this.#transport.send(parts);
  }

  /** Why a call is not even sent. */
  #refusal(method: keyof Remote & string, options: CallOptions): ProtocolError | undefined {
    if (this.#closedFor !== undefined)
      return new ProtocolError('disconnected', `${method}: ${this.#closedFor}`);
    if (options.signal?.aborted === true) return new ProtocolError('cancelled', method);
    if (this.#outstanding.size >= limits.callsPerConnection)
      return new ProtocolError('busy', `${method}: too many calls outstanding to ${this.#who()}`);
    if (options.bulk !== undefined && this.#remote[method]?.bulk !== 'request')
      return new ProtocolError('badMessage', `${method} takes no bulk bytes`);
    return undefined;
  }

  #listenForCancel(id: number, signal: AbortSignal): () => void {
    const cancel = (): void => {
      const call = this.#outstanding.take(id);
      if (call === undefined) return;
      this.#transport.send(encodeCancel(id));
      call.failed(new ProtocolError('cancelled', call.method));
    };
    signal.addEventListener('abort', cancel);
    return () => signal.removeEventListener('abort', cancel);
  }

  #isReply<K extends keyof Remote & string>(method: K, result: unknown): result is ReplyOf<Remote[K]> {
    return this.#remoteChecks[method].reply.Check(result);
  }

  #wrongReply(method: keyof Remote & string, result: unknown): string {
    const wrong = `reply of ${this.#who()}: ${whatIsWrong(this.#remoteChecks[method].reply, result)}`;
    log.warn('a reply does not have the shape of its method', { method, wrong });
    return wrong;
  }

  // Receiving

  #receive(bytes: Buffer): void {
    let frame: Frame;
    try {
      frame = decodeFrame(bytes);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      const code = error.code === 'badVersion' ? CloseCode.protocolError : CloseCode.invalidPayload;
      this.#giveUp(code, error.message);
      return;
    }
    switch (frame.kind) {
      case 'request':
        this.#serve(frame);
        break;
      case 'cancel':
        this.#served.get(frame.id)?.abort();
        break;
      default:
        this.#settle(frame);
    }
  }

  /** The other side does not keep to the protocol: this connection is over, others are not. */
  #giveUp(code: number, reason: string): void {
    log.warn('closing a connection', { name: this.name, remote: this.#transport.remote, code, reason });
    this.#closeWith(code, reason);
  }

  #settle(frame: Exclude<Frame, { kind: 'request' | 'cancel' }>): void {
    const call = this.#outstanding.take(frame.id);
    if (call === undefined) {
      // It was cancelled or timed out while its answer was on the way.
      log.debug('an answer nobody waits for', { name: this.name, id: frame.id });
      return;
    }
    if (frame.kind === 'reply') call.answered(frame.result, frame.bulk);
    else call.failed(errorOf(frame.failure));
  }

  // Serving

  #serve(request: RequestFrame): void {
    const { id, method } = request;
    if (this.#served.has(id)) {
      this.#giveUp(CloseCode.protocolError, `call id ${id} is in use`);
      return;
    }
    const call = new ServedCall(request, this);
    if (!this.#isLocal(method)) this.#refuse(call, method, new ProtocolError('unknownMethod', method));
    else if (!this.#admit(call, method))
      this.#refuse(call, method, new ProtocolError('busy', `${method}: too many calls on this connection`));
    else this.#dispatch(method, request.args, call);
  }

  /** Counts the call in, if it and the bulk it may hold still fit. */
  #admit(call: ServedCall, method: keyof Local & string): boolean {
    if (this.#served.size >= limits.callsPerConnection) return false;
    call.heldBytes = this.#local[method]?.bulk === 'reply' ? limits.chunkBytes : call.bulk.length;
    const heldBytes = this.#heldBytes + this.#transport.bufferedBytes + call.heldBytes;
    if (call.heldBytes > 0 && heldBytes > limits.connectionBulkBytes) return false;
    this.#heldBytes += call.heldBytes;
    this.#served.set(call.id, call);
    return true;
  }

  /** The call is answered; nothing of it is held here any more. */
  #finish(call: ServedCall): void {
    if (this.#served.delete(call.id)) this.#heldBytes -= call.heldBytes;
  }

  #isLocal(method: string): method is keyof Local & string {
    return Object.hasOwn(this.#local, method);
  }

  #dispatch<K extends keyof Local & string>(method: K, args: unknown, call: ServedCall): void {
    const check = this.#localChecks[method].args;
    if (!check.Check(args)) {
      this.#refuse(
        call,
        method,
        new ProtocolError('badMessage', `${method}: arguments: ${whatIsWrong(check, args)}`),
      );
      return;
    }
    if (call.bulk.length > 0 && this.#local[method]?.bulk !== 'request') {
      this.#refuse(call, method, new ProtocolError('badMessage', `${method}: bulk bytes where none belong`));
      return;
    }
    let result: MaybePromise<ReplyOf<Local[K]> | WithBulk<ReplyOf<Local[K]>>>;
    try {
      result = this.#handlers[method](args, call);
    } catch (error) {
      this.#refuse(call, method, error);
      return;
    }
    if (result instanceof Promise) {
      result.then(
        (value) => this.#answer(call, method, value),
        (error: unknown) => this.#refuse(call, method, error),
      );
    } else this.#answer(call, method, result);
  }

  #answer(call: ServedCall, method: keyof Local & string, value: unknown): void {
    this.#finish(call);
    if (call.aborted) return;
    let parts: Uint8Array[];
    try {
      const withBulk = value instanceof WithBulk;
      assert(!withBulk || this.#local[method]?.bulk === 'reply', `${method} replies without bulk bytes`);
      parts = withBulk ? encodeReply(call.id, value.reply, value.bulk) : encodeReply(call.id, value);
    } catch (error) {
      this.#refuse(call, method, error);
      return;
    }
    this.#transport.send(parts);
  }

  #refuse(call: ServedCall, method: string, error: unknown): void {
    this.#finish(call);
    this.onRefused?.(method, error);
    const failure = failureOf(error, method, this.#who());
    if (failure !== undefined && !call.aborted) this.#transport.send(encodeError(call.id, failure));
  }
}
