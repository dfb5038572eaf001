/**
 * A kernel with one FUSE mount, as far as caching goes: what programs ask is answered from what it remembers,
 * or by the mount's daemon (Vfs). It does not freeze with its daemon. Every answer goes to the Observer.
 *
 * It does not check permissions, nor model read-ahead, mmap or locks.
 */
import type { Timer, Timespec } from '../../src/base/clock.js';
import type { Attr } from '../../src/proto/attr.js';
import { type ErrnoName, FsError } from '../../src/proto/errno.js';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import type {
  AttrChange,
  AttrReply,
  Entry,
  Notifier,
  ReaddirEntry,
  Request,
} from '../../src/vfs/operations.js';
import type { Vfs } from '../../src/vfs/vfs.js';
import { FILE_BYTES, keyParts, type Moment, nameKey } from './history.js';
import { InodeLocks } from './inode-locks.js';
import { type Before, type CachedInode, KernelCache, type Listed } from './kernel-cache.js';
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

class SimRequest implements Request {
  readonly uid = 0;
  readonly gid = 0;
  readonly pid = 1;
  interrupted = false;
  readonly #listeners = new Set<() => void>();

  onInterrupt(listener: () => void): () => void {
    if (this.interrupted) listener();
    else this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  interrupt(): void {
    this.interrupted = true;
    for (const listener of [...this.#listeners]) listener();
  }
}

export class Kernel {
  readonly name: string;
  readonly #options: KernelOptions;
  readonly cache: KernelCache;
  readonly #locks = new InodeLocks();
  /** The machine, which goes on when the daemon is frozen. */
  readonly machine: SimNode;
  /** What each handle is open on. */
  readonly #handles = new Map<number, CachedInode>();
  /** What the daemon is asked now. */
  readonly asked = new Map<number, { readonly what: string; readonly sinceMs: number }>();
  #nextAsked = 1;
  /** An error that leaves something open, and an answer that takes longer, is a violation from now on. */
  calm: { readonly answerMs: number } | undefined;

  constructor(options: KernelOptions, machine: SimNode) {
    this.#options = options;
    this.name = options.node.name;
    this.machine = machine;
    this.cache = new KernelCache(() => options.node.clock.monotonicMs());
  }

  #now(): Moment {
    return this.#observer.moment(this.name);
  }

  get #observer(): Observer {
    return this.#options.observer;
  }

  /** The way to make it forget. */
  notifier(): Notifier {
    const told = (what: string, forget: () => void): Promise<void> =>
      this.#options.scheduler.on(this.#options.node, this.#hopUs(), () => {
        this.#options.trace.note(this.name, `kernel forgets ${what}`);
        forget();
      });
    return {
      hasEpoch: true,
      incrementEpoch: () => told('names', () => void this.cache.epoch++),
      invalidateEntry: (parent, name) =>
        told('a name', () => void this.cache.dentries.delete(nameKey(parent, textOf(name)))),
      invalidateInode: async (ino, offset) => {
        await told(`inode ${ino}${offset < 0 ? '' : ' and its pages'}`, () => {
          const inode = this.cache.inodes.get(ino);
          if (inode === undefined) return;
          inode.attrVersion = ++this.cache.attrVersion;
          this.cache.stale(inode);
        });
        const inode = this.cache.inodes.get(ino);
        if (offset < 0 || inode === undefined) return;
        // invalidate_inode_pages2 waits for pages that are being read.
        await Promise.allSettled(inode.reading);
        await told(`pages of ${ino}`, () => this.cache.dropPages(inode));
      },
    };
  }

  #hopUs(): number {
    return this.#options.scheduler.prng.int(5, HOP_US);
  }

  /** Asks the daemon. **Errors:** its FsError. */
  async #ask<T>(
    what: string,
    inodes: readonly Ino[],
    body: (request: Request) => T | Promise<T>,
  ): Promise<T> {
    const { scheduler, trace, node } = this.#options;
    const id = this.#nextAsked++;
    const sinceMs = scheduler.nowMs;
    const request = new SimRequest();
    const interruption = this.#interruptLater(request);
    const pinned = inodes.map((ino) => this.cache.inode(ino));
    for (const inode of pinned) inode.pins++;
    this.asked.set(id, { what, sinceMs });
    trace.note(this.name, `asks ${id}: ${what}`);
    try {
      const answer = await scheduler.on(node, this.#hopUs(), () => body(request));
      await scheduler.on(this.machine, this.#hopUs(), () => {});
      trace.note(this.name, `answer ${id}`);
      return answer;
    } catch (error) {
      await scheduler.on(this.machine, this.#hopUs(), () => {});
      trace.note(this.name, `answer ${id}: ${String(error)}`);
      if (!(error instanceof FsError)) throw error;
      if (this.calm !== undefined && isOpenEnded(error))
        this.#observer.violated(`${this.name}: ${what} fails in calm weather: ${error.message}`);
      throw error;
    } finally {
      interruption?.cancel();
      for (const inode of pinned) inode.pins--;
      this.asked.delete(id);
      const tookMs = scheduler.nowMs - sinceMs;
      if (this.calm !== undefined && tookMs > this.calm.answerMs)
        this.#observer.violated(`${this.name}: ${what} takes ${tookMs} ms in calm weather`);
    }
  }

  /** Now and then a signal comes while a program waits. */
  #interruptLater(request: SimRequest): Timer | undefined {
    const { scheduler, node, interrupted } = this.#options;
    if (this.calm !== undefined || scheduler.prng.next() >= interrupted) return undefined;
    return scheduler.after(scheduler.prng.next() * INTERRUPTED_WITHIN_US, node, () => request.interrupt());
  }

  // Names

  /** **Errors:** ENOENT, and what the daemon answers. */
  async lookup(parent: Ino, name: string): Promise<Ino> {
    const key = nameKey(parent, name);
    const dentry = this.cache.dentries.get(key);
    if (dentry === undefined)
      return await this.#locks.with('shared', [parent], () => this.#lookup(parent, name));
    if (dentry.epoch !== this.cache.epoch) {
      this.cache.dentries.delete(key);
      return await this.lookup(parent, name);
    }
    if (!this.cache.isCurrent(dentry)) return await this.#revalidate(parent, name);
    this.#observer.named(`${this.name}'s kernel`, parent, name, dentry.ino, this.#now());
    return dentry.ino;
  }

  async #lookup(parent: Ino, name: string): Promise<Ino> {
    const key = nameKey(parent, name);
    const known = this.cache.dentries.get(key);
    if (known !== undefined && this.cache.isCurrent(known)) return known.ino;
    return await this.#askName(parent, name, () => true);
  }

  /** Without a lock: what it learns counts only if the entry is still the one that it asked about. */
  async #revalidate(parent: Ino, name: string): Promise<Ino> {
    const key = nameKey(parent, name);
    const dentry = this.cache.dentries.get(key);
    return await this.#askName(parent, name, () => {
      // An epoch that has passed is not renewed.
      return this.cache.dentries.get(key) === dentry && dentry?.epoch === this.cache.epoch;
    });
  }

  async #askName(parent: Ino, name: string, isStill: () => boolean): Promise<Ino> {
    const { vfs } = this.#options;
    const before = this.cache.before();
    const from = this.#now();
    const key = nameKey(parent, name);
    try {
      const entry = await this.#ask(`lookup ${key}`, [parent], (request) =>
        vfs.lookup(request, parent, bytesOf(name)),
      );
      this.#observer.named(this.name, parent, name, entry.attr.ino, from);
      this.#observer.attributes(this.name, `${this.name} (lookup)`, entry.attr, from);
      if (isStill()) this.#entered(key, entry, before);
      else this.cache.inode(entry.attr.ino).lookups++;
      return entry.attr.ino;
    } catch (error) {
      if (isErrno(error, 'ENOENT')) {
        this.#observer.named(this.name, parent, name, null, from);
        if (isStill()) this.cache.dentries.delete(key);
      }
      throw error;
    }
  }

  /** fuse_iget takes attributes whatever has happened since, where the inode is new to it. */
  #entered(key: string, entry: Entry, before: Before): void {
    const { attr, entryTimeoutMs, attrTimeoutMs } = entry;
    this.cache.entered(key, attr.ino, entryTimeoutMs, before);
    this.cache.learned(this.cache.inode(attr.ino), attr, attrTimeoutMs, before);
  }

  async mkdir(parent: Ino, name: string, mode: number): Promise<Ino> {
    return await this.#making('mkdir', parent, name, { parent, name: bytesOf(name), mode }, (vfs, request) =>
      vfs.mkdir(request, parent, bytesOf(name), mode),
    );
  }

  async link(ino: Ino, parent: Ino, name: string): Promise<Ino> {
    const args = { ino, parent, name: bytesOf(name) };
    const linked = await this.#making('link', parent, name, args, (vfs, request) =>
      vfs.link(request, ino, parent, bytesOf(name)),
    );
    this.cache.stale(this.cache.inode(ino));
    return linked;
  }

  async #making(
    method: string,
    parent: Ino,
    name: string,
    args: object,
    call: (vfs: Vfs, request: Request) => Entry | Promise<Entry>,
  ): Promise<Ino> {
    return await this.#locks.with('exclusive', [parent], async () => {
      await this.#absent(parent, name);
      const before = this.cache.before();
      const from = this.#now();
      const learn = (entry: Entry): void => {
        this.#entered(nameKey(parent, name), entry, before);
        this.cache.directoryChanged(this.cache.inode(parent));
      };
      const entry = await this.#changing(
        method,
        args,
        [parent],
        (request) => call(this.#options.vfs, request),
        learn,
      );
      this.#observer.attributes(this.name, `${this.name} (${method})`, entry.attr, from);
      return entry.attr.ino;
    });
  }

  /** **Errors:** EEXIST where the kernel finds the name. */
  async #absent(parent: Ino, name: string): Promise<void> {
    try {
      await this.#lookupLocked(parent, name);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return;
      throw error;
    }
    throw new FsError('EEXIST', 'kernel');
  }

  /** As lookup, by who has the directory locked already. */
  async #lookupLocked(parent: Ino, name: string): Promise<Ino> {
    const dentry = this.cache.dentries.get(nameKey(parent, name));
    if (dentry === undefined || !this.cache.isCurrent(dentry)) return await this.#lookup(parent, name);
    this.#observer.named(`${this.name}'s kernel`, parent, name, dentry.ino, this.#now());
    return dentry.ino;
  }

  /** Asks for a change, and says what became of it; `learn` is what the kernel makes of the answer. */
  async #changing<T>(
    method: string,
    args: object,
    inodes: readonly Ino[],
    body: (request: Request) => T | Promise<T>,
    learn: (answer: T) => void,
  ): Promise<T> {
    const operation = this.#observer.begin(this.name, method, args);
    try {
      const answer = await this.#ask(operation.key, inodes, body);
      this.#observer.succeeded(operation);
      learn(answer);
      return answer;
    } catch (error) {
      if (error instanceof FsError && !isOpenEnded(error)) this.#observer.refused(operation, error.code);
      else this.#observer.unknown(operation);
      throw error;
    } finally {
      this.#observer.end(operation);
    }
  }

  async unlink(parent: Ino, name: string): Promise<void> {
    await this.#removing('unlink', parent, name, (vfs, request) =>
      vfs.unlink(request, parent, bytesOf(name)),
    );
  }

  async rmdir(parent: Ino, name: string): Promise<void> {
    await this.#removing('rmdir', parent, name, (vfs, request) => vfs.rmdir(request, parent, bytesOf(name)));
  }

  async #removing(
    method: string,
    parent: Ino,
    name: string,
    call: (vfs: Vfs, request: Request) => void | Promise<void>,
  ): Promise<void> {
    await this.#locks.with('exclusive', [parent], async () => {
      const key = nameKey(parent, name);
      const ino = await this.#lookupLocked(parent, name);
      try {
        const args = { parent, name: bytesOf(name) };
        const learn = (): void => {
          this.cache.directoryChanged(this.cache.inode(parent));
          this.cache.unlinked(key);
        };
        await this.#changing(
          method,
          args,
          [parent, ino],
          (request) => call(this.#options.vfs, request),
          learn,
        );
      } catch (error) {
        if (isErrno(error, 'ENOENT') || isErrno(error, 'EINTR')) this.cache.dentries.delete(key);
        throw error;
      }
    });
  }

  async rename(parent: Ino, name: string, newParent: Ino, newName: string): Promise<void> {
    const args = { parent, name: bytesOf(name), newParent, newName: bytesOf(newName), mode: 'replace' };
    await this.#locks.with('exclusive', [parent, newParent], async () => {
      const ino = await this.#lookupLocked(parent, name);
      const replaced = await this.#lookupLocked(newParent, newName).catch(unlessErrno('ENOENT'));
      if (replaced === ino) return;
      try {
        const learn = (): void => {
          for (const changed of [parent, newParent]) this.cache.directoryChanged(this.cache.inode(changed));
          this.cache.moved({ parent, name }, { parent: newParent, name: newName });
        };
        const call = (request: Request): void | Promise<void> =>
          this.#options.vfs.rename(request, parent, bytesOf(name), newParent, bytesOf(newName), 'replace');
        await this.#changing('rename', args, [parent, newParent, ino], call, learn);
      } catch (error) {
        if (isErrno(error, 'ENOENT') || isErrno(error, 'EINTR'))
          for (const key of [nameKey(parent, name), nameKey(newParent, newName)])
            this.cache.dentries.delete(key);
        throw error;
      }
    });
  }

  /** Every entry is held against the store. */
  async readdir(ino: Ino, plus: boolean): Promise<readonly Listed[]> {
    const { vfs } = this.#options;
    const inode = this.cache.inode(ino);
    return await this.#locks.with('shared', [ino], async () => {
      const from = this.#now();
      const opened = await this.#ask(`opendir ${ino}`, [ino], (request) => vfs.opendir(request, ino, 0));
      const { fh, cacheDir, keepCache } = opened;
      if (!keepCache) this.cache.dropPages(inode);
      const cached = cacheDir ? await this.#cachedListing(inode) : undefined;
      const { attr, pagesDropped } = inode;
      const entries = cached ?? (await this.#list(ino, fh, plus, from));
      if (cacheDir && cached === undefined && attr !== undefined && inode.pagesDropped === pagesDropped)
        inode.listing = { entries, mtime: attr.mtime };
      await this.#ask(`releasedir ${ino}`, [ino], () => vfs.releasedir(ino, fh));
      return entries;
    });
  }

  /** fuse_readdir_cached: what was listed before, if the directory has not changed since. */
  async #cachedListing(inode: CachedInode): Promise<readonly Listed[] | undefined> {
    if (!this.cache.isFresh(inode)) await this.#askAttr(inode, undefined);
    const { listing, attr, ino } = inode;
    if (listing === undefined || attr === undefined) return undefined;
    if (JSON.stringify(listing.mtime) !== JSON.stringify(attr.mtime)) return undefined;
    this.#checkListing(`${this.name}'s kernel`, ino, listing.entries, this.#now());
    return listing.entries;
  }

  #checkListing(who: string, ino: Ino, entries: readonly Listed[], from: Moment): void {
    for (const { name, ino: child } of entries) this.#observer.named(who, ino, name, child, from);
    this.#observer.listed(who, ino, new Set(entries.map(({ name }) => name)), from);
  }

  async #list(ino: Ino, fh: number, plus: boolean, from: Moment): Promise<readonly Listed[]> {
    const { vfs } = this.#options;
    const entries: Listed[] = [];
    let offset = 0;
    for (let isMore = true; isMore; ) {
      const before = this.cache.before();
      isMore = false;
      const page: ReaddirEntry[] = [];
      await this.#ask(`readdir ${ino}${plus ? ' plus' : ''}`, [ino], (request) =>
        vfs.readdir(request, ino, fh, offset, plus, (entry) => {
          isMore = true;
          offset = entry.nextOffset;
          page.push(entry);
          return true;
        }),
      );
      for (const { name, ino: child, kind, entry } of page) {
        const text = textOf(name);
        if (text === '.' || text === '..') continue;
        entries.push({ name: text, ino: child, kind });
        if (entry === undefined) continue;
        this.#observer.attributes(this.name, `${this.name} (readdirplus)`, entry.attr, from);
        this.#entered(nameKey(ino, text), entry, before);
      }
    }
    this.#checkListing(this.name, ino, entries, from);
    return entries;
  }

  // Attributes

  async getattr(ino: Ino): Promise<Attr> {
    const inode = this.cache.inode(ino);
    if (inode.attr !== undefined && this.cache.isFresh(inode)) {
      this.#observer.attributes(this.name, `${this.name}'s kernel`, inode.attr, this.#now());
      return inode.attr;
    }
    return await this.#askAttr(inode, undefined);
  }

  async #askAttr(inode: CachedInode, fh: number | undefined): Promise<Attr> {
    const { ino } = inode;
    const before = this.cache.before();
    const from = this.#now();
    try {
      const { attr, attrTimeoutMs } = await this.#ask(`getattr ${ino}`, [ino], (request) =>
        this.#options.vfs.getattr(request, ino, fh),
      );
      this.#observer.attributes(this.name, `${this.name} (getattr)`, attr, from);
      this.cache.learned(inode, attr, attrTimeoutMs, before);
      return attr;
    } catch (error) {
      if (isErrno(error, 'ESTALE')) this.#observer.gone(this.name, ino, from);
      throw error;
    }
  }

  async setattr(ino: Ino, change: AttrChange): Promise<Attr> {
    const inode = this.cache.inode(ino);
    return await this.#locks.with('exclusive', [ino], async () => {
      const from = this.#now();
      if (change.size !== undefined) this.#observer.discarded(this.name, ino);
      // fuse_do_setattr takes attributes whatever has happened since it asked.
      const learn = ({ attr, attrTimeoutMs }: AttrReply): void =>
        this.cache.learned(inode, attr, attrTimeoutMs, undefined);
      const call = (request: Request): AttrReply | Promise<AttrReply> =>
        this.#options.vfs.setattr(request, ino, undefined, change);
      const reply = await this.#changing('setattr', { ino, set: change }, [ino], call, learn);
      if (change.size !== undefined) this.#observer.discarded(this.name, ino);
      this.#observer.attributes(this.name, `${this.name} (setattr)`, reply.attr, from);
      return reply.attr;
    });
  }

  // Files

  async create(parent: Ino, name: string, mode: number, flags: number): Promise<{ ino: Ino; fh: number }> {
    const args = { parent, name: bytesOf(name), mode };
    return await this.#locks.with('exclusive', [parent], async () => {
      await this.#absent(parent, name);
      const before = this.cache.before();
      const from = this.#now();
      const { entry, open } = await this.#changing(
        'create',
        args,
        [parent],
        (request) => this.#options.vfs.create(request, parent, bytesOf(name), mode, flags),
        (made) => {
          this.#entered(nameKey(parent, name), made.entry, before);
          this.cache.directoryChanged(this.cache.inode(parent));
          this.#opened(this.cache.inode(made.entry.attr.ino), made.open.fh);
        },
      );
      this.#observer.attributes(this.name, `${this.name} (create)`, entry.attr, from);
      return { ino: entry.attr.ino, fh: open.fh };
    });
  }

  #opened(inode: CachedInode, fh: number): void {
    inode.pins++;
    this.#handles.set(fh, inode);
  }

  async open(ino: Ino, flags: number): Promise<number> {
    const inode = this.cache.inode(ino);
    const isTruncating = (flags & 0o1000) !== 0;
    if (isTruncating) this.#observer.discarded(this.name, ino);
    const { fh, keepCache } = await this.#ask(
      `open ${ino}${isTruncating ? ' truncating' : ''}`,
      [ino],
      (request) => this.#options.vfs.open(request, ino, flags),
    );
    // What was written beside it may have been cut.
    if (isTruncating) this.#observer.discarded(this.name, ino);
    this.#opened(inode, fh);
    if (!keepCache || isTruncating) this.cache.dropPages(inode);
    if (isTruncating) {
      inode.attrVersion = ++this.cache.attrVersion;
      if (inode.attr !== undefined) inode.attr = { ...inode.attr, size: 0 };
      this.cache.stale(inode);
    }
    return fh;
  }

  #handle(fh: number): CachedInode {
    const inode = this.#handles.get(fh);
    if (inode === undefined) throw new Error(`handle ${fh} is not open`);
    return inode;
  }

  /** The whole file, as one page. */
  async read(fh: number): Promise<string> {
    const inode = this.#handle(fh);
    const from = this.#now();
    await this.#sizeKnown(inode, fh);
    const { pages } = inode;
    const data = pages ?? (await this.#readPages(inode, fh));
    const content = data.subarray(0, inode.attr?.size ?? 0).toString('latin1');
    const who = pages === undefined ? this.name : `${this.name}'s kernel`;
    this.#observer.content(this.name, who, inode.ino, content, from, this.#options.session);
    return content;
  }

  /**
   * Linux asks once: where the inode is invalidated meanwhile it drops the answer and reads with the size of
   * before (fuse_change_attributes), which no daemon can help. This kernel asks until the answer counts.
   */
  async #sizeKnown(inode: CachedInode, fh: number): Promise<void> {
    if (this.cache.isFresh(inode)) return;
    for (let attempt = 0; attempt < 10; attempt++) {
      const { attrVersion } = this.cache.before();
      await this.#askAttr(inode, fh);
      if (inode.attrVersion <= attrVersion || inode.learnedAt > attrVersion) return;
    }
  }

  async #readPages(inode: CachedInode, fh: number): Promise<Buffer> {
    const { pagesDropped } = inode;
    const reading = this.#ask(`read ${inode.ino}`, [inode.ino], (request) =>
      this.#options.vfs.read(request, inode.ino, fh, 0, FILE_BYTES),
    ).then((parts) => {
      const data = Buffer.concat(Array.isArray(parts) ? parts : [parts]);
      if (inode.pagesDropped === pagesDropped) inode.pages = data;
      return data;
    });
    inode.reading.add(reading);
    try {
      return await reading;
    } finally {
      inode.reading.delete(reading);
    }
  }

  async write(fh: number, slot: number, value: string): Promise<void> {
    const inode = this.#handle(fh);
    const offset = slot * value.length;
    await this.#locks.with('exclusive', [inode.ino], async () => {
      const written = this.#observer.writing(this.name, inode.ino, slot, value, {
        generation: this.#options.session.generation,
        fh,
      });
      await this.#ask(`write ${inode.ino} ${value} at ${slot}`, [inode.ino], (request) =>
        this.#options.vfs.write(request, inode.ino, fh, offset, bytesOf(value), false),
      );
      written.isAcknowledged = true;
      this.#wrote(inode, offset, bytesOf(value));
    });
  }

  /** fuse_perform_write, fuse_write_update_attr. */
  #wrote(inode: CachedInode, offset: number, data: Buffer): void {
    const end = offset + data.length;
    inode.attrVersion = ++this.cache.attrVersion;
    if (inode.attr !== undefined) inode.attr = { ...inode.attr, size: Math.max(inode.attr.size, end) };
    this.cache.stale(inode);
    const { pages } = inode;
    // What is being read may be from before: it does not stay.
    if (pages === undefined) inode.pagesDropped++;
    if (pages === undefined) return;
    const grown = Buffer.alloc(Math.max(pages.length, end));
    pages.copy(grown);
    data.copy(grown, offset);
    inode.pages = grown;
  }

  async fsync(fh: number): Promise<void> {
    await this.#storing('fsync', fh, (vfs, ino, request) => vfs.fsync(request, ino, fh, false));
  }

  async close(fh: number): Promise<void> {
    const inode = this.#handle(fh);
    try {
      await this.#storing('flush', fh, (vfs, ino, request) => vfs.flush(request, ino, fh));
    } finally {
      this.#handles.delete(fh);
      inode.pins--;
      await this.#ask(`release ${inode.ino}`, [inode.ino], () => this.#options.vfs.release(inode.ino, fh));
    }
  }

  async #storing(
    what: string,
    fh: number,
    call: (vfs: Vfs, ino: Ino, request: Request) => void | Promise<void>,
  ): Promise<void> {
    const { ino } = this.#handle(fh);
    const { vfs, session } = this.#options;
    const wanted = this.#observer.toStore(this.name, ino, what === 'flush' ? fh : undefined);
    try {
      await this.#ask(`${what} ${ino}`, [ino], (request) => call(vfs, ino, request));
      this.#observer.stored(this.name, this.name, ino, wanted, session);
    } catch (error) {
      this.#observer.discarded(this.name, ino);
      throw error;
    }
  }

  /** Holds all that it would answer alone now, to whichever program, against the store. */
  peek(): void {
    const who = `${this.name}'s kernel (peek)`;
    const now = this.#now();
    const opened = new Set(this.#handles.values());
    const reached = new Set([this.cache.inode(ROOT_INO), ...opened]);
    for (const [key, dentry] of this.cache.dentries) {
      const [parent, name] = keyParts(key);
      if (!this.cache.isCurrent(dentry)) continue;
      this.#observer.named(who, parent, name, dentry.ino, now);
      reached.add(this.cache.inode(dentry.ino));
    }
    for (const inode of reached) {
      const { attr, pages, ino } = inode;
      if (attr === undefined || !this.cache.isFresh(inode)) continue;
      this.#observer.attributes(this.name, who, attr, now);
      // Without a handle an open comes first, which may drop them.
      if (pages === undefined || !opened.has(inode)) continue;
      const content = pages.subarray(0, attr.size).toString('latin1');
      this.#observer.content(this.name, who, ino, content, now, this.#options.session);
    }
  }

  /** Memory is needed for something else. */
  async evict(): Promise<void> {
    const evicted = this.cache.evict();
    for (const { ino, lookups } of evicted)
      await this.#ask(`forget ${ino}`, [], () => this.#options.vfs.forget(ino, lookups));
  }

  get now(): Timespec {
    return this.#options.node.clock.now();
  }

  get root(): Ino {
    return ROOT_INO;
  }
}

const bytesOf = (text: string): Buffer => Buffer.from(text, 'latin1');
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
export const isErrno = (error: unknown, code: ErrnoName): error is FsError =>
  error instanceof FsError && error.code === code;
const unlessErrno =
  (code: ErrnoName) =>
  (error: unknown): undefined => {
    if (!isErrno(error, code)) throw error;
  };
