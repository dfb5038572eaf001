/**
 * Access times: when a read is due to move one, and what becomes of one that comes late. Mounts run both
 * rules too, to show at once what the server will say later.
 *
 * Not a change like others: mtime, ctime and the version stay, and extents that are known stay known. The
 * kernel counts the same way (STATX_CHANGE_COOKIE leaves implicit atime updates out).
 */
import { compareTimespec, type Timespec } from '../base/clock.js';
import type { Access } from '../proto/access-methods.js';
import type { Attr } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { putInode } from './inode.js';
import { ask, type Operation, type OperationContext } from './operation.js';
import type { InodeRow } from './rows.js';

const DAY_SEC = 24 * 60 * 60;
/** Two mounts' ideas of the server's time differ by less. */
const CLOCK_ERROR_SEC = 1;

/**
 * Whether a read at `now` moves the access time under `relatime`: it is not newer than the last change, or a
 * day old. **Source:** relatime_need_update (fs/inode.c).
 */
export function isAccessDue({ atime, mtime, ctime }: Attr, now: Timespec): boolean {
  const isRead = compareTimespec(atime, mtime) > 0 && compareTimespec(atime, ctime) > 0;
  return !isRead || now.sec - atime.sec >= DAY_SEC;
}

/**
 * The access time of an inode once it is known that it was read. It never goes back. Where it is not what
 * the reader saw, somebody has set it meanwhile: that one counts unless the read was surely later, which ctime tells.
 */
export function atimeAfter(attr: Pick<Attr, 'atime' | 'ctime'>, access: Omit<Access, 'ino'>): Timespec {
  if (compareTimespec(access.atime, attr.atime) <= 0) return attr.atime;
  const isAsSeen = compareTimespec(attr.atime, access.seen) === 0;
  const { sec, nsec } = attr.ctime;
  const isLater = compareTimespec(access.atime, { sec: sec + CLOCK_ERROR_SEC, nsec }) > 0;
  return isAsSeen || isLater ? access.atime : attr.atime;
}

/** Takes what a mount has read; no errors. */
export function* accessed(
  _context: OperationContext,
  args: ArgsOf<MetaMethods['accessed']>,
): Operation<ReplyOf<MetaMethods['accessed']>> {
  const rows = new Map<Ino, InodeRow>();
  for (const access of args.files) {
    const row = rows.get(access.ino) ?? (yield* ask({ read: 'inode', ino: access.ino }));
    if (row === undefined) continue;
    const atime = atimeAfter(row, access);
    if (atime !== row.atime) rows.set(access.ino, { ...row, atime });
  }
  return { reply: {}, changes: [...rows.values()].map(putInode) };
}
