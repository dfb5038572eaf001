/**
 * Listing a directory page by page. A page ends at a whole group of equal hashes, because rows come in
 * (hash, name) order while cookies rise with (hash, slot).
 */
import type { DirEntry, MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { cookieHash, DENTRY_SLOTS, dentryCookie } from './dentry.js';
import { attrOf, existingDirectory, inodeOf } from './inode.js';
import { ask, type Operation, type OperationContext } from './operation.js';
import type { DentryRow } from './rows.js';

/**
 * Entries behind `after` in cookie order, at most `limit`, without `.` and `..`. An entry that exists
 * throughout a pass is returned exactly once, whatever happens to others.
 * **Errors:** ENOENT; ENOTDIR.
 */
export function* readdir(
  _context: OperationContext,
  args: ArgsOf<MetaMethods['readdir']>,
): Operation<ReplyOf<MetaMethods['readdir']>> {
  const directory = yield* existingDirectory(args.ino, 'readdir');
  // The first group may lie before the cookie, and the last may be cut: room for both, and one to see the end.
  const asked = args.limit + 2 * DENTRY_SLOTS + 1;
  const rows = yield* ask({
    read: 'dentries',
    parent: args.ino,
    fromHash: cookieHash(args.after),
    limit: asked,
  });
  const whole = rows.length < asked ? [...rows] : withoutLastGroup(rows);
  whole.sort((a, b) => dentryCookie(a) - dentryCookie(b));
  const behind = whole.filter((row) => dentryCookie(row) > args.after);
  const page = behind.slice(0, args.limit);
  const entries: DirEntry[] = [];
  for (const row of page) {
    const entry = { name: row.name, ino: row.ino, kind: row.kind, cookie: dentryCookie(row) };
    entries.push(args.plus ? { ...entry, attr: attrOf(yield* inodeOf(row)) } : entry);
  }
  const end = rows.length < asked && page.length === behind.length;
  return { reply: { entries, parent: directory.parent ?? args.ino, end }, changes: [] };
}

function withoutLastGroup(rows: readonly DentryRow[]): DentryRow[] {
  const last = rows[rows.length - 1]?.hash;
  return rows.filter((row) => row.hash !== last);
}
