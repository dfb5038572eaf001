/**
 * Another name for an inode that is there.
 */
import { isDir } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { newDentry, vacancy } from './create.js';
import { attrOf, changed, entriesChanged, existingInode, putInode } from './inode.js';
import type { Operation, OperationContext } from './operation.js';

/**
 * `unnamed`: the inode was opened without a name (`tmpfile`) and never had one, so this may be its first.
 * **Errors:** those of `vacancy` and ENOSPC; EPERM for a directory; ENOENT when the inode has lost its last
 * name (it is only open); EMLINK at limits.linkCount. **Source:** vfs_link, I_LINKABLE (fs/namei.c).
 */
export function* link(
  context: OperationContext,
  args: ArgsOf<MetaMethods['link']>,
): Operation<ReplyOf<MetaMethods['link']>> {
  const row = yield* existingInode(args.ino, 'link');
  const free = yield* vacancy(args.parent, args.name, 'link');
  if (isDir(row.mode)) throw new FsError('EPERM', 'link');
  if (row.nlink === 0 && args.unnamed !== true) throw new FsError('ENOENT', 'link');
  if (row.nlink >= limits.linkCount) throw new FsError('EMLINK', 'link');
  const linked = changed(row, { nlink: row.nlink + 1, ctime: context.now });
  return {
    reply: attrOf(linked),
    changes: [
      putInode(linked),
      { put: 'dentry', row: newDentry(free, args.name, row, 'link') },
      putInode(entriesChanged(free.directory, context.now)),
    ],
  };
}
