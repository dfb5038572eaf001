/**
 * Attributes and what hangs on an inode: getattr, setattr, access, extended attributes, statfs.
 */
import { chain, finish, type MaybePromise } from '../base/maybe-promise.js';
import { type Attr, isDir } from '../proto/attr.js';
import { type ErrnoName, FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { SetAttr } from '../proto/meta-methods.js';
import type { FileOperations } from './file-operations.js';
import type { FileState } from './file-state.js';
import { existing, type MountContext } from './mount-context.js';
import type { AttrChange, AttrReply, Request, SetxattrMode, StatfsReply } from './operations.js';

const STATFS_BLOCK_BYTES = 4096;
/** Of `system.` there are the ACLs only. */
const ACL_NAMES = ['system.posix_acl_access', 'system.posix_acl_default'].map((name) => Buffer.from(name));
const XATTR_NAMESPACES = ['user.', 'trusted.', 'security.'].map((prefix) => Buffer.from(prefix));

export class AttrOperations {
  readonly #mount: MountContext;
  readonly #files: FileOperations;

  constructor(mount: MountContext, files: FileOperations) {
    this.#mount = mount;
    this.#files = files;
  }

  /** **Errors:** ESTALE when the inode is gone. */
  getattr(request: Request, ino: Ino, fh: number | undefined): MaybePromise<AttrReply> {
    const get = (): MaybePromise<Attr> => this.#mount.fs.call('getattr', { ino }, { request });
    const attr = chain(this.#files.stateOf(request, fh), () => existing('getattr', get));
    return chain(attr, (attr) => this.#mount.attrReply(this.#mount.learn(attr)));
  }

  /**
   * Changes attributes in one step, in order with this mount's writes: those before a new size are cut by
   * it, and a time that is set is not undone when bytes written before are committed. **Errors:** EROFS,
   * EFBIG; ESTALE when the inode is gone; as `setattr` in the table.
   */
  setattr(request: Request, ino: Ino, fh: number | undefined, change: AttrChange): MaybePromise<AttrReply> {
    this.#mount.assertWritable('setattr');
    if (change.size !== undefined && change.size > limits.fileBytes) throw new FsError('EFBIG', 'setattr');
    const { fs, files } = this.#mount;
    if (change.atime !== undefined) this.#mount.accesses?.forget(ino);
    const changes = change.size !== undefined;
    const call = (): MaybePromise<Attr> =>
      existing('setattr', () => fs.call('setattr', { ino, set: setAttrOf(change) }, { request }));
    const set = (state: FileState | undefined): MaybePromise<Attr> => {
      if (state === undefined) return chain(call(), (attr) => this.#mount.learn(attr));
      const applied = (): MaybePromise<Attr> => chain(call(), (attr) => this.#applied(state, change, attr));
      const settled = changes ? this.#files.settleAppends(request, state) : undefined;
      return chain(settled, () => {
        state.opening++;
        return finish(
          () => fs.writer.exclusive(state.pending, applied, request),
          () => {
            state.opening--;
          },
        );
      });
    };
    const attr = chain(this.#files.stateOf(request, fh, { changes }), (state) =>
      set(state ?? files.get(ino)),
    );
    return chain(attr, (attr) => this.#mount.changeReply(attr));
  }

  #applied(state: FileState, change: AttrChange, attr: Attr): Attr {
    const { pending } = state;
    this.#mount.fs.seen(attr);
    if (change.size !== undefined) pending.truncate(change.size);
    if (change.mtime !== undefined) pending.timeSet(attr.mtime);
    // Pending bytes that stay are seen by others later than the new size: their kernels go by the time.
    else if (change.size !== undefined) pending.comesAfter(() => this.#mount.fs.now());
    if (change.mode !== undefined) pending.clearPrivileges = false;
    this.#mount.fs.pendingChanged(pending, change.size);
    return state.changed(attr, this.#mount.fs.connections, change.size !== undefined);
  }

  /** By mode bits and the caller's own group; supplementary groups are the kernel's to know. **Errors:** EACCES. */
  async access(request: Request, ino: Ino, mask: number): Promise<void> {
    const { attr } = await this.getattr(request, ino, undefined);
    const anyExecute = (attr.mode & 0o111) !== 0 || isDir(attr.mode);
    if (request.uid === 0) {
      if ((mask & 1) !== 0 && !anyExecute) throw new FsError('EACCES', 'access');
      return;
    }
    const shift = request.uid === attr.uid ? 6 : request.gid === attr.gid ? 3 : 0;
    if (((attr.mode >> shift) & mask) !== mask) throw new FsError('EACCES', 'access');
    if ((mask & 2) !== 0) this.#mount.assertWritable('access');
  }

  async statfs(request: Request): Promise<StatfsReply> {
    const { totalBytes, freeBytes, inodes, freeInodes } = await this.#mount.fs.call(
      'statfs',
      {},
      { request },
    );
    const free = Math.floor(freeBytes / STATFS_BLOCK_BYTES);
    return {
      blockSize: STATFS_BLOCK_BYTES,
      blocks: Math.floor(totalBytes / STATFS_BLOCK_BYTES),
      freeBlocks: free,
      availableBlocks: free,
      inodes,
      freeInodes,
      nameMax: limits.nameBytes,
    };
  }

  /** **Errors:** EOPNOTSUPP (namespace), EINVAL (no name in it), ENODATA, ESTALE. */
  getxattr(request: Request, ino: Ino, name: Uint8Array): MaybePromise<Uint8Array> {
    checkNamespace(name, 'getxattr');
    const call = () => this.#mount.fs.call('getxattr', { ino, name }, { request });
    return chain(existing('getxattr', call), ({ value }) => value);
  }

  lacksXattr(ino: Ino, name: Uint8Array): boolean {
    return namespaceProblem(name) === undefined && this.#mount.fs.lacksXattr(ino, name);
  }

  /** **Errors:** EROFS, EOPNOTSUPP, E2BIG, EEXIST, ENODATA, ESTALE, ENOSPC; EINVAL (name), EINVAL, EACCES (ACLs). */
  async setxattr(
    request: Request,
    ino: Ino,
    attribute: { name: Uint8Array; value: Uint8Array; mode: SetxattrMode; clearSetgid: boolean },
  ): Promise<void> {
    this.#mount.assertWritable('setxattr');
    checkNamespace(attribute.name, 'setxattr');
    if (attribute.value.length > limits.xattrValueBytes) throw new FsError('E2BIG', 'setxattr');
    const call = () => this.#mount.fs.call('setxattr', { ino, ...attribute }, { request });
    await existing('setxattr', call);
  }

  async listxattr(request: Request, ino: Ino): Promise<Uint8Array[]> {
    const call = () => this.#mount.fs.call('listxattr', { ino }, { request });
    return (await existing('listxattr', call)).names;
  }

  /** **Errors:** EROFS, EOPNOTSUPP, EINVAL, ENODATA, ESTALE. */
  async removexattr(request: Request, ino: Ino, name: Uint8Array): Promise<void> {
    this.#mount.assertWritable('removexattr');
    checkNamespace(name, 'removexattr');
    const call = () => this.#mount.fs.call('removexattr', { ino, name }, { request });
    await existing('removexattr', call);
  }
}

/**
 * What is wrong with the name of an extended attribute: ERANGE (length), EOPNOTSUPP (namespace), EINVAL (nothing
 * after it). **Source:** xattr_resolve_name (fs/xattr.c).
 */
function namespaceProblem(name: Uint8Array): ErrnoName | undefined {
  if (name.length > limits.xattrNameBytes) return 'ERANGE';
  if (ACL_NAMES.some((acl) => acl.equals(name))) return undefined;
  const prefix = XATTR_NAMESPACES.find((prefix) => prefix.equals(name.subarray(0, prefix.length)));
  if (prefix === undefined) return 'EOPNOTSUPP';
  return name.length === prefix.length ? 'EINVAL' : undefined;
}

/** **Errors:** those of namespaceProblem. */
function checkNamespace(name: Uint8Array, op: string): void {
  const problem = namespaceProblem(name);
  if (problem !== undefined) throw new FsError(problem, op);
}

function setAttrOf(change: AttrChange): SetAttr {
  const { mode } = change;
  return mode === undefined ? change : { ...change, mode: mode & 0o7777 };
}
