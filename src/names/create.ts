/**
 * Making new names for new inodes: create, mknod, mkdir, symlink. Ownership and permission bits come with
 * the arguments, and the umask, which counts where the directory has no default ACL. Directories may hold any number
 * of subdirectories: limits.linkCount does not count them, as on ext4 with dir_nlink.
 */
import {
  isDir,
  isRegular,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { inherit } from './acl-rows.js';
import { checkName, isDots, locate, type Place, slotOf } from './dentry.js';
import {
  attrOf,
  entriesChanged,
  growableDirectory,
  inodeOf,
  newInode,
  type Owner,
  putInode,
} from './inode.js';
import type { Operation, OperationContext, Outcome, Reading } from './operation.js';
import type { DentryRow, InodeRow, RowChange } from './rows.js';
import { truncateFile } from './truncate.js';

/** A free place in a directory. */
export interface Vacancy {
  readonly directory: InodeRow;
  readonly place: Place;
}

interface NewNode {
  readonly parent: Ino;
  readonly name: Uint8Array;
  readonly owner: Owner;
  readonly umask?: number;
}

/**
 * Finds where a new name goes. **Errors:** ENOENT, ENOTDIR (the parent); EEXIST, for `.` and `..` too;
 * EINVAL, ENAMETOOLONG (no possible name). ENOSPC comes from `newDentry`.
 */
export function* vacancy(parent: Ino, name: Uint8Array, op: string): Reading<Vacancy> {
  checkName(name, op);
  const directory = yield* growableDirectory(parent, op);
  if (isDots(name)) throw new FsError('EEXIST', op);
  const place = yield* locate(parent, name);
  if (place.dentry !== undefined) throw new FsError('EEXIST', op);
  return { directory, place };
}

/** The row of a new name. **Errors:** ENOSPC when its hash has no slot left. */
export function newDentry(at: Vacancy, name: Uint8Array, row: InodeRow, op: string): DentryRow {
  const slot = slotOf(at.place, op);
  return {
    parent: at.directory.ino,
    hash: at.place.hash,
    slot,
    name,
    ino: row.ino,
    kind: row.mode & S_IFMT,
  };
}

function* makeNode(
  context: OperationContext,
  at: Vacancy,
  name: Uint8Array,
  node: {
    mode: number;
    umask: number;
    owner: Owner;
    rdev?: number | undefined;
    target?: Uint8Array | undefined;
  },
  op: string,
): Reading<{ row: InodeRow; changes: RowChange[] }> {
  slotOf(at.place, op);
  const { mode, changes: acls } = yield* inherit(at.directory, node.mode, node.umask);
  const row = yield* newInode(context, at.directory, {
    mode,
    owner: node.owner,
    rdev: node.rdev,
    target: node.target,
  });
  const directory = entriesChanged(at.directory, context.now, isDir(row.mode) ? 1 : 0);
  const changes: RowChange[] = [
    putInode(row),
    ...acls(row.ino),
    { put: 'dentry', row: newDentry(at, name, row, op) },
    putInode(directory),
  ];
  return { row, changes };
}

/**
 * Creates a regular file and opens it for the session; without `exclusive` opens the regular file that is
 * there, truncated on request. **Errors:** those of `vacancy`, ENOSPC; EISDIR for a directory; EOPNOTSUPP for
 * anything else that is no regular file (a symlink, a device): the caller has to look the name up again.
 */
export function* create(
  context: OperationContext,
  args: ArgsOf<MetaMethods['create']>,
): Operation<ReplyOf<MetaMethods['create']>> {
  checkName(args.name, 'create');
  const directory = yield* growableDirectory(args.parent, 'create');
  if (isDots(args.name)) throw new FsError(args.exclusive ? 'EEXIST' : 'EISDIR', 'create');
  const place = yield* locate(args.parent, args.name);
  if (place.dentry !== undefined) return yield* openExisting(context, place.dentry, args);
  const node = { mode: S_IFREG | (args.mode & 0o7777), umask: args.umask ?? 0, owner: args.owner };
  const made = yield* makeNode(context, { directory, place }, args.name, node, 'create');
  const open: RowChange = { put: 'open', ino: made.row.ino, session: context.session };
  return { reply: { attr: attrOf(made.row), created: true }, changes: [...made.changes, open] };
}

function* openExisting(
  context: OperationContext,
  dentry: DentryRow,
  args: { exclusive: boolean; truncate: boolean },
): Operation<ReplyOf<MetaMethods['create']>> {
  if (args.exclusive) throw new FsError('EEXIST', 'create');
  const row = yield* inodeOf(dentry);
  if (isDir(row.mode)) throw new FsError('EISDIR', 'create');
  if (!isRegular(row.mode)) throw new FsError('EOPNOTSUPP', 'create');
  const open: RowChange = { put: 'open', ino: row.ino, session: context.session };
  if (!args.truncate) return { reply: { attr: attrOf(row), created: false }, changes: [open] };
  const cut = yield* truncateFile(context, row);
  return { reply: { attr: attrOf(cut.row), created: false }, changes: [...cut.changes, open] };
}

const NODE_TYPES: readonly number[] = [S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK];

/** **Errors:** those of `vacancy`, ENOSPC; EINVAL for a file type that mknod does not make. */
export function* mknod(
  context: OperationContext,
  args: ArgsOf<MetaMethods['mknod']>,
): Operation<ReplyOf<MetaMethods['mknod']>> {
  const type = args.mode & S_IFMT;
  if (!NODE_TYPES.includes(type)) throw new FsError('EINVAL', 'mknod');
  const rdev = type === S_IFCHR || type === S_IFBLK ? args.rdev : 0;
  return yield* named(context, args, { mode: type | (args.mode & 0o7777), rdev }, 'mknod');
}

/** **Errors:** those of `vacancy`, ENOSPC. */
export function* mkdir(
  context: OperationContext,
  args: ArgsOf<MetaMethods['mkdir']>,
): Operation<ReplyOf<MetaMethods['mkdir']>> {
  return yield* named(context, args, { mode: S_IFDIR | (args.mode & 0o7777) }, 'mkdir');
}

/** **Errors:** those of `vacancy`, ENOSPC; ENOENT, EINVAL, ENAMETOOLONG for a target that cannot be one. */
export function* symlink(
  context: OperationContext,
  args: ArgsOf<MetaMethods['symlink']>,
): Operation<ReplyOf<MetaMethods['symlink']>> {
  if (args.target.length === 0) throw new FsError('ENOENT', 'symlink');
  if (args.target.length >= limits.pathBytes) throw new FsError('ENAMETOOLONG', 'symlink');
  if (args.target.includes(0)) throw new FsError('EINVAL', 'symlink');
  return yield* named(context, args, { mode: S_IFLNK | 0o777, target: args.target }, 'symlink');
}

function* named(
  context: OperationContext,
  at: NewNode,
  node: { mode: number; rdev?: number; target?: Uint8Array },
  op: string,
): Operation<ReplyOf<MetaMethods['mknod']>> {
  const free = yield* vacancy(at.parent, at.name, op);
  const made = yield* makeNode(
    context,
    free,
    at.name,
    { mode: node.mode, umask: at.umask ?? 0, owner: at.owner, rdev: node.rdev, target: node.target },
    op,
  );
  const outcome: Outcome<ReplyOf<MetaMethods['mknod']>> = {
    reply: attrOf(made.row),
    changes: made.changes,
  };
  return outcome;
}
