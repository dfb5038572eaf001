/**
 * Chunks on a local disk: small ones inside the index database, large ones as files (limits.smallChunkBytes;
 * why there: native-notes/fsync.md). Keeps the contract of store.ts.
 *
 * The order that makes a crash harmless: a large chunk's file is on disk first, then its row; a row goes
 * first, then its file. What a crash leaves between the two is a file that no row names, removed at the next
 * start.
 *
 * INVARIANT: #chunks and #usedBytes are the totals of the committed rows.
 */
import { join } from 'node:path';
import { makeLog } from '../base/log.js';
import { FsError } from '../proto/errno.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { Ballast } from './ballast.js';
import { blockChecksums, blocksMatch, blocksTouched } from './block-checksums.js';
import { ChunkFiles } from './chunk-files.js';
import { ChunkIndex, type ChunkRow } from './chunk-index.js';
import { GroupCommit } from './group-commit.js';
import { Housekeeping } from './housekeeping.js';
import { Space } from './space.js';
import { type ChunkStore, checkChunkLength, type StoredChunk, type StoreUsage } from './store.js';

const log = makeLog('chunk');
/** Chunks removed in one transaction: freeing a blob touches each of its pages. */
const DELETE_BATCH = 64;
const REPORTED_MAX = 1024;

export interface DiskStoreOptions {
  /** A data directory of this server (data-directory.ts). */
  readonly path: string;
  /** No more than this; default: what the disk has. */
  readonly capacityBytes?: number;
  /** Kept free on the filesystem; default: space.ts. */
  readonly reserveBytes?: number;
}

interface PutUnderWay {
  readonly crc: number;
  readonly length: number;
  readonly stored: Promise<void>;
}

export class DiskStore implements ChunkStore {
  readonly #index: ChunkIndex;
  readonly #files: ChunkFiles;
  readonly #space: Space;
  readonly #ballast: Ballast;
  readonly #group: GroupCommit;
  readonly #housekeeping: Housekeeping;
  readonly #puts = new Map<ChunkId, PutUnderWay>();
  /** Everything that was accepted and has not ended; `close` waits for it. */
  readonly #underWay = new Set<Promise<unknown>>();
  /** Damaged chunks that the log knows of; cleared when it is full. */
  readonly #reported = new Set<ChunkId>();
  #chunks: number;
  #usedBytes: number;
  /** Bytes of #puts. */
  #backlogBytes = 0;
  #closed: Promise<void> | undefined;

  private constructor(index: ChunkIndex, files: ChunkFiles, ballast: Ballast, options: DiskStoreOptions) {
    this.#index = index;
    this.#files = files;
    this.#ballast = ballast;
    ballast.load();
    this.#space = new Space(options);
    this.#group = new GroupCommit((body) => index.transaction(body));
    this.#housekeeping = new Housekeeping(index, files, this.#ballast);
    const { chunks, usedBytes } = index.totals();
    this.#chunks = chunks;
    this.#usedBytes = usedBytes;
  }

  /** Opens or makes the store. **Throws** an Error for people when another process has it open. */
  static open(options: DiskStoreOptions): DiskStore {
    const filesPath = join(options.path, 'files');
    const ballast = new Ballast(options.path);
    const index = openIndex(options.path, filesPath, ballast);
    try {
      return new DiskStore(index, ChunkFiles.open(filesPath), ballast, options);
    } catch (error) {
      index.close();
      throw error;
    }
  }

  async put(id: ChunkId, crc: number, bytes: Uint8Array): Promise<void> {
    this.#checkOpen();
    checkChunkLength(bytes.length);
    const { length } = bytes;
    const earlier = this.#puts.get(id);
    if (earlier !== undefined) {
      if (earlier.crc !== crc || earlier.length !== length) throw conflict(id);
      return earlier.stored;
    }
    const row = this.#index.find(id);
    if (row !== undefined && (row.crc !== crc || row.length !== length)) throw conflict(id);
    this.#admit(id, length, row);
    this.#backlogBytes += length;
    const stored = this.#store(id, crc, bytes, row).finally(() => {
      this.#puts.delete(id);
      this.#backlogBytes -= length;
    });
    this.#puts.set(id, { crc, length, stored });
    return this.#track(stored);
  }

  async get(id: ChunkId, offset: number, length: number): Promise<Buffer> {
    this.#checkOpen();
    const row = this.#index.find(id);
    if (row === undefined) throw new ProtocolError('noChunk', `chunk ${id} is not here`);
    const { start, end } = blocksTouched(row.length, offset, length);
    const bytes = await this.#track(this.#read(id, row, start, end));
    if (bytes === undefined) throw this.#gone(id, row);
    if (bytes.length !== end - start || !blocksMatch(bytes, start, row.sums)) {
      this.#reportOnce('a chunk is damaged', id, row);
      throw new ProtocolError('corrupt', `chunk ${id} is damaged between ${start} and ${end}`);
    }
    return bytes.subarray(offset - start, offset - start + length);
  }

  async delete(ids: readonly ChunkId[]): Promise<number> {
    this.#checkOpen();
    return this.#track(this.#delete([...new Set(ids)]));
  }

  async list(after: number, last: number, limit: number): Promise<{ chunks: StoredChunk[]; end: boolean }> {
    this.#checkOpen();
    const chunks = this.#index.list(after, last, limit + 1);
    return { chunks: chunks.slice(0, limit), end: chunks.length <= limit };
  }

  async usage(): Promise<StoreUsage> {
    this.#checkOpen();
    const capacityBytes = this.#space.capacityBytes(this.#usedBytes);
    return {
      chunks: this.#chunks,
      usedBytes: this.#usedBytes,
      capacityBytes,
      full: this.#usedBytes + this.#backlogBytes + limits.chunkBytes > capacityBytes,
    };
  }

  /** Transactions since the store was opened. */
  get commits(): number {
    return this.#group.commits;
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#housekeeping.stop();
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
    await this.#files.close();
    this.#index.close();
  }

  /** **Codes:** serverFull, busy. */
  #admit(id: ChunkId, length: number, row: ChunkRow | undefined): void {
    if (this.#backlogBytes + length > limits.putBacklogBytes)
      throw new ProtocolError('busy', `${this.#backlogBytes} bytes wait to be stored`);
    if (row !== undefined) return;
    const taken = this.#usedBytes + this.#backlogBytes;
    if (taken + length > this.#space.capacityBytes(this.#usedBytes))
      throw new ProtocolError('serverFull', `chunk ${id} of ${length} bytes does not fit`);
  }

  async #store(id: ChunkId, crc: number, bytes: Uint8Array, row: ChunkRow | undefined): Promise<void> {
    if (row !== undefined && (await this.#isSound(id, row))) return;
    const sums = blockChecksums(bytes);
    const { length } = bytes;
    if (length <= limits.smallChunkBytes) {
      await this.#record(id, { length, crc, sums, file: null }, bytes);
      return;
    }
    const file = await this.#files.write(id, bytes);
    try {
      await this.#record(id, { length, crc, sums, file }, null);
    } catch (error) {
      await this.#files.discard(file);
      throw error;
    }
  }

  /** Writes the row (and the blob) durably, in the place of the one that may be there. */
  async #record(id: ChunkId, row: ChunkRow, blob: Uint8Array | null): Promise<void> {
    let before: ChunkRow | undefined;
    await this.#commit(blob?.length ?? 0, () => {
      before = this.#index.find(id);
      this.#index.replace(id, row, blob);
    });
    this.#count(before, row);
    this.#reported.delete(id);
    if (before?.file != null) await this.#files.discard(before.file);
  }

  async #delete(ids: readonly ChunkId[]): Promise<number> {
    let deleted = 0;
    for (let first = 0; first < ids.length; first += DELETE_BATCH)
      deleted += await this.#deleteBatch(ids.slice(first, first + DELETE_BATCH));
    if (deleted > 0) this.#housekeeping.spaceFreed();
    return deleted;
  }

  async #deleteBatch(ids: readonly ChunkId[]): Promise<number> {
    let removed: ChunkRow[] = [];
    const remove = (): void => {
      removed = [];
      for (const id of ids) {
        const row = this.#index.find(id);
        if (row === undefined) continue;
        this.#index.remove(id);
        removed.push(row);
      }
    };
    try {
      await this.#commit(0, remove);
    } catch (error) {
      if (!(error instanceof ProtocolError && this.#ballast.drop())) throw error;
      await this.#commit(0, remove);
    }
    for (const row of removed) {
      this.#count(row, undefined);
      if (row.file !== null) await this.#files.discard(row.file);
    }
    return removed.length;
  }

  async #commit(bytes: number, apply: () => void): Promise<void> {
    try {
      await this.#group.run(bytes, apply);
    } catch (error) {
      if (error instanceof FsError && error.code === 'ENOSPC')
        throw new ProtocolError('serverFull', 'no space for the index', { cause: error });
      throw error;
    }
  }

  #count(before: ChunkRow | undefined, after: ChunkRow | undefined): void {
    this.#chunks += (after === undefined ? 0 : 1) - (before === undefined ? 0 : 1);
    this.#usedBytes += (after?.length ?? 0) - (before?.length ?? 0);
  }

  /** Bytes [start, end) as they lie on the disk, unverified; undefined when they are gone. */
  async #read(id: ChunkId, row: ChunkRow, start: number, end: number): Promise<Buffer | undefined> {
    if (row.file !== null) return this.#files.read(row.file, start, end);
    try {
      return this.#index.blob(id)?.subarray(start, end);
    } catch (error) {
      throw new ProtocolError('corrupt', `chunk ${id} cannot be read`, { cause: error });
    }
  }

  /** What to answer when a row's bytes were not there: deleted meanwhile, or lost. */
  #gone(id: ChunkId, row: ChunkRow): ProtocolError {
    if (this.#closed === undefined && this.#index.find(id)?.file === row.file)
      this.#reportOnce('the bytes of a chunk are missing', id, row);
    return new ProtocolError('noChunk', `the bytes of chunk ${id} are not here`);
  }

  /** One line per chunk, however often it is read; and again for one damaged anew. */
  #reportOnce(message: string, id: ChunkId, row: ChunkRow): void {
    if (this.#reported.has(id)) return;
    if (this.#reported.size >= REPORTED_MAX) this.#reported.clear();
    this.#reported.add(id);
    log.error(message, { id, length: row.length, file: row.file });
  }

  async #isSound(id: ChunkId, row: ChunkRow): Promise<boolean> {
    try {
      const bytes = await this.#read(id, row, 0, row.length);
      if (bytes?.length === row.length && blocksMatch(bytes, 0, row.sums)) return true;
      log.error('a damaged chunk is stored anew', { id, file: row.file });
    } catch (error) {
      log.error('a chunk that cannot be read is stored anew', { id, file: row.file, error });
    }
    return false;
  }

  #track<T>(promise: Promise<T>): Promise<T> {
    const forget = (): void => {
      this.#underWay.delete(ended);
    };
    const ended: Promise<void> = promise.then(forget, forget);
    this.#underWay.add(ended);
    return promise;
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new ProtocolError('busy', 'the chunk store is closed');
  }
}

/** Opens the index, with the ballast's space if there is no other. */
function openIndex(path: string, filesPath: string, ballast: Ballast): ChunkIndex {
  try {
    return ChunkIndex.open(path, filesPath);
  } catch (error) {
    if (!(error instanceof FsError && ballast.drop())) throw error;
    return ChunkIndex.open(path, filesPath);
  }
}

function conflict(id: ChunkId): ProtocolError {
  return new ProtocolError('chunkConflict', `chunk ${id} is here with other bytes`);
}
