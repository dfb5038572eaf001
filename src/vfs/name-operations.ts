/**
 * Operations on names: lookup, the creating ones, link, unlink, rmdir, rename, readlink. They follow the rules of
 * names/: at the metadata server, or here for what this mount has leases on, and then they are answered at once.
 */
import { chain, type MaybePromise } from '../base/maybe-promise.js';
import type { Attr } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ownerOf } from './file-operations.js';
import { checkName, existing, type MountContext } from './mount-context.js';
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
  lookup(request: Request, parent: Ino, name: Uint8Array): MaybePromise<Entry> {
    checkName(name, 'lookup');
    const found = this.#mount.fs.call('lookup', { parent, name }, { request });
    return chain(found, (attr) => this.#mount.entry(attr, parent));
  }

  mknod(request: Request, node: NewNode & { rdev: number }): MaybePromise<Entry> {
    const args = { ...node, owner: ownerOf(request) };
    return this.#created('mknod', node, () => this.#mount.fs.call('mknod', args, { request }));
  }

  mkdir(request: Request, node: NewNode): MaybePromise<Entry> {
    const args = { ...node, owner: ownerOf(request) };
    return this.#created('mkdir', node, () => this.#mount.fs.call('mkdir', args, { request }));
  }

  symlink(request: Request, parent: Ino, name: Uint8Array, target: Uint8Array): MaybePromise<Entry> {
    if (target.length >= limits.pathBytes) throw new FsError('ENAMETOOLONG', 'symlink');
    const args = { parent, name, owner: ownerOf(request), target };
    return this.#created('symlink', { parent, name }, () =>
      this.#mount.fs.call('symlink', args, { request }),
    );
  }

  link(request: Request, ino: Ino, parent: Ino, name: Uint8Array): MaybePromise<Entry> {
    const { fs, files } = this.#mount;
    const state = files.get(ino);
    const unnamed = state?.isUnnamed === true ? { unnamed: true } : {};
    const linked = this.#created('link', { parent, name }, () =>
      fs.call('link', { ino, parent, name, ...unnamed }, { request }),
    );
    return chain(linked, (entry) => {
      if (state !== undefined) state.isUnnamed = false;
      return entry;
    });
  }

  #created(
    op: string,
    { parent, name }: { parent: Ino; name: Uint8Array },
    call: () => MaybePromise<Attr>,
  ): MaybePromise<Entry> {
    this.#mount.assertWritable(op);
    checkName(name, op);
    return chain(call(), (attr) => this.#mount.madeEntry(attr, { parent, isNew: op !== 'link' }));
  }

  unlink(request: Request, parent: Ino, name: Uint8Array): MaybePromise<void> {
    this.#mount.assertWritable('unlink');
    checkName(name, 'unlink');
    return this.#mount.removing((holds, onLate) =>
      this.#mount.fs.call('unlink', holds ? { parent, name, hold: true } : { parent, name }, {
        request,
        onLate,
      }),
    );
  }

  rmdir(request: Request, parent: Ino, name: Uint8Array): MaybePromise<void> {
    this.#mount.assertWritable('rmdir');
    checkName(name, 'rmdir');
    return this.#mount.removing((holds, onLate) =>
      this.#mount.fs.call('rmdir', holds ? { parent, name, hold: true } : { parent, name }, {
        request,
        onLate,
      }),
    );
  }

  rename(
    request: Request,
    from: { parent: Ino; name: Uint8Array },
    to: { parent: Ino; name: Uint8Array },
    how: { mode: RenameMode; whiteout: boolean },
  ): MaybePromise<void> {
    this.#mount.assertWritable('rename');
    checkName(from.name, 'rename');
    checkName(to.name, 'rename');
    const { parent, name } = from;
    const { mode } = how;
    const renamed = this.#mount.removing((holds, onLate) => {
      const move = { parent, name, newParent: to.parent, newName: to.name, mode };
      const args = how.whiteout ? { ...move, whiteout: ownerOf(request) } : move;
      if (holds) Object.assign(args, { hold: true });
      return this.#mount.fs.call('rename', args, { request, onLate });
    });
    const parents = how.mode === 'exchange' ? [from.parent, to.parent] : [to.parent];
    return chain(renamed, () => this.#mount.moved(parents));
  }

  readlink(request: Request, ino: Ino): MaybePromise<Uint8Array> {
    const { fs, accesses } = this.#mount;
    const read = (): MaybePromise<{ target: Uint8Array }> => {
      const reading = fs.call('readlink', { ino }, { request });
      return accesses?.reading(request, ino, reading) ?? reading;
    };
    return chain(existing('readlink', read), ({ target }) => target);
  }
}
