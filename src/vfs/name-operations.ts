/**
 * Operations on names: lookup, the creating ones, link, unlink, rmdir, rename, readlink. The metadata server
 * decides all of them; nothing is answered from memory, because another mount may have changed it.
 */
import type { Attr } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ownerOf } from './file-operations.js';
import { checkName, type MountContext, staleIfGone } from './mount-context.js';
import type { Entry, RenameMode, Request } from './operations.js';

/** What is to be made; `umask` counts where the directory has no default ACL. */
export interface NewNode {
  readonly parent: Ino;
  readonly name: Uint8Array;
  readonly mode: number;
  readonly umask: number;
}

export class NameOperations {
  readonly #mount: MountContext;

  constructor(mount: MountContext) {
    this.#mount = mount;
  }

  /** `.` and `..` are the server's to answer. **Errors:** as `lookup` in the table. */
  async lookup(request: Request, parent: Ino, name: Uint8Array): Promise<Entry> {
    checkName(name, 'lookup');
    return this.#mount.entry(await this.#mount.fs.call('lookup', { parent, name }, { request }), parent);
  }

  async mknod(request: Request, node: NewNode & { rdev: number }): Promise<Entry> {
    const args = { ...node, owner: ownerOf(request) };
    return await this.#created('mknod', node, () => this.#mount.fs.call('mknod', args, { request }));
  }

  async mkdir(request: Request, node: NewNode): Promise<Entry> {
    const args = { ...node, owner: ownerOf(request) };
    return await this.#created('mkdir', node, () => this.#mount.fs.call('mkdir', args, { request }));
  }

  async symlink(request: Request, parent: Ino, name: Uint8Array, target: Uint8Array): Promise<Entry> {
    if (target.length >= limits.pathBytes) throw new FsError('ENAMETOOLONG', 'symlink');
    const args = { parent, name, owner: ownerOf(request), target };
    return await this.#created('symlink', { parent, name }, () =>
      this.#mount.fs.call('symlink', args, { request }),
    );
  }

  async link(request: Request, ino: Ino, parent: Ino, name: Uint8Array): Promise<Entry> {
    const { fs, files } = this.#mount;
    const state = files.get(ino);
    const unnamed = state?.isUnnamed === true ? { unnamed: true } : {};
    const entry = await this.#created('link', { parent, name }, () =>
      fs.call('link', { ino, parent, name, ...unnamed }, { request }),
    );
    if (state !== undefined) state.isUnnamed = false;
    return entry;
  }

  async #created(
    op: string,
    { parent, name }: { parent: Ino; name: Uint8Array },
    call: () => Promise<Attr>,
  ): Promise<Entry> {
    this.#mount.assertWritable(op);
    checkName(name, op);
    return this.#mount.madeEntry(await call(), { parent, isNew: op !== 'link' });
  }

  async unlink(request: Request, parent: Ino, name: Uint8Array): Promise<void> {
    this.#mount.assertWritable('unlink');
    checkName(name, 'unlink');
    await this.#mount.removing((hold, onLate) =>
      this.#mount.fs.call('unlink', { parent, name, ...hold }, { request, onLate }),
    );
  }

  async rmdir(request: Request, parent: Ino, name: Uint8Array): Promise<void> {
    this.#mount.assertWritable('rmdir');
    checkName(name, 'rmdir');
    await this.#mount.removing((hold, onLate) =>
      this.#mount.fs.call('rmdir', { parent, name, ...hold }, { request, onLate }),
    );
  }

  async rename(
    request: Request,
    from: { parent: Ino; name: Uint8Array },
    to: { parent: Ino; name: Uint8Array },
    how: { mode: RenameMode; whiteout: boolean },
  ): Promise<void> {
    this.#mount.assertWritable('rename');
    checkName(from.name, 'rename');
    checkName(to.name, 'rename');
    const whiteout = how.whiteout ? { whiteout: ownerOf(request) } : {};
    const args = { ...from, newParent: to.parent, newName: to.name, mode: how.mode, ...whiteout };
    await this.#mount.removing((hold, onLate) =>
      this.#mount.fs.call('rename', { ...args, ...hold }, { request, onLate }),
    );
    await this.#mount.moved(how.mode === 'exchange' ? [from.parent, to.parent] : [to.parent]);
  }

  async readlink(request: Request, ino: Ino): Promise<Uint8Array> {
    try {
      const { fs, accesses } = this.#mount;
      const reading = fs.call('readlink', { ino }, { request });
      return (await (accesses?.reading(request, ino, reading) ?? reading)).target;
    } catch (error) {
      throw staleIfGone(error, 'readlink');
    }
  }
}
