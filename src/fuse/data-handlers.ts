/**
 * Handlers of the requests that move a file's extents; see handlers.ts for what a handler is.
 */
import { chain, type MaybePromise } from '../base/maybe-promise.js';
import { FsError } from '../proto/errno.js';
import type { FallocateMode } from '../vfs/operations.js';
import * as abi from './abi.js';
import { decodeCopyFileRange, decodeFallocate, decodeLseek } from './decode-data.js';
import { encodeU64, encodeWrite } from './encode.js';
import type { Call, Reply } from './handlers.js';

/** Both ways to make a hole are one to us; the kernel has refused what cannot be combined. */
const FALLOCATE_MODES: ReadonlyMap<number, FallocateMode> = new Map([
  [0, { zero: false, keepSize: false }],
  [abi.FALLOC_FL_KEEP_SIZE, { zero: false, keepSize: true }],
  [abi.FALLOC_FL_PUNCH_HOLE | abi.FALLOC_FL_KEEP_SIZE, { zero: true, keepSize: true }],
  [abi.FALLOC_FL_ZERO_RANGE, { zero: true, keepSize: false }],
  [abi.FALLOC_FL_ZERO_RANGE | abi.FALLOC_FL_KEEP_SIZE, { zero: true, keepSize: true }],
]);

export function fallocate({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { fh, offset, length, mode: bits } = decodeFallocate(body);
  const mode = FALLOCATE_MODES.get(bits);
  if (mode === undefined) throw new FsError('EOPNOTSUPP', 'fallocate', { detail: `mode ${bits}` });
  if (length === 0) throw new FsError('EINVAL', 'fallocate');
  return chain(operations.fallocate(request, { ino, fh, offset }, length, mode), () => undefined);
}

export function lseek({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { fh, offset, whence } = decodeLseek(body);
  if (whence !== abi.SEEK_DATA && whence !== abi.SEEK_HOLE)
    throw new FsError('EINVAL', 'lseek', { detail: `whence ${whence}` });
  const what = whence === abi.SEEK_DATA ? 'data' : 'hole';
  return chain(operations.lseek(request, { ino, fh, offset }, what), encodeU64);
}

/** What the older request's reply can count, in whole pages. */
const MAX_COPY_32 = 0xffff_f000;

export function copyFileRange(
  { operations, request, ino }: Call,
  body: Buffer,
  is64: boolean,
): MaybePromise<Reply> {
  const { fhIn, offsetIn, inoOut, fhOut, offsetOut, length, flags } = decodeCopyFileRange(body);
  if (flags !== 0n) throw new FsError('EINVAL', 'copy_file_range', { detail: `flags ${flags}` });
  const from = { ino, fh: fhIn, offset: offsetIn };
  const to = { ino: inoOut, fh: fhOut, offset: offsetOut };
  const bytes = is64 ? length : Math.min(length, MAX_COPY_32);
  return chain(operations.copyFileRange(request, from, to, bytes), is64 ? encodeU64 : encodeWrite);
}
