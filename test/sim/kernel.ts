/**
 * A kernel with one FUSE mount, as far as caching goes: what programs ask is answered from what it remembers,
 * or by the mount's daemon (Vfs). This file has files, KernelNames names, KernelBase attributes.
 *
 * It does not check permissions, nor model read-ahead, mmap or locks.
 */
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import type { OpenReply, Request } from '../../src/vfs/operations.js';
import type { Vfs } from '../../src/vfs/vfs.js';
import { FILE_BYTES, keyParts, nameKey } from './history.js';
import { bytesOf } from './kernel-base.js';
import type { CachedInode } from './kernel-cache.js';
import { KernelNames } from './kernel-names.js';

export class Kernel extends KernelNames {
  /** What each handle is open on. */
  readonly #handles = new Map<number, CachedInode>();

  async create(parent: Ino, name: string, mode: number, flags: number): Promise<{ ino: Ino; fh: number }> {
    const args = { parent, name: bytesOf(name), mode };
    return await this.locks.with('exclusive', [parent], async () => {
      await this.absent(parent, name);
      const before = this.cache.before();
      const from = this.moment();
      const { entry, open } = await this.changing(
        'create',
        args,
        [parent],
        (request) => this.options.vfs.create(request, parent, bytesOf(name), mode, flags),
        (made) => {
          this.made(nameKey(parent, name), made.entry, before);
          this.cache.directoryChanged(this.cache.inode(parent));
          this.#opened(this.cache.inode(made.entry.attr.ino), made.open.fh);
        },
      );
      this.observer.attributes(this.name, `${this.name} (create)`, entry.attr, from);
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
    const what = `open ${ino}${isTruncating ? ' truncating' : ''}`;
    const ask = (): Promise<OpenReply> =>
      this.ask(what, [ino], (request) => this.options.vfs.open(request, ino, flags));
    const { fh, keepCache } = await (isTruncating ? this.observer.cutting(this.name, ino, ask) : ask());
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
    const from = this.moment();
    await this.#sizeKnown(inode, fh);
    const { pages } = inode;
    const data = pages ?? (await this.#readPages(inode, fh));
    const content = data.subarray(0, inode.attr?.size ?? 0).toString('latin1');
    const who = pages === undefined ? this.name : `${this.name}'s kernel`;
    this.observer.content(this.name, who, inode.ino, content, from, this.options.session);
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
      await this.askAttr(inode, fh);
      if (inode.attrVersion <= attrVersion || inode.learnedAt > attrVersion) return;
    }
  }

  async #readPages(inode: CachedInode, fh: number): Promise<Buffer> {
    const { pagesDropped } = inode;
    const reading = this.ask(`read ${inode.ino}`, [inode.ino], (request) =>
      this.options.vfs.read(request, inode.ino, fh, 0, FILE_BYTES),
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
    await this.locks.with('exclusive', [inode.ino], async () => {
      const written = this.observer.writing(this.name, inode.ino, slot, value, {
        generation: this.options.session.generation,
        fh,
      });
      await this.ask(`write ${inode.ino} ${value} at ${slot}`, [inode.ino], (request) =>
        this.options.vfs.write(request, inode.ino, fh, offset, bytesOf(value), false),
      );
      this.observer.wrote(written);
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
      await this.ask(`release ${inode.ino}`, [inode.ino], () => this.options.vfs.release(inode.ino, fh));
    }
  }

  async #storing(
    what: string,
    fh: number,
    call: (vfs: Vfs, ino: Ino, request: Request) => void | Promise<void>,
  ): Promise<void> {
    const { ino } = this.#handle(fh);
    const { vfs, session } = this.options;
    const wanted = this.observer.toStore(this.name, ino, what === 'flush' ? fh : undefined);
    try {
      await this.ask(`${what} ${ino}`, [ino], (request) => call(vfs, ino, request));
      if (what === 'flush') this.observer.closed(wanted);
      else this.observer.stored(this.name, this.name, ino, wanted, session);
    } catch (error) {
      this.observer.discarded(this.name, ino);
      throw error;
    }
  }

  /** Holds all that it would answer alone now, to whichever program, against the store. */
  peek(): void {
    const who = `${this.name}'s kernel (peek)`;
    const now = this.moment();
    const opened = new Set(this.#handles.values());
    const reached = new Set([this.cache.inode(ROOT_INO), ...opened]);
    for (const [key, dentry] of this.cache.dentries) {
      const [parent, name] = keyParts(key);
      if (!this.cache.isCurrent(dentry)) continue;
      this.observer.named(who, parent, name, dentry.ino, now);
      reached.add(this.cache.inode(dentry.ino));
    }
    for (const inode of reached) {
      const { attr, pages, ino } = inode;
      if (attr === undefined || !this.cache.isFresh(inode)) continue;
      this.observer.attributes(this.name, who, attr, now);
      // Without a handle an open comes first, which may drop them.
      if (pages === undefined || !opened.has(inode)) continue;
      const content = pages.subarray(0, attr.size).toString('latin1');
      this.observer.content(this.name, who, ino, content, now, this.options.session);
    }
  }

  /** Memory is needed for something else. */
  async evict(): Promise<void> {
    const evicted = this.cache.evict();
    for (const { ino, lookups } of evicted)
      await this.ask(`forget ${ino}`, [], () => this.options.vfs.forget(ino, lookups));
  }
}
