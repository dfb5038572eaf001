/**
 * Inode rows: reading one that must be there, making one, changing one.
 *
 * An inode without names that nobody has open is gone, whether or not its rows still wait to be reaped:
 * every operation answers ENOENT for it. Access times move by `setattr` and `accessed` alone.
 */
import { present } from '../base/assert.js';
import type { Timespec } from '../base/clock.js';
import { type Attr, isDir, isRegular, S_IFDIR, S_ISGID } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import { type Ino, ROOT_INO } from '../proto/ids.js';
import type { Changed } from '../proto/meta-methods.js';
import { ask, type OperationContext, type Reading } from './operation.js';
import type { DentryRow, InodeRow, RowChange } from './rows.js';

/** A directory's size as stat shows it: ext4's block, whatever it holds. */
export const DIRECTORY_BYTES = 4096;

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** An inode by number. **Errors:** ENOENT when it is not there, or has no name and nobody has it open. */
export function* existingInode(ino: Ino, op: string): Reading<InodeRow> {
  const row = yield* ask({ read: 'inode', ino });
  if (row === undefined) throw new FsError('ENOENT', op);
  if (row.nlink === 0 && !(yield* ask({ read: 'isOpen', ino }))) throw new FsError('ENOENT', op);
  return row;
}

/** **Errors:** ENOENT; ENOTDIR. */
export function* existingDirectory(ino: Ino, op: string): Reading<InodeRow> {
  const row = yield* existingInode(ino, op);
  if (!isDir(row.mode)) throw new FsError('ENOTDIR', op);
  return row;
}

/** A directory that may get entries. **Errors:** ENOENT (also when it was removed and is only open); ENOTDIR. */
export function* growableDirectory(ino: Ino, op: string): Reading<InodeRow> {
  const row = yield* existingDirectory(ino, op);
  if (row.nlink === 0) throw new FsError('ENOENT', op);
  return row;
}

/** **Errors:** ENOENT; EISDIR; EINVAL for what is neither file nor directory. */
export function* existingFile(ino: Ino, op: string): Reading<InodeRow> {
  const row = yield* existingInode(ino, op);
  checkFile(row, op);
  return row;
}

/** **Errors:** EISDIR; EINVAL for what is neither file nor directory. */
export function checkFile(row: InodeRow, op: string): void {
  if (isDir(row.mode)) throw new FsError('EISDIR', op);
  if (!isRegular(row.mode)) throw new FsError('EINVAL', op);
}

/** The inode that a dentry leads to. It exists: INVARIANT of the rows. */
export function* inodeOf(dentry: DentryRow): Reading<InodeRow> {
  return present(yield* ask({ read: 'inode', ino: dentry.ino }), `dentry leads to inode ${dentry.ino}`);
}

type Fixed = 'ino' | 'rdev' | 'crtime' | 'version' | 'target' | 'lease' | 'exclusive';
type Change = { readonly [K in Exclude<keyof InodeRow, Fixed>]?: InodeRow[K] | undefined };

/** The row with some columns changed and its version risen. Column by column: spreading both takes several times as long. */
export function changed(row: InodeRow, change: Change): InodeRow {
  return {
    ino: row.ino,
    mode: change.mode ?? row.mode,
    nlink: change.nlink ?? row.nlink,
    uid: change.uid ?? row.uid,
    gid: change.gid ?? row.gid,
    rdev: row.rdev,
    size: change.size ?? row.size,
    allocated: change.allocated ?? row.allocated,
    atime: change.atime ?? row.atime,
    mtime: change.mtime ?? row.mtime,
    ctime: change.ctime ?? row.ctime,
    crtime: row.crtime,
    version: row.version + 1,
    parent: change.parent === undefined ? row.parent : change.parent,
    target: row.target,
  };
}

export const putInode = (row: InodeRow): RowChange => ({ put: 'inode', row });

/** A directory after its entries changed; `subdirs` is by how many directories it has more. */
export function entriesChanged(directory: InodeRow, now: Timespec, subdirs = 0): InodeRow {
  return changed(directory, { mtime: now, ctime: now, nlink: directory.nlink + subdirs });
}

/**
 * A new inode in `directory`: setgid directories hand down their group, and to directories the setgid bit.
 * **Source:** inode_init_owner (fs/inode.c); what the kernel strips from `mode` it has stripped before.
 */
export function* newInode(
  context: OperationContext,
  directory: InodeRow,
  node: { mode: number; owner: Owner; rdev?: number | undefined; target?: Uint8Array | undefined },
): Reading<InodeRow> {
  const inherits = (directory.mode & S_ISGID) !== 0;
  const dir = isDir(node.mode);
  return {
    ino: yield* ask({ read: 'newIno' }),
    mode: inherits && dir ? node.mode | S_ISGID : node.mode,
    nlink: dir ? 2 : 1,
    uid: node.owner.uid,
    gid: inherits ? directory.gid : node.owner.gid,
    rdev: node.rdev ?? 0,
    size: dir ? DIRECTORY_BYTES : (node.target?.length ?? 0),
    allocated: 0,
    atime: context.now,
    mtime: context.now,
    ctime: context.now,
    crtime: context.now,
    version: 1,
    parent: dir ? directory.ino : null,
    target: node.target ?? null,
  };
}

/** The root directory of a new filesystem: mode 0755, of uid and gid 0. */
export function rootInode(now: Timespec): InodeRow {
  return {
    ino: ROOT_INO,
    mode: S_IFDIR | 0o755,
    nlink: 2,
    uid: 0,
    gid: 0,
    rdev: 0,
    size: DIRECTORY_BYTES,
    allocated: 0,
    atime: now,
    mtime: now,
    ctime: now,
    crtime: now,
    version: 1,
    parent: ROOT_INO,
    target: null,
  };
}

/** What crosses the wire of a row. */
export function attrOf(row: InodeRow): Attr {
  // Each by name: it is made at every change, and copying all but two takes several times as long.
  const { ino, mode, nlink, uid, gid, rdev, size, allocated, atime, mtime, ctime, crtime, version } = row;
  return { ino, mode, nlink, uid, gid, rdev, size, allocated, atime, mtime, ctime, crtime, version };
}

/** The inodes whose rows are among these changes, as they are afterwards. */
export function changedInodes(changes: readonly RowChange[]): Changed[] {
  return changes.flatMap((change): Changed[] => {
    if ('put' in change) {
      if (change.put !== 'inode') return [];
      const { ino, version, ctime } = change.row;
      return [{ ino, state: { version, ctime } }];
    }
    return 'delete' in change && change.delete === 'inode' ? [{ ino: change.ino }] : [];
  });
}
