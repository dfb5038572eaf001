/**
 * A filesystem in memory behind the operations interface: enough of POSIX that real programs work on it, and
 * nothing of leasefs. Tests and benchmarks of the driver serve it.
 *
 * Special: the root has a file `wait`; a read of it goes on until its caller is interrupted (EINTR), a write
 * to it is kept waiting until somebody reads `release`. `later` makes every operation answer with a promise.
 */
import { systemClock, type Timespec } from '../../src/base/clock.js';
import type { MaybePromise } from '../../src/base/maybe-promise.js';
import {
  type Attr,
  isDir,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_ISGID,
  S_ISUID,
} from '../../src/proto/attr.js';
import { type ErrnoName, FsError } from '../../src/proto/errno.js';
import { asIno, type Ino, ROOT_INO } from '../../src/proto/ids.js';
import type {
  AttrChange,
  AttrReply,
  Entry,
  OpenReply,
  Operations,
  ReaddirSink,
  RenameMode,
  Request,
  SetxattrMode,
  StatfsReply,
} from '../../src/vfs/operations.js';
import { keyOf, type Node, nameOf, newNode, type ToyOptions, unsupported } from './toy-node.js';

const O_TRUNC = 0o1000;
const O_EXCL = 0o200;

export class ToyOperations implements Operations {
  readonly lacksName = (): boolean => false;
  readonly lacksXattr = this.lacksName;
  readonly #options: ToyOptions;
  readonly #nodes = new Map<number, Node>();
  readonly #root: Node;
  readonly #waiting = new Set<() => void>();
  #nextIno = 2;
  #nextFh = 1;
  /** References that the kernel gave back, in all. */
  forgotten = 0;
  syncs = 0;

  constructor(options: ToyOptions) {
    this.#options = options;
    this.#root = this.#newNode(ROOT_INO, S_IFDIR | 0o777, 0, 0);
    this.#add(this.#root, 'wait', S_IFREG | 0o666);
    this.#add(this.#root, 'release', S_IFREG | 0o666);
  }

  #newNode(ino: Ino, mode: number, uid: number, gid: number): Node {
    const node = newNode(ino, mode, uid, gid);
    this.#nodes.set(ino, node);
    return node;
  }

  #add(parent: Node, key: string, mode: number, owner?: Request): Node {
    const inherit = (parent.attr.mode & S_ISGID) !== 0;
    const gid = inherit ? parent.attr.gid : (owner?.gid ?? 0);
    const kept = inherit && isDir(mode) ? mode | S_ISGID : mode;
    const node = this.#newNode(asIno(this.#nextIno++), kept, owner?.uid ?? 0, gid);
    this.#insert(parent, key, node);
    return node;
  }

  #insert(parent: Node, key: string, node: Node): void {
    parent.entries.set(key, node);
    node.parent = parent;
    if (isDir(node.attr.mode)) this.#change(parent, { nlink: parent.attr.nlink + 1 });
    this.#touch(parent);
  }

  #remove(parent: Node, key: string, node: Node): void {
    parent.entries.delete(key);
    if (isDir(node.attr.mode)) this.#change(parent, { nlink: parent.attr.nlink - 1 });
    this.#touch(parent);
  }

  #change(node: Node, change: Partial<Attr>): void {
    node.attr = { ...node.attr, ...change, version: node.attr.version + 1 };
  }

  #touch(node: Node): void {
    const now = systemClock.now();
    this.#change(node, { mtime: now, ctime: now });
  }

  #node(ino: Ino, op: string): Node {
    const node = this.#nodes.get(ino);
    if (node === undefined) throw new FsError('ESTALE', op);
    return node;
  }

  #child(parent: Node, name: Uint8Array, op: string): Node {
    const child = parent.entries.get(keyOf(name));
    if (child === undefined) throw new FsError('ENOENT', op);
    return child;
  }

  #entry(node: Node): Entry {
    return { ...this.#attr(node), entryTimeoutMs: this.#options.entryTimeoutMs };
  }

  #attr(node: Node): AttrReply {
    return { attr: node.attr, attrTimeoutMs: this.#options.attrTimeoutMs };
  }

  #answer<T>(body: () => T): MaybePromise<T> {
    if (!this.#options.later) return body();
    return new Promise((resolve, reject) => {
      setImmediate(() => {
        try {
          resolve(body());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  lookup(_req: Request, parent: Ino, name: Uint8Array): MaybePromise<Entry> {
    return this.#answer(() => {
      const directory = this.#node(parent, 'lookup');
      const key = keyOf(name);
      if (key === '.') return this.#entry(directory);
      if (key === '..') return this.#entry(directory.parent ?? directory);
      return this.#entry(this.#child(directory, name, 'lookup'));
    });
  }

  forget(ino: Ino, count: number): void {
    this.forgotten += count;
    const node = this.#nodes.get(ino);
    if (node !== undefined && node.attr.nlink === 0) this.#nodes.delete(ino);
  }

  getattr(_req: Request, ino: Ino): MaybePromise<AttrReply> {
    return this.#answer(() => this.#attr(this.#node(ino, 'getattr')));
  }

  setattr(_req: Request, ino: Ino, _fh: number | undefined, change: AttrChange): MaybePromise<AttrReply> {
    return this.#answer(() => {
      const node = this.#node(ino, 'setattr');
      const now = systemClock.now();
      const time = (wanted: AttrChange['atime'], old: Timespec): Timespec =>
        wanted === undefined ? old : wanted === 'now' ? now : wanted;
      if (change.size !== undefined) this.#resize(node, change.size);
      if (change.clearPrivileges === true) this.#clearPrivileges(node);
      const mode =
        change.mode === undefined ? node.attr.mode : (node.attr.mode & S_IFMT) | (change.mode & 0o7777);
      this.#change(node, {
        mode,
        uid: change.uid ?? node.attr.uid,
        gid: change.gid ?? node.attr.gid,
        atime: time(change.atime, node.attr.atime),
        mtime: time(change.mtime, node.attr.mtime),
        ctime: now,
      });
      return this.#attr(node);
    });
  }

  #clearPrivileges(node: Node): void {
    if ((node.attr.mode & S_IFMT) === S_IFREG)
      this.#change(node, { mode: node.attr.mode & ~(S_ISUID | S_ISGID) });
  }

  #resize(node: Node, bytes: number): void {
    if (bytes > 2 ** 31) throw new FsError('EFBIG', 'toy');
    const old = node.attr.size;
    if (bytes > node.data.length) {
      const data = Buffer.alloc(Math.max(bytes, node.data.length * 2));
      node.data.copy(data, 0, 0, old);
      node.data = data;
    } else if (bytes < old) {
      node.data.fill(0, bytes, old);
    }
    this.#change(node, { size: bytes, allocated: bytes });
    this.#touch(node);
  }

  access(): MaybePromise<void> {
    return this.#answer(() => undefined);
  }

  readlink(_req: Request, ino: Ino): MaybePromise<Uint8Array> {
    return this.#answer(() => this.#node(ino, 'readlink').data);
  }

  #create(req: Request, parent: Ino, name: Uint8Array, mode: number, op: string): Node {
    const directory = this.#node(parent, op);
    if (directory.entries.has(keyOf(name))) throw new FsError('EEXIST', op);
    return this.#add(directory, keyOf(name), mode, req);
  }

  mknod(
    req: Request,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    rdev: number,
    umask = 0,
  ): MaybePromise<Entry> {
    return this.#answer(() => {
      const node = this.#create(req, parent, name, mode & ~umask, 'mknod');
      this.#change(node, { rdev });
      return this.#entry(node);
    });
  }

  mkdir(req: Request, parent: Ino, name: Uint8Array, mode: number, umask = 0): MaybePromise<Entry> {
    return this.#answer(() =>
      this.#entry(this.#create(req, parent, name, S_IFDIR | (mode & 0o7777 & ~umask), 'mkdir')),
    );
  }

  symlink(req: Request, parent: Ino, name: Uint8Array, target: Uint8Array): MaybePromise<Entry> {
    return this.#answer(() => {
      const node = this.#create(req, parent, name, S_IFLNK | 0o777, 'symlink');
      node.data = Buffer.from(target);
      this.#change(node, { size: target.length });
      return this.#entry(node);
    });
  }

  link(_req: Request, ino: Ino, newParent: Ino, newName: Uint8Array): MaybePromise<Entry> {
    return this.#answer(() => {
      const node = this.#node(ino, 'link');
      const directory = this.#node(newParent, 'link');
      if (directory.entries.has(keyOf(newName))) throw new FsError('EEXIST', 'link');
      directory.entries.set(keyOf(newName), node);
      this.#touch(directory);
      this.#change(node, { nlink: node.attr.nlink + 1, ctime: systemClock.now() });
      return this.#entry(node);
    });
  }

  unlink(_req: Request, parent: Ino, name: Uint8Array): MaybePromise<void> {
    return this.#answer(() => {
      const directory = this.#node(parent, 'unlink');
      const node = this.#child(directory, name, 'unlink');
      if (isDir(node.attr.mode)) throw new FsError('EISDIR', 'unlink');
      this.#remove(directory, keyOf(name), node);
      this.#change(node, { nlink: node.attr.nlink - 1, ctime: systemClock.now() });
    });
  }

  rmdir(_req: Request, parent: Ino, name: Uint8Array): MaybePromise<void> {
    return this.#answer(() => {
      const directory = this.#node(parent, 'rmdir');
      const node = this.#child(directory, name, 'rmdir');
      if (!isDir(node.attr.mode)) throw new FsError('ENOTDIR', 'rmdir');
      if (node.entries.size > 0) throw new FsError('ENOTEMPTY', 'rmdir');
      this.#remove(directory, keyOf(name), node);
      this.#change(node, { nlink: 0 });
    });
  }

  rename(
    _req: Request,
    parent: Ino,
    name: Uint8Array,
    newParent: Ino,
    newName: Uint8Array,
    mode: RenameMode,
  ): MaybePromise<void> {
    return this.#answer(() => {
      const from = this.#node(parent, 'rename');
      const to = this.#node(newParent, 'rename');
      const node = this.#child(from, name, 'rename');
      const other = to.entries.get(keyOf(newName));
      if (mode === 'exchange' && other === undefined) throw new FsError('ENOENT', 'rename');
      if (mode === 'noreplace' && other !== undefined) throw new FsError('EEXIST', 'rename');
      if (mode === 'replace' && other !== undefined) this.#checkReplace(node, other);
      if (other === node) return;
      this.#remove(from, keyOf(name), node);
      if (other !== undefined) this.#remove(to, keyOf(newName), other);
      this.#insert(to, keyOf(newName), node);
      if (other !== undefined && mode === 'exchange') this.#insert(from, keyOf(name), other);
      else if (other !== undefined)
        this.#change(other, { nlink: isDir(other.attr.mode) ? 0 : other.attr.nlink - 1 });
      this.#change(node, { ctime: systemClock.now() });
    });
  }

  #checkReplace(node: Node, other: Node): void {
    const problem = ((): ErrnoName | undefined => {
      if (isDir(node.attr.mode) && !isDir(other.attr.mode)) return 'ENOTDIR';
      if (!isDir(node.attr.mode) && isDir(other.attr.mode)) return 'EISDIR';
      return other.entries.size > 0 ? 'ENOTEMPTY' : undefined;
    })();
    if (problem !== undefined) throw new FsError(problem, 'rename');
  }

  open(_req: Request, ino: Ino, flags: number): MaybePromise<OpenReply> {
    return this.#answer(() => this.#open(this.#node(ino, 'open'), flags));
  }

  #open(node: Node, flags: number): OpenReply {
    if ((flags & O_TRUNC) !== 0) this.#resize(node, 0);
    const special = node.parent === this.#root && this.#isSpecial(node);
    return { fh: this.#nextFh++, keepCache: false, directIo: special };
  }

  #isSpecial(node: Node): boolean {
    return node === this.#root.entries.get('wait') || node === this.#root.entries.get('release');
  }

  create(
    req: Request,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    flags: number,
    umask = 0,
  ): MaybePromise<{ entry: Entry; open: OpenReply }> {
    return this.#answer(() => {
      const existing = this.#node(parent, 'create').entries.get(keyOf(name));
      if (existing !== undefined && (flags & O_EXCL) !== 0) throw new FsError('EEXIST', 'create');
      const node = existing ?? this.#create(req, parent, name, S_IFREG | (mode & 0o7777 & ~umask), 'create');
      return { open: this.#open(node, flags), entry: this.#entry(node) };
    });
  }

  read(
    req: Request,
    ino: Ino,
    _fh: number,
    offset: number,
    length: number,
  ): MaybePromise<Uint8Array | Uint8Array[]> {
    const node = this.#node(ino, 'read');
    if (node === this.#root.entries.get('wait')) return this.#waitForInterrupt(req);
    if (node === this.#root.entries.get('release')) for (const go of [...this.#waiting]) go();
    return this.#answer(() => {
      const end = Math.min(node.attr.size, offset + length);
      if (offset >= end) return Buffer.alloc(0);
      const middle = Math.floor((offset + end) / 2);
      return [node.data.subarray(offset, middle), node.data.subarray(middle, end)];
    });
  }

  #waitForInterrupt(req: Request): Promise<Buffer> {
    return new Promise((_resolve, reject) => {
      req.onInterrupt(() => reject(new FsError('EINTR', 'read')));
    });
  }

  write(
    req: Request,
    ino: Ino,
    _fh: number,
    offset: number,
    data: Uint8Array,
    clearPrivileges: boolean,
  ): MaybePromise<number> {
    const node = this.#node(ino, 'write');
    const store = (): number => {
      if (offset + data.length > node.attr.size) this.#resize(node, offset + data.length);
      node.data.set(data, offset);
      if (clearPrivileges) this.#clearPrivileges(node);
      this.#touch(node);
      return data.length;
    };
    if (node !== this.#root.entries.get('wait')) return this.#answer(store);
    return new Promise<number>((resolve, reject) => {
      const go = (): void => {
        this.#waiting.delete(go);
        resolve(store());
      };
      this.#waiting.add(go);
      req.onInterrupt(() => {
        this.#waiting.delete(go);
        reject(new FsError('EINTR', 'write'));
      });
    });
  }

  flush(): MaybePromise<void> {
    return this.#answer(() => undefined);
  }

  release(): MaybePromise<void> {
    return this.#answer(() => undefined);
  }

  getlk(): MaybePromise<undefined> {
    return this.#answer(() => undefined);
  }

  setlk(): MaybePromise<void> {
    return this.#answer(() => undefined);
  }

  fsync(): MaybePromise<void> {
    return this.#answer(() => {
      this.syncs += 1;
    });
  }

  opendir(): MaybePromise<{ fh: number; cacheDir: boolean; keepCache: boolean }> {
    return this.#answer(() => ({ fh: this.#nextFh++, cacheDir: false, keepCache: false }));
  }

  readdir(
    _req: Request,
    ino: Ino,
    _fh: number,
    offset: number,
    plus: boolean,
    take: ReaddirSink,
  ): MaybePromise<void> {
    return this.#answer(() => {
      const directory = this.#node(ino, 'readdir');
      const above = directory.parent ?? directory;
      const all: [string, Node][] = [['.', directory], ['..', above], ...directory.entries];
      for (let index = offset; index < all.length; index++) {
        const [key, node] = all[index] ?? ['', directory];
        const base = {
          name: nameOf(key),
          ino: node.attr.ino,
          kind: node.attr.mode & S_IFMT,
          nextOffset: index + 1,
        };
        if (!take(plus && index >= 2 ? { ...base, entry: this.#entry(node) } : base)) return;
      }
    });
  }

  releasedir(): MaybePromise<void> {
    return this.#answer(() => undefined);
  }

  fsyncdir(): MaybePromise<void> {
    return this.fsync();
  }

  statfs(): MaybePromise<StatfsReply> {
    return this.#answer(() => ({
      blockSize: 4096,
      blocks: 1_000_000,
      freeBlocks: 900_000,
      availableBlocks: 800_000,
      inodes: 1_000_000,
      freeInodes: 1_000_000 - this.#nodes.size,
      nameMax: 255,
    }));
  }

  syncfs(): MaybePromise<void> {
    return this.fsync();
  }

  getxattr(_req: Request, ino: Ino, name: Uint8Array): MaybePromise<Uint8Array> {
    return this.#answer(() => {
      const value = this.#node(ino, 'getxattr').xattrs.get(keyOf(name));
      if (value === undefined) throw new FsError('ENODATA', 'getxattr');
      return value;
    });
  }

  setxattr(
    _req: Request,
    ino: Ino,
    name: Uint8Array,
    value: Uint8Array,
    mode: SetxattrMode,
  ): MaybePromise<void> {
    return this.#answer(() => {
      const { xattrs } = this.#node(ino, 'setxattr');
      if (mode === 'create' && xattrs.has(keyOf(name))) throw new FsError('EEXIST', 'setxattr');
      if (mode === 'replace' && !xattrs.has(keyOf(name))) throw new FsError('ENODATA', 'setxattr');
      xattrs.set(keyOf(name), Buffer.from(value));
    });
  }

  listxattr(_req: Request, ino: Ino): MaybePromise<Uint8Array[]> {
    return this.#answer(() => [...this.#node(ino, 'listxattr').xattrs.keys()].map(nameOf));
  }

  removexattr(_req: Request, ino: Ino, name: Uint8Array): MaybePromise<void> {
    return this.#answer(() => {
      if (!this.#node(ino, 'removexattr').xattrs.delete(keyOf(name)))
        throw new FsError('ENODATA', 'removexattr');
    });
  }

  readonly tmpfile = unsupported('tmpfile');
  readonly fallocate = unsupported('fallocate');
  readonly lseek = unsupported('lseek');
  readonly copyFileRange = unsupported('copyFileRange');
}
