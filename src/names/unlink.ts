/**
 * Removing names: unlink and rmdir. What becomes of the inode is told in orphan.ts.
 */
import { isDir } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { checkName, existingDentry, isDotDot, isDots } from './dentry.js';
import { changedInodes, entriesChanged, existingDirectory, inodeOf, putInode } from './inode.js';
import { ask, type Operation, type OperationContext, type Reading } from './operation.js';
import { loseName } from './orphan.js';
import type { DentryRow, RowChange } from './rows.js';

/** **Errors:** ENOENT; ENOTDIR (parent); EISDIR, for `.` and `..` too; EINVAL, ENAMETOOLONG. */
export function* unlink(
  context: OperationContext,
  args: ArgsOf<MetaMethods['unlink']>,
): Operation<ReplyOf<MetaMethods['unlink']>> {
  checkName(args.name, 'unlink');
  const directory = yield* existingDirectory(args.parent, 'unlink');
  if (isDots(args.name)) throw new FsError('EISDIR', 'unlink');
  const dentry = yield* existingDentry(args.parent, args.name, 'unlink');
  if (isDir(dentry.kind)) throw new FsError('EISDIR', 'unlink');
  const lost = yield* loseName(context, yield* inodeOf(dentry), args.hold);
  return {
    reply: { ...lost.held, changed: changedInodes(lost.changes) },
    changes: [deleteDentry(dentry), ...lost.changes, putInode(entriesChanged(directory, context.now))],
  };
}

/**
 * **Errors:** ENOENT; ENOTDIR (parent or victim); ENOTEMPTY, for `..` too; EINVAL for `.` and impossible
 * names; ENAMETOOLONG. **Source:** rmdir(2), do_rmdir (fs/namei.c).
 */
export function* rmdir(
  context: OperationContext,
  args: ArgsOf<MetaMethods['rmdir']>,
): Operation<ReplyOf<MetaMethods['rmdir']>> {
  checkName(args.name, 'rmdir');
  const directory = yield* existingDirectory(args.parent, 'rmdir');
  if (isDots(args.name)) throw new FsError(isDotDot(args.name) ? 'ENOTEMPTY' : 'EINVAL', 'rmdir');
  const dentry = yield* existingDentry(args.parent, args.name, 'rmdir');
  if (!isDir(dentry.kind)) throw new FsError('ENOTDIR', 'rmdir');
  if (!(yield* isEmpty(dentry.ino))) throw new FsError('ENOTEMPTY', 'rmdir');
  const lost = yield* loseName(context, yield* inodeOf(dentry), args.hold);
  return {
    reply: { ...lost.held, changed: changedInodes(lost.changes) },
    changes: [deleteDentry(dentry), ...lost.changes, putInode(entriesChanged(directory, context.now, -1))],
  };
}

export function deleteDentry(row: DentryRow): RowChange {
  return { delete: 'dentry', parent: row.parent, hash: row.hash, name: row.name };
}

/** Whether a directory has no entries. */
export function* isEmpty(ino: Ino): Reading<boolean> {
  return (yield* ask({ read: 'dentries', parent: ino, fromHash: 0, limit: 1 })).length === 0;
}
