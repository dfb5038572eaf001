/**
 * What a mount may ask of the metadata server, and what the server asks of a mount. Every mutation runs the
 * semantics in names/ inside one store transaction; times not given are the server's. A connection says
 * `openSession` first (a mount), `registerServer` (a chunk server) or nothing at all (`status`, an observer).
 */
import { type Static, Type } from '@sinclair/typebox';
import { accessMethods } from './access-methods.js';
import { tAttr } from './attr.js';
import { tClusterMap } from './cluster-map.js';
import { dataMethods } from './data-methods.js';
import { leaseCallbacks, leaseMethods, tLeftBehind } from './lease-methods.js';
import { limits } from './limits.js';
import { lockCallbacks, lockMethods } from './lock-methods.js';
import { method } from './method.js';
import {
  tChunkId,
  tClusterId,
  tCount,
  tFencingToken,
  tIno,
  tLabel,
  tName,
  tNothing,
  tServerId,
  tSessionId,
  tTarget,
  tTimespec,
  tU32,
  tUrl,
} from './schema.js';
import { xattrMethods } from './xattr-methods.js';

/** Who asks: the calling process's ids, for ownership of what is created. */
export const tOwner = Type.Object({ uid: tU32, gid: tU32 });

/** A timestamp to set: a value, or `now` (the server's clock). */
export const tSetTime = Type.Union([tTimespec, Type.Literal('now')]);

export const tSetAttr = Type.Object({
  mode: Type.Optional(Type.Integer({ minimum: 0, maximum: 0o7777 })),
  uid: Type.Optional(tU32),
  gid: Type.Optional(tU32),
  size: Type.Optional(tCount),
  atime: Type.Optional(tSetTime),
  mtime: Type.Optional(tSetTime),
  ctime: Type.Optional(tSetTime),
  /** Clear setuid, and setgid where group-executable, as a write or truncate by a non-owner must. */
  clearPrivileges: Type.Optional(Type.Boolean()),
});
export type SetAttr = Static<typeof tSetAttr>;

export const tDirEntry = Type.Object({
  name: tName,
  ino: tIno,
  /** File type bits (S_IFMT). */
  kind: tU32,
  /** Pass this as `after` to go on behind this entry; > 0, the same for as long as the entry exists. */
  cookie: tCount,
  /** Only when asked for (`plus`). */
  attr: Type.Optional(tAttr),
});
export type DirEntry = Static<typeof tDirEntry>;

export const tTaskProgress = Type.Object({
  id: tCount,
  kind: tLabel,
  server: Type.Union([tServerId, Type.Null()]),
  state: Type.Union([Type.Literal('queued'), Type.Literal('running'), Type.Literal('failed')]),
  done: tCount,
  total: tCount,
  attempts: tCount,
});

/** `leasefs status`, as the server sees it. */
export const tStatus = Type.Object({
  clusterId: tClusterId,
  formatVersion: tCount,
  startedAt: tTimespec,
  map: tClusterMap,
  inodes: tCount,
  orphans: tCount,
  chunks: tCount,
  /** Bytes of file content that extents reference, before replication. */
  referencedBytes: tCount,
  /** Bytes of committed chunks, before replication; above referencedBytes by what is garbage. */
  chunkBytes: tCount,
  sessions: Type.Array(
    Type.Object({
      id: tSessionId,
      host: tLabel,
      pid: tCount,
      mountpoint: tLabel,
      connected: Type.Boolean(),
      expiresInMs: Type.Integer(),
      openInodes: tCount,
    }),
  ),
  tasks: Type.Array(tTaskProgress),
});
export type Status = Static<typeof tStatus>;

/**
 * The disk below a chunk server: servers with the same `name` share what is free on it. Absent: it has a disk
 * of its own.
 */
export const tDisk = Type.Object({ name: tLabel, freeBytes: tCount });

/** A piece of work for a chunk server, leased to it until `leaseMs` have passed. */
export const tTask = Type.Object({
  id: tCount,
  leaseMs: tCount,
  work: Type.Union([
    /** Delete these chunks if they are there. */
    Type.Object({
      kind: Type.Literal('delete'),
      chunks: Type.Array(tChunkId, { maxItems: limits.chunksPerMessage }),
    }),
    /** List what is stored with first <= id <= last and ask `findGarbage` about it; delete what it names. */
    Type.Object({ kind: Type.Literal('sweep'), first: tChunkId, last: tChunkId }),
  ]),
});
export type Task = Static<typeof tTask>;

const tNewNode = {
  parent: tIno,
  name: tName,
  owner: tOwner,
};
const tPermissions = Type.Integer({ minimum: 0, maximum: 0o7777 });
/** Bits that `mode` loses where the directory has no default ACL; absent: none. */
const tUmask = Type.Optional(tPermissions);
const tEntryArgs = Type.Object({ parent: tIno, name: tName });
/**
 * `hold`: when this takes an inode's last name, the session has the inode open from then on (as by `open`), and
 * the reply names it: the mount's kernel may still use it, and the mount releases it once it does not.
 */
const tHold = Type.Optional(Type.Boolean());
const tRemoveArgs = Type.Object({ parent: tIno, name: tName, hold: tHold });
/** `state`: absent when the inode is gone. */
const tChanged = Type.Object({
  ino: tIno,
  state: Type.Optional(Type.Object({ version: tCount, ctime: tTimespec })),
});
export type Changed = Static<typeof tChanged>;
/** `changed`: inodes whose attributes are others now, besides those of the directories. */
const tRemoved = Type.Object({ held: Type.Optional(tIno), changed: Type.Optional(Type.Array(tChanged)) });
const tInoArgs = Type.Object({ ino: tIno });

export const metaMethods = {
  // Sessions

  /**
   * Registers a mount, or resumes its session (`resume`) with a token risen by one. **Codes:** sessionLost
   * when the session to resume has expired; fenced when the token is not the session's newest.
   */
  openSession: method('control', {
    args: Type.Object({
      host: tLabel,
      pid: tCount,
      mountpoint: tLabel,
      resume: Type.Optional(Type.Object({ session: tSessionId, token: tFencingToken })),
      /** The mount answers recalls: it may be given leases. */
      leases: Type.Optional(Type.Boolean()),
    }),
    reply: Type.Object({
      session: tSessionId,
      token: tFencingToken,
      ttlMs: tCount,
      /** How long leases go on after a heartbeat was sent. */
      leaseTtlMs: tCount,
      left: tLeftBehind,
      now: tTimespec,
      map: tClusterMap,
    }),
  }),
  /** Renews the session. `finishedBelow`: mutations with smaller numbers have their replies. */
  heartbeat: method('control', {
    args: Type.Object({ finishedBelow: tCount }),
    reply: Type.Object({ now: tTimespec, mapEpoch: tCount }),
  }),
  /** Ends the session: its opens are released. */
  closeSession: method('control', { args: tNothing, reply: tNothing }),
  /** A range of identifiers for this session alone. */
  reserveIds: method('mutation', {
    args: Type.Object({
      kind: Type.Union([Type.Literal('inode'), Type.Literal('chunk')]),
      count: Type.Integer({ minimum: 1, maximum: limits.idRangeSize }),
    }),
    reply: Type.Object({ first: tCount, count: tCount }),
  }),

  // Names

  /** **Errors:** ENOENT; ENOTDIR (parent is no directory); `..` gives the parent. */
  lookup: method('read', {
    args: tEntryArgs,
    reply: tAttr,
    errnos: ['ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'EINVAL'],
  }),
  /** **Errors:** ENOENT when the inode is gone (to the kernel: ESTALE by handle, ENOENT by path). */
  getattr: method('read', { args: tInoArgs, reply: tAttr, errnos: ['ENOENT'] }),
  setattr: method('mutation', {
    args: Type.Object({ ino: tIno, set: tSetAttr }),
    reply: tAttr,
    errnos: ['ENOENT', 'EINVAL', 'EISDIR', 'EFBIG'],
  }),
  /**
   * Creates a regular file and opens it, or, without `exclusive`, opens the one that is there. `created`
   * tells which.
   */
  create: method('mutation', {
    args: Type.Object({
      ...tNewNode,
      mode: tPermissions,
      umask: tUmask,
      exclusive: Type.Boolean(),
      truncate: Type.Boolean(),
    }),
    reply: Type.Object({ attr: tAttr, created: Type.Boolean() }),
    errnos: ['ENOENT', 'ENOTDIR', 'EEXIST', 'EISDIR', 'EINVAL', 'ENAMETOOLONG', 'ENOSPC', 'EOPNOTSUPP'],
  }),
  /** `mode` with file type: regular, fifo, socket, character or block device. */
  mknod: method('mutation', {
    args: Type.Object({ ...tNewNode, mode: tU32, umask: tUmask, rdev: tU32 }),
    reply: tAttr,
    errnos: ['ENOENT', 'ENOTDIR', 'EEXIST', 'EINVAL', 'ENAMETOOLONG', 'ENOSPC'],
  }),
  mkdir: method('mutation', {
    args: Type.Object({ ...tNewNode, mode: tPermissions, umask: tUmask }),
    reply: tAttr,
    errnos: ['ENOENT', 'ENOTDIR', 'EEXIST', 'EINVAL', 'EMLINK', 'ENAMETOOLONG', 'ENOSPC'],
  }),
  symlink: method('mutation', {
    args: Type.Object({ ...tNewNode, target: tTarget }),
    reply: tAttr,
    errnos: ['ENOENT', 'ENOTDIR', 'EEXIST', 'EINVAL', 'ENAMETOOLONG', 'ENOSPC'],
  }),
  /** `unnamed`: the first name of what `tmpfile` made. */
  link: method('mutation', {
    args: Type.Object({ ino: tIno, parent: tIno, name: tName, unnamed: Type.Optional(Type.Boolean()) }),
    reply: tAttr,
    errnos: ['ENOENT', 'ENOTDIR', 'EEXIST', 'EPERM', 'EINVAL', 'EMLINK', 'ENAMETOOLONG', 'ENOSPC'],
  }),
  /** A regular file without a name, open for this session: an orphan unless `link` names it. */
  tmpfile: method('mutation', {
    args: Type.Object({ parent: tIno, owner: tOwner, mode: tPermissions, umask: tUmask }),
    reply: tAttr,
    errnos: ['ENOENT', 'ENOTDIR'],
  }),
  /** Removes a name that is no directory. The inode lives on while a session has it open. */
  unlink: method('mutation', {
    args: tRemoveArgs,
    reply: tRemoved,
    errnos: ['ENOENT', 'ENOTDIR', 'EISDIR', 'EINVAL', 'ENAMETOOLONG'],
  }),
  rmdir: method('mutation', {
    args: tRemoveArgs,
    reply: tRemoved,
    errnos: ['ENOENT', 'ENOTDIR', 'ENOTEMPTY', 'EINVAL', 'ENAMETOOLONG'],
  }),
  /**
   * renameat2(2). `mode`: replace the target if any, refuse to, or exchange the two. `whiteout`: leave a
   * character device 0:0 of this owner at the old name.
   */
  rename: method('mutation', {
    args: Type.Object({
      parent: tIno,
      name: tName,
      newParent: tIno,
      newName: tName,
      mode: Type.Union([Type.Literal('replace'), Type.Literal('noreplace'), Type.Literal('exchange')]),
      hold: tHold,
      whiteout: Type.Optional(tOwner),
    }),
    reply: tRemoved,
    errnos: [
      'ENOENT',
      'ENOTDIR',
      'EISDIR',
      'EEXIST',
      'ENOTEMPTY',
      'EINVAL',
      'EMLINK',
      'ENAMETOOLONG',
      'ENOSPC',
    ],
  }),
  readlink: method('read', {
    args: tInoArgs,
    reply: Type.Object({ target: tTarget }),
    errnos: ['ENOENT', 'EINVAL'],
  }),
  /**
   * A page of a directory without `.` and `..`, in cookie order, behind `after` (0: from the start). Entries
   * that stay are returned exactly once over a whole pass, entries created or removed meanwhile at most
   * once. `end` when nothing follows.
   */
  readdir: method('read', {
    args: Type.Object({
      ino: tIno,
      after: tCount,
      limit: Type.Integer({ minimum: 1, maximum: limits.readdirPageEntries }),
      plus: Type.Boolean(),
    }),
    reply: Type.Object({
      entries: Type.Array(tDirEntry, { maxItems: limits.readdirPageEntries }),
      /** The directory's parent (for `..`), itself for the root. */
      parent: tIno,
      end: Type.Boolean(),
    }),
    errnos: ['ENOENT', 'ENOTDIR'],
  }),

  // Open inodes

  /** This session has the inode open now (however often it says so): it outlives its last name. */
  open: method('mutation', {
    args: Type.Object({ ino: tIno, truncate: Type.Boolean() }),
    reply: tAttr,
    errnos: ['ENOENT', 'EISDIR', 'EINVAL'],
  }),
  /** This session has these inodes no longer open. Unknown ones are passed over. */
  release: method('mutation', {
    args: Type.Object({ inos: Type.Array(tIno, { maxItems: limits.filesPerCommit }) }),
    reply: tNothing,
  }),

  // Access times

  ...accessMethods,

  // Locks

  ...lockMethods,
  ...leaseMethods,

  // Extended attributes

  ...xattrMethods,

  // Data

  ...dataMethods,
  /** fallocate(2): `allocate` only makes the file long enough; `zero` makes a hole of the range, for punching too. */
  fallocate: method('mutation', {
    args: Type.Object({
      ino: tIno,
      offset: tCount,
      length: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
      mode: Type.Union([Type.Literal('allocate'), Type.Literal('zero')]),
      keepSize: Type.Boolean(),
      clearPrivileges: Type.Boolean(),
    }),
    reply: tAttr,
    errnos: ['ENOENT', 'EISDIR', 'EINVAL', 'EFBIG'],
  }),
  /**
   * Makes [newOffset, newOffset + copied) of `newIno` refer to the bytes of [offset, offset + copied) of `ino`.
   * `copied` <= length: 0 at the end of the source, less than is there when one step would be too large.
   */
  copyRange: method('mutation', {
    args: Type.Object({
      ino: tIno,
      offset: tCount,
      newIno: tIno,
      newOffset: tCount,
      length: tCount,
      clearPrivileges: Type.Boolean(),
    }),
    reply: Type.Object({ copied: tCount, attr: tAttr }),
    errnos: ['ENOENT', 'EISDIR', 'EINVAL', 'EFBIG'],
  }),
  /** Every change answered before this call is on disk when it returns. */
  sync: method('control', { args: tNothing, reply: tNothing }),
  /** Chunk ids of this session whose put failed or was given up: what was stored of them is garbage. */
  abandonChunks: method('mutation', {
    args: Type.Object({ chunks: Type.Array(tChunkId, { maxItems: limits.chunksPerMessage }) }),
    reply: tNothing,
  }),
  /** Figures for statfs(2): bytes count one replica. */
  statfs: method('read', {
    args: tNothing,
    reply: Type.Object({ totalBytes: tCount, freeBytes: tCount, inodes: tCount, freeInodes: tCount }),
  }),

  // Cluster

  map: method('read', { args: tNothing, reply: tClusterMap }),
  status: method('read', { args: tNothing, reply: tStatus }),

  // Chunk servers

  /**
   * A chunk server joins, or is back. **Codes:** wrongCluster when `clusterId` is another's. Replies with the
   * cluster's id, which a new server writes down before it stores anything.
   */
  registerServer: method('control', {
    args: Type.Object({
      id: tServerId,
      clusterId: Type.Union([tClusterId, Type.Null()]),
      url: tUrl,
      host: tLabel,
      rack: tLabel,
      weight: Type.Number({ exclusiveMinimum: 0, maximum: 1e9 }),
      capacityBytes: tCount,
      usedBytes: tCount,
      full: Type.Boolean(),
      disk: Type.Optional(tDisk),
    }),
    reply: Type.Object({ clusterId: tClusterId, heartbeatMs: tCount, map: tClusterMap }),
  }),
  /** Keeps a registered server `up` and brings it work. */
  serverHeartbeat: method('control', {
    args: Type.Object({
      capacityBytes: tCount,
      usedBytes: tCount,
      full: Type.Boolean(),
      disk: Type.Optional(tDisk),
    }),
    reply: Type.Object({ tasks: Type.Array(tTask, { maxItems: 16 }) }),
  }),
  /** Progress or the end of a task leased to this server; renews the lease. */
  reportTask: method('control', {
    args: Type.Object({
      id: tCount,
      state: Type.Union([Type.Literal('running'), Type.Literal('done'), Type.Literal('failed')]),
      done: tCount,
      total: tCount,
      message: tLabel,
    }),
    reply: tNothing,
  }),
  /** Which of these stored chunks nothing references nor ever will (unknown, and their session is over). */
  findGarbage: method('read', {
    args: Type.Object({ chunks: Type.Array(tChunkId, { maxItems: limits.chunksPerMessage }) }),
    reply: Type.Object({ garbage: Type.Array(tChunkId, { maxItems: limits.chunksPerMessage }) }),
  }),
} as const;

export type MetaMethods = typeof metaMethods;

/** What the metadata server tells a mount or chunk server on its own connection. */
export const metaCallbacks = {
  mapChanged: method('control', { args: tClusterMap, reply: tNothing }),
  ...lockCallbacks,
  ...leaseCallbacks,
} as const;

export type MetaCallbacks = typeof metaCallbacks;

/** Handlers of who has no locks, no leases and no files to hear of. */
export const ignoredCallbacks = {
  mapChanged: () => ({}),
  lockReady: () => ({}),
  recallLeases: () => ({}),
  removed: () => ({}),
};
