/**
 * Finding inodes and reading what they say: lookup, getattr, readlink.
 */
import { isSymlink } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { checkName, existingDentry, isDotDot, isDots } from './dentry.js';
import { attrOf, existingDirectory, existingInode, inodeOf } from './inode.js';
import type { Operation, OperationContext } from './operation.js';

/**
 * The inode that a name leads to; `.` and `..` too (the root's `..` is itself).
 * **Errors:** ENOENT; ENOTDIR (parent is none); EINVAL, ENAMETOOLONG (no possible name).
 * **Source:** path_resolution(7).
 */
export function* lookup(
  _context: OperationContext,
  args: ArgsOf<MetaMethods['lookup']>,
): Operation<ReplyOf<MetaMethods['lookup']>> {
  checkName(args.name, 'lookup');
  const directory = yield* existingDirectory(args.parent, 'lookup');
  if (isDots(args.name)) {
    const ino = isDotDot(args.name) ? (directory.parent ?? directory.ino) : directory.ino;
    return { reply: attrOf(yield* existingInode(ino, 'lookup')), changes: [] };
  }
  const dentry = yield* existingDentry(args.parent, args.name, 'lookup');
  return { reply: attrOf(yield* inodeOf(dentry)), changes: [] };
}

/** **Errors:** ENOENT. */
export function* getattr(
  _context: OperationContext,
  args: ArgsOf<MetaMethods['getattr']>,
): Operation<ReplyOf<MetaMethods['getattr']>> {
  return { reply: attrOf(yield* existingInode(args.ino, 'getattr')), changes: [] };
}

/** **Errors:** ENOENT; EINVAL when the inode is no symlink. */
export function* readlink(
  _context: OperationContext,
  args: ArgsOf<MetaMethods['readlink']>,
): Operation<ReplyOf<MetaMethods['readlink']>> {
  const row = yield* existingInode(args.ino, 'readlink');
  if (!isSymlink(row.mode) || row.target === null) throw new FsError('EINVAL', 'readlink');
  return { reply: { target: row.target }, changes: [] };
}
