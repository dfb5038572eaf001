/**
 * Which session has which inode open: what keeps an inode alive behind its last name. A session says so once
 * however many descriptors it has, and says once that the last is closed.
 */
import { isDir, isRegular } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { attrOf, checkFile, existingInode } from './inode.js';
import { ask, type Operation, type OperationContext, type Reading } from './operation.js';
import { discard } from './orphan.js';
import type { RowChange } from './rows.js';
import { truncateFile } from './truncate.js';

/**
 * Marks a file or directory open by the session; `truncate` empties a file in the same step.
 * **Errors:** ENOENT; EISDIR (truncate of a directory); EINVAL for what is neither file nor directory.
 */
export function* open(
  context: OperationContext,
  args: ArgsOf<MetaMethods['open']>,
): Operation<ReplyOf<MetaMethods['open']>> {
  const row = yield* existingInode(args.ino, 'open');
  const mark: RowChange = { put: 'open', ino: row.ino, session: context.session };
  if (args.truncate) {
    checkFile(row, 'open');
    const cut = yield* truncateFile(context, row);
    return { reply: attrOf(cut.row), changes: [...cut.changes, mark] };
  }
  if (!isDir(row.mode) && !isRegular(row.mode)) throw new FsError('EINVAL', 'open');
  return { reply: attrOf(row), changes: [mark] };
}

/** The session has these no longer open; orphans that nobody else has open are removed. */
export function* release(
  context: OperationContext,
  args: ArgsOf<MetaMethods['release']>,
): Operation<ReplyOf<MetaMethods['release']>> {
  return { reply: {}, changes: yield* letGo(context, args.inos) };
}

/**
 * Releases at most `limit` (> 0) of what `context.session` has open, for a session that has ended.
 * `more`: call again.
 */
export function* releaseSession(
  context: OperationContext,
  args: { limit: number },
): Operation<{ more: boolean }> {
  const inos = yield* ask({ read: 'opens', session: context.session, limit: args.limit });
  return { reply: { more: inos.length === args.limit }, changes: yield* letGo(context, inos) };
}

function* letGo(context: OperationContext, inos: readonly Ino[]): Reading<RowChange[]> {
  const session = context.session;
  const changes: RowChange[] = [];
  for (const ino of new Set(inos)) {
    changes.push({ delete: 'open', ino, session });
    const row = yield* ask({ read: 'inode', ino });
    if (row === undefined || row.nlink > 0) continue;
    if (yield* ask({ read: 'isOpenByOthers', ino, session })) continue;
    changes.push(...(yield* discard(row)));
  }
  return changes;
}
