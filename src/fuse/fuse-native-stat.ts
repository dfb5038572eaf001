/**
 * Attributes and filesystem figures as the C side of fuse-native takes them: arrays of 32-bit numbers. Pure.
 *
 * What does not fit is bent, never wrapped: times are whole milliseconds from 1970 on, figures of the
 * filesystem are counted in larger blocks, inode numbers keep their low 32 bits.
 *
 * **Source:** populate_stat and populate_statvfs in fuse-native.c; native-notes/fuse-native.md, "Numbers".
 */
import type { Timespec } from '../base/clock.js';
import type { Attr } from '../proto/attr.js';
import type { StatfsReply } from '../vfs/operations.js';

const TWO_32 = 2 ** 32;
const SECTOR_BYTES = 512;
/** st_blksize: every read and write is a request here, so programs' buffers should be libfuse's largest one. */
const IO_BYTES = 128 * 1024;

const STAT_WORDS = 18;
const STATFS_WORDS = 11;

/** The payload of a getattr that failed. */
export const noStat = (): Uint32Array => new Uint32Array(STAT_WORDS);
export const noFigures = (): Uint32Array => new Uint32Array(STATFS_WORDS);

function putWide(words: Uint32Array, index: number, value: number): void {
  words[index] = value % TWO_32;
  words[index + 1] = Math.floor(value / TWO_32);
}

const toMs = ({ sec, nsec }: Timespec): number => Math.max(0, sec * 1000 + Math.floor(nsec / 1e6));

/** `nlink` overrides the attribute. */
export function toStat(attr: Attr, nlink: number): Uint32Array {
  const words = noStat();
  words[0] = attr.mode;
  words[1] = attr.uid;
  words[2] = attr.gid;
  putWide(words, 3, attr.size);
  words[6] = nlink;
  words[7] = attr.ino % TWO_32;
  words[8] = attr.rdev;
  words[9] = IO_BYTES;
  putWide(words, 10, Math.ceil(attr.allocated / SECTOR_BYTES));
  putWide(words, 12, toMs(attr.atime));
  putWide(words, 14, toMs(attr.mtime));
  putWide(words, 16, toMs(attr.ctime));
  return words;
}

/** A directory entry's part of a stat: type and inode number. */
export function toEntryStat(entry: { ino: number; kind: number }): Uint32Array {
  const words = noStat();
  words[0] = entry.kind;
  words[7] = entry.ino % TWO_32;
  return words;
}

export function toFigures(figures: StatfsReply): Uint32Array {
  let scale = 1;
  while (figures.blocks / scale >= TWO_32) scale *= 2;
  const clamp = (value: number): number => Math.min(value, TWO_32 - 1);
  const blocks = (count: number): number => Math.floor(count / scale);
  return Uint32Array.from([
    clamp(figures.blockSize * scale),
    clamp(figures.blockSize * scale),
    blocks(figures.blocks),
    blocks(figures.freeBlocks),
    blocks(figures.availableBlocks),
    clamp(figures.inodes),
    clamp(figures.freeInodes),
    clamp(figures.freeInodes),
    0,
    0,
    figures.nameMax,
  ]);
}

/** An offset or size out of its two halves. */
export const fromHalves = (low: number, high: number): number => low + high * TWO_32;

/** Signed milliseconds out of the two halves of a 64-bit number. */
export const msFromHalves = (low: number, high: number): bigint =>
  BigInt.asIntN(64, (BigInt(high) << 32n) | BigInt(low));

export function fromMs(ms: bigint): Timespec {
  const sec = ms >= 0n ? ms / 1000n : (ms - 999n) / 1000n;
  return { sec: Number(sec), nsec: Number(ms - sec * 1000n) * 1_000_000 };
}
