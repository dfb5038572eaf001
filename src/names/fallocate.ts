/**
 * fallocate(2): making a file long enough, and holes in it. No space is set aside: a chunk store has none that
 * belongs to a file before its bytes are written. Whether there is room at all is the mount's question.
 */
import { FsError } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { attrOf, changed, existingFile, putInode } from './inode.js';
import type { Operation, OperationContext } from './operation.js';
import { dropCapability, unprivilegedMode } from './privileges.js';
import { clearExtents } from './truncate.js';

/**
 * Moves mtime and ctime whatever it changes. **Errors:** ENOENT; EISDIR, EINVAL (no regular file); EFBIG.
 * **Source:** fallocate(2), ext4_fallocate (fs/ext4/extents.c).
 */
export function* fallocate(
  context: OperationContext,
  args: ArgsOf<MetaMethods['fallocate']>,
): Operation<ReplyOf<MetaMethods['fallocate']>> {
  const before = yield* existingFile(args.ino, 'fallocate');
  const end = args.offset + args.length;
  if (end > limits.fileBytes) throw new FsError('EFBIG', 'fallocate');
  const cut =
    args.mode === 'zero'
      ? yield* clearExtents(before, { from: args.offset, to: end })
      : { allocated: before.allocated, changes: [] };
  const capability = args.clearPrivileges ? yield* dropCapability(before) : [];
  const row = changed(before, {
    size: args.keepSize ? before.size : Math.max(before.size, end),
    allocated: cut.allocated,
    mode: args.clearPrivileges ? unprivilegedMode(before.mode) : before.mode,
    mtime: context.now,
    ctime: context.now,
  });
  return { reply: attrOf(row), changes: [...cut.changes, ...capability, putInode(row)] };
}
