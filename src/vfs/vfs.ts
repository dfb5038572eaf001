/**
 * POSIX semantics over one filesystem: what a FUSE driver asks, answered. Each family of operations has its
 * own file; this one joins them and answers nothing itself.
 *
 * Nothing is cached beyond what is safe without leases: the kernel gets timeouts of 0 and drops pages at
 * open, so every name and attribute is asked of the server when it is used, and every error that leaves here
 * is an FsError.
 */
import { makeLog } from '../base/log.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { Filesystem } from '../client/filesystem.js';
import type { Ino, LockOwner } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { AccessPolicy } from './access-times.js';
import { AttrOperations } from './attr-operations.js';
import { DataOperations } from './data-operations.js';
import { DirectoryOperations } from './directory-operations.js';
import { FileOperations } from './file-operations.js';
import { MountContext } from './mount-context.js';
import { NameOperations } from './name-operations.js';
import type {
  AttrChange,
  AttrReply,
  Entry,
  FallocateMode,
  FileLock,
  FilePlace,
  Notifier,
  OpenReply,
  Operations,
  ReaddirSink,
  RenameMode,
  Request,
  SetxattrMode,
  StatfsReply,
} from './operations.js';

const log = makeLog('vfs');

export class Vfs implements Operations {
  readonly #mount: MountContext;
  readonly #names: NameOperations;
  readonly #files: FileOperations;
  readonly #attrs: AttrOperations;
  readonly #data: DataOperations;
  readonly #directories: DirectoryOperations;
  #closed: Promise<void> | undefined;

  /**
   * `kernelForgets`: the driver passes on every FORGET of its kernel, so that references can be counted.
   * `accessTimes`: which reads move access times; none unless given.
   */
  constructor(filesystem: Filesystem, options: { kernelForgets?: boolean; accessTimes?: AccessPolicy } = {}) {
    const { kernelForgets = false, accessTimes } = options;
    this.#mount = new MountContext(filesystem, { kernelForgets, accessTimes });
    this.#names = new NameOperations(this.#mount);
    this.#files = new FileOperations(this.#mount);
    this.#attrs = new AttrOperations(this.#mount, this.#files);
    this.#data = new DataOperations(this.#mount, this.#files);
    this.#directories = new DirectoryOperations(this.#mount);
  }

  /** What the driver has mounted can be made to forget: from now on the kernel may remember under leases. */
  mounted(notifier: Notifier | undefined): void {
    this.#mount.notifier = notifier?.hasEpoch === true ? notifier : undefined;
  }

  /**
   * Ends the mount: everything written is made durable, open files are let go, the session is closed. What
   * cannot be written within the mount's timeout is lost, and said so in the log. Never fails; idempotent.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const { fs, accesses, opens } = this.#mount;
    await accesses?.close();
    opens.stop();
    try {
      // With nothing to write, a server that is away need not be waited for.
      if (fs.writer.dirtyBytes > 0 || (fs.isUp && !fs.readOnly)) await fs.writer.flushAll();
    } catch (error) {
      const { dirtyBytes } = fs.writer;
      if (dirtyBytes > 0) log.error('writes were lost at unmount', { bytes: dirtyBytes, error });
      else log.warn('the last changes may not be on disk yet', { error });
    }
    await fs.close();
  }

  lookup(req: Request, parent: Ino, name: Uint8Array): MaybePromise<Entry> {
    return this.#names.lookup(req, parent, name);
  }

  lacksName(parent: Ino, name: Uint8Array): boolean {
    return name.length <= limits.nameBytes && this.#mount.fs.lacksName(parent, name);
  }

  forget(ino: Ino, count: number): void {
    this.#mount.references?.forget(ino, count);
  }

  getattr(req: Request, ino: Ino, fh: number | undefined): MaybePromise<AttrReply> {
    return this.#attrs.getattr(req, ino, fh);
  }

  setattr(req: Request, ino: Ino, fh: number | undefined, change: AttrChange): MaybePromise<AttrReply> {
    return this.#attrs.setattr(req, ino, fh, change);
  }

  access(req: Request, ino: Ino, mask: number): MaybePromise<void> {
    return this.#attrs.access(req, ino, mask);
  }

  readlink(req: Request, ino: Ino): MaybePromise<Uint8Array> {
    return this.#names.readlink(req, ino);
  }

  mknod(
    req: Request,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    rdev: number,
    umask = 0,
  ): MaybePromise<Entry> {
    return this.#names.mknod(req, { parent, name, mode, umask, rdev });
  }

  mkdir(req: Request, parent: Ino, name: Uint8Array, mode: number, umask = 0): MaybePromise<Entry> {
    return this.#names.mkdir(req, { parent, name, mode: mode & 0o7777, umask });
  }

  symlink(req: Request, parent: Ino, name: Uint8Array, target: Uint8Array): MaybePromise<Entry> {
    return this.#names.symlink(req, parent, name, target);
  }

  link(req: Request, ino: Ino, newParent: Ino, newName: Uint8Array): MaybePromise<Entry> {
    return this.#names.link(req, ino, newParent, newName);
  }

  unlink(req: Request, parent: Ino, name: Uint8Array): MaybePromise<void> {
    return this.#names.unlink(req, parent, name);
  }

  rmdir(req: Request, parent: Ino, name: Uint8Array): MaybePromise<void> {
    return this.#names.rmdir(req, parent, name);
  }

  rename(
    req: Request,
    parent: Ino,
    name: Uint8Array,
    newParent: Ino,
    newName: Uint8Array,
    mode: RenameMode,
    whiteout = false,
  ): MaybePromise<void> {
    const to = { parent: newParent, name: newName };
    return this.#names.rename(req, { parent, name }, to, { mode, whiteout });
  }

  open(req: Request, ino: Ino, flags: number): MaybePromise<OpenReply> {
    return this.#files.open(req, ino, flags);
  }

  create(
    req: Request,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    flags: number,
    umask = 0,
  ): MaybePromise<{ entry: Entry; open: OpenReply }> {
    return this.#files.create(req, { parent, name, mode: mode & 0o7777, umask }, flags);
  }

  read(req: Request, _ino: Ino, fh: number, offset: number, length: number): MaybePromise<Uint8Array[]> {
    return this.#files.read(req, fh, offset, length);
  }

  write(
    req: Request,
    _ino: Ino,
    fh: number,
    offset: number,
    data: Uint8Array,
    clearPrivileges: boolean,
    append?: boolean,
  ): MaybePromise<number> {
    return this.#files.write(req, fh, offset, data, { clearPrivileges, append });
  }

  flush(req: Request, _ino: Ino, fh: number, lockOwner?: LockOwner): MaybePromise<void> {
    return this.#files.flush(req, fh, lockOwner);
  }

  release(ino: Ino, fh: number, flockOwner?: LockOwner): MaybePromise<void> {
    this.#mount.locks.released(ino, fh, flockOwner);
    this.#files.release(fh);
  }

  getlk(req: Request, ino: Ino, _fh: number, lock: FileLock): MaybePromise<FileLock | undefined> {
    return this.#mount.locks.getlk(req, ino, lock);
  }

  setlk(req: Request, ino: Ino, fh: number, lock: FileLock, wait: boolean): MaybePromise<void> {
    if (lock.type !== 'unlock') this.#files.assertLockable(fh);
    const done = this.#mount.locks.setlk(req, ino, fh, lock, wait);
    return lock.type === 'unlock' ? done : done.then(() => this.#files.locked(fh));
  }

  /** `dataOnly` makes no difference: size and extents are metadata, and one commit carries both. */
  fsync(req: Request, _ino: Ino, fh: number, _dataOnly: boolean): MaybePromise<void> {
    return this.#files.fsync(req, fh);
  }

  tmpfile(
    req: Request,
    parent: Ino,
    mode: number,
    flags: number,
    umask = 0,
  ): MaybePromise<{ entry: Entry; open: OpenReply }> {
    return this.#files.tmpfile(req, { parent, mode, umask }, flags);
  }

  fallocate(req: Request, file: FilePlace, length: number, mode: FallocateMode): MaybePromise<void> {
    return this.#data.fallocate(req, file, length, mode);
  }

  lseek(req: Request, from: FilePlace, what: 'data' | 'hole'): MaybePromise<number> {
    return this.#data.lseek(req, from, what);
  }

  copyFileRange(req: Request, from: FilePlace, to: FilePlace, length: number): MaybePromise<number> {
    return this.#data.copyFileRange(req, from, to, length);
  }

  opendir(
    _req: Request,
    ino: Ino,
    flags: number,
  ): MaybePromise<{ fh: number; cacheDir: boolean; keepCache: boolean }> {
    const keepCache = this.#mount.keepPages(ino);
    return {
      fh: this.#directories.opendir(ino, flags),
      cacheDir: this.#mount.rememberedForMs(ino) > 0,
      keepCache,
    };
  }

  readdir(
    req: Request,
    ino: Ino,
    fh: number,
    offset: number,
    plus: boolean,
    take: ReaddirSink,
  ): MaybePromise<void> {
    return this.#directories.readdir(req, ino, { fh, offset, plus }, take);
  }

  releasedir(_ino: Ino, fh: number): MaybePromise<void> {
    this.#directories.releasedir(fh);
  }

  /** Names are committed when they are answered; this puts them on disk. */
  async fsyncdir(req: Request, _ino: Ino, fh: number, _dataOnly: boolean): Promise<void> {
    const { fs } = this.#mount;
    if (!fs.readOnly) await fs.writer.sync(req);
    this.#directories.report(fh);
  }

  statfs(req: Request, _ino: Ino): MaybePromise<StatfsReply> {
    return this.#attrs.statfs(req);
  }

  async syncfs(req: Request): Promise<void> {
    const { fs } = this.#mount;
    if (!fs.readOnly) await fs.writer.flushAll({ request: req });
  }

  getxattr(req: Request, ino: Ino, name: Uint8Array): MaybePromise<Uint8Array> {
    return this.#attrs.getxattr(req, ino, name);
  }

  lacksXattr(ino: Ino, name: Uint8Array): boolean {
    return this.#attrs.lacksXattr(ino, name);
  }

  setxattr(
    req: Request,
    ino: Ino,
    name: Uint8Array,
    value: Uint8Array,
    mode: SetxattrMode,
    clearSetgid = false,
  ): MaybePromise<void> {
    return this.#attrs.setxattr(req, ino, { name, value, mode, clearSetgid });
  }

  listxattr(req: Request, ino: Ino): MaybePromise<Uint8Array[]> {
    return this.#attrs.listxattr(req, ino);
  }

  removexattr(req: Request, ino: Ino, name: Uint8Array): MaybePromise<void> {
    return this.#attrs.removexattr(req, ino, name);
  }

  /** Throws InvariantError when what is known of some file contradicts itself; for tests. */
  checkInvariants(): void {
    this.#mount.files.checkInvariants();
    this.#mount.fs.checkInvariants();
  }
}
