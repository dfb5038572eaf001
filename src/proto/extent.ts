/** Where the bytes of files are. */
import { type Static, Type } from '@sinclair/typebox';
import { limits } from './limits.js';
import { tChunkId, tCount } from './schema.js';

/** Part of a file: `length` bytes at `offset` are the bytes at `chunkOffset` of `chunk`. A gap is a hole. */
export const tExtent = Type.Object({
  offset: tCount,
  length: Type.Integer({ minimum: 1, maximum: limits.chunkBytes }),
  chunk: tChunkId,
  chunkOffset: Type.Integer({ minimum: 0, maximum: limits.chunkBytes - 1 }),
});
export type Extent = Static<typeof tExtent>;
