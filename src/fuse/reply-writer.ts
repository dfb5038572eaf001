/**
 * Sends replies: one write to the device each, at once and synchronously. The kernel takes a reply whole or
 * refuses it; it never waits.
 *
 * Invariant: a reply that the kernel refuses as malformed (EINVAL) is a bug here or above: it is logged, and
 * the request gets EIO, so that no caller hangs.
 *
 * **Source:** fs/fuse/dev.c, fuse_dev_do_write(): ENOENT means that the request is gone (aborted, or the
 * interrupt's target has been answered), ENODEV that the filesystem is.
 */
import { writevSync } from 'node:fs';
import { makeLog } from '../base/log.js';
import { opcodeName, size } from './abi.js';
import type { Header } from './decode.js';
import { encodeEmpty, type Frame, sealFrame } from './encode.js';
import { writeFrom } from './libc.js';
import type { ReplyPort } from './session.js';

const log = makeLog('fuse');

/** Up to here copying data behind its header is cheaper than handing the kernel several pieces. */
const COPY_UP_TO_BYTES = 64 * 1024;
/** Linux IOV_MAX, less one for the header. */
const MAX_PARTS = 1023;

const EIO = 5;
const ENOENT = 2;
const ENODEV = 19;

function errnoOf(error: unknown): number {
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'number') return error.errno;
  return -EIO;
}

export class ReplyWriter implements ReplyPort {
  readonly #fd: number;
  readonly #scratch = Buffer.allocUnsafeSlow(size.outHeader + COPY_UP_TO_BYTES);
  #closed = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** From now on nothing is sent: the device is closed. */
  close(): void {
    this.#closed = true;
  }

  sendFrame(header: Header, errno: number, frame: Frame): void {
    if (this.#closed) return;
    sealFrame(frame, frame.length, errno, header.uniqueLow, header.uniqueHigh);
    this.#check(header, writeFrom(this.#fd, frame), frame.length);
  }

  sendData(header: Header, parts: readonly Uint8Array[], bytes: number): void {
    if (this.#closed) return;
    const total = size.outHeader + bytes;
    if (bytes <= COPY_UP_TO_BYTES) {
      let at: number = size.outHeader;
      for (const part of parts) {
        this.#scratch.set(part, at);
        at += part.length;
      }
      sealFrame(this.#scratch, total, 0, header.uniqueLow, header.uniqueHigh);
      this.#check(header, writeFrom(this.#fd, this.#scratch.subarray(0, total)), total);
      return;
    }
    const frame = encodeEmpty();
    sealFrame(frame, total, 0, header.uniqueLow, header.uniqueHigh);
    const pieces = parts.length > MAX_PARTS ? [Buffer.concat(parts)] : parts;
    try {
      this.#check(header, writevSync(this.#fd, [frame, ...pieces]), total);
    } catch (error) {
      this.#check(header, errnoOf(error), total);
    }
  }

  #check(header: Header, result: number, total: number): void {
    if (result === total || result === -ENOENT || result === -ENODEV) return;
    log.error('the kernel refused a reply', { op: opcodeName(header.opcode), total, result });
    const failure = encodeEmpty();
    sealFrame(failure, failure.length, EIO, header.uniqueLow, header.uniqueHigh);
    writeFrom(this.#fd, failure);
  }
}
