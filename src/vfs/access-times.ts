/**
 * Access times on a mount that keeps them. The kernel leaves them to a FUSE filesystem, so a read that comes
 * here is remembered, shown at once in what this mount answers, and told to the server a little later, with
 * all others of that time. What cannot be told is forgotten: an access time is not worth an error.
 *
 * Reads that the kernel answers from its own cache are not seen here.
 *
 * INVARIANT: at most limits.accessesPerMessage inodes wait, and as many are on their way; while the bound is
 * reached, further reads move no access time.
 */
import type { Timer } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { Filesystem } from '../client/filesystem.js';
import { atimeAfter, isAccessDue } from '../names/accessed.js';
import type { Access } from '../proto/access-methods.js';
import { type Attr, isDir } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { FileTable } from './file-table.js';
import type { Request } from './operations.js';

const log = makeLog('vfs');

/** Which reads move access times. **Source:** mount(8). */
export interface AccessPolicy {
  /** Only when the access time is not newer than the last change, or a day old; or always. */
  readonly mode: 'relatime' | 'strictatime';
  /** Directories too: not with `nodiratime`. */
  readonly directories: boolean;
}

export class AccessTimes {
  readonly directories: boolean;
  readonly #fs: Filesystem;
  readonly #files: FileTable;
  readonly #always: boolean;
  #waiting = new Map<Ino, Access>();
  #sending = new Map<Ino, Access>();
  #sent: Promise<void> = Promise.resolve();
  #timer: Timer | undefined;

  constructor(fs: Filesystem, files: FileTable, policy: AccessPolicy) {
    this.#fs = fs;
    this.#files = files;
    this.#always = policy.mode === 'strictatime';
    this.directories = policy.directories;
  }

  /** The inode with these attributes was read. */
  touched(attr: Attr): void {
    if (isDir(attr.mode) && !this.directories) return;
    const now = this.#fs.now();
    const shown = this.shown(attr);
    if (!this.#always && !isAccessDue(shown, now)) return;
    const { ino } = attr;
    const before = this.#waiting.get(ino);
    if (before === undefined && this.#waiting.size === limits.accessesPerMessage) return;
    this.#waiting.set(ino, { ino, atime: now, seen: before?.seen ?? shown.atime });
    if (this.#waiting.size === limits.accessesPerMessage) this.#send();
    else this.#later();
  }

  /** Passes `reading` on, of an inode whose attributes do not come with it; they are asked for beside it. */
  async reading<T>(request: Request, ino: Ino, reading: MaybePromise<T>): Promise<T> {
    const asking = async (): Promise<Attr> => await this.#fs.call('getattr', { ino }, { request });
    const [read, attr] = await Promise.all([reading, asking()]);
    this.#fs.seen(attr);
    this.touched(attr);
    return read;
  }

  /** A reply's attributes as they will be once the server knows what was read here. */
  shown(attr: Attr): Attr {
    let { atime } = attr;
    for (const accesses of [this.#sending, this.#waiting]) {
      const access = accesses.get(attr.ino);
      if (access !== undefined) atime = atimeAfter({ atime, ctime: attr.ctime }, access);
    }
    return atime === attr.atime ? attr : { ...attr, atime };
  }

  /** The access time is set here by other means: reads before that no longer matter. */
  forget(ino: Ino): void {
    this.#waiting.delete(ino);
  }

  /** Tells what is left, while there is a server. */
  async close(): Promise<void> {
    await this.#sent;
    if (this.#waiting.size > 0 && this.#fs.isUp) this.#send();
    this.#timer?.cancel();
    await this.#sent;
    this.#timer?.cancel();
  }

  #later(): void {
    if (this.#timer !== undefined || this.#sending.size > 0) return;
    this.#timer = this.#fs.clock.after(limits.accessDelayMs, () => this.#send(), { background: true });
  }

  #send(): void {
    if (this.#sending.size > 0) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#sending = this.#waiting;
    this.#waiting = new Map();
    if (this.#sending.size > 0) this.#sent = this.#tell([...this.#sending.values()]);
  }

  async #tell(files: Access[]): Promise<void> {
    try {
      await this.#fs.call('accessed', { files });
      for (const access of files) this.#files.get(access.ino)?.accessed(access);
    } catch (error) {
      log.info('access times are not kept', { files: files.length, error: String(error) });
    }
    this.#sending = new Map();
    if (this.#waiting.size > 0) this.#later();
  }
}
