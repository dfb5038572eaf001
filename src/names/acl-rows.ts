/**
 * Access control lists among the rows: they are the extended attributes `system.posix_acl_access` and
 * `system.posix_acl_default`, and an inode's mode is kept in step with the first.
 *
 * INVARIANT: a stored value is one that formatAcl gives; a stored access list is not minimal, and its
 * permissions for owner, mask and others are the mode's.
 * **Source:** acl(5), fs/posix_acl.c.
 */
import { isDir, isSymlink, S_ISGID } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { type Acl, chmodAcl, formatAcl, inheritAcl, isMinimal, modeOfAcl, parseAcl } from './acl.js';
import { ask, type Reading } from './operation.js';
import type { InodeRow, RowChange } from './rows.js';

export type AclKind = 'access' | 'default';

const NAMES: Readonly<Record<AclKind, Buffer>> = {
  access: Buffer.from('system.posix_acl_access'),
  default: Buffer.from('system.posix_acl_default'),
};

/** Which list an attribute of this name holds; undefined: none. */
export function aclKind(name: Uint8Array): AclKind | undefined {
  if (NAMES.access.equals(name)) return 'access';
  return NAMES.default.equals(name) ? 'default' : undefined;
}

function* storedAcl(ino: Ino, kind: AclKind): Reading<Acl | undefined> {
  const row = yield* ask({ read: 'xattr', ino, name: NAMES[kind] });
  return row === undefined ? undefined : parseAcl(row.value, 'acl');
}

function putAcl(ino: Ino, kind: AclKind, acl: Acl): RowChange {
  return { put: 'xattr', row: { ino, name: NAMES[kind], value: formatAcl(acl) } };
}

/** What a new inode takes from its directory. */
export interface Inheritance {
  /** Its mode: the directory's default list limits it, or, without one, the umask. */
  readonly mode: number;
  /** Its lists, once its number is known. */
  readonly changes: (ino: Ino) => RowChange[];
}

/**
 * Mode and lists of a new inode in `directory`. A symlink has neither. **Source:** posix_acl_create.
 */
export function* inherit(directory: InodeRow, mode: number, umask: number): Reading<Inheritance> {
  if (isSymlink(mode)) return { mode, changes: () => [] };
  const defaults = yield* storedAcl(directory.ino, 'default');
  if (defaults === undefined) return { mode: mode & ~(umask & 0o777), changes: () => [] };
  const inherited = inheritAcl(defaults, mode);
  const { acl } = inherited;
  const changes = (ino: Ino): RowChange[] => [
    ...(acl === undefined ? [] : [putAcl(ino, 'access', acl)]),
    ...(isDir(mode) ? [putAcl(ino, 'default', defaults)] : []),
  ];
  return { mode: inherited.mode, changes };
}

/** The access list of an inode after chmod to `mode`. **Source:** posix_acl_chmod. */
export function* aclAfterChmod(row: InodeRow, mode: number): Reading<RowChange[]> {
  if (isSymlink(row.mode)) return [];
  const acl = yield* storedAcl(row.ino, 'access');
  return acl === undefined ? [] : [putAcl(row.ino, 'access', chmodAcl(acl, mode))];
}

/** What setting a list comes to: the value to store, undefined to store none, and the inode's mode. */
export interface AclChange {
  readonly value: Uint8Array | undefined;
  readonly mode: number;
}

/**
 * Setting a list from an attribute's value. An access list sets the mode; one that says no more than a mode is
 * not stored. `clearSetgid`: who sets it is neither privileged nor in the file's group.
 * **Errors:** EINVAL, EOPNOTSUPP (the value); EOPNOTSUPP for a symlink; EACCES for a default list of what is
 * no directory. **Source:** set_posix_acl, posix_acl_update_mode.
 */
export function changedAcl(
  row: InodeRow,
  kind: AclKind,
  set: { value: Uint8Array; clearSetgid: boolean },
): AclChange {
  if (isSymlink(row.mode)) throw new FsError('EOPNOTSUPP', 'setxattr');
  const acl = parseAcl(set.value, 'setxattr');
  if (acl === undefined) return { value: undefined, mode: row.mode };
  if (kind === 'default') {
    if (!isDir(row.mode)) throw new FsError('EACCES', 'setxattr', { detail: 'default ACL of no directory' });
    return { value: formatAcl(acl), mode: row.mode };
  }
  const mode = modeOfAcl(acl, row.mode) & ~(set.clearSetgid ? S_ISGID : 0);
  return { value: isMinimal(acl) ? undefined : formatAcl(acl), mode };
}
