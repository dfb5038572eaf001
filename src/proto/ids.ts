/**
 * How identifiers are held. 64-bit identifiers stay below 2^53, so that each is an exact JavaScript number;
 * brands keep one kind from being passed for another. This file alone decides it.
 */
declare const brand: unique symbol;
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name };

/** Inode number, never reused; 1 is the root. It is also the FUSE node id. */
export type Ino = Branded<number, 'Ino'>;
/** Identifier of an immutable chunk, never reused. Allocated in ranges to sessions. */
export type ChunkId = Branded<number, 'ChunkId'>;
/** A mount's registration with the metadata server. */
export type SessionId = Branded<number, 'SessionId'>;
/** A number that only ever rises; a request with an older one than the session's is refused. */
export type FencingToken = Branded<number, 'FencingToken'>;
/** A chunk server's identity, a UUID written into its data directory. */
export type ServerId = Branded<string, 'ServerId'>;
/** The filesystem's identity, a UUID made at format. */
export type ClusterId = Branded<string, 'ClusterId'>;

/** The kernel's name for who locks, within one mount: 8 bytes in hex. Compared, never interpreted. */
export type LockOwner = Branded<string, 'LockOwner'>;

export const ROOT_INO = 1 as Ino;

function checked(value: number, what: string): number {
  if (!Number.isSafeInteger(value) || value < 1) throw new RangeError(`${what} out of range: ${value}`);
  return value;
}

export const asIno = (value: number): Ino => checked(value, 'inode number') as Ino;
export const asChunkId = (value: number): ChunkId => checked(value, 'chunk id') as ChunkId;
export const asSessionId = (value: number): SessionId => checked(value, 'session id') as SessionId;
export const asFencingToken = (value: number): FencingToken =>
  checked(value, 'fencing token') as FencingToken;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

function checkedUuid(value: string, what: string): string {
  if (!UUID.test(value)) throw new RangeError(`${what} is not a UUID: ${value.slice(0, 64)}`);
  return value;
}

export const asServerId = (value: string): ServerId => checkedUuid(value, 'server id') as ServerId;
export const asClusterId = (value: string): ClusterId => checkedUuid(value, 'cluster id') as ClusterId;

export function asLockOwner(value: string): LockOwner {
  if (!/^[0-9a-f]{16}$/.test(value)) throw new RangeError(`lock owner is not 8 bytes: ${value.slice(0, 64)}`);
  return value as LockOwner;
}
