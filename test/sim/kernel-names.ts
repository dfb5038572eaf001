/** What a kernel does about names: looks them up, remembers them, and has them made, moved and removed. */
import { type ErrnoName, FsError } from '../../src/proto/errno.js';
import type { Ino } from '../../src/proto/ids.js';
import type { Entry, ReaddirEntry, Request } from '../../src/vfs/operations.js';
import type { Vfs } from '../../src/vfs/vfs.js';
import { type Moment, nameKey } from './history.js';
import { bytesOf, isErrno, KernelBase, textOf } from './kernel-base.js';
import type { Before, CachedInode, Listed } from './kernel-cache.js';

export class KernelNames extends KernelBase {
  /** **Errors:** ENOENT, and what the daemon answers. */
  async lookup(parent: Ino, name: string): Promise<Ino> {
    const key = nameKey(parent, name);
    const dentry = this.cache.dentries.get(key);
    if (dentry === undefined)
      return await this.locks.with('shared', [parent], () => this.#lookup(parent, name));
    if (dentry.epoch !== this.cache.epoch) {
      this.cache.dentries.delete(key);
      return await this.lookup(parent, name);
    }
    if (!this.cache.isCurrent(dentry)) return await this.#revalidate(parent, name);
    this.observer.named(`${this.name}'s kernel`, parent, name, dentry.ino, this.moment());
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
    const { vfs } = this.options;
    const before = this.cache.before();
    const from = this.moment();
    const key = nameKey(parent, name);
    try {
      const entry = await this.ask(`lookup ${key}`, [parent], (request) => {
        if (vfs.lacksName(parent, bytesOf(name))) throw new FsError('ENOENT', 'lookup');
        return vfs.lookup(request, parent, bytesOf(name));
      });
      this.observer.named(this.name, parent, name, entry.attr.ino, from);
      this.observer.attributes(this.name, `${this.name} (lookup)`, entry.attr, from);
      if (isStill()) this.entered(key, entry, before);
      else this.cache.inode(entry.attr.ino).lookups++;
      return entry.attr.ino;
    } catch (error) {
      if (isErrno(error, 'ENOENT')) {
        this.observer.named(this.name, parent, name, null, from);
        if (isStill()) this.cache.dentries.delete(key);
      }
      throw error;
    }
  }

  protected entered(key: string, entry: Entry, before: Before): void {
    const { attr, entryTimeoutMs, attrTimeoutMs } = entry;
    this.cache.entered(key, attr.ino, entryTimeoutMs, before);
    this.cache.learned(this.cache.inode(attr.ino), attr, attrTimeoutMs, before);
  }

  /** fuse_iget in create_new_entry and fuse_create_open takes attributes whatever has happened since. */
  protected made(key: string, entry: Entry, before: Before): void {
    const { attr, entryTimeoutMs, attrTimeoutMs } = entry;
    this.cache.entered(key, attr.ino, entryTimeoutMs, before);
    this.cache.learned(this.cache.inode(attr.ino), attr, attrTimeoutMs, undefined);
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
    return await this.locks.with('exclusive', [parent], async () => {
      await this.absent(parent, name);
      const before = this.cache.before();
      const from = this.moment();
      const learn = (entry: Entry): void => {
        this.made(nameKey(parent, name), entry, before);
        this.cache.directoryChanged(this.cache.inode(parent));
      };
      const entry = await this.changing(
        method,
        args,
        [parent],
        (request) => call(this.options.vfs, request),
        learn,
      );
      this.observer.attributes(this.name, `${this.name} (${method})`, entry.attr, from);
      return entry.attr.ino;
    });
  }

  /** **Errors:** EEXIST where the kernel finds the name. */
  protected async absent(parent: Ino, name: string): Promise<void> {
    try {
      await this.lookupLocked(parent, name);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return;
      throw error;
    }
    throw new FsError('EEXIST', 'kernel');
  }

  /** As lookup, by who has the directory locked already. */
  protected async lookupLocked(parent: Ino, name: string): Promise<Ino> {
    const dentry = this.cache.dentries.get(nameKey(parent, name));
    if (dentry === undefined || !this.cache.isCurrent(dentry)) return await this.#lookup(parent, name);
    this.observer.named(`${this.name}'s kernel`, parent, name, dentry.ino, this.moment());
    return dentry.ino;
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
    await this.locks.with('exclusive', [parent], async () => {
      const key = nameKey(parent, name);
      const ino = await this.lookupLocked(parent, name);
      try {
        const args = { parent, name: bytesOf(name) };
        const learn = (): void => {
          this.cache.directoryChanged(this.cache.inode(parent));
          this.cache.unlinked(key);
        };
        // vfs_unlink and vfs_rename lock what loses a name as well.
        await this.locks.with('exclusive', [ino], () =>
          this.changing(method, args, [parent, ino], (request) => call(this.options.vfs, request), learn),
        );
      } catch (error) {
        if (isErrno(error, 'ENOENT') || isErrno(error, 'EINTR')) this.cache.dentries.delete(key);
        throw error;
      }
    });
  }

  async rename(parent: Ino, name: string, newParent: Ino, newName: string): Promise<void> {
    const args = { parent, name: bytesOf(name), newParent, newName: bytesOf(newName), mode: 'replace' };
    await this.locks.with('exclusive', [parent, newParent], async () => {
      const ino = await this.lookupLocked(parent, name);
      const replaced = await this.lookupLocked(newParent, newName).catch(unlessErrno('ENOENT'));
      if (replaced === ino) return;
      try {
        const learn = (): void => {
          for (const changed of [parent, newParent]) this.cache.directoryChanged(this.cache.inode(changed));
          this.cache.moved({ parent, name }, { parent: newParent, name: newName });
        };
        const call = (request: Request): void | Promise<void> =>
          this.options.vfs.rename(request, parent, bytesOf(name), newParent, bytesOf(newName), 'replace');
        const inodes = replaced === undefined ? [ino] : [ino, replaced];
        await this.locks.with('exclusive', inodes, () =>
          this.changing('rename', args, [parent, newParent, ino], call, learn),
        );
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
    const { vfs } = this.options;
    const inode = this.cache.inode(ino);
    return await this.locks.with('shared', [ino], async () => {
      const from = this.moment();
      const opened = await this.ask(`opendir ${ino}`, [ino], (request) => vfs.opendir(request, ino, 0));
      const { fh, cacheDir, keepCache } = opened;
      if (!keepCache) this.cache.dropPages(inode);
      const cached = cacheDir ? await this.#cachedListing(inode) : undefined;
      const { attr, pagesDropped } = inode;
      const entries = cached ?? (await this.#list(ino, fh, plus, from));
      if (cacheDir && cached === undefined && attr !== undefined && inode.pagesDropped === pagesDropped)
        inode.listing = { entries, mtime: attr.mtime };
      await this.ask(`releasedir ${ino}`, [ino], () => vfs.releasedir(ino, fh));
      return entries;
    });
  }

  /** fuse_readdir_cached: what was listed before, if the directory has not changed since. */
  async #cachedListing(inode: CachedInode): Promise<readonly Listed[] | undefined> {
    if (!this.cache.isFresh(inode)) await this.askAttr(inode, undefined);
    const { listing, attr, ino } = inode;
    if (listing === undefined || attr === undefined) return undefined;
    if (JSON.stringify(listing.mtime) !== JSON.stringify(attr.mtime)) return undefined;
    this.#checkListing(`${this.name}'s kernel`, ino, listing.entries, this.moment());
    return listing.entries;
  }

  #checkListing(who: string, ino: Ino, entries: readonly Listed[], from: Moment): void {
    for (const { name, ino: child } of entries) this.observer.named(who, ino, name, child, from);
    this.observer.listed(who, ino, new Set(entries.map(({ name }) => name)), from);
  }

  async #list(ino: Ino, fh: number, plus: boolean, from: Moment): Promise<readonly Listed[]> {
    const { vfs } = this.options;
    const entries: Listed[] = [];
    let offset = 0;
    for (let isMore = true; isMore; ) {
      const before = this.cache.before();
      isMore = false;
      const page: ReaddirEntry[] = [];
      await this.ask(`readdir ${ino}${plus ? ' plus' : ''}`, [ino], (request) =>
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
        this.observer.attributes(this.name, `${this.name} (readdirplus)`, entry.attr, from);
        this.entered(nameKey(ino, text), entry, before);
      }
    }
    this.#checkListing(this.name, ino, entries, from);
    return entries;
  }
}

const unlessErrno =
  (code: ErrnoName) =>
  (error: unknown): undefined => {
    if (!isErrno(error, code)) throw error;
  };
