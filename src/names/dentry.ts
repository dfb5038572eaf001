/**
 * Names in directories: which byte strings are names, in what order a directory holds them, and the cookies
 * that say where in that order a listing stands.
 *
 * A directory is ordered by (hash, slot). The hash comes from the name alone; the slot tells names of one
 * hash apart and stays with a name for as long as it exists, so a cookie means the same place whatever is
 * created or removed around it. INVARIANT: at most DENTRY_SLOTS names of a directory share a hash; one more
 * is ENOSPC, as in ext4's htree (with 48 bits it takes a name made for the purpose to get there).
 */
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ask, type Reading } from './operation.js';
import type { DentryRow } from './rows.js';

export const DENTRY_SLOTS = 16;
const HASH_HIGH = 0x10000;
const TWO_32 = 2 ** 32;

/**
 * 48-bit hash of a name, 0 <= hash < 2^48. Part of the stored format: it never changes. Not keyed and not
 * for security. Two lanes of multiply-xor over the bytes, each finished by murmur3's avalanche.
 */
export function hashName(name: Uint8Array): number {
  let low = 0xdeadbeef ^ name.length;
  let high = 0x41c6ce57 ^ name.length;
  for (let index = 0; index < name.length; index++) {
    const byte = name[index] ?? 0;
    low = Math.imul(low ^ byte, 0x9e3779b1);
    low ^= low >>> 15;
    high = Math.imul(high ^ byte, 0x85ebca77);
    high ^= high >>> 13;
  }
  low = avalanche(low ^ Math.imul(high, 0xc2b2ae3d));
  high = avalanche(high ^ Math.imul(low, 0x27d4eb2f));
  return (high % HASH_HIGH) * TWO_32 + low;
}

function avalanche(word: number): number {
  let h = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * Where a listing stands behind an entry: > 0, < 2^53, rising in directory order. The smallest is
 * DENTRY_SLOTS, which leaves 1..15 to whoever lists `.` and `..` in front.
 */
export function dentryCookie(row: DentryRow): number {
  return (row.hash + 1) * DENTRY_SLOTS + row.slot;
}

/** The hash from which rows lie behind `cookie`, or share its hash. */
export function cookieHash(cookie: number): number {
  return Math.max(0, Math.floor(cookie / DENTRY_SLOTS) - 1);
}

const SLASH = 0x2f;
const DOT = 0x2e;

/** `.` or `..`, which no directory stores. */
export function isDots(name: Uint8Array): boolean {
  return name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT));
}

export function isDotDot(name: Uint8Array): boolean {
  return name.length === 2 && isDots(name);
}

/** **Errors:** ENAMETOOLONG; EINVAL for an empty name and one with `/` or NUL. */
export function checkName(name: Uint8Array, op: string): void {
  if (name.length > limits.nameBytes) throw new FsError('ENAMETOOLONG', op);
  if (name.length === 0 || name.includes(SLASH) || name.includes(0)) throw new FsError('EINVAL', op);
}

/** Where a name is, or would be, in a directory. */
export interface Place {
  readonly hash: number;
  readonly dentry: DentryRow | undefined;
  /** A free slot when there is no such name; undefined when none is left. */
  readonly slot: number | undefined;
}

/** Finds a name, and the slot it would take. */
export function* locate(parent: Ino, name: Uint8Array): Reading<Place> {
  const hash = hashName(name);
  const group = yield* ask({ read: 'namesakes', parent, hash, name });
  const dentry = group.find((row) => Buffer.compare(row.name, name) === 0);
  for (let slot = 0; slot < DENTRY_SLOTS; slot++) {
    if (!group.some((row) => row.slot === slot)) return { hash, dentry, slot };
  }
  return { hash, dentry, slot: undefined };
}

/** The row of a name that must be there. **Errors:** ENOENT. */
export function* existingDentry(parent: Ino, name: Uint8Array, op: string): Reading<DentryRow> {
  const dentry = yield* ask({ read: 'dentry', parent, hash: hashName(name), name });
  if (dentry === undefined) throw new FsError('ENOENT', op);
  return dentry;
}

/** The free slot of a place. **Errors:** ENOSPC. */
export function slotOf(place: Place, op: string): number {
  if (place.slot === undefined) throw new FsError('ENOSPC', op, { detail: 'names of one hash' });
  return place.slot;
}
