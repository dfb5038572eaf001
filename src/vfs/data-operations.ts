/**
 * Operations on a file's extents: fallocate, lseek for holes and data, copy_file_range. Those that change
 * extents on the server find this mount's own writes committed there before, so that none of them comes later
 * and undoes it; the kernel lets no write of the same file in meanwhile (it holds the inode's lock).
 */
import { FsError } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import type { FileOperations } from './file-operations.js';
import { FileReader } from './file-reader.js';
import type { FileState } from './file-state.js';
import type { MountContext } from './mount-context.js';
import type { FallocateMode, FilePlace, Request } from './operations.js';
import { seekIn } from './seek.js';

/** Who may keep setuid and setgid at a change: the kernel does not say (as it does for writes). */
const clearsPrivileges = (request: Request): boolean => request.uid !== 0;

export class DataOperations {
  readonly #mount: MountContext;
  readonly #files: FileOperations;
  readonly #reader: FileReader;

  constructor(mount: MountContext, files: FileOperations) {
    this.#mount = mount;
    this.#files = files;
    this.#reader = new FileReader(mount.fs);
  }

  /** **Errors:** EROFS, EBADF; EFBIG; ENOSPC; those of write-back; as `fallocate` in the table. */
  async fallocate(request: Request, file: FilePlace, length: number, mode: FallocateMode): Promise<void> {
    this.#mount.assertWritable('fallocate');
    const { fs } = this.#mount;
    const { offset } = file;
    if (offset + length > limits.fileBytes) throw new FsError('EFBIG', 'fallocate');
    const { state } = await this.#files.usableHandle(request, file.fh);
    await fs.writer.flush(state.pending, { durable: false, request });
    if (!mode.zero) await this.#assertRoom(request, state, { offset, length });
    const { ino } = state;
    const { keepSize } = mode;
    const clearPrivileges = clearsPrivileges(request);
    const what = mode.zero ? 'zero' : 'allocate';
    const args = { ino, offset, length, mode: what, keepSize, clearPrivileges } as const;
    const call = async (): Promise<void> => {
      const attr = await fs.call('fallocate', args, { request });
      this.#mount.learn(attr);
    };
    await fs.writer.exclusive(state.pending, call, request);
  }

  /** Whether what the range lacks could be written now; nothing is set aside. **Errors:** ENOSPC. */
  async #assertRoom(
    request: Request,
    state: FileState,
    range: { offset: number; length: number },
  ): Promise<void> {
    const { freeBytes } = await this.#mount.fs.call('statfs', {}, { request });
    if (range.length <= freeBytes) return;
    let missing = range.length;
    const end = range.offset + range.length;
    for (let from = range.offset; from < end; ) {
      const { overlay, to } = await this.#reader.extentsAt(request, state, from);
      const known = Math.min(to, end);
      for (const piece of overlay.slice(from, known - from)) missing -= piece.length;
      from = known;
    }
    if (missing > freeBytes) throw new FsError('ENOSPC', 'fallocate');
  }

  /** **Errors:** EBADF; ENXIO (at or behind the end; no data before it); as `extents`. */
  async lseek(request: Request, place: FilePlace, what: 'data' | 'hole'): Promise<number> {
    const { state } = await this.#files.usableHandle(request, place.fh);
    for (let at = place.offset; ; ) {
      const { overlay, size: committed, to } = await this.#reader.extentsAt(request, state, at);
      const pending = state.pending.overlay;
      const size = Math.max(committed, pending.end);
      if (place.offset >= size) throw new FsError('ENXIO', 'lseek');
      const end = Math.min(size, to);
      const found = seekIn(what, { from: at, to: end }, pending, overlay);
      if (found !== undefined) return found;
      if (end < size) at = end;
      else if (what === 'hole') return size;
      else throw new FsError('ENXIO', 'lseek', { detail: 'no data behind' });
    }
  }

  /**
   * In steps that the server bounds; what is copied when one fails is the answer.
   * **Errors:** EROFS, EBADF; those of write-back; as `copyRange` in the table.
   */
  async copyFileRange(request: Request, from: FilePlace, to: FilePlace, length: number): Promise<number> {
    this.#mount.assertWritable('copyFileRange');
    const { fs } = this.#mount;
    const source = (await this.#files.usableHandle(request, from.fh)).state;
    const target = (await this.#files.usableHandle(request, to.fh)).state;
    for (const { pending } of [source, target]) await fs.writer.flush(pending, { durable: false, request });
    let copied = 0;
    while (copied < length) {
      const args = {
        ...{ ino: source.ino, offset: from.offset + copied },
        ...{ newIno: target.ino, newOffset: to.offset + copied },
        length: length - copied,
        clearPrivileges: clearsPrivileges(request),
      };
      const call = async (): Promise<number> => {
        const step = await fs.call('copyRange', args, { request });
        if (step.copied > 0) this.#mount.learn(step.attr);
        return step.copied;
      };
      try {
        const step = await fs.writer.exclusive(target.pending, call, request);
        if (step === 0) break;
        copied += step;
      } catch (error) {
        if (copied > 0 && error instanceof FsError) break;
        throw error;
      }
    }
    return copied;
  }
}
