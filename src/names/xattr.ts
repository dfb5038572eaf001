/**
 * Extended attributes: byte strings by name. Namespaces (`user.`, `security.`, ...) and who may use them are
 * checked above; here a name is only bytes, but for the two that hold ACLs: those are checked, and the mode
 * follows them.
 * **Source:** xattr(7), setxattr(2).
 */
import { FsError } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { aclKind, changedAcl } from './acl-rows.js';
import { changed, existingInode, putInode } from './inode.js';
import { ask, type Operation, type OperationContext } from './operation.js';
import type { RowChange, XattrRow } from './rows.js';

/** Thrown at the first write to every file, whose capabilities the kernel asks for; made once. */
const NO_SUCH_XATTR = new FsError('ENODATA', 'getxattr');

/** **Errors:** ENOENT; ENODATA when there is no such attribute. */
export function* getxattr(
  _context: OperationContext,
  args: ArgsOf<MetaMethods['getxattr']>,
): Operation<ReplyOf<MetaMethods['getxattr']>> {
  yield* existingInode(args.ino, 'getxattr');
  const row = yield* ask({ read: 'xattr', ino: args.ino, name: args.name });
  if (row === undefined) throw NO_SUCH_XATTR;
  return { reply: { value: row.value }, changes: [] };
}

/**
 * Setting the value that is there changes nothing, not even ctime. **Source:** ext4_xattr_set_handle.
 * **Errors:** ENOENT; EEXIST (`create`); ENODATA (`replace`); ENOSPC when names would no longer fit one
 * listing (limits.xattrListBytes) or names and values would pass limits.xattrTotalBytes; for an ACL those of
 * `changedAcl`.
 */
export function* setxattr(
  context: OperationContext,
  args: ArgsOf<MetaMethods['setxattr']>,
): Operation<ReplyOf<MetaMethods['setxattr']>> {
  const inode = yield* existingInode(args.ino, 'setxattr');
  const rows = yield* ask({ read: 'xattrs', ino: args.ino });
  const others = rows.filter((row) => Buffer.compare(row.name, args.name) !== 0);
  const exists = others.length < rows.length;
  if (args.mode === 'create' && exists) throw new FsError('EEXIST', 'setxattr');
  if (args.mode === 'replace' && !exists) throw new FsError('ENODATA', 'setxattr');
  const kind = aclKind(args.name);
  const acl =
    kind === undefined
      ? undefined
      : changedAcl(inode, kind, { value: args.value, clearSetgid: args.clearSetgid ?? false });
  const { value, mode } = acl ?? { value: args.value, mode: inode.mode };
  const before = rows.find((row) => !others.includes(row))?.value;
  if (mode === inode.mode && isSameValue(before, value)) return { reply: {}, changes: [] };
  const change: RowChange =
    value === undefined
      ? { delete: 'xattr', ino: args.ino, name: args.name }
      : { put: 'xattr', row: { ino: args.ino, name: args.name, value } };
  if ('put' in change && change.put === 'xattr') checkRoom([...others, change.row]);
  return { reply: {}, changes: [change, putInode(changed(inode, { mode, ctime: context.now }))] };
}

function isSameValue(before: Uint8Array | undefined, after: Uint8Array | undefined): boolean {
  if (before === undefined || after === undefined) return before === after;
  return Buffer.compare(before, after) === 0;
}

function checkRoom(rows: readonly XattrRow[]): void {
  let list = 0;
  let total = 0;
  for (const row of rows) {
    list += row.name.length + 1;
    total += row.name.length + row.value.length;
  }
  if (list > limits.xattrListBytes || total > limits.xattrTotalBytes) throw new FsError('ENOSPC', 'setxattr');
}

/** **Errors:** ENOENT. */
export function* listxattr(
  _context: OperationContext,
  args: ArgsOf<MetaMethods['listxattr']>,
): Operation<ReplyOf<MetaMethods['listxattr']>> {
  yield* existingInode(args.ino, 'listxattr');
  const rows = yield* ask({ read: 'xattrs', ino: args.ino });
  return { reply: { names: rows.map((row) => row.name) }, changes: [] };
}

/** **Errors:** ENOENT; ENODATA when there is no such attribute; an ACL may be removed where there is none. */
export function* removexattr(
  context: OperationContext,
  args: ArgsOf<MetaMethods['removexattr']>,
): Operation<ReplyOf<MetaMethods['removexattr']>> {
  const inode = yield* existingInode(args.ino, 'removexattr');
  const row = yield* ask({ read: 'xattr', ino: args.ino, name: args.name });
  if (row === undefined) {
    if (aclKind(args.name) !== undefined) return { reply: {}, changes: [] };
    throw new FsError('ENODATA', 'removexattr');
  }
  return {
    reply: {},
    changes: [
      { delete: 'xattr', ino: args.ino, name: args.name },
      putInode(changed(inode, { ctime: context.now })),
    ],
  };
}
