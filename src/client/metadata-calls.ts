/**
 * The way of a call to the metadata server past what answers it on this side: what is remembered under leases,
 * then the mount itself under exclusive ones. What has to go to the server waits until it knows what was done
 * here, where that matters; and every reply is learned from.
 */
import type { Clock } from '../base/clock.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { Attr } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { type MetaMethods, metaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { boundedWait, endOf, type Watch, within } from './bounded-wait.js';
import type { Contents } from './contents.js';
import { type Journal, SessionLostError } from './journal.js';
import type { LeaseCache } from './lease-cache.js';
import type { LeaseHolder } from './lease-holder.js';
import type { LeaseTaker } from './lease-taker.js';
import type { InterruptSource } from './link-call.js';
import { isJournalled, type LocalOperations } from './local-operations.js';
import type { MetadataCallOptions, MetadataLink } from './metadata-link.js';
import type { Revalidation } from './revalidation.js';
import type { Subjects } from './subjects.js';
import type { Xattrs } from './xattrs.js';

type Method = keyof MetaMethods & string;

export interface MetadataCallsOptions {
  readonly link: MetadataLink;
  readonly leases: LeaseCache;
  readonly contents: Contents;
  readonly xattrs: Xattrs;
  readonly revalidation: Revalidation;
  readonly own: LocalOperations;
  readonly journal: Journal;
  readonly holder: LeaseHolder;
  readonly taker: LeaseTaker;
  readonly clock: Clock;
  readonly timeoutMs: number;
}

export class MetadataCalls {
  readonly #options: MetadataCallsOptions;
  #gate: Promise<void> | undefined;

  constructor(options: MetadataCallsOptions) {
    this.#options = options;
  }

  /** What can be answered here is answered, or thrown, at once. **Errors:** the method's; EINTR, ETIMEDOUT, EIO, EAGAIN. */
  call<K extends Method>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    options: MetadataCallOptions<ReplyOf<MetaMethods[K]>> = {},
  ): MaybePromise<ReplyOf<MetaMethods[K]>> {
    const { own, revalidation, taker, clock } = this.#options;
    if (this.#gate !== undefined && options.duringRecovery !== true && !DURING_RECOVERY.has(method))
      return this.#behind(this.#gate, method, args, options);
    const known = this.#known(method, args);
    if (known !== undefined) return known;
    const revalidated = revalidation.before(method, args);
    if (revalidated !== undefined) return this.#behind(revalidated, method, args, options);
    const isBetterHere = isDoneHere(method, args);
    const others = isBetterHere && options.hasWaited !== true ? own.heldUp(method, args) : undefined;
    if (others !== undefined)
      return this.#behind(within(others, limits.othersMs, clock), method, args, {
        ...options,
        hasWaited: true,
      });
    const taking = isBetterHere ? taker.prepare(args) : undefined;
    if (taking !== undefined) return this.#afterTaking(taking, method, args, options);
    if (own.mustWait(method, args)) return this.#afterJournal(method, args, options);
    return this.#send(method, args, options).then((reply) =>
      own.isBehind(method, reply) ? this.#afterJournal(method, args, options) : reply,
    );
  }

  /** Whether a lookup would fail with ENOENT, as is known here; throwing that takes as long as a small change. */
  lacksName(parent: Ino, name: Uint8Array): boolean {
    return this.#gate === undefined && this.#options.leases.lacks(parent, name);
  }

  /** The same of getxattr and ENODATA. */
  lacksXattr(ino: Ino, name: Uint8Array): boolean {
    return this.#gate === undefined && this.#options.own.lacksXattr(ino, name);
  }

  /** **Errors:** the method's. */
  #known<K extends Method>(method: K, args: ArgsOf<MetaMethods[K]>): ReplyOf<MetaMethods[K]> | undefined {
    const { leases, own, contents, xattrs } = this.#options;
    const known = leases.answer(method, args) ?? own.run(method, args);
    return known ?? contents.answer(method, args) ?? xattrs.answer(method, args);
  }

  /** While what was answered before is not to be seen yet. */
  get recovering(): Promise<void> | undefined {
    return this.#gate;
  }

  /** Programs wait for this: what was answered before is not to be seen yet. */
  waitFor(recovery: Promise<void>): void {
    const gate = recovery.finally(() => {
      if (this.#gate === gate) this.#gate = undefined;
    });
    this.#gate = gate;
  }

  /** As `call`, once that is over. */
  async #behind<K extends Method>(
    event: Promise<unknown>,
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    options: MetadataCallOptions<ReplyOf<MetaMethods[K]>>,
  ): Promise<ReplyOf<MetaMethods[K]>> {
    await this.#wait(method, options, endOf(event));
    return await this.call(method, args, options);
  }

  /** As `call`, once there is an answer to what LeaseTaker has asked for. */
  async #afterTaking<K extends Method>(
    taking: Promise<unknown>,
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    options: MetadataCallOptions<ReplyOf<MetaMethods[K]>>,
  ): Promise<ReplyOf<MetaMethods[K]>> {
    const { own, taker } = this.#options;
    await this.#wait(method, options, endOf(taking));
    const done = own.run(method, args);
    if (done !== undefined) return done;
    taker.inVain(args);
    return await this.call(method, args, options);
  }

  /** As `call`, once the server knows what was done here. */
  async #afterJournal<K extends Method>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    options: MetadataCallOptions<ReplyOf<MetaMethods[K]>>,
  ): Promise<ReplyOf<MetaMethods[K]>> {
    const { journal } = this.#options;
    await this.#wait(method, options, (done) =>
      // What is asked for now is asked for under the next session.
      journal.whenFlushed((error) => done(error instanceof SessionLostError ? undefined : error)),
    );
    return await this.call(method, args, options);
  }

  /** The server has answered for all that is in the journal now, under this session or another. **Errors:** as call. */
  async flushJournal(request: InterruptSource | undefined): Promise<void> {
    const { journal } = this.#options;
    for (let isDone = false; !isDone; )
      await this.#wait('sync', { request }, (done) =>
        journal.whenFlushed((error) => {
          isDone = !(error instanceof SessionLostError);
          done(isDone ? error : undefined);
        }),
      );
  }

  #wait<Reply>(op: Method, options: MetadataCallOptions<Reply>, watch: Watch): Promise<void> {
    const { clock } = this.#options;
    const { timeoutMs = this.#options.timeoutMs, request } = options;
    return boundedWait({ clock, timeoutMs, request, op }, watch);
  }

  #send<K extends Method>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    options: MetadataCallOptions<ReplyOf<MetaMethods[K]>>,
  ): Promise<ReplyOf<MetaMethods[K]>> {
    const { link, leases, contents, xattrs, own, holder } = this.#options;
    const { onLate } = options;
    const { moment } = leases;
    const seen = contents.seen(method, args);
    const sent = own.sending(method, args);
    let onOver = (): void => {};
    const over = new Promise<void>((resolve) => {
      onOver = (): void => {
        sent();
        resolve();
      };
    });
    const late = (reply: ReplyOf<MetaMethods[K]>): void => {
      this.#learn(method, args, reply, { moment, seen });
      onLate?.(reply);
    };
    return link.call(method, args, { ...options, onLate: late, onOver }).then(
      (reply) => {
        this.#learn(method, args, reply, { moment, seen });
        return reply;
      },
      async (error: unknown) => {
        if (isLookup(method, args) && error instanceof FsError && error.code === 'ENOENT')
          leases.missing(args, moment);
        xattrs.learnMissing(method, args, error, seen);
        if (metaMethods[method].kind === 'mutation' && isUncertain(error)) await holder.doubt(over);
        throw error;
      },
    );
  }

  #learn<K extends Method>(
    method: K,
    args: ArgsOf<MetaMethods[K]>,
    reply: ReplyOf<MetaMethods[K]>,
    before: { moment: number; seen: Attr | undefined },
  ): void {
    const { leases, contents, xattrs, own } = this.#options;
    if (own.isBehind(method, reply)) return;
    leases.learn(method, args, reply, before.moment);
    contents.learn(method, args, reply, before.seen);
    xattrs.learn(method, args, reply, before.seen);
    own.made(method, args, reply);
  }
}

/** What bringing back needs itself. */
const DURING_RECOVERY: ReadonlySet<Method> = new Set([
  'commit',
  'reserveIds',
  'abandonChunks',
  'returnLeases',
]);

/** What is better done here: not what only tells the server which files are open. */
const isDoneHere = (method: Method, args: Subjects): boolean =>
  isJournalled(method) && method !== 'release' && (method !== 'open' || args.truncate === true);

const isLookup = (method: string, _args: unknown): _args is ArgsOf<MetaMethods['lookup']> =>
  method === 'lookup';

/** Whether what was asked for may have been done, or may be done yet. */
const isUncertain = (error: unknown): boolean =>
  !(error instanceof FsError) || ['EINTR', 'ETIMEDOUT', 'EIO'].includes(error.code);
