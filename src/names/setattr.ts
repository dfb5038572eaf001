/**
 * Changing attributes: chmod, chown, truncate, utimens.
 */
import { isDir, S_IFMT } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods, SetAttr } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { aclAfterChmod } from './acl-rows.js';
import { attrOf, changed, checkFile, existingInode, putInode } from './inode.js';
import type { Operation, OperationContext, Reading } from './operation.js';
import { dropCapability, unprivilegedMode } from './privileges.js';
import type { InodeRow, RowChange } from './rows.js';
import { cutExtents } from './truncate.js';

/**
 * Sets what `set` holds. A change of owner or group, even to the same, takes setuid, setgid and capabilities
 * from anything but a directory. Setting the size, even to the same, takes the capabilities and moves mtime
 * and ctime. Anything else set moves ctime, unless `set.ctime` says where to; `clearPrivileges` alone, where
 * there are none, changes nothing. A mode that is set goes into the access ACL as well.
 * **Errors:** ENOENT; EISDIR, EINVAL (size of what is no regular file); EFBIG.
 * **Source:** notify_change (fs/attr.c), ext4_setattr (fs/ext4/inode.c).
 */
export function* setattr(
  context: OperationContext,
  args: ArgsOf<MetaMethods['setattr']>,
): Operation<ReplyOf<MetaMethods['setattr']>> {
  const before = yield* existingInode(args.ino, 'setattr');
  const { set } = args;
  const changes: RowChange[] = [];
  const resized = yield* resize(before, set, changes);
  const owned = (set.uid !== undefined || set.gid !== undefined) && !isDir(before.mode);
  const cleared = owned || (set.clearPrivileges === true && !isDir(before.mode));
  if (cleared || resized !== undefined) changes.push(...(yield* dropCapability(before)));
  const mode = newMode(before.mode, set, cleared);
  if (set.mode !== undefined) changes.push(...(yield* aclAfterChmod(before, mode)));
  const sets = Object.keys(set).some((key) => key !== 'clearPrivileges');
  if (!sets && changes.length === 0 && mode === before.mode) return { reply: attrOf(before), changes: [] };
  const at = (time: SetAttr['atime']) => (time === 'now' ? context.now : time);
  const row = changed(before, {
    size: resized?.size,
    allocated: resized?.allocated,
    mode,
    uid: set.uid,
    gid: set.gid,
    atime: at(set.atime),
    mtime: at(set.mtime) ?? (resized === undefined ? undefined : context.now),
    ctime: at(set.ctime) ?? context.now,
  });
  return { reply: attrOf(row), changes: [...changes, putInode(row)] };
}

/** The new size and allocation, or undefined when no size is set. */
function* resize(
  row: InodeRow,
  set: SetAttr,
  changes: RowChange[],
): Reading<{ size: number; allocated: number } | undefined> {
  if (set.size === undefined) return undefined;
  checkFile(row, 'setattr');
  if (set.size > limits.fileBytes) throw new FsError('EFBIG', 'setattr');
  if (set.size >= row.size) return { size: set.size, allocated: row.allocated };
  const cut = yield* cutExtents(row, set.size);
  changes.push(...cut.changes);
  return { size: set.size, allocated: cut.allocated };
}

function newMode(mode: number, set: SetAttr, cleared: boolean): number {
  if (set.mode !== undefined) return (mode & S_IFMT) | (set.mode & 0o7777);
  return cleared ? unprivilegedMode(mode) : mode;
}
