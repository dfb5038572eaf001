/**
 * One mount's conversation with the kernel: takes frames in the order in which they were read, answers each
 * request exactly once, and knows which are still under way.
 *
 * Invariants: a request that expects a reply gets one, whatever its operation does; FORGET, BATCH_FORGET and
 * INTERRUPT never get one (but see below); an unknown exception becomes EIO here and nowhere else, with a
 * log line. `outstanding` holds exactly the requests whose operation has not settled; the kernel bounds it
 * (one per waiting thread, and max_background).
 *
 * An INTERRUPT for a request that is not under way is answered EAGAIN: if the kernel still waits for that
 * request it sends the interrupt again, and otherwise it refuses the answer with ENOENT, which is ignored.
 *
 * It does not: read the device or know how its loop waits.
 *
 * **Source:** fs/fuse/dev.c, fuse_dev_do_write() and request_wait_answer().
 */
import { InvariantError } from '../base/assert.js';
import { makeLog } from '../base/log.js';
import { Errno, FsError } from '../proto/errno.js';
import type { Operations } from '../vfs/operations.js';
import { FUSE_MAJOR, Opcode, opcodeName } from './abi.js';
import { passSignalOn } from './caller-signals.js';
import {
  bodyOf,
  decodeBatchForget,
  decodeForget,
  decodeHeader,
  decodeInit,
  decodeInterrupt,
  type Header,
  MalformedRequest,
} from './decode.js';
import { encodeEmpty, encodeInit, type Frame } from './encode.js';
import { FuseRequest } from './fuse-request.js';
import { type Handler, handlers, inoOf, type Reply } from './handlers.js';
import { type Agreement, negotiate } from './init.js';

const log = makeLog('fuse');

/** EPROTO: not one of the errnos that operations may give, but the protocol's own. */
const EPROTO = 71;
const EIO = 5;
const EAGAIN = 11;
const ENOSYS = 38;

/** Where replies go. `header` says which request is answered; errno is positive, 0 for success. */
export interface ReplyPort {
  sendFrame(header: Header, errno: number, frame: Frame): void;
  sendData(header: Header, parts: readonly Uint8Array[], bytes: number): void;
}

export interface SessionEvents {
  /** INIT has been answered: programs can use the mount. */
  onReady(minor: number): void;
  /** The conversation cannot go on. */
  onBroken(error: Error): void;
}

export class Session {
  readonly #operations: Operations;
  readonly #port: ReplyPort;
  readonly #events: SessionEvents;
  readonly #debug: boolean;
  readonly #isSync: boolean;
  readonly #outstanding = new Map<number | bigint, FuseRequest>();
  /** Undefined until INIT has been answered. */
  #agreement: Agreement | undefined;

  constructor(options: {
    operations: Operations;
    port: ReplyPort;
    events: SessionEvents;
    debug: boolean;
    /** Mounted with `sync`: every write is as with O_SYNC. */
    isSync: boolean;
  }) {
    this.#operations = options.operations;
    this.#port = options.port;
    this.#events = options.events;
    this.#debug = options.debug;
    this.#isSync = options.isSync;
  }

  /** Requests whose operation has not settled. */
  get outstanding(): number {
    return this.#outstanding.size;
  }

  /**
   * Takes one frame as the device gave it. A promise means: the frame's memory is still in use until it
   * settles (it never rejects).
   */
  serve(frame: Buffer): Promise<void> | undefined {
    const header = decodeHeader(frame);
    if (header === undefined) {
      this.#events.onBroken(new Error(`the kernel's request header is malformed (${frame.length} bytes)`));
      return undefined;
    }
    if (this.#debug) log.debug(opcodeName(header.opcode), { nodeid: header.nodeid, unique: header.unique });
    try {
      return this.#dispatch(header, frame);
    } catch (error) {
      this.#fail(header, error);
      return undefined;
    }
  }

  /** Nobody can be answered any more: tells every operation under way that its caller has gone. */
  abandon(): void {
    for (const request of [...this.#outstanding.values()]) request.interrupt();
  }

  #dispatch(header: Header, frame: Buffer): Promise<void> | undefined {
    const handler = handlers.get(header.opcode);
    const agreement = this.#agreement;
    if (handler !== undefined && agreement !== undefined)
      return this.#run(header, frame, { handler, agreement });
    const body = bodyOf(frame, header);
    switch (header.opcode) {
      case Opcode.FORGET:
        this.#forget(() => [{ nodeid: header.nodeid, count: decodeForget(body) }]);
        return undefined;
      case Opcode.BATCH_FORGET:
        this.#forget(() => decodeBatchForget(body));
        return undefined;
      case Opcode.INTERRUPT:
        this.#interrupt(header, body);
        return undefined;
      case Opcode.INIT:
        this.#init(header, body);
        return undefined;
      case Opcode.DESTROY:
        this.#port.sendFrame(header, 0, encodeEmpty());
        return undefined;
      default:
        this.#port.sendFrame(header, agreement === undefined ? EPROTO : ENOSYS, encodeEmpty());
        return undefined;
    }
  }

  #run(
    header: Header,
    frame: Buffer,
    { handler, agreement }: { handler: Handler; agreement: Agreement },
  ): Promise<void> | undefined {
    const request = new FuseRequest(header);
    const call = {
      operations: this.#operations,
      request,
      ino: inoOf(header.nodeid, opcodeName(header.opcode)),
      agreement,
      isSync: this.#isSync,
    };
    const reply = handler(call, bodyOf(frame, header));
    if (!(reply instanceof Promise)) {
      this.#answer(header, reply);
      return undefined;
    }
    this.#outstanding.set(header.unique, request);
    return this.#settle(header, reply);
  }

  async #settle(header: Header, promise: Promise<Reply>): Promise<void> {
    try {
      const reply = await promise;
      this.#outstanding.delete(header.unique);
      this.#answer(header, reply);
    } catch (error) {
      this.#outstanding.delete(header.unique);
      try {
        this.#fail(header, error);
      } catch (fatal) {
        // Out of the promise, so that the process stops as it would have for a synchronous answer.
        setImmediate(() => {
          throw fatal;
        });
      }
    }
  }

  #answer(header: Header, reply: Reply): void {
    if (reply === undefined) this.#port.sendFrame(header, 0, encodeEmpty());
    else if ('errno' in reply) this.#port.sendFrame(header, Errno[reply.errno], encodeEmpty());
    else if ('parts' in reply) this.#port.sendData(header, reply.parts, reply.bytes);
    else this.#port.sendFrame(header, 0, reply);
  }

  /** The one place where an unknown exception becomes EIO. A broken invariant goes on and stops the process. */
  #fail(header: Header, error: unknown): void {
    if (error instanceof InvariantError) throw error;
    const op = opcodeName(header.opcode);
    if (error instanceof MalformedRequest) log.warn('malformed request', { op, error: error.message });
    else if (!(error instanceof FsError)) log.error('operation failed', { op, nodeid: header.nodeid, error });
    this.#port.sendFrame(header, error instanceof FsError ? error.errno : EIO, encodeEmpty());
  }

  /** Passes on what the kernel let go of. Nobody waits for an answer, so a bad one is only logged. */
  #forget(decode: () => { nodeid: number; count: number }[]): void {
    try {
      for (const { nodeid, count } of decode()) this.#operations.forget(inoOf(nodeid, 'forget'), count);
    } catch (error) {
      if (error instanceof InvariantError) throw error;
      if (error instanceof FsError) log.warn('malformed request', { op: 'forget', error: error.message });
      else log.error('forget failed', { error });
    }
  }

  #interrupt(header: Header, body: Buffer): void {
    const unique = decodeInterrupt(body);
    const request = this.#outstanding.get(unique);
    if (request === undefined) {
      this.#port.sendFrame(header, EAGAIN, encodeEmpty());
      return;
    }
    passSignalOn(request, {
      isLockWait: request.opcode === Opcode.SETLKW,
      isOver: () => this.#outstanding.get(unique) !== request,
    });
  }

  #init(header: Header, body: Buffer): void {
    const request = decodeInit(body);
    const agreement = negotiate(request);
    if (agreement === 'tooOld') {
      this.#port.sendFrame(header, EPROTO, encodeEmpty());
      const message = `the kernel speaks FUSE ${request.major}.${request.minor}; 7.28 (Linux 4.20) is needed`;
      this.#events.onBroken(new Error(message));
      return;
    }
    if (agreement === 'retry') {
      const ours = { minor: 0, maxReadahead: 0, flags: 0, flags2: 0, maxBackground: 0, maxWrite: 0 };
      this.#port.sendFrame(header, 0, encodeInit(ours));
      log.info('the kernel speaks a newer major version; asked for ours', { ours: FUSE_MAJOR });
      return;
    }
    this.#port.sendFrame(header, 0, encodeInit(agreement.reply));
    this.#agreement = agreement;
    this.#events.onReady(agreement.reply.minor);
  }
}
