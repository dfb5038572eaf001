/**
 * Reading a file: which bytes come from where, fetching extents when those here may be outdated, and reading
 * ahead of sequential reads.
 */
import { unlessInterrupted } from '../client/bounded-wait.js';
import { type ExtentOverlay, planRead, type ReadStep } from '../client/extent-overlay.js';
import type { Filesystem } from '../client/filesystem.js';
import type { PendingChunk } from '../client/pending-chunk.js';
import { FsError } from '../proto/errno.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { FileHandle } from './file-handle.js';
import type { FileState } from './file-state.js';
import type { Request } from './operations.js';

/** A read meets this mount's own commits at most so often before it gives up; each costs a round trip. */
const EXTENT_ATTEMPTS = 100;
const ZEROS = Buffer.alloc(limits.fuseIoBytes);

type Step = ReadStep<PendingChunk, ChunkId>;
interface Extents {
  readonly version: number;
  readonly overlay: ExtentOverlay<ChunkId>;
  readonly size: number;
  /** They are known up to here. */
  readonly to: number;
}

export class FileReader {
  readonly #fs: Filesystem;

  constructor(fs: Filesystem) {
    this.#fs = fs;
  }

  /**
   * Bytes [offset, offset + length), fewer only at the end of the file; at once when all is in memory.
   * **Errors:** EIO, ETIMEDOUT, EINTR; ENOENT when the inode is gone.
   */
  read(
    request: Request | undefined,
    handle: FileHandle,
    offset: number,
    length: number,
  ): Uint8Array[] | Promise<Uint8Array[]> {
    const { state } = handle;
    const range = { offset, end: offset + length };
    const extents = this.#known(state, range, state.version);
    if (extents !== undefined) return this.#readWith(request, handle, range, extents);
    return this.#ask(request, state, range).then((asked) => this.#readWith(request, handle, range, asked));
  }

  #known(state: FileState, range: { offset: number; end: number }, version: number): Extents | undefined {
    if (!this.#fs.isValid) return undefined;
    return state.extentsFor(range, version, this.#fs.connections);
  }

  /** The extents at `offset` and behind, as the server has them now. **Errors:** as `extents`; EIO. */
  extentsAt(request: Request, state: FileState, offset: number): Promise<Extents> {
    return this.#ask(request, state, { offset, end: offset + 1 });
  }

  async #ask(
    request: Request | undefined,
    state: FileState,
    range: { offset: number; end: number },
  ): Promise<Extents> {
    const { version } = state;
    for (let attempt = 0; attempt < EXTENT_ATTEMPTS; attempt++) {
      await this.fetchExtents(state, attempt === 0 && !state.isLarge ? 0 : range.offset, request);
      // What was just answered is valid whatever the state of the session's clock.
      const extents = state.extentsFor(range, version, this.#fs.connections);
      if (extents !== undefined) return extents;
    }
    throw new FsError('EIO', 'read', { detail: 'the file changes faster than it can be read' });
  }

  /** Asks for the extents behind `from`. **Errors:** as `extents`. */
  async fetchExtents(state: FileState, from: number, request: Request | undefined): Promise<void> {
    const args = { ino: state.ino, offset: from, length: Number.MAX_SAFE_INTEGER - from };
    const { attr, extents, next } = await this.#fs.call('extents', args, { request });
    this.#fs.seen(attr);
    const to = next ?? Number.MAX_SAFE_INTEGER;
    state.isLarge = next !== null;
    state.learnExtents(attr, this.#fs.connections, { from, to, extents });
  }

  #readWith(
    request: Request | undefined,
    handle: FileHandle,
    range: { offset: number; end: number },
    extents: Extents,
  ): Uint8Array[] | Promise<Uint8Array[]> {
    const { pending } = handle.state;
    const size = Math.max(extents.size, pending.overlay.end);
    const end = Math.min(range.end, size);
    if (end <= range.offset) return [];
    const plan = planRead(
      { offset: range.offset, length: end - range.offset },
      pending.overlay,
      extents.overlay,
    );
    if (handle.noteRead(range.offset, end)) this.#readAhead(handle, end, extents);
    const parts = plan.map((step) => this.#carryOut(step));
    if (parts.every((part) => !(part instanceof Promise)))
      return parts.flatMap((part) => (part instanceof Promise ? [] : part));
    const all = Promise.all(parts).then(
      (done) => done.flat(),
      (error: unknown) => this.#retry(request, handle, range, extents, error),
    );
    return unlessInterrupted(request, 'read', all);
  }

  /** A chunk that cannot be had may be gone because the file no longer refers to it: looks again. */
  async #retry(
    request: Request | undefined,
    handle: FileHandle,
    range: { offset: number; end: number },
    failed: Extents,
    error: unknown,
  ): Promise<Uint8Array[]> {
    const { state } = handle;
    await this.fetchExtents(state, range.offset, request);
    const extents = state.extentsFor(range, state.version, this.#fs.connections);
    if (extents === undefined || extents.version <= failed.version) throw error;
    return await this.#readWith(request, handle, range, extents);
  }

  #carryOut(step: Step): Uint8Array[] | Promise<Uint8Array[]> {
    switch (step.from) {
      case 'hole':
        return zeros(step.length);
      case 'pending':
        return [step.piece.chunk.bytes(step.piece.chunkOffset, step.piece.length)];
      case 'chunk': {
        const { chunk, chunkOffset, length } = step.piece;
        return this.#fs.reader.read({ id: chunk, offset: chunkOffset, length });
      }
    }
  }

  /** Asks for whole fetches of what comes next, as far as limits.readAheadBytes. */
  #readAhead(handle: FileHandle, readEnd: number, extents: Extents): void {
    const target = Math.min(readEnd + limits.readAheadBytes, extents.size);
    let from = Math.max(handle.readAheadTo, readEnd);
    while (from < target && (target - from >= limits.fetchBytes || target === extents.size)) {
      const length = Math.min(limits.fetchBytes, target - from);
      for (const piece of extents.overlay.slice(from, length)) {
        const range = { id: piece.chunk, offset: piece.chunkOffset, length: piece.length };
        if (!this.#fs.reader.readAhead(range)) return;
      }
      from += length;
      handle.readAheadTo = from;
    }
  }
}

function zeros(length: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let left = length; left > 0; left -= ZEROS.length) parts.push(ZEROS.subarray(0, left));
  return parts;
}
