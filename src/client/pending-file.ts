/**
 * What a mount has written to one file and not committed yet: where those bytes are, what they do to the
 * file's attributes, and what went wrong. The chunk writer owns these; vfs reads them to answer programs.
 *
 * INVARIANT: `overlay` points only into `chunks`, which are not committed, in order, and each know this file.
 * `failures` only ever rises.
 */
import { assert } from '../base/assert.js';
import { compareTimespec, type Timespec } from '../base/clock.js';
import { type Attr, S_ISGID, S_ISUID } from '../proto/attr.js';
import type { FsError } from '../proto/errno.js';
import type { ChunkId, Ino } from '../proto/ids.js';
import { ExtentOverlay, type Piece } from './extent-overlay.js';
import type { PendingChunk } from './pending-chunk.js';

const S_IXGRP = 0o010;

/**
 * Told when extents became part of the file, in commit order; `attr` is undefined when the inode is gone,
 * `extents` when they were appended and are not where this mount took the end of the file to be.
 */
export type CommitListener = (attr: Attr | undefined, extents: readonly Piece<ChunkId>[] | undefined) => void;

export class PendingFile {
  readonly ino: Ino;
  readonly overlay = new ExtentOverlay<PendingChunk>();
  /** The chunks with bytes of this file, oldest first. */
  readonly chunks: PendingChunk[] = [];
  /** When the last write was; meaningful, like mtime, while something is pending. */
  writtenAt: Timespec = { sec: 0, nsec: 0 };
  /** What the next commit sets: the last write's time, or what utimensat(2) set since. */
  mtime: Timespec = { sec: 0, nsec: 0 };
  /** The next commit clears setuid and setgid. */
  clearPrivileges = false;
  /** Number of this mount's last commit that carried the file; 0: none. */
  committedIn = 0;
  /** No commit may carry this file while somebody changes it on the server by other means. */
  holds = 0;
  /** How often bytes of the file were lost, and the last time's reason. */
  failures = 0;
  failure: FsError | undefined;
  onCommit: CommitListener | undefined;

  constructor(ino: Ino) {
    this.ino = ino;
  }

  get isClean(): boolean {
    return this.chunks.length === 0;
  }

  /** The newest chunk with bytes of this file. */
  get lastChunk(): PendingChunk | undefined {
    return this.chunks[this.chunks.length - 1];
  }

  /** Bytes are pending whose offset is known only when they are committed. */
  get isAppended(): boolean {
    return this.chunks.some((chunk) => chunk.appended.has(this));
  }

  /** `chunk` is settled: its bytes are the server's now, or lost. */
  chunkSettled(chunk: PendingChunk): void {
    this.overlay.removeChunk(chunk);
    const index = this.chunks.indexOf(chunk);
    if (index >= 0) this.chunks.splice(index, 1);
    if (this.isClean) this.clearPrivileges = false;
  }

  /** The file was cut on the server: what was pending behind `size` never gets there. */
  truncate(size: number): void {
    this.overlay.truncate(size);
    for (const chunk of [...this.chunks])
      if (chunk.truncateFile(this, size)) this.chunks.splice(this.chunks.indexOf(chunk), 1);
  }

  /** Bytes of the file were given up. */
  recordFailure(error: FsError): void {
    this.failures++;
    this.failure = error;
  }

  /** `attr` as it will be once everything pending is committed. */
  overlayAttr(attr: Attr): Attr {
    if (this.isClean) return attr;
    // Otherwise mtime was set since, and ctime with it, as the server has it.
    const isWriteLast = compareTimespec(this.mtime, this.writtenAt) === 0;
    let mode = attr.mode;
    if (this.clearPrivileges) mode = withoutPrivileges(mode);
    return {
      ...attr,
      mode,
      size: Math.max(attr.size, this.overlay.end),
      allocated: attr.allocated + this.#bytesNotIn(attr),
      mtime: this.mtime,
      ctime: isWriteLast && compareTimespec(this.writtenAt, attr.ctime) > 0 ? this.writtenAt : attr.ctime,
    };
  }

  /** Bytes pending behind what the server has; an estimate of what will be allocated anew. */
  #bytesNotIn(attr: Attr): number {
    let bytes = 0;
    for (const piece of this.overlay.pieces()) {
      const end = piece.offset + piece.length;
      if (end > attr.size) bytes += end - Math.max(piece.offset, attr.size);
    }
    return bytes;
  }

  checkInvariants(): void {
    this.overlay.checkInvariants();
    assert(this.holds >= 0, 'holds are given back once');
    for (const piece of this.overlay.pieces())
      assert(this.chunks.includes(piece.chunk), 'pending bytes lie in chunks that are not committed');
    for (const chunk of this.chunks) {
      assert(chunk.files.has(this), 'a chunk knows whose bytes it has');
      for (const file of chunk.appended) assert(chunk.files.has(file), 'only what is there was appended');
    }
  }
}

/** `mode` after a write by somebody who is not privileged. **Source:** inode(7), kernel setattr_should_drop_suidgid. */
export function withoutPrivileges(mode: number): number {
  const cleared = mode & ~S_ISUID;
  return (mode & S_IXGRP) !== 0 ? cleared & ~S_ISGID : cleared;
}
