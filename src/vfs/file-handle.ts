/**
 * An open file: what a descriptor refers to. Several handles of one file share its state.
 *
 * What a program was promised through a handle may turn out not to hold: a lock was lost with its session, or the
 * file itself, for good; or something that was answered for was given up, until an fsync or close has said so.
 * Meanwhile nothing is done through it (`trouble`), so that no program goes on as if nothing had happened.
 */
import { FsError } from '../proto/errno.js';
import type { FileState } from './file-state.js';
import { mayWrite, O_APPEND, O_NOATIME } from './open-flags.js';

/** A read that starts within this many bytes of where the last one ended goes on with it. */
const SEQUENTIAL_SLACK_BYTES = 1024 * 1024;

export class FileHandle {
  readonly state: FileState;
  readonly writable: boolean;
  readonly append: boolean;
  /** Opened with O_NOATIME: reading moves no access time. */
  readonly noAtime: boolean;
  /** Something was written through this handle since its last flush. */
  wrote = false;
  /** The size at which an append starts has been asked of the server since the open. */
  sizeAsked = false;
  /** How many of the file's failures this handle has reported, or came before it was opened. */
  #failuresSeen: number;
  #broken: FsError | undefined;
  #readEnd = 0;
  /** Reads in a row that went on where another had ended. */
  #sequential = 0;
  /** Up to where data was asked for ahead of reads. */
  readAheadTo = 0;

  constructor(state: FileState, flags: number) {
    this.state = state;
    this.writable = mayWrite(flags);
    this.append = (flags & O_APPEND) !== 0;
    this.noAtime = (flags & O_NOATIME) !== 0;
    this.#failuresSeen = state.pending.failures;
  }

  /** The write-back failure that this handle has not reported yet; reporting it once is this call. */
  takeFailure(): FsError | undefined {
    const { failures, failure } = this.state.pending;
    if (failures === this.#failuresSeen) return undefined;
    this.#failuresSeen = failures;
    return failure ?? new FsError('EIO', 'write-back');
  }

  get hasFailure(): boolean {
    return this.state.pending.failures !== this.#failuresSeen;
  }

  /** It is of no use any more, whatever is reported through it. */
  break(why: FsError): void {
    this.#broken = why;
  }

  /** Why it is of no use any more. */
  get broken(): FsError | undefined {
    return this.#broken ?? this.state.lost;
  }

  /** Why nothing can be read or written through it, for ever or until it is reported; asking does not report it. */
  get trouble(): FsError | undefined {
    if (this.broken !== undefined || !this.hasFailure) return this.broken;
    return this.state.pending.failure ?? new FsError('EIO', 'write-back');
  }

  /** Notes a read; whether it and the one before make a sequence that is worth reading ahead for. */
  noteRead(offset: number, end: number): boolean {
    const goesOn = Math.abs(offset - this.#readEnd) <= SEQUENTIAL_SLACK_BYTES;
    this.#sequential = goesOn ? this.#sequential + 1 : 0;
    if (!goesOn) this.readAheadTo = end;
    this.#readEnd = end;
    return this.#sequential >= 2;
  }
}
