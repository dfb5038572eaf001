/**
 * What libfuse asks about open files, answered with the inode-based operations.
 *
 * Invariant: the reference to an inode that open or create took is given back by release.
 *
 * **Source:** libfuse 2.9.9 lib/fuse.c fuse_lib_create, fuse_do_release; native-notes/fuse-native.md, "Creating".
 */
import { FsError } from '../proto/errno.js';
import type { NativeHandlers } from './fuse-native-binding.js';
import { type NativeContext, self } from './fuse-native-context.js';
import type { NativeFile } from './fuse-native-files.js';
import { fromHalves } from './fuse-native-stat.js';

const O_RDWR = 2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_DSYNC = 0o10000;
const O_SYNC = 0o4010000;

export class NativeIo {
  readonly #context: NativeContext;

  constructor(context: NativeContext) {
    this.#context = context;
  }

  handlers(): Pick<NativeHandlers, 'open' | 'create' | 'read' | 'write' | 'flush' | 'fsync' | 'release'> {
    const { operations } = this.#context;
    return {
      open: this.#context.handler(
        'open',
        () => [0],
        async (_call, path, flags) => ({ result: 0, payload: [await this.#open(path, flags)] }),
      ),
      create: this.#context.handler(
        'create',
        () => [0],
        async (_call, path, mode) => ({ result: 0, payload: [await this.#create(path, mode)] }),
      ),
      read: this.#context.handler(
        'read',
        (_path, _fd, into) => [0, into.buffer],
        async (_call, _path, fd, into, length, low, high) => {
          const { ino, fh } = this.#context.file(fd, 'read');
          // No page cache stands between: the answer has to be as new as the question (fs/fuse asks so before
          // it reads pages). Reads of one file never go back behind what getattr has answered.
          await operations.getattr(self, ino, fh);
          const data = await operations.read(self, ino, fh, fromHalves(low, high), length);
          return { result: this.#context.ended ? 0 : copyInto(into, data), payload: [0, into.buffer] };
        },
      ),
      write: this.#context.handler(
        'write',
        (_path, _fd, data) => [0, data.buffer],
        async (_call, _path, fd, data, _length, low, high) => {
          const { ino, fh, writeThrough } = this.#context.file(fd, 'write');
          // With direct_io the kernel leaves setuid and setgid to us, and it is not known who writes: they go.
          const result = await operations.write(self, ino, fh, fromHalves(low, high), data, true);
          // With direct_io the kernel leaves O_SYNC to us.
          if (writeThrough !== 'nothing') await operations.fsync(self, ino, fh, writeThrough === 'data');
          return { result, payload: [0, data.buffer] };
        },
      ),
      flush: this.#context.plain('flush', (_path, fd) => {
        const { ino, fh } = this.#context.file(fd, 'flush');
        return operations.flush(self, ino, fh);
      }),
      fsync: this.#context.plain('fsync', (_path, dataOnly, fd) => {
        const { ino, fh } = this.#context.file(fd, 'fsync');
        return operations.fsync(self, ino, fh, dataOnly !== 0);
      }),
      release: this.#context.plain('release', async (_path, fd) => {
        const removed = this.#context.files.remove(fd);
        if (removed === undefined) throw new FsError('EBADF', 'release', { detail: `descriptor ${fd}` });
        const { file, references } = removed;
        try {
          await operations.release(file.ino, file.fh);
        } finally {
          this.#context.walker.giveBack(file.ino, references);
        }
      }),
    };
  }

  /** Opens a file; the reference to its inode stays with the descriptor. One without a name has its already. */
  async #open(path: string, flags: number): Promise<number> {
    const { operations, walker, files } = this.#context;
    const hidden = files.hiddenAt(path);
    const ino = hidden ?? (await walker.take(path));
    const references = hidden === undefined ? 1 : 0;
    try {
      const { fh } = await operations.open(self, ino, flags);
      return files.add({ ino, fh, writeThrough: this.#writeThrough(flags) }, references);
    } catch (error) {
      walker.giveBack(ino, references);
      throw error;
    }
  }

  #writeThrough(flags: number): NativeFile['writeThrough'] {
    if (this.#context.syncWrites || (flags & O_SYNC) === O_SYNC) return 'everything';
    return (flags & O_DSYNC) !== 0 ? 'data' : 'nothing';
  }

  /** Creates and opens. The flags are not handed over: O_EXCL is the answer that cannot break a lock file. */
  async #create(path: string, mode: number): Promise<number> {
    const { entry, open } = await this.#context.walker.inside(path, (parent, name) =>
      this.#context.operations.create(self, parent, name, mode & 0o7777, O_CREAT | O_EXCL | O_RDWR),
    );
    const writeThrough = this.#writeThrough(0);
    return this.#context.files.add({ ino: entry.attr.ino, fh: open.fh, writeThrough }, 1);
  }
}

function copyInto(into: Buffer, data: Uint8Array | Uint8Array[]): number {
  let length = 0;
  for (const part of Array.isArray(data) ? data : [data]) {
    into.set(part, length);
    length += part.length;
  }
  return length;
}
