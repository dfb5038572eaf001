/**
 * Replies of the FUSE kernel protocol: from plain values to bytes. An encoder returns a *frame*: the reply
 * with room for its header in front, which `sealFrame` fills in at the moment of sending.
 *
 * Invariant: every byte of a frame is written here; memory that was used before never reaches the kernel.
 *
 * It does not: know which request a frame answers, or send anything.
 *
 * **Source:** include/uapi/linux/fuse.h.
 */

import { assert } from '../base/assert.js';
import type { Timespec } from '../base/clock.js';
import type { Attr } from '../proto/attr.js';
import type {
  AttrReply,
  Entry,
  OpenReply,
  ReaddirEntry,
  ReaddirSink,
  StatfsReply,
} from '../vfs/operations.js';
import { BLOCK_BYTES, Fopen, PAGE_BYTES, size } from './abi.js';

const TWO_32 = 2 ** 32;

/** A reply with `size.outHeader` bytes of room in front. */
export type Frame = Buffer;

function newFrame(bodyBytes: number): Frame {
  return Buffer.allocUnsafe(size.outHeader + bodyBytes);
}

function putU64(frame: Buffer, at: number, value: number): void {
  frame.writeUInt32LE(value >>> 0, at);
  frame.writeInt32LE(Math.floor(value / TWO_32) | 0, at + 4);
}

/**
 * Writes fuse_out_header: the frame is `totalBytes` long (more than itself when data is sent behind it) and
 * answers the request whose number has these halves, with `errno` (positive, 0 for success).
 */
export function sealFrame(
  frame: Frame,
  totalBytes: number,
  errno: number,
  uniqueLow: number,
  uniqueHigh: number,
): void {
  frame.writeUInt32LE(totalBytes, 0);
  frame.writeInt32LE(-errno, 4);
  frame.writeUInt32LE(uniqueLow, 8);
  frame.writeUInt32LE(uniqueHigh, 12);
}

/** A reply without a body: success without a result, or an error. */
export function encodeEmpty(): Frame {
  return newFrame(0);
}

export function encodeBytes(bytes: Uint8Array): Frame {
  const frame = newFrame(bytes.length);
  frame.set(bytes, size.outHeader);
  return frame;
}

/** Linux's st_blocks: units of 512 bytes. */
const blocksOf = (attr: Attr): number => Math.ceil(attr.allocated / 512);

function putAttr(frame: Buffer, at: number, attr: Attr): void {
  putU64(frame, at, attr.ino);
  putU64(frame, at + 8, attr.size);
  putU64(frame, at + 16, blocksOf(attr));
  putU64(frame, at + 24, attr.atime.sec);
  putU64(frame, at + 32, attr.mtime.sec);
  putU64(frame, at + 40, attr.ctime.sec);
  frame.writeUInt32LE(attr.atime.nsec, at + 48);
  frame.writeUInt32LE(attr.mtime.nsec, at + 52);
  frame.writeUInt32LE(attr.ctime.nsec, at + 56);
  frame.writeUInt32LE(attr.mode, at + 60);
  frame.writeUInt32LE(attr.nlink, at + 64);
  frame.writeUInt32LE(attr.uid, at + 68);
  frame.writeUInt32LE(attr.gid, at + 72);
  frame.writeUInt32LE(attr.rdev, at + 76);
  frame.writeUInt32LE(BLOCK_BYTES, at + 80);
  frame.writeUInt32LE(0, at + 84);
}

/** Writes a timeout as seconds (8 bytes at `secAt`) and nanoseconds (4 at `nsecAt`). */
function putTimeout(frame: Buffer, secAt: number, nsecAt: number, timeoutMs: number): void {
  const ms = Math.max(0, Math.floor(timeoutMs));
  putU64(frame, secAt, Math.floor(ms / 1000));
  frame.writeUInt32LE((ms % 1000) * 1_000_000, nsecAt);
}

function putEntry(frame: Buffer, at: number, entry: Entry): void {
  putU64(frame, at, entry.attr.ino);
  putU64(frame, at + 8, 0);
  putTimeout(frame, at + 16, at + 32, entry.entryTimeoutMs);
  putTimeout(frame, at + 24, at + 36, entry.attrTimeoutMs);
  putAttr(frame, at + 40, entry.attr);
}

/** fuse_entry_out, generation 0 (inode numbers are never reused). */
export function encodeEntry(entry: Entry): Frame {
  const frame = newFrame(size.entryOut);
  putEntry(frame, size.outHeader, entry);
  return frame;
}

/** fuse_attr_out. */
export function encodeAttr(reply: AttrReply): Frame {
  const frame = newFrame(size.attrOut);
  const at = size.outHeader;
  putTimeout(frame, at, at + 8, reply.attrTimeoutMs);
  frame.writeUInt32LE(0, at + 12);
  putAttr(frame, at + 16, reply.attr);
  return frame;
}

function putStatxTime(frame: Buffer, at: number, time: Timespec): void {
  putU64(frame, at, time.sec);
  frame.writeUInt32LE(time.nsec, at + 8);
  frame.writeUInt32LE(0, at + 12);
}

const STATX_BASIC_STATS_AND_BTIME = 0xfff;

/** fuse_statx_out: everything that GETATTR answers and the birth time. */
export function encodeStatx(reply: AttrReply): Frame {
  const frame = newFrame(size.statxOut).fill(0);
  const { attr } = reply;
  putTimeout(frame, size.outHeader, size.outHeader + 8, reply.attrTimeoutMs);
  const at = size.outHeader + 32;
  frame.writeUInt32LE(STATX_BASIC_STATS_AND_BTIME, at);
  frame.writeUInt32LE(BLOCK_BYTES, at + 4);
  frame.writeUInt32LE(attr.nlink, at + 16);
  frame.writeUInt32LE(attr.uid, at + 20);
  frame.writeUInt32LE(attr.gid, at + 24);
  frame.writeUInt16LE(attr.mode & 0xffff, at + 28);
  putU64(frame, at + 32, attr.ino);
  putU64(frame, at + 40, attr.size);
  putU64(frame, at + 48, blocksOf(attr));
  putStatxTime(frame, at + 64, attr.atime);
  putStatxTime(frame, at + 80, attr.crtime);
  putStatxTime(frame, at + 96, attr.ctime);
  putStatxTime(frame, at + 112, attr.mtime);
  frame.writeUInt32LE((attr.rdev & 0xfff00) >>> 8, at + 128);
  frame.writeUInt32LE((attr.rdev & 0xff) | ((attr.rdev >>> 12) & 0xfff00), at + 132);
  return frame;
}

function putOpen(frame: Buffer, at: number, fh: number, flags: number): void {
  putU64(frame, at, fh);
  frame.writeUInt32LE(flags, at + 8);
  frame.writeUInt32LE(0, at + 12);
}

function openFlagsOf(open: OpenReply): number {
  return (open.directIo ? Fopen.DIRECT_IO : 0) | (open.keepCache ? Fopen.KEEP_CACHE : 0);
}

/** fuse_open_out for a file. */
export function encodeOpen(open: OpenReply): Frame {
  const frame = newFrame(size.openOut);
  putOpen(frame, size.outHeader, open.fh, openFlagsOf(open));
  return frame;
}

/** fuse_open_out for a directory. */
export function encodeOpendir(open: { fh: number; cacheDir: boolean; keepCache: boolean }): Frame {
  const frame = newFrame(size.openOut);
  const flags = (open.cacheDir ? Fopen.CACHE_DIR : 0) | (open.keepCache ? Fopen.KEEP_CACHE : 0);
  putOpen(frame, size.outHeader, open.fh, flags);
  return frame;
}

/** fuse_entry_out and fuse_open_out. */
export function encodeCreate(reply: { entry: Entry; open: OpenReply }): Frame {
  const frame = newFrame(size.entryOut + size.openOut);
  putEntry(frame, size.outHeader, reply.entry);
  putOpen(frame, size.outHeader + size.entryOut, reply.open.fh, openFlagsOf(reply.open));
  return frame;
}

/** fuse_write_out. */
export function encodeWrite(bytes: number): Frame {
  const frame = newFrame(size.writeOut);
  frame.writeUInt32LE(bytes, size.outHeader);
  frame.writeUInt32LE(0, size.outHeader + 4);
  return frame;
}

/** fuse_statfs_out. */
export function encodeStatfs(reply: StatfsReply): Frame {
  const frame = newFrame(size.statfsOut).fill(0);
  const at = size.outHeader;
  putU64(frame, at, reply.blocks);
  putU64(frame, at + 8, reply.freeBlocks);
  putU64(frame, at + 16, reply.availableBlocks);
  putU64(frame, at + 24, reply.inodes);
  putU64(frame, at + 32, reply.freeInodes);
  frame.writeUInt32LE(reply.blockSize, at + 40);
  frame.writeUInt32LE(reply.nameMax, at + 44);
  frame.writeUInt32LE(reply.blockSize, at + 48);
  return frame;
}

/** fuse_lseek_out, and fuse_copy_file_range_out (of COPY_FILE_RANGE_64): one 64-bit number. */
export function encodeU64(value: number): Frame {
  const frame = newFrame(size.lseekOut);
  putU64(frame, size.outHeader, value);
  return frame;
}

/** fuse_getxattr_out: the answer to a GETXATTR or LISTXATTR that only asked for the size. */
export function encodeXattrSize(bytes: number): Frame {
  const frame = newFrame(size.getxattrOut);
  frame.writeUInt32LE(bytes, size.outHeader);
  frame.writeUInt32LE(0, size.outHeader + 4);
  return frame;
}

export interface InitReply {
  readonly minor: number;
  readonly maxReadahead: number;
  readonly flags: number;
  readonly flags2: number;
  readonly maxBackground: number;
  readonly maxWrite: number;
}

/** fuse_init_out, 64 bytes. The congestion threshold is three quarters of maxBackground, as the kernel's own. */
export function encodeInit(reply: InitReply): Frame {
  const frame = newFrame(size.initOut).fill(0);
  const at = size.outHeader;
  frame.writeUInt32LE(7, at);
  frame.writeUInt32LE(reply.minor, at + 4);
  frame.writeUInt32LE(reply.maxReadahead, at + 8);
  frame.writeUInt32LE(reply.flags >>> 0, at + 12);
  frame.writeUInt16LE(reply.maxBackground, at + 16);
  frame.writeUInt16LE(Math.floor((reply.maxBackground * 3) / 4), at + 18);
  frame.writeUInt32LE(reply.maxWrite, at + 20);
  frame.writeUInt32LE(1, at + 24);
  frame.writeUInt16LE(reply.maxWrite / PAGE_BYTES, at + 28);
  frame.writeUInt32LE(reply.flags2 >>> 0, at + 32);
  return frame;
}

/** Entries in the form that READDIR (`plus` false) and READDIRPLUS answer with, up to a number of bytes. */
export class DirentFrame {
  readonly #frame: Frame;
  readonly #plus: boolean;
  #used: number = size.outHeader;
  #closed = false;

  constructor(bytes: number, plus: boolean) {
    this.#frame = newFrame(bytes);
    this.#plus = plus;
  }

  /** Takes one entry, or returns false when it does not fit any more. */
  readonly take: ReaddirSink = (entry) => {
    const plusBytes = this.#plus ? size.entryOut : 0;
    const end = this.#used + plusBytes + size.dirent + entry.name.length;
    const padded = Math.ceil(end / 8) * 8;
    if (this.#closed || padded > this.#frame.length) return false;
    if (this.#plus) this.#putEntryOf(entry);
    this.#putDirent(this.#used + plusBytes, entry);
    this.#frame.fill(0, end, padded);
    this.#used = padded;
    return true;
  };

  /** Without an Entry (`.` and `..`) the node id is 0, which the kernel takes as: not looked up. */
  #putEntryOf(entry: ReaddirEntry): void {
    if (entry.entry === undefined) this.#frame.fill(0, this.#used, this.#used + size.entryOut);
    else putEntry(this.#frame, this.#used, entry.entry);
  }

  #putDirent(at: number, entry: ReaddirEntry): void {
    putU64(this.#frame, at, entry.ino);
    putU64(this.#frame, at + 8, entry.nextOffset);
    this.#frame.writeUInt32LE(entry.name.length, at + 16);
    this.#frame.writeUInt32LE(entry.kind >>> 12, at + 20);
    this.#frame.set(entry.name, at + size.dirent);
  }

  /** The frame with what was taken; nothing is taken afterwards. */
  finish(): Frame {
    assert(!this.#closed, 'a directory reply is finished once');
    this.#closed = true;
    return this.#frame.subarray(0, this.#used);
  }
}
