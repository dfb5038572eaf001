/**
 * A kernel's way to the daemon of a FUSE mount, and the attributes that it remembers. The machine does not
 * freeze with the daemon. Every answer goes to the Observer.
 */
import type { Timer } from '../../src/base/clock.js';
import type { Attr } from '../../src/proto/attr.js';
import { type ErrnoName, FsError } from '../../src/proto/errno.js';
import type { Ino } from '../../src/proto/ids.js';
import type { AttrChange, AttrReply, Notifier, Request } from '../../src/vfs/operations.js';
import type { Vfs } from '../../src/vfs/vfs.js';
import { TestRequest } from '../vfs/test-request.js';
import { type Moment, nameKey } from './history.js';
import { InodeLocks } from './inode-locks.js';
import { type CachedInode, KernelCache } from './kernel-cache.js';
import type { Generation, Observer } from './observer.js';
import type { Scheduler, SimNode } from './scheduler.js';
import type { Trace } from './trace.js';

/** Between kernel and daemon, each way. */
const HOP_US = 300;
/** A signal comes within this, if one comes. */
const INTERRUPTED_WITHIN_US = 3_000_000;

/** Errors that leave open whether something was done. */
const OPEN_ENDED: readonly ErrnoName[] = ['EIO', 'ETIMEDOUT', 'EINTR', 'EAGAIN'];
export const isOpenEnded = (error: FsError): boolean => OPEN_ENDED.includes(error.code);

export interface KernelOptions {
  readonly scheduler: Scheduler;
  readonly trace: Trace;
  readonly observer: Observer;
  /** Of the daemon. */
  readonly node: SimNode;
  readonly vfs: Vfs;
  readonly session: Generation;
  /** Probability that a program gets a signal while it waits. */
  readonly interrupted: number;
}

export class KernelBase {
  readonly name: string;
  protected readonly options: KernelOptions;
  readonly cache: KernelCache;
  protected readonly locks = new InodeLocks();
  /** The machine, which goes on when the daemon is frozen. */
  readonly machine: SimNode;
  /** What the daemon is asked now. */
  readonly asked = new Map<number, { readonly what: string; readonly sinceMs: number }>();
  #nextAsked = 1;
  #die: (error: FsError) => void = () => {};
  readonly #death: Promise<never>;
  /** An error that leaves something open, and an answer that takes longer, is a violation from now on. */
  calm: { readonly answerMs: number } | undefined;

  constructor(options: KernelOptions, machine: SimNode) {
    this.options = options;
    this.name = options.node.name;
    this.machine = machine;
    this.cache = new KernelCache(() => options.node.clock.monotonicMs());
    this.#death = new Promise((_, reject) => {
      this.#die = reject;
    });
    this.#death.catch(() => {});
  }

  /** The daemon was killed: nothing is answered any more. */
  died(): void {
    // What it could still answer alone is nobody's promise any more.
    this.cache.forgetAll();
    this.#die(new FsError('EIO', 'kernel', { detail: 'the daemon is gone' }));
  }

  protected moment(): Moment {
    return this.observer.moment(this.name);
  }

  protected get observer(): Observer {
    return this.options.observer;
  }

  /** The way to make it forget. */
  notifier(): Notifier {
    const told = (what: string, forget: () => void): Promise<void> =>
      this.options.scheduler.on(this.options.node, this.#hopUs(), () => {
        this.options.trace.note(this.name, `kernel forgets ${what}`);
        forget();
      });
    return {
      hasEpoch: true,
      incrementEpoch: () => told('names', () => void this.cache.epoch++),
      invalidateEntry: (parent, name) =>
        told('a name', () => void this.cache.dentries.delete(nameKey(parent, textOf(name)))),
      deleteEntry: (parent, child, name) =>
        told(`a name of ${child}`, () => void this.cache.dentries.delete(nameKey(parent, textOf(name)))),
      invalidateInode: async (ino, offset) => {
        let isKnown = false;
        await told(`inode ${ino}${offset < 0 ? '' : ' and its pages'}`, () => {
          const inode = this.cache.inodes.get(ino);
          if (inode === undefined) return;
          isKnown = true;
          inode.attrVersion = ++this.cache.attrVersion;
          this.cache.stale(inode);
        });
        const inode = this.cache.inodes.get(ino);
        if (offset < 0 || inode === undefined) return isKnown;
        // invalidate_inode_pages2 waits for pages that are being read.
        await Promise.allSettled(inode.reading);
        await told(`pages of ${ino}`, () => this.cache.dropPages(inode));
        return isKnown;
      },
    };
  }

  #hopUs(): number {
    return this.options.scheduler.prng.int(5, HOP_US);
  }

  /** Asks the daemon. **Errors:** its FsError. */
  protected async ask<T>(
    what: string,
    inodes: readonly Ino[],
    body: (request: Request) => T | Promise<T>,
  ): Promise<T> {
    const { scheduler, trace, node } = this.options;
    const id = this.#nextAsked++;
    const sinceMs = scheduler.nowMs;
    const request = new TestRequest();
    const interruption = this.#interruptLater(request);
    const pinned = inodes.map((ino) => this.cache.inode(ino));
    for (const inode of pinned) inode.pins++;
    this.asked.set(id, { what, sinceMs });
    trace.note(this.name, `asks ${id}: ${what}`);
    try {
      const answer = await Promise.race([
        this.#death,
        scheduler.on(node, this.#hopUs(), () => body(request)),
      ]);
      await Promise.race([this.#death, scheduler.on(this.machine, this.#hopUs(), () => {})]);
      trace.note(this.name, `answer ${id}`);
      return answer;
    } catch (error) {
      await scheduler.on(this.machine, this.#hopUs(), () => {});
      trace.note(this.name, `answer ${id}: ${String(error)}`);
      if (!(error instanceof FsError)) throw error;
      if (this.calm !== undefined && isOpenEnded(error))
        this.observer.violated(`${this.name}: ${what} fails in calm weather: ${error.message}`);
      throw error;
    } finally {
      interruption?.cancel();
      for (const inode of pinned) inode.pins--;
      this.asked.delete(id);
      const tookMs = scheduler.nowMs - sinceMs;
      if (this.calm !== undefined && tookMs > this.calm.answerMs)
        this.observer.violated(`${this.name}: ${what} takes ${tookMs} ms in calm weather`);
    }
  }

  /** Now and then a signal comes while a program waits. */
  #interruptLater(request: TestRequest): Timer | undefined {
    const { scheduler, node, interrupted } = this.options;
    if (this.calm !== undefined || scheduler.prng.next() >= interrupted) return undefined;
    return scheduler.after(scheduler.prng.next() * INTERRUPTED_WITHIN_US, node, () => request.interrupt());
  }

  /** Asks for a change, and says what became of it; `learn` is what the kernel makes of the answer. */
  protected async changing<T>(
    method: string,
    args: object,
    inodes: readonly Ino[],
    body: (request: Request) => T | Promise<T>,
    learn: (answer: T) => void,
  ): Promise<T> {
    const operation = this.observer.begin(this.name, method, args);
    try {
      const answer = await this.ask(operation.key, inodes, body);
      this.observer.succeeded(operation);
      learn(answer);
      return answer;
    } catch (error) {
      if (error instanceof FsError && !isOpenEnded(error)) this.observer.refused(operation, error.code);
      else this.observer.unknown(operation);
      throw error;
    } finally {
      this.observer.end(operation);
    }
  }

  // Attributes

  async getattr(ino: Ino): Promise<Attr> {
    const inode = this.cache.inode(ino);
    if (inode.attr !== undefined && this.cache.isFresh(inode)) {
      this.observer.attributes(this.name, `${this.name}'s kernel`, inode.attr, this.moment());
      return inode.attr;
    }
    return await this.askAttr(inode, undefined);
  }

  protected async askAttr(inode: CachedInode, fh: number | undefined): Promise<Attr> {
    const { ino } = inode;
    const before = this.cache.before();
    const from = this.moment();
    try {
      const { attr, attrTimeoutMs } = await this.ask(`getattr ${ino}`, [ino], (request) =>
        this.options.vfs.getattr(request, ino, fh),
      );
      this.observer.attributes(this.name, `${this.name} (getattr)`, attr, from);
      this.cache.learned(inode, attr, attrTimeoutMs, before);
      return attr;
    } catch (error) {
      if (isErrno(error, 'ESTALE')) this.observer.gone(this.name, ino, from);
      throw error;
    }
  }

  async setattr(ino: Ino, change: AttrChange): Promise<Attr> {
    const inode = this.cache.inode(ino);
    return await this.locks.with('exclusive', [ino], async () => {
      const from = this.moment();
      if (change.size !== undefined) this.observer.discarded(this.name, ino);
      // fuse_do_setattr takes attributes whatever has happened since it asked.
      const learn = ({ attr, attrTimeoutMs }: AttrReply): void =>
        this.cache.learned(inode, attr, attrTimeoutMs, undefined);
      const call = (request: Request): AttrReply | Promise<AttrReply> =>
        this.options.vfs.setattr(request, ino, undefined, change);
      const reply = await this.changing('setattr', { ino, set: change }, [ino], call, learn);
      if (change.size !== undefined) this.observer.discarded(this.name, ino);
      this.observer.attributes(this.name, `${this.name} (setattr)`, reply.attr, from);
      return reply.attr;
    });
  }
}

export const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');
export const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
export const isErrno = (error: unknown, code: ErrnoName): error is FsError =>
  error instanceof FsError && error.code === code;
