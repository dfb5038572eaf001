/**
 * Files that begin without a name: O_TMPFILE of open(2).
 */
import { S_IFREG } from '../proto/attr.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { inherit } from './acl-rows.js';
import { attrOf, growableDirectory, newInode, putInode } from './inode.js';
import type { Operation, OperationContext } from './operation.js';

/**
 * Makes a regular file that has no name and is open for the session; the directory says what it inherits.
 * **Errors:** ENOENT (also for a removed directory); ENOTDIR. **Source:** vfs_tmpfile (fs/namei.c).
 */
export function* tmpfile(
  context: OperationContext,
  args: ArgsOf<MetaMethods['tmpfile']>,
): Operation<ReplyOf<MetaMethods['tmpfile']>> {
  const directory = yield* growableDirectory(args.parent, 'tmpfile');
  const { mode, changes: acls } = yield* inherit(directory, S_IFREG | args.mode, args.umask ?? 0);
  const row = { ...(yield* newInode(context, directory, { mode, owner: args.owner })), nlink: 0 };
  return {
    reply: attrOf(row),
    changes: [putInode(row), ...acls(row.ino), { put: 'open', ino: row.ino, session: context.session }],
  };
}
