/**
 * The contents of files over the wire: where their bytes are, and making written ones part of them.
 */
import { type Static, Type } from '@sinclair/typebox';
import { tAttr } from './attr.js';
import { tExtent } from './extent.js';
import { limits } from './limits.js';
import { method } from './method.js';
import { tChunkId, tCount, tIno, tTimespec, tU32 } from './schema.js';

export const tChunkRecord = Type.Object({
  id: tChunkId,
  length: Type.Integer({ minimum: 1, maximum: limits.chunkBytes }),
  /** CRC32C of the whole chunk. */
  crc: tU32,
});
export type ChunkRecord = Static<typeof tChunkRecord>;

/** What one commit does to one file. */
export const tFileCommit = Type.Object({
  ino: tIno,
  /** In write order: a later one overwrites what it overlaps. */
  extents: Type.Array(tExtent, { maxItems: limits.extentsPerMessage }),
  /** Lay the extents one after the other at the end that the file has then, whatever their offsets say. */
  append: Type.Optional(Type.Boolean()),
  /** The file is at least this long afterwards; means nothing with `append`. */
  minSize: tCount,
  mtime: tTimespec,
  /** The time of modification that the bytes were written over; if it is another now, others have written since. */
  over: Type.Optional(tTimespec),
  /** As the inode has to be: if it is otherwise, the file is passed over. */
  since: Type.Optional(Type.Object({ version: tCount, ctime: tTimespec })),
  clearPrivileges: Type.Boolean(),
});
export type FileCommit = Static<typeof tFileCommit>;

export const dataMethods = {
  /**
   * The extents that overlap [offset, offset + length), in order, not cut to the range, with the attributes
   * they belong to. `next`: where to ask on when there were more than fit, else null.
   */
  extents: method('read', {
    args: Type.Object({ ino: tIno, offset: tCount, length: tCount }),
    reply: Type.Object({
      attr: tAttr,
      extents: Type.Array(tExtent, { maxItems: limits.extentsPerMessage }),
      next: Type.Union([tCount, Type.Null()]),
    }),
    errnos: ['ENOENT', 'EISDIR', 'EINVAL'],
  }),
  /**
   * Makes written data part of files, in one transaction. Each chunk must be on its replicas' disks before.
   * Files whose inode is gone, or is not as it was `since`, are skipped and named in `missing`. With `durable` the
   * reply comes after the metadata is on disk, this commit's and everything earlier.
   */
  commit: method('mutation', {
    args: Type.Object({
      chunks: Type.Array(tChunkRecord, { maxItems: limits.chunksPerMessage }),
      files: Type.Array(tFileCommit, { maxItems: limits.filesPerCommit }),
      durable: Type.Boolean(),
    }),
    reply: Type.Object({ missing: Type.Array(tIno), attrs: Type.Array(tAttr) }),
    errnos: ['EINVAL', 'EFBIG', 'ENOSPC'],
  }),
} as const;
