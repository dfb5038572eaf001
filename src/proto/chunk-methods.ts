/**
 * What a chunk server answers. Chunks are immutable: an id names the same bytes for ever, on every server.
 */
import { Type } from '@sinclair/typebox';
import { limits } from './limits.js';
import { method } from './method.js';
import { tChunkId, tClusterId, tCount, tNothing, tServerId, tU32 } from './schema.js';

const tChunkIds = Type.Array(tChunkId, { maxItems: limits.chunksPerMessage });

export const chunkMethods = {
  /** Which server this is, and of which filesystem. */
  identify: method('read', {
    args: tNothing,
    reply: Type.Object({ id: tServerId, clusterId: Type.Union([tClusterId, Type.Null()]) }),
  }),
  /**
   * Stores the bulk bytes as chunk `id`. Answers when they are on disk. The same id with the same bytes is
   * ok; with others it is refused. **Codes:** corrupt (the bulk does not have this CRC32C), chunkConflict,
   * serverFull, wrongCluster.
   */
  put: method('control', {
    args: Type.Object({ id: tChunkId, crc: tU32, clusterId: tClusterId }),
    reply: tNothing,
    bulk: 'request',
  }),
  /**
   * Bytes [offset, offset + length) of a chunk, checked against their checksums. **Codes:** noChunk, corrupt;
   * badMessage when the range passes the chunk's end.
   */
  get: method('read', {
    args: Type.Object({
      id: tChunkId,
      offset: Type.Integer({ minimum: 0, maximum: limits.chunkBytes - 1 }),
      length: Type.Integer({ minimum: 1, maximum: limits.chunkBytes }),
    }),
    reply: tNothing,
    bulk: 'reply',
  }),
  /** Removes chunks; those that are not there are passed over. */
  delete: method('control', {
    args: Type.Object({ chunks: tChunkIds }),
    reply: Type.Object({ deleted: tCount }),
  }),
  /** Stored ids in ascending order, `after` < id <= `last`. */
  list: method('read', {
    args: Type.Object({
      after: tCount,
      last: tCount,
      limit: Type.Integer({ minimum: 1, maximum: limits.chunksPerMessage }),
    }),
    reply: Type.Object({
      chunks: Type.Array(Type.Object({ id: tChunkId, length: tU32, crc: tU32 })),
      end: Type.Boolean(),
    }),
  }),
  /** What is stored and what fits. */
  usage: method('read', {
    args: tNothing,
    reply: Type.Object({ chunks: tCount, usedBytes: tCount, capacityBytes: tCount, full: Type.Boolean() }),
  }),
} as const;

export type ChunkMethods = typeof chunkMethods;
