/**
 * What this mount knows of one file: the newest attributes that it was told, extents that belong to them, its
 * own uncommitted writes, and who has the file open here.
 *
 * Nothing here is trusted for longer than the server vouches for it. Attributes carry a version that rises
 * with every change; extents are used for a read only when their version is at least the newest one that an
 * open or getattr has answered before the read. A reply that was overtaken on its way never brings back what
 * a newer one has replaced.
 *
 * INVARIANT: `opens` and `opening` are never negative; the window's version is never above the newest
 * attributes' version.
 */
import { assert } from '../base/assert.js';
import type { Timespec } from '../base/clock.js';
import { ExtentOverlay, type Piece } from '../client/extent-overlay.js';
import { PendingFile } from '../client/pending-file.js';
import { atimeAfter } from '../names/accessed.js';
import type { Access } from '../proto/access-methods.js';
import type { Attr } from '../proto/attr.js';
import type { FsError } from '../proto/errno.js';
import type { ChunkId, Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';

/** Extents of [from, to) of a file, as they are at `version`. */
interface Window {
  readonly version: number;
  /** The file's size at that version. */
  readonly size: number;
  readonly from: number;
  readonly to: number;
  readonly overlay: ExtentOverlay<ChunkId>;
}

/** A file that is not open keeps its extents when they are this few. */
const EXTENTS_KEPT = 64;
const WHOLE_FILE = Number.MAX_SAFE_INTEGER;

export class FileState {
  readonly ino: Ino;
  readonly pending: PendingFile;
  /** Handles on this file. */
  opens = 0;
  /** Answered READs. */
  reads = 0;
  /** Opens and creates on their way to the server. */
  opening = 0;
  /** The session generation in which the server knows the file as open; undefined: it does not. */
  markedIn: number | undefined;
  /** It lost its last name here while the kernel referred to it: the server's mark stays until a FORGET. */
  isHeld = false;
  /** Opened by O_TMPFILE and not linked yet: `link` may give it its first name. */
  isUnnamed = false;
  /** It is open here, and gone at the server: its last name went, and then the session that held it. */
  lost: FsError | undefined;
  /** It has more extents than one reply holds. */
  isLarge = false;
  /** Connections counted when `attr` was learned: a server that was restarted is asked anew. */
  #connection = 0;
  #attr: Attr | undefined;
  #window: Window | undefined;
  /** The lowest version whose extents contain everything that this mount has committed. */
  #committedVersion = 0;
  readonly #now: () => Timespec;

  /** `now`: the time on the server. */
  constructor(ino: Ino, now: () => Timespec) {
    this.ino = ino;
    this.#now = now;
    this.pending = new PendingFile(ino);
    this.pending.onCommit = (attr, extents) => this.#committed(attr, extents);
  }

  /** Nothing is lost when this is forgotten. */
  get isIdle(): boolean {
    return this.opens === 0 && this.opening === 0 && this.pending.isClean && this.markedIn === undefined;
  }

  /** The version below which a read that starts now must not go. */
  get version(): number {
    return Math.max(this.#attr?.version ?? 0, this.#committedVersion);
  }

  /** The size as far as it is known here, pending writes included. */
  get size(): number {
    return Math.max(this.#attr?.size ?? 0, this.pending.overlay.end);
  }

  /** Takes a reply's attributes; answers the newest that are known, as pending writes will make them. */
  learn(attr: Attr, connection: number): Attr {
    if (connection !== this.#connection) this.#forget(connection);
    const { committedMtime } = this.pending;
    const newest = this.#newest(attr);
    // The kernel goes by the time, and its pages hold what is pending and what others have written.
    if (this.pending.isOvertaken(newest.mtime, committedMtime)) this.pending.comesAfter(this.#now);
    if (attr.size === 0) this.#windowOf(attr, [], 0, WHOLE_FILE);
    return this.pending.overlayAttr(newest);
  }

  /** Takes `attr` unless something newer is known; answers what is known now. */
  #newest(attr: Attr): Attr {
    if (this.#attr === undefined || attr.version >= this.#attr.version) {
      this.#attr = attr;
      this.pending.committedMtime = attr.mtime;
    }
    return this.#attr;
  }

  /** The newest attributes that are known, as pending writes will make them. */
  get attr(): Attr | undefined {
    return this.#attr === undefined ? undefined : this.pending.overlayAttr(this.#attr);
  }

  /** The server has been told of this. */
  accessed(access: Access): void {
    if (this.#attr !== undefined) this.#attr = { ...this.#attr, atime: atimeAfter(this.#attr, access) };
  }

  /** A change that this mount has made itself; `truncated`: it also cut the file (or extended it) to its size. */
  changed(attr: Attr, connection: number, truncated: boolean): Attr {
    const window = this.#window;
    // One version further is our change and nobody else's: the extents are still known.
    if (window !== undefined && window.version + 1 === attr.version) {
      if (truncated) window.overlay.truncate(attr.size);
      this.#window = { ...window, version: attr.version, size: attr.size };
    }
    this.#newest(attr);
    return this.learn(attr, connection);
  }

  /** Takes the extents in [from, to) that belong to `attr`. */
  learnExtents(
    attr: Attr,
    connection: number,
    window: { from: number; to: number; extents: Piece<ChunkId>[] },
  ): void {
    this.learn(attr, connection);
    this.#windowOf(attr, window.extents, window.from, window.to);
  }

  #windowOf(attr: Attr, extents: Piece<ChunkId>[], from: number, to: number): void {
    const { version, size } = attr;
    if (this.#window !== undefined && version < this.#window.version) return;
    this.#window = { version, size, from, to, overlay: new ExtentOverlay(extents) };
  }

  /** Extents that cover [offset, end) at `version` or later, with the committed size; undefined: ask. */
  extentsFor(
    range: { offset: number; end: number },
    version: number,
    connection: number,
  ): { version: number; overlay: ExtentOverlay<ChunkId>; size: number; to: number } | undefined {
    const window = this.#window;
    if (window === undefined || connection !== this.#connection) return undefined;
    if (window.version < Math.max(version, this.#committedVersion)) return undefined;
    const end = Math.min(range.end, window.size);
    if (range.offset < window.from || end > window.to) return undefined;
    return { version: window.version, overlay: window.overlay, size: window.size, to: window.to };
  }

  get hasExtents(): boolean {
    return this.#window !== undefined;
  }

  /** Its contents have changed in a way that the attributes known here do not tell. */
  forgetExtents(): void {
    this.#window = undefined;
  }

  /** Called when the last handle is gone. */
  trim(): void {
    if (this.#window !== undefined && this.#window.overlay.count > EXTENTS_KEPT) this.#window = undefined;
  }

  #committed(attr: Attr | undefined, extents: readonly Piece<ChunkId>[] | undefined): void {
    // The inode is gone: there is nothing to know of it.
    if (attr === undefined) return;
    this.#committedVersion = Math.max(this.#committedVersion, attr.version);
    if (extents === undefined) this.#window = undefined;
    const window = this.#window;
    const isWhole = window !== undefined && window.from === 0 && window.to === WHOLE_FILE;
    if (isWhole && window.version + 1 === attr.version && window.overlay.count < limits.extentsPerMessage) {
      for (const extent of extents ?? []) window.overlay.insert(extent);
      this.#window = { ...window, version: attr.version, size: attr.size };
    }
    this.#newest(attr);
  }

  #forget(connection: number): void {
    this.#connection = connection;
    this.#attr = undefined;
    this.#window = undefined;
    this.#committedVersion = 0;
  }

  checkInvariants(): void {
    assert(this.opens >= 0 && this.opening >= 0, 'opens are counted once');
    this.pending.checkInvariants();
    this.#window?.overlay.checkInvariants();
    if (this.#window !== undefined)
      assert(this.#window.version <= (this.#attr?.version ?? 0), 'extents are no newer than the attributes');
  }
}
