/**
 * The mount's write path: bytes of all files go, in the order in which they were written, into one open
 * chunk; full, aged or flushed it is sealed, stored on its replicas (chunk-putter) and committed in order
 * (commit-queue). Many small files flushed together share chunks and commits, because a flush that comes
 * while the put of another is under way joins the next chunk.
 *
 * Bounded: at most `dirtyBytes` are uncommitted. Beyond, writers wait in order of arrival, can be
 * interrupted, and get an errno when the time of a call is up; nothing that was accepted is dropped.
 *
 * Failures: while bytes cannot be stored or committed, flushes of their files fail, and storing them goes on
 * being tried. Only a lost session and a commit that the server refuses for good give bytes up: that is
 * recorded with each file (`PendingFile.failures`), for the next fsync or close of every handle.
 *
 * INVARIANT: `dirtyBytes` is the sum of the lengths of all chunks not settled.
 */
import { assert } from '../base/assert.js';
import type { Clock, Timer } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import { chain, finish, type MaybePromise } from '../base/maybe-promise.js';
import { FsError } from '../proto/errno.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { boundedWait } from './bounded-wait.js';
import type { ChunkLinks } from './chunk-links.js';
import { ChunkPutter } from './chunk-putter.js';
import type { ClusterView } from './cluster-view.js';
import type { CommitArgs } from './commit-message.js';
import { CommitQueue, type CommitReply } from './commit-queue.js';
import type { InterruptSource } from './link-call.js';
import { ChunkArena, PendingChunk } from './pending-chunk.js';
import type { PendingFile } from './pending-file.js';
import type { ReservedIds } from './reserved-ids.js';
import type { ServerClock } from './server-clock.js';

const log = makeLog('client');

export interface ChunkWriterOptions {
  readonly clock: Clock;
  readonly serverClock: ServerClock;
  readonly view: ClusterView;
  readonly links: ChunkLinks;
  readonly ids: ReservedIds<ChunkId>;
  readonly timeoutMs: number;
  readonly dirtyBytes: number;
  readonly refreshMap: () => void;
  readonly commit: (args: CommitArgs) => Promise<CommitReply>;
  readonly sync: (request: InterruptSource | undefined) => Promise<void>;
  /** Reports identifiers whose chunks are garbage; must not fail. */
  readonly abandon: (id: ChunkId) => void;
  /** A chunk's bytes are parts of files, or of nothing. */
  readonly onSettled?: (chunk: PendingChunk) => void;
  /** Bytes that have just become part of files. */
  readonly onCommitted: (id: ChunkId, bytes: Buffer) => void;
}

export interface WriteOptions {
  /** The bytes belong at the end of the file, wherever that is when they are committed. */
  readonly append: boolean;
  readonly clearPrivileges: boolean;
  readonly request?: InterruptSource | undefined;
}

interface RoomWaiter {
  readonly bytes: number;
  readonly enter: () => void;
}

export class ChunkWriter {
  readonly #options: ChunkWriterOptions;
  readonly #clock: Clock;
  readonly #putter: ChunkPutter;
  readonly #commits: CommitQueue;
  #arena = new ChunkArena();
  #open: PendingChunk | undefined;
  #ageTimer: Timer | undefined;
  /** Sealed, in order, with no put slot yet. */
  readonly #toPut: PendingChunk[] = [];
  readonly #putting = new Set<PendingChunk>();
  #joinTimer: Timer | undefined;
  #dirtyBytes = 0;
  readonly #waiters: RoomWaiter[] = [];

  constructor(options: ChunkWriterOptions) {
    this.#options = options;
    this.#clock = options.clock;
    const { commit, abandon, clock } = options;
    this.#putter = new ChunkPutter({ ...options, onFailing: (chunk, error) => this.#failing(chunk, error) });
    this.#commits = new CommitQueue({
      clock,
      commit,
      abandon,
      onSettled: (chunk, committed) => this.#settled(chunk, committed),
    });
  }

  /** Bytes accepted and not committed. */
  get dirtyBytes(): number {
    return this.#dirtyBytes;
  }

  /**
   * Takes all of `data`, which is copied, as the bytes of `file` at the offset that `at` gives at the moment
   * when they are taken (an append's offset is known only then). Answers at once unless there is no room.
   * **Errors:** EINTR, or why there is no room: ETIMEDOUT, EIO, ENOSPC; EFBIG.
   */
  write(file: PendingFile, data: Uint8Array, at: () => number, options: WriteOptions): MaybePromise<number> {
    if (this.#waiters.length === 0 && this.#dirtyBytes + data.length <= this.#options.dirtyBytes) {
      this.#take(file, at(), data, options);
      return data.length;
    }
    this.#seal();
    const enter = (): void => this.#take(file, at(), data, options);
    return this.#whenRoom(data.length, enter, options.request).then(() => data.length);
  }

  /**
   * Returns when everything written to `file` before is committed, and on the metadata server's disk when
   * `durable`. A file with nothing to commit costs nothing. **Errors:** EINTR, ETIMEDOUT; why write-back
   * fails, now or for good: EIO, ENOSPC.
   */
  async flush(
    file: PendingFile,
    options: { durable: boolean; request?: InterruptSource | undefined },
  ): Promise<void> {
    if (file.lastChunk !== undefined) await this.#flushChunk(file.lastChunk, options);
    if (options.durable && !this.#commits.isDurable(file)) await this.sync(options.request);
  }

  /** As flush, for all files. Metadata changed before is on disk as well when it returns. */
  async flushAll(options: { request?: InterruptSource | undefined } = {}): Promise<void> {
    const last = this.#open !== undefined && this.#open.length > 0 ? this.#open : this.#commits.last;
    if (last !== undefined) await this.#flushChunk(last, { durable: true, ...options });
    await this.sync(options.request);
  }

  /** Everything committed so far is on the metadata server's disk when it returns. **Errors:** as any call. */
  async sync(request?: InterruptSource | undefined): Promise<void> {
    const answered = this.#commits.answered;
    await this.#options.sync(request);
    this.#commits.durableUpTo(answered);
  }

  /** Whether a commit that was sent, and not answered, carries `file`. */
  isCommitting(file: PendingFile): boolean {
    return this.#commits.isCommitting(file);
  }

  /**
   * Runs `body`, which changes `file` on the server by other means, while no commit carries the file: what
   * was written before and not flushed is committed after it. What the change means for the pending bytes has
   * to be done in `body` too: the next commit may be made up when it returns. **Errors:** `body`'s, EINTR,
   * ETIMEDOUT.
   */
  exclusive<T>(
    file: PendingFile,
    body: () => MaybePromise<T>,
    request?: InterruptSource | undefined,
  ): MaybePromise<T> {
    const { clock, timeoutMs } = this.#options;
    const wait = (): MaybePromise<void> =>
      this.#commits.isCommitting(file)
        ? boundedWait({ clock, timeoutMs, request, op: 'setattr' }, (done) => this.#commits.afterCommit(done))
        : undefined;
    file.holds++;
    return finish(
      () => chain(wait(), body),
      () => {
        file.holds--;
        this.#commits.kick();
      },
    );
  }

  /** Everything uncommitted is given up: its session is over. `isKept`: all that is pending of a file is elsewhere too. */
  sessionLost(isKept: (file: PendingFile) => boolean = () => false): void {
    const open = this.#open;
    this.#open = undefined;
    this.#cancelTimers();
    // An open chunk's memory is not used again: a flush may still be reading it.
    this.#arena = new ChunkArena();
    this.#toPut.length = 0;
    const error = new FsError('EIO', 'write-back', { detail: 'the session was lost' });
    this.#commits.dropAll(open, error, isKept);
  }

  // Taking bytes

  #take(file: PendingFile, offset: number, data: Uint8Array, options: WriteOptions): void {
    const { append, clearPrivileges } = options;
    if (offset + data.length > limits.fileBytes) throw new FsError('EFBIG', 'write');
    // What one write appends is committed as one, or another mount's record could get in between.
    const needed = append ? data.length : 1;
    const open = this.#open;
    if (open !== undefined && (open.room < needed || !open.takes(file, append))) this.#seal();
    for (let taken = 0; taken < data.length; ) {
      const chunk = this.#openChunk();
      const part = data.subarray(taken, taken + chunk.room);
      chunk.append(file, offset + taken, part, this.#options.serverClock.now());
      if (append) chunk.appended.add(file);
      taken += part.length;
      this.#dirtyBytes += part.length;
      if (chunk.room === 0 || chunk.extentCount >= limits.chunkExtents) this.#seal();
    }
    if (clearPrivileges) file.clearPrivileges = true;
  }

  #openChunk(): PendingChunk {
    if (this.#open !== undefined) return this.#open;
    let space = this.#arena.rest();
    if (space === undefined) {
      this.#arena = new ChunkArena();
      space = this.#arena.rest();
    }
    assert(space !== undefined, 'a new arena has room');
    const chunk = new PendingChunk(space);
    this.#open = chunk;
    this.#ageTimer = this.#clock.after(limits.chunkAgeMs, () => {
      if (this.#open === chunk) this.#seal();
    });
    return chunk;
  }

  #whenRoom(bytes: number, enter: () => void, request: InterruptSource | undefined): Promise<void> {
    const late = (): FsError => this.#commits.head?.trouble ?? new FsError('ETIMEDOUT', 'write');
    const failure = this.#commits.head?.failure;
    if (failure !== undefined) return Promise.reject(failure);
    if (this.#waiters.length >= limits.callsQueued) return Promise.reject(new FsError('EAGAIN', 'write'));
    const { timeoutMs } = this.#options;
    return boundedWait({ clock: this.#clock, timeoutMs, request, op: 'write', late }, (done) => {
      const waiter: RoomWaiter = {
        bytes,
        enter: () => {
          try {
            enter();
            done();
          } catch (error) {
            done(error instanceof FsError ? error : new FsError('EIO', 'write', { cause: error }));
          }
        },
      };
      this.#waiters.push(waiter);
      return () => {
        const index = this.#waiters.indexOf(waiter);
        if (index >= 0) this.#waiters.splice(index, 1);
      };
    });
  }

  #letIn(): void {
    for (;;) {
      const [first] = this.#waiters;
      if (first === undefined) return;
      // A write larger than the bound gets in when there is nothing else.
      if (this.#dirtyBytes > 0 && this.#dirtyBytes + first.bytes > this.#options.dirtyBytes) break;
      this.#waiters.shift();
      first.enter();
    }
    // Whoever waits needs what is open to go out as well.
    this.#seal();
  }

  // Sealing and storing

  #seal(): void {
    const chunk = this.#open;
    if (chunk === undefined || chunk.length === 0) return;
    this.#open = undefined;
    this.#cancelTimers();
    this.#arena.take(chunk.length);
    chunk.state = 'sealed';
    this.#commits.add(chunk);
    this.#toPut.push(chunk);
    this.#startPuts();
  }

  /** Those of the open chunk. */
  #cancelTimers(): void {
    this.#ageTimer?.cancel();
    this.#joinTimer?.cancel();
    this.#joinTimer = undefined;
  }

  #startPuts(): void {
    while (this.#putting.size < limits.putsInFlight) {
      const chunk = this.#toPut.shift();
      if (chunk === undefined) return;
      this.#putting.add(chunk);
      void this.#put(chunk);
    }
  }

  async #put(chunk: PendingChunk): Promise<void> {
    try {
      await this.#putter.store(chunk);
    } catch (error) {
      // The putter answers for every failure it knows; this one is a bug, and the bytes are not safe.
      log.error('storing a chunk failed unexpectedly', { error });
      chunk.failure = new FsError('EIO', 'write-back', { cause: error });
      this.#failing(chunk, chunk.failure);
      chunk.answer(chunk.failure);
    } finally {
      this.#putting.delete(chunk);
      this.#startPuts();
      this.#commits.kick();
      if (this.#open?.flushWanted === true) this.#sealForFlush();
    }
  }

  #failing(chunk: PendingChunk, error: FsError): void {
    const inodes = [...chunk.files.keys()].map((file) => file.ino);
    log.error('write-back is failing; it will go on being tried', {
      inodes,
      bytes: chunk.length,
      error: error.message,
    });
  }

  #settled(chunk: PendingChunk, committed: boolean): void {
    this.#dirtyBytes -= chunk.length;
    // What was given up with a session may be recovered by the next mount.
    if (committed || chunk.files.size === 0) this.#options.onSettled?.(chunk);
    if (committed && chunk.id !== undefined) this.#options.onCommitted(chunk.id, chunk.bytes());
    this.#letIn();
  }

  // Flushing

  async #flushChunk(
    chunk: PendingChunk,
    options: { durable: boolean; request?: InterruptSource | undefined },
  ): Promise<void> {
    chunk.flushWanted = true;
    if (options.durable) chunk.durableWanted = true;
    if (chunk === this.#open) this.#sealForFlush();
    const { timeoutMs } = this.#options;
    const late = (): FsError => this.#commits.head?.trouble ?? new FsError('ETIMEDOUT', 'write-back');
    const { request } = options;
    await boundedWait({ clock: this.#clock, timeoutMs, request, op: 'write-back', late }, (done) =>
      chunk.whenSettled(done),
    );
  }

  /** Seals the open chunk now, or with what else is flushed while another flush's put is under way. */
  #sealForFlush(): void {
    const isBusy = [...this.#putting].some((chunk) => chunk.flushWanted);
    if (!isBusy) {
      this.#seal();
      return;
    }
    this.#joinTimer ??= this.#clock.after(limits.flushJoinMs, () => this.#seal());
  }

  checkInvariants(): void {
    assert(this.#dirtyBytes >= 0, 'bytes are settled once');
    assert(this.#putting.size <= limits.putsInFlight, 'puts in flight are bounded');
    if (this.#commits.length === 0 && this.#open === undefined)
      assert(this.#dirtyBytes === 0, 'nothing is dirty without a chunk');
  }
}
