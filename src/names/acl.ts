/**
 * POSIX access control lists: what they are made of, how they stand in an extended attribute, and what chmod
 * and creation do to them. Pure; the rows they come from and go to are acl-rows.ts's.
 *
 * INVARIANT: an Acl is valid: one entry each for owner, group and others, at most one mask, which is there
 * when a user or group is named; entries in the order of their tags, as the kernel has them.
 *
 * It does not check permissions: the kernel does, with what it reads here.
 * **Source:** acl(5); fs/posix_acl.c; include/uapi/linux/posix_acl_xattr.h.
 */
import { FsError } from '../proto/errno.js';

export const AclTag = {
  USER_OBJ: 0x01,
  USER: 0x02,
  GROUP_OBJ: 0x04,
  GROUP: 0x08,
  MASK: 0x10,
  OTHER: 0x20,
} as const;

export interface AclEntry {
  /** One of AclTag. */
  readonly tag: number;
  /** Read 4, write 2, execute 1. */
  readonly perm: number;
  /** The user or group that USER and GROUP name; UNDEFINED_ID for the others. */
  readonly id: number;
}

export type Acl = readonly AclEntry[];

export const UNDEFINED_ID = 0xffff_ffff;
const VERSION = 2;
const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
const NAMED: readonly number[] = [AclTag.USER, AclTag.GROUP];
const ONCE: readonly number[] = [AclTag.USER_OBJ, AclTag.GROUP_OBJ, AclTag.MASK, AclTag.OTHER];

/**
 * The list that an attribute's value (version 2 of the format) holds; undefined for one without entries, which
 * means that there is none. The size of the value bounds the work.
 * **Errors:** EOPNOTSUPP (another version); EINVAL for whatever is no valid list.
 * **Source:** posix_acl_from_xattr, posix_acl_valid.
 */
export function parseAcl(value: Uint8Array, op: string): Acl | undefined {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (bytes.length < HEADER_BYTES) throw new FsError('EINVAL', op, { detail: 'ACL without a header' });
  if (bytes.readUInt32LE(0) !== VERSION) throw new FsError('EOPNOTSUPP', op, { detail: 'ACL version' });
  if ((bytes.length - HEADER_BYTES) % ENTRY_BYTES !== 0)
    throw new FsError('EINVAL', op, { detail: 'ACL size' });
  const acl: AclEntry[] = [];
  for (let at = HEADER_BYTES; at < bytes.length; at += ENTRY_BYTES) {
    const tag = bytes.readUInt16LE(at);
    const id = NAMED.includes(tag) ? bytes.readUInt32LE(at + 4) : UNDEFINED_ID;
    acl.push({ tag, perm: bytes.readUInt16LE(at + 2), id });
  }
  if (acl.length === 0) return undefined;
  if (!isValid(acl)) throw new FsError('EINVAL', op, { detail: 'ACL entries' });
  return acl;
}

function isValid(acl: Acl): boolean {
  let last = 0;
  let named = false;
  const seen = new Set<number>();
  for (const { tag, perm, id } of acl) {
    if (tag < last || perm > 7) return false;
    if (NAMED.includes(tag)) {
      if (id === UNDEFINED_ID) return false;
      named = true;
    } else if (!ONCE.includes(tag) || seen.has(tag)) return false;
    seen.add(tag);
    last = tag;
  }
  const isComplete = [AclTag.USER_OBJ, AclTag.GROUP_OBJ, AclTag.OTHER].every((tag) => seen.has(tag));
  return isComplete && (!named || seen.has(AclTag.MASK));
}

/** The attribute's value for a list. **Source:** posix_acl_to_xattr. */
export function formatAcl(acl: Acl): Uint8Array {
  const bytes = Buffer.alloc(HEADER_BYTES + acl.length * ENTRY_BYTES);
  bytes.writeUInt32LE(VERSION, 0);
  acl.forEach(({ tag, perm, id }, index) => {
    const at = HEADER_BYTES + index * ENTRY_BYTES;
    bytes.writeUInt16LE(tag, at);
    bytes.writeUInt16LE(perm, at + 2);
    bytes.writeUInt32LE(id, at + 4);
  });
  return bytes;
}

/** Where a list's permissions stand in the mode's nine bits. The mask, where there is one, is the group's. */
function shifts(acl: Acl): ReadonlyMap<number, number> {
  const group = acl.some(({ tag }) => tag === AclTag.MASK) ? AclTag.MASK : AclTag.GROUP_OBJ;
  return new Map([
    [AclTag.USER_OBJ, 6],
    [group, 3],
    [AclTag.OTHER, 0],
  ]);
}

/** `mode` with the permission bits that a list means. **Source:** posix_acl_equiv_mode. */
export function modeOfAcl(acl: Acl, mode: number): number {
  const at = shifts(acl);
  let bits = 0;
  for (const { tag, perm } of acl) {
    const shift = at.get(tag);
    if (shift !== undefined) bits |= perm << shift;
  }
  return (mode & ~0o777) | bits;
}

/** Whether the mode says all that the list does. */
export function isMinimal(acl: Acl): boolean {
  return acl.every(({ tag }) => tag !== AclTag.MASK && !NAMED.includes(tag));
}

/** The list after chmod to `mode`. **Source:** __posix_acl_chmod_masq. */
export function chmodAcl(acl: Acl, mode: number): Acl {
  return withPermissions(acl, (_perm, bits) => bits, mode);
}

/**
 * What a new inode created with `mode` gets of its directory's default list: permissions that both give.
 * `acl` is undefined when the mode says it all. **Source:** posix_acl_create_masq.
 */
export function inheritAcl(defaults: Acl, mode: number): { mode: number; acl: Acl | undefined } {
  const acl = withPermissions(defaults, (perm, bits) => perm & bits, mode);
  return { mode: modeOfAcl(acl, mode), acl: isMinimal(acl) ? undefined : acl };
}

function withPermissions(acl: Acl, combine: (perm: number, bits: number) => number, mode: number): Acl {
  const at = shifts(acl);
  return acl.map((entry) => {
    const shift = at.get(entry.tag);
    return shift === undefined ? entry : { ...entry, perm: combine(entry.perm, (mode >> shift) & 7) };
  });
}
