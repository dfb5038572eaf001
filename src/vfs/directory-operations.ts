/**
 * Listing directories: pages of the server's listing, kept per handle while the reader goes on where the
 * last answer ended, and asked anew from any other offset. Memory is one page per open directory, however
 * large the directory.
 *
 * Offsets: 1 is behind `.`, 2 behind `..`, and larger ones are the server's cookies, which stay right while
 * entries come and go. A page's attributes are passed on only in the answer that follows its arrival; later
 * answers pass them through what this mount has learned since.
 */
import { S_IFDIR } from '../proto/attr.js';
import type { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { DirEntry } from '../proto/meta-methods.js';
import { HandleTable } from './handle-table.js';
import type { MountContext } from './mount-context.js';
import { O_NOATIME } from './open-flags.js';
import type { ReaddirSink, Request } from './operations.js';

const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');
const BEHIND_DOT = 1;
const BEHIND_DOT_DOT = 2;

/** Entries behind `after`, and the position of the next one to hand out. */
interface Page {
  readonly entries: readonly DirEntry[];
  readonly parent: Ino;
  readonly end: boolean;
  readonly plus: boolean;
  /** Offset that stands before entries[next]. */
  at: number;
  next: number;
}

interface DirectoryHandle {
  readonly ino: Ino;
  readonly noAtime: boolean;
  page: Page | undefined;
  /** Changes of its names that were answered, and given up since: for its next fsync. */
  failure: FsError | undefined;
}

export class DirectoryOperations {
  readonly #mount: MountContext;
  readonly #handles = new HandleTable<DirectoryHandle>('directory');

  constructor(mount: MountContext) {
    this.#mount = mount;
    mount.onLost = (inodes, why) => {
      for (const handle of this.#handles.values()) if (inodes.has(handle.ino)) handle.failure = why;
    };
  }

  opendir(ino: Ino, flags: number): number {
    const noAtime = (flags & O_NOATIME) !== 0;
    return this.#handles.add({ ino, page: undefined, noAtime, failure: undefined });
  }

  /** **Errors:** why changes were given up, once. */
  report(fh: number): void {
    const handle = this.#handles.find(fh);
    const failure = handle?.failure;
    if (handle === undefined || failure === undefined) return;
    handle.failure = undefined;
    throw failure;
  }

  releasedir(fh: number): void {
    this.#handles.remove(fh);
  }

  /** **Errors:** EBADF; ENOENT, ENOTDIR. */
  async readdir(
    request: Request,
    ino: Ino,
    position: { fh: number; offset: number; plus: boolean },
    take: ReaddirSink,
  ): Promise<void> {
    const handle = this.#handles.get(position.fh);
    const { plus } = position;
    let { offset } = position;
    let page = await this.#pageAt(request, ino, handle, { offset, plus });
    if (offset === 0) {
      if (!take({ name: DOT, ino, kind: S_IFDIR, nextOffset: BEHIND_DOT })) return;
      offset = BEHIND_DOT;
    }
    if (offset === BEHIND_DOT) {
      if (!take({ name: DOT_DOT, ino: page.parent, kind: S_IFDIR, nextOffset: BEHIND_DOT_DOT })) return;
      offset = BEHIND_DOT_DOT;
    }
    for (let tookAny = false; ; ) {
      const took = this.#takeFrom(page, take, plus);
      if (took === 'full') return;
      tookAny ||= took === 'some';
      // What fits is a page's worth at most: a reply need not be filled from two pages.
      if (page.end || tookAny) return;
      page = await this.#pageAt(request, ino, handle, { offset: page.at, plus });
    }
  }

  /** Hands out entries of the page until it is used up (`some`, or `none` when it was already) or full. */
  #takeFrom(page: Page, take: ReaddirSink, plus: boolean): 'full' | 'some' | 'none' {
    const first = page.next;
    for (let entry = page.entries[page.next]; entry !== undefined; entry = page.entries[page.next]) {
      const { name, ino, kind, cookie, attr } = entry;
      const common = { name, ino, kind, nextOffset: cookie };
      const isTaken = take(attr === undefined ? common : { ...common, entry: this.#mount.description(attr) });
      if (!isTaken) return 'full';
      if (plus && attr !== undefined) this.#mount.references?.add(ino);
      page.next++;
      page.at = cookie;
    }
    return page.next > first ? 'some' : 'none';
  }

  /** The handle's page if it stands at `offset` and is not used up, else the one that starts there. */
  async #pageAt(
    request: Request,
    ino: Ino,
    handle: DirectoryHandle,
    position: { offset: number; plus: boolean },
  ): Promise<Page> {
    const { plus } = position;
    const after = position.offset <= BEHIND_DOT_DOT ? 0 : position.offset;
    const held = handle.page;
    const isRewound = position.offset === 0;
    if (held !== undefined && !isRewound && held.at === after && (!plus || held.plus)) {
      if (held.next < held.entries.length || held.end) return held;
    }
    const args = { ino, after, limit: limits.readdirPageEntries, plus };
    const { fs, accesses } = this.#mount;
    const reading = fs.call('readdir', args, { request });
    const isAccess = accesses?.directories === true && !handle.noAtime;
    const { entries, parent, end } = await (isAccess ? accesses.reading(request, ino, reading) : reading);
    const page: Page = { entries, parent, end, plus, at: after, next: 0 };
    handle.page = page;
    return page;
  }
}
