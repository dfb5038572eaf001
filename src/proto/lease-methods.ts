/**
 * Leases over the wire. They are granted along with attributes (Attr.lease) and belong to the session and its
 * connection: what was granted over one connection is void on the next, but for what its journal holds.
 */
import { type Static, Type } from '@sinclair/typebox';
import { tAttr } from './attr.js';
import { tExtent } from './extent.js';
import { limits } from './limits.js';
import { method } from './method.js';
import { tCount, tIno, tName, tNothing, tTarget, tTimespec, tXattrName, tXattrValue } from './schema.js';

/** `keep`: what the holder may go on with; absent: nothing. */
const tLeases = Type.Array(
  Type.Object({ ino: tIno, epoch: tCount, keep: Type.Optional(Type.Literal('shared')) }),
  { maxItems: limits.leasesPerMessage },
);

/** The mutations that a mount may carry out itself under exclusive leases. */
export const JOURNALLED = [
  'setattr',
  'create',
  'mknod',
  'mkdir',
  'symlink',
  'link',
  'unlink',
  'rmdir',
  'rename',
  'open',
  'release',
  'setxattr',
  'removexattr',
  'commit',
  'fallocate',
  'copyRange',
  'tmpfile',
] as const;
export type Journalled = (typeof JOURNALLED)[number];

/** An operation that a mount has carried out already. */
export const tJournalEntry = Type.Object({
  method: Type.Union(JOURNALLED.map((name) => Type.Literal(name))),
  /** As the method takes them. */
  args: Type.Unknown(),
  /** The time that it gave to what it changed. */
  now: tTimespec,
  /** The number that it gave to a new inode. */
  ino: Type.Optional(tIno),
  /**
   * The inodes that it went by, each with the version and the time of change that it had: what this mount makes
   * of a version and what others make of it once its leases have ended differ in the time.
   */
  saw: Type.Array(Type.Tuple([tIno, tCount, tTimespec]), { maxItems: limits.journalSaw }),
});

/** What there is to know of a session that is resumed. */
export const tLeftBehind = Type.Object({
  /** Its leases have ended without its doing: what it did under them others may not have waited for. */
  lapsed: Type.Boolean(),
});

/** An inode with everything that the rules of names/ go by. */
export const tTaken = Type.Object({
  /** With its lease, which is exclusive. */
  attr: tAttr,
  /** The lease of this session that it stands in for. */
  was: Type.Optional(tCount),
  /** As in InodeRow. */
  parent: Type.Union([tIno, Type.Null()]),
  target: Type.Union([tTarget, Type.Null()]),
  extents: Type.Array(tExtent, { maxItems: limits.takenExtents }),
  xattrs: Type.Array(Type.Object({ name: tXattrName, value: tXattrValue }), { maxItems: limits.takenXattrs }),
  /** The server knows it as open in this session. */
  isOpen: Type.Boolean(),
  /** All entries of a directory; absent: there are too many. */
  entries: Type.Optional(
    Type.Array(Type.Object({ name: tName, ino: tIno }), { maxItems: limits.takenEntries }),
  ),
});
export type Taken = Static<typeof tTaken>;

export const leaseMethods = {
  /**
   * Exclusive leases on inodes that are there already, for a mount that goes on changing them. Granted are those
   * that nobody else has a lease on, or has open. Shared leases of others on the first `recall` of them are recalled
   * first, except on what is open elsewhere or goes back and forth between mounts; without, nobody waits. What is not
   * granted, or has too many extents or xattrs, is not in the reply.
   */
  takeLeases: method('read', {
    args: Type.Object({
      inos: Type.Array(tIno, { maxItems: limits.takenPerMessage }),
      recall: Type.Optional(Type.Integer({ minimum: 0, maximum: limits.takenPerMessage })),
    }),
    reply: Type.Object({ taken: Type.Array(tTaken, { maxItems: limits.takenPerMessage }) }),
  }),
  /**
   * Which of these inodes are as they were: each with the version and the time of change that a mount remembers
   * of it from before. `unchanged`: the epoch of the mount's lease and the access time, which versions do not
   * cover. `unleased`: as the server knows them, and another mount's alone now. The others have changed, or are gone.
   */
  revalidate: method('read', {
    args: Type.Object({
      inodes: Type.Array(Type.Tuple([tIno, tCount, tTimespec]), {
        minItems: 1,
        maxItems: limits.revalidatedAtOnce,
      }),
    }),
    reply: Type.Object({
      unchanged: Type.Array(Type.Tuple([tIno, tCount, tTimespec]), { maxItems: limits.revalidatedAtOnce }),
      unleased: Type.Array(tIno, { maxItems: limits.revalidatedAtOnce }),
    }),
  }),
  /**
   * These leases are given up, asked or not. If some are not held the others are given up all the same.
   * **Codes:** notHolder, leaseGone (was held once, or may have been). `all`: and everything
   * that was granted over the session's earlier connections. Until a mount has said that, after it has
   * resumed its session, those are in force, so that it can do before what others may not get ahead of.
   */
  returnLeases: method('control', {
    args: Type.Object({ leases: tLeases, all: Type.Optional(Type.Boolean()) }),
    reply: tNothing,
  }),
  /**
   * Carries out, in order, what a mount has done under its exclusive leases. `first` is the number of the first
   * entry; numbers of a session begin with 1 and have no gaps, and what was carried out before is passed over,
   * so that this may be sent again. `leases`: the exclusive ones on the new inodes. `refused`: entries that were
   * not carried out, because something they went by is not as it was or not as it has to be; with `inos`, commits
   * that were carried out but for these files.
   * **Codes:** badMessage (a gap, or an entry that no mount would make).
   */
  journal: method('control', {
    args: Type.Object({
      first: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
      entries: Type.Array(tJournalEntry, { maxItems: limits.journalEntriesPerMessage }),
      durable: Type.Boolean(),
    }),
    reply: Type.Object({
      leases: Type.Array(Type.Object({ ino: tIno, epoch: tCount })),
      refused: Type.Array(
        Type.Object({
          number: tCount,
          reason: Type.String(),
          inos: Type.Optional(Type.Array(tIno, { maxItems: limits.journalSaw })),
        }),
      ),
    }),
    errnos: ['ENOSPC'],
  }),
} as const;

/** The last name of an inode, which another mount has removed. */
const tRemoval = Type.Object({ parent: tIno, name: tName, ino: tIno });
export type Removal = Static<typeof tRemoval>;

export const leaseCallbacks = {
  /** Has happened, for those who want to hear of it; may be told to nobody, and late. */
  removed: method('control', {
    args: Type.Object({ removals: Type.Array(tRemoval, { maxItems: limits.removalsPerMessage }) }),
    reply: tNothing,
  }),
  /**
   * Somebody waits for these: stop answering from what is remembered of the inodes (with `keep`: commit what was
   * done to them, and do no more by yourself), then `returnLeases`. A grant that is still on its way to the mount
   * comes before its recall.
   */
  recallLeases: method('control', { args: Type.Object({ leases: tLeases }), reply: tNothing }),
} as const;
