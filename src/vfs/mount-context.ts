/**
 * What every family of operations works on: the filesystem, and what this mount knows of its files. Every
 * reply's attributes pass through here, so that a program never sees attributes older than its own writes.
 */
import { makeLog } from '../base/log.js';
import { chain, type MaybePromise, rescue } from '../base/maybe-promise.js';
import type { Filesystem } from '../client/filesystem.js';
import type { DroppedLease } from '../client/lease-cache.js';
import { withinRecall } from '../client/lease-holder.js';
import type { Attr } from '../proto/attr.js';
import { type ErrnoName, FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import type { Removal } from '../proto/lease-methods.js';
import { limits } from '../proto/limits.js';
import { type AccessPolicy, AccessTimes } from './access-times.js';
import { FileTable } from './file-table.js';
import { KernelReferences } from './kernel-references.js';
import { LockOperations } from './lock-operations.js';
import { OpenInodes } from './open-inodes.js';
import type { AttrReply, Entry, Notifier } from './operations.js';

const log = makeLog('vfs');

export class MountContext {
  readonly fs: Filesystem;
  readonly files: FileTable;
  readonly opens: OpenInodes;
  /** Undefined when the driver does not say what its kernel refers to. */
  readonly references: KernelReferences | undefined;
  readonly locks: LockOperations;
  /** Undefined where reading moves no access times. */
  readonly accesses: AccessTimes | undefined;

  /** These handles held locks that are lost. */
  onLocksLost: ((handles: readonly number[]) => void) | undefined;
  /** What was answered about these, and has been given up. */
  onLost: ((inodes: ReadonlySet<Ino>, why: FsError) => void) | undefined;

  #notifier: Notifier | undefined;

  constructor(fs: Filesystem, options: { kernelForgets: boolean; accessTimes: AccessPolicy | undefined }) {
    this.fs = fs;
    this.files = new FileTable(() => fs.now());
    this.opens = new OpenInodes(fs, { defers: options.kernelForgets });
    this.references = options.kernelForgets ? new KernelReferences(fs, this.files, this.opens) : undefined;
    const { accessTimes } = options;
    const keepsAtime = accessTimes !== undefined && !fs.readOnly;
    this.accesses = keepsAtime ? new AccessTimes(fs, this.files, accessTimes) : undefined;
    this.locks = new LockOperations(this);
    fs.leaseDependents = {
      writeBack: (inodes) => this.#writeBack(inodes),
      forget: (inodes) => this.#forget(inodes),
      settle: (leases) => withinRecall(this.#settle(leases), fs.clock),
    };
    fs.onSessionLost = () => {
      this.onLocksLost?.(this.locks.sessionLost());
      this.opens.remarkAll(this.files.states());
      // What was written and is lost was in the kernel's pages.
      for (const { ino, opens, pending } of this.files.states())
        if (opens > 0 && pending.failures > 0) this.dropPages(ino);
    };
    fs.onChanged = (ino) => {
      this.files.get(ino)?.forgetExtents();
      this.dropPages(ino);
    };
    fs.onRemoved = (removals) => this.#removedByOthers(removals);
    fs.onLost = (inodes, why) => this.#lost(new Set(inodes), why);
  }

  /** Programs here that watch what another mount has removed hear of it. Nothing else depends on that. */
  #removedByOthers(removals: readonly Removal[]): void {
    for (const { parent, name, ino } of removals) {
      if (this.references?.has(ino) !== true) continue;
      this.#notifier?.deleteEntry(parent, ino, name).catch((error: unknown) => {
        log.debug('the kernel was not told of a removal', { parent, ino, error });
      });
    }
  }

  /** Programs are told by every handle that is open now. */
  #lost(inodes: ReadonlySet<Ino>, why: FsError): void {
    for (const ino of inodes) {
      const state = this.files.get(ino);
      if (state === undefined) continue;
      state.pending.recordFailure(why);
      this.opens.doubt(state);
      if (state.opens > 0) this.dropPages(ino);
    }
    this.onLost?.(inodes, why);
  }

  /** What the kernel remembers of a file's contents is not so. Never fails; does not wait. */
  dropPages(ino: Ino): void {
    this.#notifier?.invalidateInode(ino, 0, 0).catch((error: unknown) => {
      log.warn('the kernel cannot be made to forget what it has read', { ino, error });
    });
  }

  /** Before anything that changes the filesystem. **Errors:** EROFS on a read-only mount. */
  assertWritable(op: string): void {
    if (this.fs.readOnly) throw new FsError('EROFS', op);
  }

  /** The newest that is known of an inode now that a reply says `attr`, this mount's pending writes included. */
  learn(attr: Attr): Attr {
    this.fs.seen(attr);
    return this.files.get(attr.ino)?.learn(attr, this.fs.connections) ?? attr;
  }

  /** What LOOKUP's reply gives the kernel, which refers to the inode from then on until it forgets it. */
  entry(attr: Attr, parent: Ino): Entry {
    this.references?.add(attr.ino);
    return this.description(attr, parent);
  }

  /**
   * As `entry`, for what makes a name; `isNew`: and an inode. The kernel takes these attributes whatever has
   * happened since, so it may remember them only of what nobody can have changed before it takes them.
   */
  madeEntry(attr: Attr, { parent, isNew }: { parent?: Ino; isNew: boolean }): Entry {
    const mayRemember = isNew && this.fs.leases.isUnborn(attr.ino);
    this.references?.add(attr.ino);
    const entry = this.description(attr, parent);
    if (mayRemember) return entry;
    return { attr: entry.attr, attrTimeoutMs: 0, entryTimeoutMs: entry.entryTimeoutMs };
  }

  /** Runs a removal of a name; `hold` goes into its arguments, `late` says what a reply nobody waits for held. */
  removing(
    call: (holds: boolean, late: (reply: { held?: Ino }) => void) => MaybePromise<{ held?: Ino }>,
  ): MaybePromise<void> {
    if (this.references !== undefined) return this.references.removing(call);
    return chain(
      call(false, () => {}),
      () => {},
    );
  }

  /** The kernel may remember a name for as long as the directory's lease lasts, and attributes as the inode's does. */
  description(attr: Attr, parent?: Ino): Entry {
    const entryTimeoutMs = parent === undefined ? 0 : this.rememberedForMs(parent);
    // A listing may have been asked for long before it is handed out.
    const present = this.fs.leases.answer('getattr', { ino: attr.ino }) ?? attr;
    const { attr: shown, attrTimeoutMs } = this.attrReply(this.learn(present));
    return { attr: shown, attrTimeoutMs, entryTimeoutMs };
  }

  /**
   * The kernel may take it after the answer to a change that is under way now, which makes it forget only what it
   * has by then.
   */
  attrReply(attr: Attr): AttrReply {
    const state = this.files.get(attr.ino);
    const isFinal = (state === undefined || state.pending.isClean) && !this.fs.isChanging(attr.ino);
    return {
      attr: this.accesses?.shown(attr) ?? attr,
      attrTimeoutMs: isFinal ? this.rememberedForMs(attr.ino) : 0,
    };
  }

  /** After SETATTR the kernel takes the reply even if an invalidation has overtaken it: it has to ask again. */
  changeReply(attr: Attr): AttrReply {
    return { attr: this.attrReply(attr).attr, attrTimeoutMs: 0 };
  }

  /** For how long the kernel may answer alone what an inode's lease covers. */
  rememberedForMs(ino: Ino): number {
    return this.#notifier === undefined ? 0 : this.fs.leases.heldForMs(ino);
  }

  /**
   * The kernel moves a name with the time that it got under its old directory's lease: that must not count
   * where there is no lease. Never fails.
   */
  moved(parents: readonly Ino[]): MaybePromise<void> {
    if (parents.every((parent) => this.fs.leases.heldForMs(parent) > 0)) return undefined;
    return this.#notifier?.incrementEpoch().catch((error: unknown) => {
      log.warn('the kernel cannot be made to forget names', { error });
    });
  }

  /** The kernel can be made to forget from now on. */
  set notifier(notifier: Notifier | undefined) {
    this.#notifier = notifier;
  }

  /**
   * Whether the kernel may keep a file's pages, or a directory's entries, at an open. Not where reading moves
   * access times: those are known from reads that get here.
   */
  keepPages(ino: Ino): boolean {
    if (this.#notifier === undefined || this.accesses !== undefined) return false;
    return this.fs.leases.keepPages(ino);
  }

  /** What was written to files is committed. **Errors:** why it cannot be. */
  async #writeBack(inodes: readonly Ino[]): Promise<void> {
    const pending = inodes.flatMap((ino) => this.files.get(ino)?.pending ?? []);
    await Promise.all(pending.map((file) => this.fs.writer.flush(file, { durable: false })));
  }

  /** Names all at once, and attributes: both without a lock in the kernel. */
  async #forget(inodes: readonly Ino[]): Promise<void> {
    const notifier = this.#notifier;
    if (notifier === undefined || inodes.length === 0) return;
    await notifier.incrementEpoch();
    await Promise.all(inodes.map((ino) => this.#forgetAttr(notifier, ino)));
  }

  /** A reply that the kernel has not taken yet may bring an inode that it does not have: until it has, or forgets it. */
  async #forgetAttr(notifier: Notifier, ino: Ino): Promise<void> {
    const { clock } = this.fs;
    // Then all that it may have been told has run out.
    const endMs = clock.monotonicMs() + limits.leaseTtlMs;
    for (
      let pauseMs = 1;
      !(await notifier.invalidateInode(ino, -1, 0));
      pauseMs = Math.min(2 * pauseMs, 50)
    ) {
      if (this.references?.has(ino) !== true || clock.monotonicMs() >= endMs) return;
      await new Promise<void>((resolve) => clock.after(pauseMs, resolve));
    }
  }

  async #settle(leases: readonly DroppedLease[]): Promise<void> {
    await Promise.all(
      leases.flatMap(({ ino, keepsPages }) => {
        const state = this.files.get(ino);
        return [
          ...(keepsPages ? [this.#pagesGone(ino)] : []),
          ...(state !== undefined && this.opens.isUnknown(state)
            ? [this.opens.remark(state, undefined)]
            : []),
        ];
      }),
    );
  }

  /** A READ that was answered meanwhile may have brought back what is old by now: until there was none. */
  async #pagesGone(ino: Ino): Promise<void> {
    const notifier = this.#notifier;
    if (notifier === undefined) return;
    for (let reads = -1; reads !== this.#readsOf(ino); ) {
      reads = this.#readsOf(ino);
      await notifier.invalidateInode(ino, 0, 0);
    }
  }

  #readsOf(ino: Ino): number {
    return this.files.get(ino)?.reads ?? 0;
  }
}

export const isFsError = (error: unknown, code: ErrnoName): boolean =>
  error instanceof FsError && error.code === code;

/**
 * The error of an operation on an inode that the kernel has: where the inode is gone, ESTALE, so that the
 * kernel looks the path up again. Between its lookup and the operation the name may have been given to
 * another inode, by a rename over it, and that one is what the program asked for.
 * **Source:** fs/namei.c, retry_estale() and do_filp_open().
 */
function staleIfGone(error: unknown, op: string): unknown {
  return isFsError(error, 'ENOENT') ? new FsError('ESTALE', op, { cause: error }) : error;
}

/** What `call` gives. **Errors:** its own, as staleIfGone says them. */
export const existing = <T>(op: string, call: () => MaybePromise<T>): MaybePromise<T> =>
  rescue(call, (error) => {
    throw staleIfGone(error, op);
  });

/** **Errors:** ENAMETOOLONG. */
export function checkName(name: Uint8Array, op: string): void {
  if (name.length > limits.nameBytes) throw new FsError('ENAMETOOLONG', op);
}
