/**
 * Requests that move a file's extents, and TMPFILE: from bytes to plain values, as decode.ts does.
 *
 * **Source:** include/uapi/linux/fuse.h; fs/fuse/file.c (fuse_file_fallocate, fuse_lseek,
 * __fuse_copy_file_range), fs/fuse/dir.c (fuse_tmpfile).
 */
import { asIno, type Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { MalformedRequest, need, readU64, readUmask } from './decode.js';

/** **Errors:** EFBIG for an offset or a length above 2^53 - 1. */
export function decodeFallocate(body: Buffer): { fh: number; offset: number; length: number; mode: number } {
  need(body, 32, 'fallocate');
  return {
    fh: readU64(body, 0, 'EIO', 'fallocate'),
    offset: readU64(body, 8, 'EFBIG', 'fallocate'),
    length: readU64(body, 16, 'EFBIG', 'fallocate'),
    mode: body.readUInt32LE(24),
  };
}

/** **Errors:** ENXIO for an offset above 2^53 - 1, behind every file's end (a negative one comes as such). */
export function decodeLseek(body: Buffer): { fh: number; offset: number; whence: number } {
  need(body, 24, 'lseek');
  return {
    fh: readU64(body, 0, 'EIO', 'lseek'),
    offset: readU64(body, 8, 'ENXIO', 'lseek'),
    whence: body.readUInt32LE(16),
  };
}

export interface CopyRequest {
  readonly fhIn: number;
  readonly offsetIn: number;
  readonly inoOut: Ino;
  readonly fhOut: number;
  readonly offsetOut: number;
  /** At most limits.fileBytes. */
  readonly length: number;
  readonly flags: bigint;
}

/**
 * COPY_FILE_RANGE and COPY_FILE_RANGE_64. **Errors:** EFBIG for a destination above 2^53 - 1, EINVAL for such a
 * source.
 */
export function decodeCopyFileRange(body: Buffer): CopyRequest {
  const op = 'copy_file_range';
  need(body, 56, op);
  const nodeid = readU64(body, 16, 'EIO', op);
  if (nodeid < 1) throw new MalformedRequest(op, 'node id 0');
  const length = body.readBigUInt64LE(40);
  return {
    fhIn: readU64(body, 0, 'EIO', op),
    offsetIn: readU64(body, 8, 'EINVAL', op),
    inoOut: asIno(nodeid),
    fhOut: readU64(body, 24, 'EIO', op),
    offsetOut: readU64(body, 32, 'EFBIG', op),
    length: length > BigInt(limits.fileBytes) ? limits.fileBytes : Number(length),
    flags: body.readBigUInt64LE(48),
  };
}

/** TMPFILE is laid out as CREATE. The name behind it is the kernel's own for what has none (`/`). */
export function decodeTmpfile(body: Buffer): { flags: number; mode: number; umask: number } {
  need(body, 16, 'tmpfile');
  return { flags: body.readUInt32LE(0), mode: body.readUInt32LE(4), umask: readUmask(body, 8) };
}
