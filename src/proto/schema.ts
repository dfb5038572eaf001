/**
 * The shapes that messages are made of. A shape is written once, as a TypeBox schema: its static type is what
 * the code sees, its compiled check is what a message from outside has to pass.
 */
import { Type } from '@sinclair/typebox';
import type { Timespec } from '../base/clock.js';
import type { ChunkId, ClusterId, FencingToken, Ino, LockOwner, ServerId, SessionId } from './ids.js';
import { limits } from './limits.js';

const UUID_PATTERN = '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$';
const safeId = { type: 'integer', minimum: 1, maximum: Number.MAX_SAFE_INTEGER } as const;

export const tIno = Type.Unsafe<Ino>(Type.Integer(safeId));
export const tChunkId = Type.Unsafe<ChunkId>(Type.Integer(safeId));
export const tSessionId = Type.Unsafe<SessionId>(Type.Integer(safeId));
export const tFencingToken = Type.Unsafe<FencingToken>(Type.Integer(safeId));
export const tLockOwner = Type.Unsafe<LockOwner>(Type.String({ pattern: '^[0-9a-f]{16}$' }));
export const tServerId = Type.Unsafe<ServerId>(Type.String({ pattern: UUID_PATTERN }));
export const tClusterId = Type.Unsafe<ClusterId>(Type.String({ pattern: UUID_PATTERN }));

/** 0..2^32-1. */
export const tU32 = Type.Integer({ minimum: 0, maximum: 0xffffffff });
/** A byte count, offset or counter: 0..2^53-1. */
export const tCount = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
export const tTimespec = Type.Unsafe<Timespec>(
  Type.Object({
    sec: Type.Integer({ minimum: Number.MIN_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER }),
    nsec: Type.Integer({ minimum: 0, maximum: 999_999_999 }),
  }),
);
/** A directory entry's name: bytes, without `/` and NUL (checked where names are interpreted: names/). */
export const tName = Type.Uint8Array({ minByteLength: 1, maxByteLength: limits.nameBytes });
export const tXattrName = Type.Uint8Array({ minByteLength: 1, maxByteLength: limits.xattrNameBytes });
export const tXattrValue = Type.Uint8Array({ maxByteLength: limits.xattrValueBytes });
/** A symlink's target: bytes, not empty. */
export const tTarget = Type.Uint8Array({ minByteLength: 1, maxByteLength: limits.pathBytes - 1 });
/** Text for people: host names, mountpoints, labels. */
export const tLabel = Type.String({ maxLength: 4096 });
export const tUrl = Type.String({ minLength: 1, maxLength: 1024 });
export const tNothing = Type.Object({});
