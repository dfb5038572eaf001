/**
 * A chunk of this mount that is not committed yet: bytes of one or of many files, in the order in which they
 * were written. It lives in memory, carved out of a larger arena so that a chunk sealed small does not cost
 * 4 MiB.
 *
 * States: open (takes bytes) → sealed (its bytes are final) → stored (on every replica's disk) → settled
 * (committed, or given up). INVARIANT: bytes below `length` never change; `length` <= `capacity`.
 */
import { assert } from '../base/assert.js';
import { crc32c } from '../base/crc32c.js';
import type { FsError } from '../proto/errno.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ExtentOverlay } from './extent-overlay.js';
import type { PendingFile } from './pending-file.js';

export type ChunkState = 'open' | 'sealed' | 'stored' | 'settled';

/** Told once: without an error that the chunk is committed. */
export type Waiter = (error?: FsError) => void;

/** Memory that chunks are carved out of, one after the other. */
export class ChunkArena {
  readonly #buffer = Buffer.allocUnsafeSlow(limits.chunkBytes);
  #used = 0;

  /** The rest, as a place for the next chunk; undefined when too little is left to be worth it. */
  rest(): Buffer | undefined {
    const left = this.#buffer.length - this.#used;
    return left >= limits.fuseIoBytes ? this.#buffer.subarray(this.#used) : undefined;
  }

  /** The chunk that was carved last ends after `length` bytes. */
  take(length: number): void {
    this.#used += length;
    assert(this.#used <= this.#buffer.length, 'an arena holds its chunks');
  }
}

export class PendingChunk {
  readonly #space: Buffer;
  length = 0;
  /** Of all files together. */
  extentCount = 0;
  state: ChunkState = 'open';
  /** Its bytes of each file; within one chunk a later write replaces what it covers. */
  readonly files = new Map<PendingFile, ExtentOverlay<PendingChunk>>();
  /** Of `files`, those whose bytes here were appended: all of them, at offsets that the commit may change. */
  readonly appended = new Set<PendingFile>();
  /** Set when it is stored. */
  id: ChunkId | undefined;
  #crc: number | undefined;
  /** Somebody waits for it to be committed. */
  flushWanted = false;
  /** Somebody waits for the commit to be on disk. */
  durableWanted = false;
  /** Why the last attempt to store it failed. */
  trouble: FsError | undefined;
  /** Why it is not stored yet, when it has been tried for longer than a call may take. */
  failure: FsError | undefined;
  readonly #waiters = new Set<Waiter>();

  constructor(space: Buffer) {
    this.#space = space;
  }

  get room(): number {
    return this.#space.length - this.length;
  }

  /** Whether bytes of `file` that are appended, or are not, can go in beside those that it has here. */
  takes(file: PendingFile, appended: boolean): boolean {
    return !this.files.has(file) || this.appended.has(file) === appended;
  }

  /** Copies `data`, which must fit, and notes whose bytes they are. */
  append(file: PendingFile, offset: number, data: Uint8Array): void {
    assert(this.state === 'open' && data.length <= this.room, 'bytes go into an open chunk with room');
    const piece = { offset, length: data.length, chunk: this, chunkOffset: this.length };
    this.#space.set(data, this.length);
    this.length += data.length;
    let extents = this.files.get(file);
    if (extents === undefined) {
      extents = new ExtentOverlay();
      this.files.set(file, extents);
    }
    const before = extents.count;
    extents.insert(piece);
    this.extentCount += extents.count - before;
    file.overlay.insert(piece);
    if (file.lastChunk !== this) file.chunks.push(this);
  }

  /** Forgets the file's bytes at and behind `size`; true when none are left. They stay in the chunk as waste. */
  truncateFile(file: PendingFile, size: number): boolean {
    const extents = this.files.get(file);
    if (extents === undefined) return true;
    const before = extents.count;
    extents.truncate(size);
    this.extentCount += extents.count - before;
    if (extents.count > 0) return false;
    // What the file gets here from now on may have its place.
    this.appended.delete(file);
    return this.files.delete(file);
  }

  /** Bytes [offset, offset + length), not copied. */
  bytes(offset = 0, length = this.length - offset): Buffer {
    assert(offset + length <= this.length, 'a range lies in its chunk');
    return this.#space.subarray(offset, offset + length);
  }

  /** CRC32C of the sealed bytes. */
  get crc(): number {
    assert(this.state !== 'open', 'only final bytes have a checksum');
    this.#crc ??= crc32c(this.bytes());
    return this.#crc;
  }

  /** Calls `done` once: without an error when the chunk is committed, else when it failed for now or for good. */
  whenSettled(done: Waiter): () => void {
    this.#waiters.add(done);
    return () => this.#waiters.delete(done);
  }

  /** Those who wait now. */
  waiters(): Waiter[] {
    return [...this.#waiters];
  }

  /** Answers `waiters`, of those who still wait; default: everybody. */
  answer(error: FsError | undefined, waiters: readonly Waiter[] = this.waiters()): void {
    for (const done of waiters) if (this.#waiters.delete(done)) done(error);
  }
}
