/**
 * Tells the kernel to forget what it caches. Every notification is a write to the device from the thread
 * pool: it can wait in the kernel for a page lock that is held by a request which this process has yet to
 * answer, so it is never written from the thread that answers.
 *
 * Invariants: at most MAX_WRITING invalidations occupy pool threads; the others wait their turn in order.
 * A promise resolves when the kernel has forgotten, to whether there was something to forget.
 *
 * Deletions have a lane of their own, of one thread: they wait for the directory's lock, whose holder may wait for
 * another mount, which waits until this one has written an invalidation. Nothing waits for them, and what does not
 * fit the lane is left out.
 *
 * **Source:** fs/fuse/dev.c fuse_notify(); fs/fuse/inode.c fuse_reverse_inval_inode(); fs/fuse/dir.c
 * fuse_reverse_inval_entry(), which takes the parent directory's lock (DESIGN §5.5).
 */
import { write } from 'node:fs';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import type { Notifier } from '../vfs/operations.js';
import { NotifyCode, size } from './abi.js';

function newNotification(code: number, bodyBytes: number): Buffer {
  const message = Buffer.alloc(size.outHeader + bodyBytes);
  message.writeUInt32LE(message.length, 0);
  message.writeInt32LE(code, 4);
  return message;
}

function putI64(message: Buffer, at: number, value: number): void {
  message.writeBigInt64LE(BigInt(value), at);
}

/** Attributes, and the pages of [offset, offset + length); length 0: to the end; offset < 0: no pages. */
export function encodeInvalInode(ino: Ino, offset: number, length: number): Buffer {
  const message = newNotification(NotifyCode.INVAL_INODE, 24);
  putI64(message, 16, ino);
  putI64(message, 24, offset);
  putI64(message, 32, length);
  return message;
}

/** A name, NUL-terminated behind its length. */
export function encodeInvalEntry(parent: Ino, name: Uint8Array): Buffer {
  const message = newNotification(NotifyCode.INVAL_ENTRY, 16 + name.length + 1);
  putI64(message, 16, parent);
  message.writeUInt32LE(name.length, 24);
  message.set(name, 32);
  return message;
}

/** As INVAL_ENTRY, and programs that watch the directory hear of a deletion. */
export function encodeDelete(parent: Ino, child: Ino, name: Uint8Array): Buffer {
  const message = newNotification(NotifyCode.DELETE, 24 + name.length + 1);
  putI64(message, 16, parent);
  putI64(message, 24, child);
  message.writeUInt32LE(name.length, 32);
  message.set(name, 40);
  return message;
}

/** Every name that the kernel knows of this mount is to be looked up again. Takes no lock. Since 7.44. */
export function encodeIncEpoch(): Buffer {
  return newNotification(NotifyCode.INC_EPOCH, 0);
}

const MAX_WRITING = 2;
/** Deletions that wait for the one that is being written. */
const MAX_DELETIONS = 1024;
const INC_EPOCH_SINCE_MINOR = 44;

const ENOENT = 2;
const ENOTDIR = 20;
const EINTR = 4;

interface Waiting {
  readonly message: Buffer;
  readonly settle: (error: NodeJS.ErrnoException | null) => void;
}

/** Notifications in order, at most `width` of them being written at a time. */
class Lane {
  readonly #fd: number;
  readonly #width: number;
  readonly #queue: Waiting[] = [];
  readonly #idleListeners: (() => void)[] = [];
  #writing = 0;
  #closed = false;

  constructor(fd: number, width: number) {
    this.#fd = fd;
    this.#width = width;
  }

  /** How many wait for their turn. */
  get waiting(): number {
    return this.#queue.length;
  }

  send(op: string, message: Buffer): Promise<boolean> {
    if (this.#closed) return Promise.resolve(true);
    return new Promise((resolve, reject) => {
      const settle = (error: NodeJS.ErrnoException | null): void => {
        if (error === null || this.#closed) resolve(true);
        else if (isUnknown(error)) resolve(false);
        else reject(new FsError('EIO', op, { cause: error }));
      };
      this.#queue.push({ message, settle });
      this.#pump();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const waiting of this.#queue.splice(0)) waiting.settle(null);
    if (this.#writing > 0) await new Promise<void>((resolve) => this.#idleListeners.push(resolve));
  }

  #pump(): void {
    while (this.#writing < this.#width) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      this.#writing += 1;
      this.#write(next);
    }
  }

  #write(next: Waiting): void {
    write(this.#fd, next.message, 0, next.message.length, null, (error) => {
      if (error?.errno === -EINTR && !this.#closed) return this.#write(next);
      this.#writing -= 1;
      next.settle(error);
      this.#pump();
      if (this.#writing === 0) for (const listener of this.#idleListeners.splice(0)) listener();
    });
  }
}

/** The kernel did not have what it was to forget. */
function isUnknown(error: NodeJS.ErrnoException): boolean {
  return error.errno === -ENOENT || error.errno === -ENOTDIR;
}

export class KernelNotifier implements Notifier {
  readonly #minor: number;
  readonly #invalidations: Lane;
  readonly #deletions: Lane;

  constructor(fd: number, minor: number) {
    this.#minor = minor;
    this.#invalidations = new Lane(fd, MAX_WRITING);
    this.#deletions = new Lane(fd, 1);
  }

  /** Whether `incrementEpoch` is there; before 7.44 names have to be invalidated one by one. */
  get hasEpoch(): boolean {
    return this.#minor >= INC_EPOCH_SINCE_MINOR;
  }

  invalidateInode(ino: Ino, offset: number, length: number): Promise<boolean> {
    return this.#invalidations.send('invalidateInode', encodeInvalInode(ino, offset, length));
  }

  async invalidateEntry(parent: Ino, name: Uint8Array): Promise<void> {
    await this.#invalidations.send('invalidateEntry', encodeInvalEntry(parent, name));
  }

  /** **Errors:** ENOTEMPTY, EBUSY when the kernel cannot drop the entry. */
  async deleteEntry(parent: Ino, child: Ino, name: Uint8Array): Promise<void> {
    if (this.#deletions.waiting >= MAX_DELETIONS) return;
    await this.#deletions.send('deleteEntry', encodeDelete(parent, child, name));
  }

  /** **Errors:** ENOSYS on a kernel without it. */
  async incrementEpoch(): Promise<void> {
    if (!this.hasEpoch) throw new FsError('ENOSYS', 'incrementEpoch');
    await this.#invalidations.send('incrementEpoch', encodeIncEpoch());
  }

  /**
   * The mount has ended and its caches with it: what waits is settled, nothing more is written. Resolves when
   * no write is under way any more, and the descriptor's number may go to something else.
   */
  async close(): Promise<void> {
    await Promise.all([this.#invalidations.close(), this.#deletions.close()]);
  }
}
