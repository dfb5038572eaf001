/**
 * renameat2(2): moving a name, over another one or in exchange with it.
 * **Source:** rename(2), do_renameat2 and vfs_rename (fs/namei.c), ext4_rename (fs/ext4/namei.c).
 */
import { isDir, S_IFCHR } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { inherit } from './acl-rows.js';
import { checkName, existingDentry, isDots, locate, type Place, slotOf } from './dentry.js';
import {
  changed,
  changedInodes,
  entriesChanged,
  existingDirectory,
  growableDirectory,
  inodeOf,
  newInode,
  type Owner,
  putInode,
} from './inode.js';
import { ask, type Operation, type OperationContext, type Outcome, type Reading } from './operation.js';
import { loseName } from './orphan.js';
import type { DentryRow, InodeRow, RowChange } from './rows.js';
import { deleteDentry, isEmpty } from './unlink.js';

/** No directory is moved under one that lies deeper than this (the walk up has to end). */
const MAX_DEPTH = 100_000;

type Reply = ReplyOf<MetaMethods['rename']>;
type Args = ArgsOf<MetaMethods['rename']>;

interface Move {
  readonly context: OperationContext;
  readonly from: InodeRow;
  readonly to: InodeRow;
  readonly source: DentryRow;
  readonly sourceInode: InodeRow;
  readonly hold: boolean | undefined;
}

/**
 * Moves a name; two names of one inode stay as they are (POSIX). What a name replaces loses that name.
 * **Errors:** ENOENT (parents, source; target of an exchange); ENOTDIR (parents; directory over something
 * else); EISDIR (something else over a directory); ENOTEMPTY; EEXIST (`noreplace`); EINVAL (into its own
 * subtree; `.` and `..`; impossible names; a whiteout in an exchange); ENAMETOOLONG; ENOSPC (no slot for the name's hash).
 */
export function* rename(context: OperationContext, args: Args): Operation<Reply> {
  for (const name of [args.name, args.newName]) {
    checkName(name, 'rename');
    if (isDots(name)) throw new FsError('EINVAL', 'rename');
  }
  if (args.whiteout !== undefined && args.mode === 'exchange') throw new FsError('EINVAL', 'rename');
  const from = yield* existingDirectory(args.parent, 'rename');
  const to = yield* growableDirectory(args.newParent, 'rename');
  const source = yield* existingDentry(args.parent, args.name, 'rename');
  const place = yield* locate(args.newParent, args.newName);
  const target = place.dentry;
  if (args.mode === 'noreplace' && target !== undefined) throw new FsError('EEXIST', 'rename');
  if (args.mode === 'exchange' && target === undefined) throw new FsError('ENOENT', 'rename');
  if (isDir(source.kind) && (yield* isWithin(args.newParent, source.ino)))
    throw new FsError('EINVAL', 'rename');
  if (target?.ino === source.ino) return { reply: {}, changes: [] };
  const move: Move = { context, from, to, source, sourceInode: yield* inodeOf(source), hold: args.hold };
  if (target !== undefined && args.mode === 'exchange') return outcome(move, yield* exchange(move, target));
  const moved = target === undefined ? moveTo(move, args.newName, place) : yield* replace(move, target);
  if (args.whiteout === undefined) return outcome(move, moved);
  return outcome(move, yield* withWhiteout(move, moved, args.whiteout));
}

/**
 * The move, with a character device 0:0 under the old name, which union filesystems take for "deleted". The
 * slot is the old name's, unless the new name took that over. It inherits as any new inode does. **Source:**
 * ext4_whiteout_for_rename.
 */
function* withWhiteout(move: Move, moved: Moved, owner: Owner): Reading<Moved> {
  const { context, from, source } = move;
  const { mode, changes: acls } = yield* inherit(from, S_IFCHR, 0);
  const row = yield* newInode(context, from, { mode, owner });
  const dentry: DentryRow = { ...source, ino: row.ino, kind: S_IFCHR };
  const isTaken = moved.changes.some(
    (change) =>
      'put' in change &&
      change.put === 'dentry' &&
      change.row.parent === dentry.parent &&
      change.row.hash === dentry.hash &&
      change.row.slot === dentry.slot,
  );
  if (isTaken) throw new FsError('ENOSPC', 'rename', { detail: 'names of one hash' });
  const whiteout: RowChange[] = [putInode(row), ...acls(row.ino), { put: 'dentry', row: dentry }];
  return { ...moved, changes: [...moved.changes, ...whiteout] };
}

interface Moved {
  readonly changes: readonly RowChange[];
  /** By how many subdirectories each parent has more. */
  readonly fromSubdirs: number;
  readonly toSubdirs: number;
  readonly held?: Reply;
}

function moveTo(move: Move, newName: Uint8Array, place: Place): Moved {
  const { source, to } = move;
  const row: DentryRow = {
    parent: to.ino,
    hash: place.hash,
    slot: slotFor(move, place),
    name: newName,
    ino: source.ino,
    kind: source.kind,
  };
  const subdirs = isDir(source.kind) ? 1 : 0;
  return {
    changes: [deleteDentry(source), { put: 'dentry', row }, putInode(movedInode(move, move.sourceInode, to))],
    fromSubdirs: -subdirs,
    toSubdirs: subdirs,
  };
}

/** The new name's slot; the old name's when both share hash and directory and nothing else is free. */
function slotFor(move: Move, place: Place): number {
  const { source, to } = move;
  const frees = place.slot === undefined && source.parent === to.ino && source.hash === place.hash;
  return frees ? source.slot : slotOf(place, 'rename');
}

function* replace(move: Move, target: DentryRow): Reading<Moved> {
  const { context, source, to } = move;
  yield* checkReplace(move, target);
  const lost = yield* loseName(context, yield* inodeOf(target), move.hold);
  const row: DentryRow = { ...target, ino: source.ino, kind: source.kind };
  const moved = putInode(movedInode(move, move.sourceInode, to));
  return {
    changes: [deleteDentry(source), { put: 'dentry', row }, ...lost.changes, moved],
    held: lost.held,
    fromSubdirs: isDir(source.kind) ? -1 : 0,
    toSubdirs: (isDir(source.kind) ? 1 : 0) - (isDir(target.kind) ? 1 : 0),
  };
}

/** **Errors:** ENOTEMPTY (also for a target that holds the source); ENOTDIR; EISDIR. */
function* checkReplace(move: Move, target: DentryRow): Reading<void> {
  const { source, from } = move;
  if (isDir(target.kind) && (yield* isWithin(from.ino, target.ino))) throw new FsError('ENOTEMPTY', 'rename');
  if (isDir(source.kind) && !isDir(target.kind)) throw new FsError('ENOTDIR', 'rename');
  if (!isDir(source.kind) && isDir(target.kind)) throw new FsError('EISDIR', 'rename');
  if (isDir(target.kind) && !(yield* isEmpty(target.ino))) throw new FsError('ENOTEMPTY', 'rename');
}

function* exchange(move: Move, target: DentryRow): Reading<Moved> {
  const { source, from, to } = move;
  if (isDir(target.kind) && (yield* isWithin(from.ino, target.ino))) throw new FsError('EINVAL', 'rename');
  const targetInode = yield* inodeOf(target);
  const gained = (isDir(source.kind) ? 1 : 0) - (isDir(target.kind) ? 1 : 0);
  return {
    changes: [
      { put: 'dentry', row: { ...source, ino: target.ino, kind: target.kind } },
      { put: 'dentry', row: { ...target, ino: source.ino, kind: source.kind } },
      putInode(movedInode(move, move.sourceInode, to)),
      putInode(movedInode(move, targetInode, from)),
    ],
    fromSubdirs: -gained,
    toSubdirs: gained,
  };
}

function movedInode(move: Move, row: InodeRow, directory: InodeRow): InodeRow {
  const parent = isDir(row.mode) ? directory.ino : null;
  return changed(row, { ctime: move.context.now, parent });
}

function outcome(move: Move, moved: Moved): Outcome<Reply> {
  const { from, to, context } = move;
  const parents =
    from.ino === to.ino
      ? [entriesChanged(to, context.now, moved.fromSubdirs + moved.toSubdirs)]
      : [
          entriesChanged(from, context.now, moved.fromSubdirs),
          entriesChanged(to, context.now, moved.toSubdirs),
        ];
  const reply = { ...moved.held, changed: changedInodes(moved.changes) };
  return { reply, changes: [...moved.changes, ...parents.map(putInode)] };
}

/** Whether directory `ino` is `ancestor` or lies under it. **Errors:** EINVAL beyond MAX_DEPTH. */
function* isWithin(ino: Ino, ancestor: Ino): Reading<boolean> {
  let at = ino;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    if (at === ancestor) return true;
    const row = yield* ask({ read: 'inode', ino: at });
    const parent = row?.parent ?? at;
    if (parent === at) return false;
    at = parent;
  }
  throw new FsError('EINVAL', 'rename', { detail: 'too deep' });
}
