/**
 * The checksums a store keeps beside a chunk: one CRC32C per limits.checksumBlockBytes, so that a ranged read
 * verifies what it touches without reading the whole chunk. Held as little-endian 32-bit words.
 */
import { crc32c } from '../base/crc32c.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';

const BLOCK = limits.checksumBlockBytes;

/** A stretch of a chunk in whole blocks (its end may be the chunk's). */
export interface BlockRange {
  readonly start: number;
  readonly end: number;
}

/** One word per block of `bytes`; the last block may be short. */
export function blockChecksums(bytes: Uint8Array): Buffer {
  const sums = Buffer.allocUnsafe(Math.ceil(bytes.length / BLOCK) * 4);
  for (let start = 0, at = 0; start < bytes.length; start += BLOCK, at += 4)
    sums.writeUInt32LE(crc32c(bytes.subarray(start, start + BLOCK)), at);
  return sums;
}

/**
 * The whole blocks that [offset, offset + length) of a chunk touches.
 * **Codes:** badMessage when the range is empty or passes `chunkLength`.
 */
export function blocksTouched(chunkLength: number, offset: number, length: number): BlockRange {
  if (offset < 0 || length < 1 || offset + length > chunkLength)
    throw new ProtocolError('badMessage', `bytes ${offset}+${length} of a chunk of ${chunkLength}`);
  return {
    start: Math.floor(offset / BLOCK) * BLOCK,
    end: Math.min(chunkLength, Math.ceil((offset + length) / BLOCK) * BLOCK),
  };
}

/** Whether `bytes`, a chunk's stretch from the block boundary `start` on, match the chunk's `sums`. */
export function blocksMatch(bytes: Uint8Array, start: number, sums: Buffer): boolean {
  const first = (start / BLOCK) * 4;
  const count = Math.ceil(bytes.length / BLOCK);
  if (sums.length < first + count * 4) return false;
  for (let index = 0; index < count; index++) {
    const block = bytes.subarray(index * BLOCK, (index + 1) * BLOCK);
    if (crc32c(block) !== sums.readUInt32LE(first + index * 4)) return false;
  }
  return true;
}
