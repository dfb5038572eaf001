/**
 * Blocks of chunks on this machine's disk: behind `BlockCache`, larger, and there after a restart. Chunks are
 * immutable and their numbers are never used again in a filesystem, so a block is right for ever; whether the disk
 * has kept it is told by its checksum, each time it is read. One that is damaged is dropped and fetched anew.
 *
 * The bytes lie in one file of slots, a block to a slot; which block is where is in `cache.db`. Writing goes on in
 * the background, and nobody waits for it: what comes faster than it can be written is not kept.
 *
 * INVARIANT: a slot is written before a row names it, and no row names it while it is written; the file is never
 * longer than allowed: the option's bytes, and limits.diskCacheShare of the space that would be free without it.
 * The least recently used block makes room; where the disk runs full, those at the end of the file.
 */
import {
  close,
  constants,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  read,
  statfsSync,
  writev,
} from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { assert } from '../base/assert.js';
import type { Clock, Timer } from '../base/clock.js';
import { crc32c } from '../base/crc32c.js';
import { makeLog } from '../base/log.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { Database } from '../sqlite/database.js';
import { BLOCK_BYTES } from './block-cache.js';
import { BlockMap, type Words } from './block-map.js';
import type { CacheDatabase } from './cache-database.js';

const log = makeLog('client');
const readAt = promisify(read);
const writeAt = promisify(writev);

/** Blocks of which it is noted later, together, that they were used. */
const USES_NOTED = 1024;

interface Place {
  readonly slot: number;
  readonly length: number;
  readonly crc: number;
}

interface Block {
  readonly chunk: ChunkId;
  readonly block: number;
}

interface Waiting extends Block {
  readonly bytes: Buffer;
}

export interface BlockStoreOptions {
  readonly cache: CacheDatabase;
  readonly clock: Clock;
  /** 0: nothing is kept. */
  readonly capacityBytes: number;
  /** What is free on the disk, in bytes; for tests. */
  readonly freeBytes?: () => number;
}

const keyOf = ({ chunk, block }: Block): string => `${chunk}:${block}`;
const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;

export class BlockStore {
  readonly #cache: CacheDatabase;
  readonly #clock: Clock;
  readonly #capacityBytes: number;
  readonly #freeBytes: () => number;
  #fd: number | undefined;
  /** INVARIANT: what there are rows of. */
  readonly #present = new BlockMap();
  /** Slots from here on were never used. */
  #end = 0;
  #free: number[] = [];
  readonly #waiting = new Map<string, Waiting>();
  #waitingBytes = 0;
  #writing: Promise<void> | undefined;
  #timer: Timer | undefined;
  readonly #reads = new Set<Promise<unknown>>();
  readonly #uses = new Map<string, Block>();
  #use = 1;
  #isClosed = false;
  #saidFull = false;

  /** Never fails: where it cannot keep anything, it does not. */
  constructor({ cache, clock, capacityBytes, freeBytes }: BlockStoreOptions) {
    this.#cache = cache;
    this.#clock = clock;
    this.#capacityBytes = capacityBytes;
    this.#freeBytes = freeBytes ?? (() => freeOn(cache.dataPath));
    if (!cache.isUsable || (capacityBytes === 0 && !existsSync(cache.dataPath))) return;
    try {
      this.#fd = openSync(cache.dataPath, constants.O_RDWR | constants.O_CREAT, 0o600);
      cache.attempt((db) => this.#load(db), undefined);
    } catch (error) {
      log.warn('no blocks are cached on disk', { path: cache.dataPath, error: String(error) });
      this.#fd = undefined;
    }
  }

  #load(db: Database): void {
    const sql =
      'SELECT count(*) AS count, ifnull(max(slot) + 1, 0) AS end, ifnull(max(used), 0) AS used FROM blocks';
    const totals = db.prepare<{ count: number; end: number; used: number }>(sql).get();
    this.#end = totals?.end ?? 0;
    this.#use = Math.max(this.#use, (totals?.used ?? 0) + 1);
    this.#free = totals !== undefined && totals.count < totals.end ? this.#gaps(db) : [];
    this.#fit(db);
    this.#map(db);
    const fd = this.#fd;
    if (fd !== undefined && fstatSync(fd).size > this.#end * BLOCK_BYTES)
      ftruncateSync(fd, this.#end * BLOCK_BYTES);
  }

  #map(db: Database): void {
    const bits = (from: number): string =>
      `sum(CASE WHEN block BETWEEN ${from} AND ${from + 31} THEN 1 << (block - ${from}) ELSE 0 END)`;
    const sql = `SELECT chunk, ${bits(0)} AS low, ${bits(32)} AS high FROM blocks GROUP BY chunk`;
    this.#present.replace(db.prepare<{ chunk: ChunkId } & Words>(sql).iterate());
  }

  #gaps(db: Database): number[] {
    const used = new Set(
      db
        .prepare<{ slot: number }>('SELECT slot FROM blocks')
        .all()
        .map(({ slot }) => slot),
    );
    return Array.from({ length: this.#end }, (_, slot) => slot).filter((slot) => !used.has(slot));
  }

  /** Bytes of the disk that it has taken. */
  get bytes(): number {
    return this.#end * BLOCK_BYTES;
  }

  get #isOpen(): boolean {
    return this.#fd !== undefined && !this.#isClosed && this.#cache.isUsable && this.#capacityBytes > 0;
  }

  // Reading

  /** How many bytes of a block are here, from its start. */
  has(chunk: ChunkId, block: number): number {
    return this.#isOpen ? (this.#find({ chunk, block })?.length ?? 0) : 0;
  }

  #find({ chunk, block }: Block): Place | undefined {
    if (!this.#present.has(chunk, block)) return undefined;
    return this.#cache.attempt(
      (db) =>
        db
          .prepare<Place>('SELECT slot, length, crc FROM blocks WHERE chunk = ? AND block = ?')
          .get(chunk, block),
      undefined,
    );
  }

  /** The bytes of a block that are here; undefined: none are, after all. Never fails. */
  async read(chunk: ChunkId, block: number): Promise<Buffer | undefined> {
    const place = this.#isOpen ? this.#find({ chunk, block }) : undefined;
    if (place === undefined || this.#fd === undefined) return undefined;
    const reading = readAt(
      this.#fd,
      Buffer.allocUnsafeSlow(place.length),
      0,
      place.length,
      place.slot * BLOCK_BYTES,
    );
    this.#reads.add(reading);
    try {
      const { bytesRead, buffer } = await reading;
      if (bytesRead === place.length && crc32c(buffer) === place.crc) {
        this.#used({ chunk, block });
        return buffer;
      }
      this.#damaged({ chunk, block }, place, 'its checksum is another');
    } catch (error) {
      this.#damaged({ chunk, block }, place, String(error));
    } finally {
      this.#reads.delete(reading);
    }
    return undefined;
  }

  #damaged(which: Block, place: Place, why: string): void {
    if (!this.#isOpen) return;
    const now = this.#find(which);
    // It had to make room while it was read.
    if (now?.slot !== place.slot || now.crc !== place.crc) return;
    log.error('a block that was cached on disk is damaged: it is fetched anew', { ...which, why });
    this.#cache.attempt((db) => this.#forget(db, which, place.slot), undefined);
  }

  #forget(db: Database, { chunk, block }: Block, slot: number): void {
    db.run('DELETE FROM blocks WHERE chunk = ? AND block = ?', chunk, block);
    this.#present.delete(chunk, block);
    this.#free.push(slot);
  }

  #used(which: Block): void {
    this.#uses.set(keyOf(which), which);
    if (this.#uses.size >= USES_NOTED) this.#noteUses();
  }

  #noteUses(): void {
    const uses = [...this.#uses.values()];
    this.#uses.clear();
    const use = this.#use++;
    if (uses.length === 0) return;
    this.#cache.attempt(
      (db) =>
        db.transaction(() => {
          for (const { chunk, block } of uses)
            db.run('UPDATE blocks SET used = ? WHERE chunk = ? AND block = ?', use, chunk, block);
        }),
      undefined,
    );
  }

  // Writing

  /** Bytes of a chunk from a block boundary on, to be kept. They are not changed any more. */
  put(chunk: ChunkId, firstBlock: number, bytes: Buffer): void {
    if (!this.#isOpen) return;
    for (let start = 0, block = firstBlock; start < bytes.length; start += BLOCK_BYTES, block++) {
      const part = bytes.subarray(start, start + BLOCK_BYTES);
      const key = keyOf({ chunk, block });
      const before = this.#waiting.get(key)?.bytes.length ?? 0;
      if (before >= part.length) continue;
      if (this.#waitingBytes + part.length > limits.cachePendingBytes) break;
      this.#waiting.set(key, { chunk, block, bytes: part });
      this.#waitingBytes += part.length - before;
    }
    if (this.#timer === undefined && this.#writing === undefined && this.#waiting.size > 0)
      this.#timer = this.#clock.after(limits.cacheWriteDelayMs, () => this.#begin(), { background: true });
  }

  #begin(): void {
    this.#timer = undefined;
    if (this.#writing !== undefined) return;
    this.#writing = this.#writeAll().finally(() => {
      this.#writing = undefined;
    });
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.size > 0 && this.#fd !== undefined && this.#cache.isUsable)
      await this.#writeSome(this.#fd);
    this.#noteUses();
  }

  async #writeSome(fd: number): Promise<void> {
    const some = this.#take().filter((each) => (this.#find(each)?.length ?? 0) < each.bytes.length);
    const slots = this.#change((db) => this.#room(db, some.length)) ?? [];
    const placed = some.flatMap((each, index) => {
      const slot = slots[index];
      return slot === undefined ? [] : [{ ...each, slot }];
    });
    try {
      for (const run of runsOf(placed)) await writeRun(fd, run);
    } catch (error) {
      this.#free.push(...slots);
      this.#notWritten(error);
      return;
    }
    this.#change((db) => this.#placed(db, placed));
  }

  /** Changes rows; undefined: it did not, and slots are as the rows say. */
  #change<T>(body: (db: Database) => T): T | undefined {
    const done = this.#cache.attempt((db) => ({ value: db.transaction(() => body(db)) }), undefined);
    if (done === undefined) this.#cache.attempt((db) => this.#load(db), undefined);
    return done?.value;
  }

  #take(): Waiting[] {
    const some: Waiting[] = [];
    for (const [key, each] of this.#waiting) {
      if (some.length >= limits.cacheWriteBlocks) break;
      this.#waiting.delete(key);
      this.#waitingBytes -= each.bytes.length;
      some.push(each);
    }
    return some;
  }

  #notWritten(error: unknown): void {
    this.#waiting.clear();
    this.#waitingBytes = 0;
    if (!hasCode(error, 'ENOSPC') && !hasCode(error, 'EDQUOT')) {
      this.#cache.failed(error);
      return;
    }
    if (!this.#saidFull)
      log.warn('the disk is full: no more blocks are cached on it', { error: String(error) });
    this.#saidFull = true;
  }

  #placed(db: Database, placed: readonly (Waiting & { slot: number })[]): void {
    const use = this.#use++;
    for (const each of placed) {
      const before = this.#find(each);
      if (before !== undefined) this.#forget(db, each, before.slot);
      const { chunk, block, slot, bytes } = each;
      db.run(
        'INSERT INTO blocks(chunk, block, slot, length, crc, used) VALUES (?, ?, ?, ?, ?, ?)',
        chunk,
        block,
        slot,
        bytes.length,
        crc32c(bytes),
        use,
      );
      this.#present.add(chunk, block);
    }
  }

  // Room

  get #allowedSlots(): number {
    const withoutIt = this.bytes + this.#freeBytes();
    const bytes = Math.min(this.#capacityBytes, withoutIt * limits.diskCacheShare);
    return Math.floor(bytes / BLOCK_BYTES);
  }

  /** Slots that nothing is in any more; fewer than asked for where there is no room for so many. */
  #room(db: Database, count: number): number[] {
    const allowed = this.#fit(db);
    const slots = this.#free.splice(Math.max(0, this.#free.length - count)).reverse();
    while (slots.length < count && this.#end < allowed) slots.push(this.#end++);
    const missing = Math.min(count - slots.length, allowed - slots.length);
    if (missing <= 0) return slots;
    const oldest = db
      .prepare<Block & { slot: number }>('SELECT chunk, block, slot FROM blocks ORDER BY used LIMIT ?')
      .all(missing);
    for (const { chunk, block } of oldest) {
      db.run('DELETE FROM blocks WHERE chunk = ? AND block = ?', chunk, block);
      this.#present.delete(chunk, block);
    }
    return [...slots, ...oldest.map(({ slot }) => slot)];
  }

  /** Gives back what is more than allowed; answers how many slots are. */
  #fit(db: Database): number {
    const allowed = this.#allowedSlots;
    if (this.#end <= allowed || this.#fd === undefined) return allowed;
    db.run('DELETE FROM blocks WHERE slot >= ?', allowed);
    this.#free = this.#free.filter((slot) => slot < allowed);
    this.#end = allowed;
    this.#map(db);
    ftruncateSync(this.#fd, allowed * BLOCK_BYTES);
    return allowed;
  }

  /** Ends; `drains`: what waits is written first. Never fails. */
  async close({ drains }: { drains: boolean }): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer?.cancel();
    if (!drains) this.#waiting.clear();
    else if (this.#writing === undefined) this.#begin();
    await this.#writing;
    await Promise.allSettled(this.#reads);
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined)
      await promisify(close)(fd).catch((error: unknown) =>
        log.warn('the cached blocks could not be closed', { error: String(error) }),
      );
  }

  checkInvariants(): void {
    const sql = 'SELECT count(*) AS count, ifnull(max(slot), -1) AS last FROM blocks';
    const totals = this.#cache.attempt(
      (db) => db.prepare<{ count: number; last: number }>(sql).get(),
      undefined,
    );
    if (totals === undefined) return;
    assert(totals.count === this.#present.count, 'the map knows every block');
    assert(totals.last < this.#end, 'what is kept lies in the file');
    if (this.#writing === undefined)
      assert(totals.count + this.#free.length === this.#end, 'a slot is taken or free');
    assert(this.bytes <= this.#capacityBytes, 'the file keeps to its bound');
  }
}

/** Neighbours, to be written in one go: the file has no gap between them. */
function runsOf<T extends Waiting & { slot: number }>(placed: readonly T[]): T[][] {
  const runs: T[][] = [];
  for (const each of placed) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    if (run !== undefined && last?.slot === each.slot - 1 && last.bytes.length === BLOCK_BYTES)
      run.push(each);
    else runs.push([each]);
  }
  return runs;
}

async function writeRun(fd: number, run: readonly (Waiting & { slot: number })[]): Promise<void> {
  const buffers = run.map(({ bytes }) => bytes);
  const length = buffers.reduce((sum, bytes) => sum + bytes.length, 0);
  const { bytesWritten } = await writeAt(fd, buffers, (run[0]?.slot ?? 0) * BLOCK_BYTES);
  if (bytesWritten < length)
    throw Object.assign(new Error(`${bytesWritten} of ${length} bytes were written`), { code: 'ENOSPC' });
}

function freeOn(path: string): number {
  const { bavail, bsize } = statfsSync(dirname(path));
  return bavail * bsize;
}
