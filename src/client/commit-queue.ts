/**
 * Sealed chunks in the order in which they were written, and the commits that make their bytes part of
 * files. One commit is under way at a time and carries everything that is ready at the head of the queue, so
 * what the server knows is always a prefix of what this mount wrote.
 *
 * A commit that the server refuses for good (EINVAL, EFBIG) is tried chunk by chunk, and the guilty chunk is
 * given up: its files' error is recorded. Any other failure is retried with a pause, while those who wait
 * are told.
 *
 * INVARIANT: chunks leave the queue from its head only, in order, except when all go (`dropAll`).
 */
import { present } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import { FsError } from '../proto/errno.js';
import type { ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ReplyOf } from '../proto/method.js';
import {
  type CommitArgs,
  type CommitBatch,
  commitArgs,
  isWhereWritten,
  nextBatch,
} from './commit-message.js';
import type { PendingChunk } from './pending-chunk.js';
import type { PendingFile } from './pending-file.js';

const log = makeLog('client');

const RETRY_MIN_MS = 50;
const RETRY_MAX_MS = 2_000;
const MISSING = new FsError('EIO', 'write-back', { detail: 'the file is gone, or others have changed it' });

export type CommitReply = ReplyOf<MetaMethods['commit']>;

export interface CommitQueueOptions {
  readonly clock: Clock;
  /** Sends a commit; ends only with an answer or the session. */
  readonly commit: (args: CommitArgs) => Promise<CommitReply>;
  readonly abandon: (id: ChunkId) => void;
  /** A chunk has left the queue, committed or given up. */
  readonly onSettled: (chunk: PendingChunk, committed: boolean) => void;
}

export class CommitQueue {
  readonly #options: CommitQueueOptions;
  #queue: PendingChunk[] = [];
  /** What the commit under way carries. */
  #underWay: CommitBatch | undefined;
  readonly #afterCommit = new Set<() => void>();
  #running = false;
  /** Commits answered so far. */
  #answered = 0;
  /** The metadata server has the commits up to this one on disk. */
  #durableUpTo = 0;
  #atMost: number = limits.chunksPerMessage;

  constructor(options: CommitQueueOptions) {
    this.#options = options;
  }

  get head(): PendingChunk | undefined {
    return this.#queue[0];
  }

  get last(): PendingChunk | undefined {
    return this.#queue[this.#queue.length - 1];
  }

  get length(): number {
    return this.#queue.length;
  }

  get answered(): number {
    return this.#answered;
  }

  /** Whether everything committed of `file` is known to be on disk. */
  isDurable(file: PendingFile): boolean {
    return file.committedIn <= this.#durableUpTo;
  }

  /** The commits up to number `answered` are on disk. */
  durableUpTo(answered: number): void {
    this.#durableUpTo = Math.max(this.#durableUpTo, answered);
  }

  add(chunk: PendingChunk): void {
    this.#queue.push(chunk);
  }

  /** Whether the commit under way carries `file`. */
  isCommitting(file: PendingFile): boolean {
    return this.#underWay?.files.has(file) === true;
  }

  /** Calls `done` when the commit under way has ended; returns the way not to. */
  afterCommit(done: () => void): () => void {
    this.#afterCommit.add(done);
    return () => this.#afterCommit.delete(done);
  }

  /** Commits whatever is ready; to be called when a chunk was stored or a file is no longer held. */
  kick(): void {
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    let pauseMs = RETRY_MIN_MS;
    for (;;) {
      const batch = nextBatch(this.#queue, this.#atMost);
      if (batch === undefined) {
        // In the same turn as the look at the queue, so that no kick is missed.
        this.#running = false;
        return;
      }
      this.#underWay = batch;
      const error = await this.#attempt(batch);
      this.#underWay = undefined;
      for (const done of [...this.#afterCommit]) done();
      this.#afterCommit.clear();
      if (error === undefined) pauseMs = RETRY_MIN_MS;
      else if (!this.#refused(batch, error)) {
        await new Promise<void>((resolve) => this.#options.clock.after(pauseMs, resolve));
        pauseMs = Math.min(pauseMs * 2, RETRY_MAX_MS);
      }
    }
  }

  /** Sends one commit and does what follows; the error when it was refused. */
  async #attempt(batch: CommitBatch): Promise<FsError | undefined> {
    const args = commitArgs(batch);
    try {
      // Nothing is left to commit when all of it was truncated away meanwhile.
      const isEmpty = args.files.length === 0 && !args.durable;
      const reply: CommitReply = isEmpty ? { missing: [], attrs: [] } : await this.#options.commit(args);
      if (batch.chunks[0]?.state === 'stored') this.#succeeded(batch, args.durable, reply);
      return undefined;
    } catch (error) {
      return error instanceof FsError ? error : new FsError('EIO', 'commit', { cause: error });
    }
  }

  #succeeded(batch: CommitBatch, durable: boolean, reply: CommitReply): void {
    this.#atMost = limits.chunksPerMessage;
    this.#answered++;
    if (durable) this.durableUpTo(this.#answered);
    const attrs = new Map(reply.attrs.map((attr) => [attr.ino, attr]));
    const missing = new Set(reply.missing);
    for (const file of batch.files.keys()) if (missing.has(file.ino)) file.recordFailure(MISSING);
    for (const chunk of batch.chunks) this.#take(chunk);
    for (const [file, part] of batch.files) {
      file.committedIn = this.#answered;
      const attr = attrs.get(file.ino);
      file.onCommit?.(attr, isWhereWritten(part, attr) ? part.extents : undefined);
    }
    for (const chunk of batch.chunks) {
      if (chunk.files.size === 0) this.#options.abandon(present(chunk.id, 'a stored chunk has an id'));
      this.#settle(chunk, chunk.files.size > 0, undefined);
    }
  }

  /** Takes the head out of the queue and out of its files. */
  #take(chunk: PendingChunk): void {
    if (this.#queue[0] === chunk) this.#queue.shift();
    for (const file of chunk.files.keys()) file.chunkSettled(chunk);
  }

  #settle(chunk: PendingChunk, committed: boolean, error: FsError | undefined): void {
    chunk.state = 'settled';
    this.#options.onSettled(chunk, committed);
    chunk.answer(error);
  }

  /** What a failed commit leads to; true when the next attempt need not wait. */
  #refused(batch: CommitBatch, error: FsError): boolean {
    const [chunk] = batch.chunks;
    if (chunk === undefined || chunk.state !== 'stored') return true;
    const forGood = error.code === 'EINVAL' || error.code === 'EFBIG';
    if (forGood && batch.chunks.length > 1) {
      this.#atMost = 1;
      return true;
    }
    log.error('a commit failed', {
      chunk: chunk.id,
      inodes: [...chunk.files.keys()].map((f) => f.ino),
      error,
    });
    if (forGood) {
      this.#take(chunk);
      for (const file of chunk.files.keys()) file.recordFailure(error);
      this.#options.abandon(present(chunk.id, 'a stored chunk has an id'));
      this.#settle(chunk, false, error);
      return true;
    }
    for (const failing of batch.chunks) {
      failing.failure = error;
      failing.trouble = error;
      failing.answer(error);
    }
    return false;
  }

  /**
   * Gives up every chunk, and `open` too: the session that they were written under is over. `isKept`: all that is
   * pending of a file is elsewhere too.
   */
  dropAll(open: PendingChunk | undefined, error: FsError, isKept: (file: PendingFile) => boolean): void {
    const chunks = open === undefined ? this.#queue : [...this.#queue, open];
    this.#queue = [];
    for (const chunk of chunks) {
      this.#take(chunk);
      for (const file of chunk.files.keys()) if (!isKept(file)) file.recordFailure(error);
    }
    for (const chunk of chunks) this.#settle(chunk, false, error);
  }
}
