/**
 * Open files: open, create, read, write, flush, fsync, release.
 *
 * A write is answered when its bytes are in the mount's open chunk; close (flush) and fsync wait until
 * everything of the file is committed and on disk, and report what failed, once to each handle. A close
 * without writes costs no round trip.
 *
 * An O_APPEND write is pending at the end as this mount knows it when its bytes are taken (the server is
 * asked before a handle's first append), and is committed at the end that the file has then: programs on
 * several mounts that append to one file lose nothing of one another. A write elsewhere in the file therefore
 * waits until what was appended before it has its place.
 */

import { makeLog } from '../base/log.js';
import { chain, finish, type MaybePromise } from '../base/maybe-promise.js';
import { boundedWait, endOf } from '../client/bounded-wait.js';
import { type Attr, isDir, isRegular } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino, LockOwner } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { FileHandle } from './file-handle.js';
import { FileReader } from './file-reader.js';
import type { FileState } from './file-state.js';
import { HandleTable } from './handle-table.js';
import type { MountContext } from './mount-context.js';
import { checkName, existing, isFsError } from './mount-context.js';
import { mayRead, mayWrite, O_EXCL, O_TRUNC } from './open-flags.js';
import type { Entry, OpenReply, Request } from './operations.js';

const log = makeLog('vfs');

/**
 * What a file can take of `data` at `offset`: write(2) writes as much as there is room for.
 * **Errors:** EFBIG when that is nothing. **Source:** generic_write_checks (fs/read_write.c).
 */
function belowLimit(offset: number, data: Uint8Array): Uint8Array {
  const room = limits.fileBytes - offset;
  if (room <= 0) throw new FsError('EFBIG', 'write');
  return room < data.length ? data.subarray(0, room) : data;
}

export class FileOperations {
  readonly #mount: MountContext;
  readonly #reader: FileReader;
  readonly #handles = new HandleTable<FileHandle>('file');

  constructor(mount: MountContext) {
    this.#mount = mount;
    this.#reader = new FileReader(mount.fs);
    mount.onLocksLost = (handles) => this.#locksLost(handles);
  }

  /** **Errors:** EROFS; ESTALE when the inode is gone; EISDIR, EINVAL for what is no file. */
  open(request: Request, ino: Ino, flags: number): MaybePromise<OpenReply> {
    const truncate = (flags & O_TRUNC) !== 0;
    if (truncate || mayWrite(flags)) this.#mount.assertWritable('open');
    const state = this.#mount.files.use(ino);
    state.opening++;
    const open = (): MaybePromise<OpenReply> =>
      chain(
        truncate ? this.#openTruncated(request, state) : this.#openAsIs(request, state, mayRead(flags)),
        () => this.#opened(state, flags),
      );
    return finish(
      () => existing('open', open),
      () => this.#tried(state),
    );
  }

  /** An attempt to open the file has ended. */
  #tried(state: FileState): void {
    state.opening--;
    if (state.opens === 0) this.#mount.opens.close(state);
  }

  #opened(state: FileState, flags: number): OpenReply {
    state.opens++;
    const handle = new FileHandle(state, flags);
    // Past the page cache: through it the kernel may cut one write in two (native-notes/fuse-kernel.md).
    return {
      fh: this.#handles.add(handle),
      keepCache: this.#mount.keepPages(state.ino),
      directIo: handle.append,
    };
  }

  /** Registers the file as open, or asks for what is new when it is; with its extents when it will be read. */
  #openAsIs(request: Request, state: FileState, forReading: boolean): MaybePromise<void> {
    const { opens, fs } = this.#mount;
    const leased = opens.mayBeUnknown(state) ? fs.leases.answer('getattr', { ino: state.ino }) : undefined;
    if (leased !== undefined) {
      if (!isRegular(leased.mode)) throw new FsError(isDir(leased.mode) ? 'EISDIR' : 'EINVAL', 'open');
      state.learn(leased, fs.connections);
      return undefined;
    }
    return this.#openAtServer(request, state, forReading);
  }

  async #openAtServer(request: Request, state: FileState, forReading: boolean): Promise<void> {
    const { opens, fs } = this.#mount;
    const isMarked = opens.isMarked(state);
    if (isMarked && !forReading) {
      state.learn(await fs.call('getattr', { ino: state.ino }, { request }), fs.connections);
      return;
    }
    if (isMarked) {
      await this.#reader.fetchExtents(state, 0, request);
      return;
    }
    const marking = opens.mark(state, { truncate: false, request });
    // Beside the open, not after it: what it brings is used only if it is not older than the open's answer.
    const fetching =
      forReading && !state.hasExtents ? this.#reader.fetchExtents(state, 0, request) : undefined;
    // The open's own failure is the answer; without extents the first read asks for them.
    fetching?.catch(() => {});
    state.learn(await marking, fs.connections);
    await fetching?.catch(() => {});
  }

  async #openTruncated(request: Request, state: FileState): Promise<void> {
    const { opens, fs } = this.#mount;
    const mark = async (): Promise<void> => {
      const attr = await opens.mark(state, { truncate: true, request });
      fs.seen(attr);
      fs.cutPending(state.pending, 0);
      state.changed(attr, fs.connections, true);
    };
    await fs.writer.exclusive(state.pending, mark, request);
  }

  /** **Errors:** EROFS; as `create` in the table. */
  create(
    request: Request,
    node: { parent: Ino; name: Uint8Array; mode: number; umask: number },
    flags: number,
  ): MaybePromise<{ entry: Entry; open: OpenReply }> {
    this.#mount.assertWritable('create');
    checkName(node.name, 'create');
    const { fs, files, opens } = this.#mount;
    const exclusive = (flags & O_EXCL) !== 0;
    const truncate = (flags & O_TRUNC) !== 0;
    const { generation } = fs;
    const releasesBefore = opens.sent;
    const { parent, name, mode, umask } = node;
    const args = { parent, name, mode, umask, owner: ownerOf(request), exclusive, truncate };
    const made = fs.call('create', args, {
      request,
      onLate: (reply) => this.#createdLate(reply.attr.ino, generation),
    });
    return chain(made, ({ attr, created }) => {
      fs.seen(attr);
      const state = files.use(attr.ino);
      state.opening++;
      state.markedIn = generation;
      // A release of the same file may have passed the create on the way: say again that it is open.
      const isPassed = !created && opens.sent !== releasesBefore;
      const marked = (): MaybePromise<unknown> =>
        isPassed ? opens.mark(state, { truncate: false, request }) : undefined;
      const open = (): { entry: Entry; open: OpenReply } => {
        if (truncate && !created) fs.cutPending(state.pending, 0);
        const known = state.changed(attr, fs.connections, truncate);
        const entry = this.#mount.madeEntry(known, { parent: node.parent, isNew: created });
        return { entry, open: this.#opened(state, flags) };
      };
      return finish(
        () => chain(marked(), open),
        () => this.#tried(state),
      );
    });
  }

  /** Opens a new file that has no name. **Errors:** EROFS; as `tmpfile` in the table. */
  async tmpfile(
    request: Request,
    node: { parent: Ino; mode: number; umask: number },
    flags: number,
  ): Promise<{ entry: Entry; open: OpenReply }> {
    this.#mount.assertWritable('tmpfile');
    const { fs, files } = this.#mount;
    const { generation } = fs;
    const args = { ...node, owner: ownerOf(request), mode: node.mode & 0o7777 };
    const onLate = (late: Attr): void => this.#createdLate(late.ino, generation);
    const attr = await fs.call('tmpfile', args, { request, onLate });
    fs.seen(attr);
    const state = files.use(attr.ino);
    state.markedIn = generation;
    state.isUnnamed = true;
    const known = state.changed(attr, fs.connections, false);
    return { entry: this.#mount.madeEntry(known, { isNew: true }), open: this.#opened(state, flags) };
  }

  #createdLate(ino: Ino, generation: number): void {
    const state = this.#mount.files.use(ino);
    state.markedIn ??= generation;
    if (state.opens === 0) this.#mount.opens.close(state);
  }

  /** Whether the handle may read is the kernel's to check. **Errors:** EBADF, EIO, ETIMEDOUT, EINTR; FileHandle.trouble. */
  read(request: Request, fh: number, offset: number, length: number): MaybePromise<Uint8Array[]> {
    const handle = this.#handles.get(fh);
    const ready = this.#usable(request, handle);
    const data = chain(ready, () => this.#reader.read(request, handle, offset, length));
    const { accesses } = this.#mount;
    return chain(data, (pieces) => {
      // The session may have been lost while this was waiting.
      assertWhole(handle);
      handle.state.reads++;
      if (accesses === undefined || handle.noAtime) return pieces;
      const { attr } = handle.state;
      if (attr !== undefined) accesses.touched(attr);
      return pieces;
    });
  }

  /** **Errors:** EBADF (not open for writing), EFBIG, EIO, ENOSPC, ETIMEDOUT, EINTR; FileHandle.trouble. */
  write(
    request: Request,
    fh: number,
    offset: number,
    data: Uint8Array,
    options: { clearPrivileges: boolean; append: boolean | undefined },
  ): MaybePromise<number> {
    const handle = this.#handles.get(fh);
    if (!handle.writable) throw new FsError('EBADF', 'write');
    const { state } = handle;
    const { clearPrivileges, append = handle.append } = options;
    const held = chain(this.#stillLocked(request, handle, fh), () => this.#usable(request, handle));
    const ready = chain(held, () =>
      append ? this.#sizeKnown(request, handle) : this.settleAppends(request, state),
    );
    return chain(ready, () => {
      handle.wrote = true;
      const at = (): number => {
        // It may have waited for room.
        assertWhole(handle);
        return append ? state.size : offset;
      };
      const fits = belowLimit(at(), data);
      return this.#mount.fs.writer.write(state.pending, fits, at, { append, clearPrivileges, request });
    });
  }

  /** Once the session may have expired, a lock counts when the server has said that it goes on. **Errors:** as `getattr`. */
  #stillLocked(request: Request, { state }: FileHandle, fh: number): MaybePromise<void> {
    const { fs, locks } = this.#mount;
    if (fs.isValid || !locks.isLocked(fh)) return undefined;
    return chain(fs.call('getattr', { ino: state.ino }, { request }), () => {});
  }

  /** Commits what was appended to the file and has no place yet. **Errors:** as ChunkWriter.flush. */
  settleAppends(request: Request, state: FileState): MaybePromise<void> {
    if (!state.pending.isAppended) return undefined;
    const flushed = this.#mount.fs.writer.flush(state.pending, { durable: false, request });
    return flushed.then(() => this.settleAppends(request, state));
  }

  /** **Errors:** FileHandle.trouble; as `open`. */
  #usable(request: Request, handle: FileHandle): MaybePromise<void> {
    const ready = chain(this.#recovered(request), () => this.#marked(request, handle));
    return chain(ready, () => assertWhole(handle));
  }

  /** What was closed before the session was lost is there again. **Errors:** ETIMEDOUT, EINTR. */
  #recovered(request: Request): MaybePromise<void> {
    const { recovering, clock, timeoutMs } = this.#mount.fs;
    if (recovering === undefined) return undefined;
    return boundedWait({ clock, timeoutMs, request, op: 'open' }, endOf(recovering));
  }

  /** Opens the file at the server again when a lost session has closed it there. */
  #marked(request: Request, handle: FileHandle): MaybePromise<void> {
    const { opens } = this.#mount;
    const { state } = handle;
    return opens.isMarked(state) || opens.mayBeUnknown(state) ? undefined : opens.remark(state, request);
  }

  #sizeKnown(request: Request, handle: FileHandle): MaybePromise<void> {
    if (handle.sizeAsked) return undefined;
    const { fs } = this.#mount;
    return chain(fs.call('getattr', { ino: handle.state.ino }, { request }), (attr) => {
      handle.state.learn(attr, fs.connections);
      handle.sizeAsked = true;
    });
  }

  /**
   * A descriptor was closed: its process's locks go after what it wrote. **Errors:** what failed to be written, once
   * to each handle; FileHandle.broken; EINTR, ETIMEDOUT.
   */
  flush(request: Request, fh: number, lockOwner?: LockOwner): MaybePromise<void> {
    const handle = this.#handles.get(fh);
    const unlock = (): MaybePromise<void> => this.#mount.locks.closed(request, handle.state.ino, lockOwner);
    if (handle.broken !== undefined) return chain(unlock(), () => assertWhole(handle));
    if (!handle.wrote && !handle.hasFailure) return unlock();
    if (!handle.hasFailure && this.#mount.fs.keptOnClose(handle.state.pending)) {
      handle.wrote = false;
      return unlock();
    }
    return this.#writeBack(request, handle).finally(unlock);
  }

  /**
   * As flush; what others have changed about the inode is on disk as well when it returns. What this mount has done
   * to it by itself and the server then refused is a failure, too.
   */
  async fsync(request: Request, fh: number): Promise<void> {
    const handle = this.#handles.get(fh);
    const { writer } = this.#mount.fs;
    const { pending } = handle.state;
    await this.#marked(request, handle);
    if (handle.broken !== undefined) throw handle.broken;
    // A durable commit that is sent from now on covers every earlier change of the inode.
    const covered = !pending.isClean && !writer.isCommitting(pending);
    await this.#writeBack(request, handle);
    if (covered || this.#mount.fs.readOnly) return;
    await writer.sync(request);
    const failure = handle.takeFailure();
    if (failure !== undefined) throw failure;
  }

  async #writeBack(request: Request, handle: FileHandle): Promise<void> {
    const { pending } = handle.state;
    handle.wrote = false;
    try {
      await this.#mount.fs.writer.flush(pending, { durable: true, request });
    } catch (error) {
      handle.wrote = true;
      // The failure being reported here is one of the recorded ones, if it is recorded.
      if (!isFsError(error, 'EINTR') && !isFsError(error, 'ETIMEDOUT')) handle.takeFailure();
      throw error;
    }
    const failure = handle.takeFailure();
    if (failure !== undefined) throw failure;
  }

  /** A lock was got through this handle: the file may have grown under the one before. */
  locked(fh: number): void {
    const handle = this.#handles.find(fh);
    if (handle !== undefined) handle.sizeAsked = false;
  }

  /** **Errors:** FileHandle.broken. */
  assertLockable(fh: number): void {
    const broken = this.#handles.find(fh)?.broken;
    if (broken !== undefined) throw broken;
  }

  #locksLost(handles: readonly number[]): void {
    for (const fh of handles) {
      const handle = this.#handles.find(fh);
      if (handle === undefined) continue;
      const { ino } = handle.state;
      log.error('a lock is lost with its session: the descriptor that got it is of no use any more', { ino });
      handle.break(new FsError('EIO', 'lock', { detail: 'it was lost with its session' }));
      this.#mount.dropPages(ino);
    }
  }

  release(fh: number): void {
    const handle = this.#handles.remove(fh);
    if (handle === undefined) {
      log.error('a handle was released that is not there', { fh });
      return;
    }
    handle.state.opens--;
    if (handle.state.opens === 0) this.#mount.opens.close(handle.state);
  }

  /** A handle whose file the server knows to be open. **Errors:** EBADF; FileHandle.trouble; as `open`. */
  usableHandle(request: Request, fh: number): MaybePromise<FileHandle> {
    const handle = this.#handles.get(fh);
    return chain(this.#usable(request, handle), () => handle);
  }

  /**
   * The state behind a handle, opened again at the server if need be; undefined without a handle.
   * **Errors:** as `open`; with `changes`, which are to be made to the contents, FileHandle.trouble.
   */
  stateOf(
    request: Request,
    fh: number | undefined,
    { changes = false } = {},
  ): MaybePromise<FileState | undefined> {
    const handle = fh === undefined ? undefined : this.#handles.find(fh);
    if (handle === undefined) return undefined;
    const ready = changes ? this.#usable(request, handle) : this.#marked(request, handle);
    return chain(ready, () => handle.state);
  }
}

/** **Errors:** FileHandle.trouble. */
function assertWhole({ trouble }: FileHandle): void {
  if (trouble !== undefined) throw trouble;
}

export const ownerOf = (request: Request): { uid: number; gid: number } => ({
  uid: request.uid,
  gid: request.gid,
});
