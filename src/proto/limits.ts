/**
 * Every bound of the system in one place, with the relations between them asserted at load: a build whose
 * limits contradict one another does not start. Units come last in the name.
 */
import { assert } from '../base/assert.js';

const KIB = 1024;
const MIB = 1024 * KIB;

export const limits = {
  /** Linux NAME_MAX. */
  nameBytes: 255,
  /** Linux PATH_MAX; symlink targets are one byte shorter. */
  pathBytes: 4096,
  /** Linux XATTR_NAME_MAX, XATTR_SIZE_MAX, XATTR_LIST_MAX. */
  xattrNameBytes: 255,
  xattrValueBytes: 64 * KIB,
  xattrListBytes: 64 * KIB,
  /** Names and values of one inode together; more is ENOSPC. */
  xattrTotalBytes: 1 * MIB,
  /** ext4's limit; the next link is EMLINK. */
  linkCount: 65_000,
  /** Offsets are JavaScript numbers: the last byte of a file lies below 2^53. */
  fileBytes: Number.MAX_SAFE_INTEGER,
  /** A chunk on a chunk server: at most this many bytes of payload. */
  chunkBytes: 4 * MIB,
  /** Checksums cover blocks of this size, and ranged reads verify whole blocks. */
  checksumBlockBytes: 64 * KIB,
  /** FUSE max_write and the largest read the kernel asks for. */
  fuseIoBytes: 1 * MIB,
  /** Chunks up to this length lie in a chunk server's database, longer ones in files: native-notes/fsync.md. */
  smallChunkBytes: 128 * KIB,
  /** Bytes a chunk server has accepted and not yet stored; further puts are refused with `busy`. */
  putBacklogBytes: 256 * MIB,
  /** Chunk files written and synced at once; the thread pool's other threads are left to reads. */
  chunkFileWrites: 3,
  /** Chunk files that a chunk server keeps open for reading. */
  openChunkFiles: 128,
  /** Bytes of small chunks, and changes, in one transaction of a chunk server: it holds up everything else. */
  storeCommitBytes: 4 * MIB,
  storeCommitChanges: 1024,
  /** One WebSocket message: a whole chunk and its header. */
  frameBytes: 4 * MIB + 256 * KIB,
  /** The msgpack header of a frame, bulk excluded. */
  frameHeaderBytes: 2 * MIB,
  /** Containers within containers in a header. */
  frameHeaderDepth: 16,
  /** Values in a header, keys and containers counted: bounds what decoding 2 MiB may allocate. */
  frameHeaderElements: 512 * KIB,
  /** Entries in a page of readdir. */
  readdirPageEntries: 1024,
  /** Extents in one reply or one commit. */
  extentsPerMessage: 16_384,
  /** Files in one commit. */
  filesPerCommit: 4096,
  /** Inodes in one report of what was read. */
  accessesPerMessage: 4096,
  /** Chunks named in one commit, delete or list reply. */
  chunksPerMessage: 4096,
  /** Calls a peer may have outstanding on one connection; further ones are refused with `busy`. */
  callsPerConnection: 4096,
  /**
   * Bulk bytes that the calls served on one connection may hold, in requests, in replies to come and in the
   * send buffer; further calls with bulk are refused with `busy`.
   */
  connectionBulkBytes: 512 * MIB,
  /** Connections a listener accepts at once. */
  connectionsPerListener: 4096,
  /** How long a new connection may take to become a WebSocket. */
  handshakeMs: 5_000,
  /** How long a closing connection may take to say goodbye before it is cut. */
  closeMs: 1_000,
  /** A connection is pinged this often, and cut after so many pings without a byte from the other side. */
  pingIntervalMs: 4_000,
  silentPings: 3,
  /** Bytes a mount may hold that are not committed; writers wait beyond. */
  dirtyBytes: 64 * MIB,
  /** Chunk puts a mount has under way at once. */
  putsInFlight: 4,
  /** Inode and chunk identifiers handed to a session at a time. */
  idRangeSize: 4096,
  /** Placement groups of a new filesystem. */
  placementGroups: 256,
  /** Chunk servers in a cluster map. */
  servers: 1024,
  replicas: 16,
  /** Default life of a session without a heartbeat, and how often the mount renews it. */
  sessionTtlMs: 30_000,
  heartbeatMs: 3_000,
  /** How long a session's leases go on without a heartbeat: how long others wait for a mount that is gone. */
  leaseTtlMs: 10_000,
  /** How much less of it the mount trusts: clocks of two machines run at different speeds. */
  leaseMarginMs: 500,
  /** How long a recall may wait for the kernel's pages, and for opens to be told to the server. */
  leaseSettleMs: 3_000,
  /** Operations that a mount has answered and the metadata server has not carried out; further ones wait. */
  journalEntries: 8192,
  /** How long such an operation waits for company; a batch that is large enough goes at once. */
  journalDelayMs: 200,
  journalEntriesPerMessage: 512,
  /** Inodes that one of them may have gone by. */
  journalSaw: 4200,
  /** Bytes pending of a file up to which close(2) only keeps them on this machine's disk. */
  keptBytesPerFile: 1 * MIB,
  /** And of all files together, what the server has not answered for included. */
  keptBytes: 64 * MIB,
  /** Inode numbers a mount reserves at a time, and how few are left when the next are fetched. */
  inodesReserved: 4096,
  inodesLow: 2048,
  leasesPerSession: 1_000_000,
  /** What one `takeLeases` may ask for; entries of all directories of it, extents and xattrs of each inode. */
  takenPerMessage: 256,
  takenEntries: 1024,
  takenExtents: 64,
  takenXattrs: 8,
  takenXattrBytes: 4096,
  /** After so long a mount asks again for an exclusive lease that it was not given. */
  takeAgainMs: 1_000,
  /** So long a change that a mount can make by itself waits for its others that the server makes. */
  othersMs: 50,
  leasesPerMessage: 4096,
  /** Told to other mounts in one message, for those who watch what is removed. */
  removalsPerMessage: 256,
  /** What a mount keeps; a sixteenth of it is given back in one message. */
  leasesCached: 65_536,
  /** How long an inode goes without leases after a recall, at first and at most. */
  leaseBackoffMs: 100,
  leaseBackoffMaxMs: 10_000,
  /** Refusals of one kind that a connection survives; no mount comes near it by itself. */
  refusalsPerMinute: 1000,
  /** What others can cause at will is logged so often, and so many different lines in that time. */
  logRepeatMs: 60_000,
  logLinesSparse: 1024,
  /** A chunk server silent for this long is `down`. */
  serverDownMs: 8_000,
  serverHeartbeatMs: 2_000,
  /** Tasks a chunk server holds; what is handed out beyond goes back when its lease runs out. */
  tasksHeld: 64,
  /** How long a call waits for its server before the program gets an errno (`-o timeout=`). */
  callTimeoutMs: 30_000,
  /** First and longest pause between attempts to reconnect. */
  reconnectMinMs: 20,
  reconnectMaxMs: 2_000,
  /** An interrupted call that is already on its way is given this long to finish before EINTR. */
  interruptGraceMs: 1_000,
  /** The call of a program that catches a signal and goes on is given this long before it is interrupted. */
  caughtSignalGraceMs: 10_000,
  /** Rows of a session's replies kept for retransmitted mutations. */
  repliesPerSession: 8192,
  /** Bytes of those; a session that has more must first say what it has received. */
  replyBytesPerSession: 64 * MIB,
  /** Kept replies are forgotten when this many can be, not one by one. */
  repliesPrunedAtOnce: 64,
  /** Byte ranges that one session may hold locked, and lock requests of it that may wait; more is ENOLCK. */
  locksPerSession: 65_536,
  lockWaitsPerSession: 16_384,
  /** Sessions at a time. */
  sessions: 16_384,
  /** Requests in one transaction of the metadata server, and how long it may take before it commits. */
  batchRequests: 1024,
  batchMs: 50,
  /** Rows of inodes that the metadata server keeps in memory; some 400 B each. */
  inodeRowsKept: 16_384,
  /** How often the metadata server looks after what is not asked for: expiry, orphans, garbage. */
  housekeepingMs: 500,
  /** A look this much too late means that the server stood still, and nobody else did. */
  stallMs: 2_000,
  /** Extents taken from an orphan, and opens taken from an ended session, in one transaction. */
  reapExtents: 1024,
  releaseOpens: 512,
  /** Ranges of an ended session that are swept one by one; more are swept as one. */
  sweepsPerSession: 16,
  /** How long a chunk server has a task to itself without reporting progress. */
  taskLeaseMs: 30_000,
  /** Tasks in one heartbeat's reply. */
  tasksPerHeartbeat: 16,
  /** Tasks that wait for one server; more are replaced by a sweep over all that is stored. */
  tasksPerServer: 256,
  /** First and longest pause before a task that failed is tried again. */
  taskRetryMinMs: 1_000,
  taskRetryMaxMs: 60_000,
  /** Tasks that `status` shows. */
  tasksShown: 1000,
  /** Changes of the cluster map that follow one another this closely go out as one. */
  mapCoalesceMs: 20,
  /** How long a program that was started in the background has until it must answer. */
  startMs: 60_000,
  /** How long a server, and a mount that has to write back, may take to stop before it is killed. */
  serverStopMs: 10_000,
  mountStopMs: 45_000,
  /** First and longest pause before a process that ended is started again. */
  restartMinMs: 200,
  restartMaxMs: 10_000,
  /** A mount's memory for chunk blocks that were read or written. */
  blockCacheBytes: 128 * MIB,
  /** A mount's blocks of chunks on its own disk (`-o cache_size=`), and what part of the space that would be free without them they take at most. */
  diskCacheBytes: 1024 * MIB,
  diskCacheShare: 0.5,
  /** Of those: how long they wait for company, how many are written at once, and bytes that wait; what comes beyond is not kept. */
  cacheWriteDelayMs: 100,
  cacheWriteBlocks: 64,
  cachePendingBytes: 32 * MIB,
  /** What a mount keeps on its disk of inodes for the next mount: inodes, bytes in all, and of one: names, extents. */
  hintsKept: 131_072,
  hintBytes: 64 * MIB,
  hintNames: 4096,
  hintExtents: 256,
  /** It is written so long after it was learned, and so many at once, with a pause before the next. */
  hintDelayMs: 2_000,
  hintsPerSlice: 128,
  hintPauseMs: 50,
  /** How long an unmount goes on writing what is not written then. */
  hintCloseMs: 3_000,
  /** Inodes in one question whether they are as they were, and in the first one that a mount asks. */
  revalidatedAtOnce: 1000,
  revalidatedAtFirst: 256,
  /** Names and extents that a mount remembers of what it has leases on. */
  contentsRemembered: 262_144,
  /** Inodes whose extended attributes it remembers. */
  xattrsRemembered: 65_536,
  /** Chunks whose length a mount remembers. */
  chunkLengthsRemembered: 65_536,
  /** An open chunk of a mount is sealed at this age or with this many extents, however little is in it. */
  chunkAgeMs: 1_000,
  chunkExtents: 4096,
  /** A flush joins the put that follows the one under way, but waits no longer than this for it. */
  flushJoinMs: 20,
  /** A replica that has not acknowledged a put, or answered a get, by then has failed it. */
  chunkPutTimeoutMs: 5_000,
  chunkGetTimeoutMs: 5_000,
  /** A read asks the next replica as well after this long. */
  readHedgeMs: 300,
  /** A chunk server that failed a call is asked last for this long. */
  serverAvoidMs: 3_000,
  /** Opening a connection, WebSocket handshake included. */
  connectTimeoutMs: 5_000,
  /** Calls a mount has under way to one chunk server; further ones queue, up to the second bound. */
  callsPerChunkServer: 32,
  callsQueuedPerChunkServer: 4096,
  /** Sequential reads are read ahead this far, in at most so many requests at once. */
  readAheadBytes: 4 * MIB,
  readAheadsInFlight: 4,
  /** Bytes of one get. */
  fetchBytes: 1 * MIB,
  /** Chunk identifiers reserved at a time, and how few are left when the next are fetched. */
  chunkIdsReserved: 256,
  chunkIdsLow: 64,
  /** How long a mount's last close of an inode waits for company before the server is told. */
  releaseDelayMs: 100,
  /** Until kept bytes that nobody needs any more are deleted, those of many files at once. */
  keptTidyMs: 50,
  /** How long an access time that a read has moved waits for company before the server is told. */
  accessDelayMs: 1_000,
  /** Inodes whose attributes and extents a mount remembers while they are not open. */
  inodesRemembered: 8192,
  /** Calls a mount holds for its metadata server; further ones wait in the kernel. */
  callsQueued: 65_536,
} as const;

assert(limits.chunkBytes % limits.checksumBlockBytes === 0, 'a chunk is a whole number of checksum blocks');
assert(limits.smallChunkBytes <= limits.storeCommitBytes, 'a small chunk fits a transaction');
assert(limits.putBacklogBytes >= limits.chunkBytes, 'a whole chunk fits the backlog');
assert(limits.frameBytes > limits.chunkBytes + 64 * KIB, 'a frame holds a whole chunk and its header');
assert(limits.frameHeaderBytes < limits.frameBytes, 'a header fits its frame');
assert(limits.connectionBulkBytes >= 16 * limits.frameBytes, 'bulk calls of one connection may overlap');
assert(
  limits.pingIntervalMs * (limits.silentPings + 1) < limits.sessionTtlMs,
  'a dead connection is noticed before its session ends',
);
assert(limits.fuseIoBytes <= limits.chunkBytes, 'one kernel write fits an empty chunk');
assert(limits.dirtyBytes >= 4 * limits.chunkBytes, 'dirty data may span several chunks');
assert(limits.fetchBytes % limits.checksumBlockBytes === 0, 'a fetch is a whole number of checksum blocks');
assert(limits.diskCacheShare > 0 && limits.diskCacheShare < 1, 'the cache leaves room on its disk');
assert(limits.revalidatedAtOnce * 60 < limits.frameHeaderBytes, 'a revalidation fits a header');
assert(limits.chunkExtents * 4 <= limits.extentsPerMessage, 'a commit carries several chunks');
assert(limits.chunkIdsReserved <= limits.idRangeSize, 'chunk ids come in one range');
assert(limits.mountStopMs > limits.callTimeoutMs, 'a mount that stops may wait for its servers');
assert(
  limits.tasksPerHeartbeat * limits.chunksPerMessage * 9 < limits.frameHeaderBytes,
  'the tasks of a heartbeat fit a header',
);
assert(limits.taskLeaseMs > 3 * limits.serverHeartbeatMs, 'a lease outlives lost heartbeats');
assert(
  limits.heartbeatMs * 3 <= limits.leaseTtlMs - limits.leaseMarginMs,
  'leases outlive two lost heartbeats',
);
assert(limits.heartbeatMs * 3 <= limits.sessionTtlMs, 'two heartbeats may be lost before a session dies');
assert(
  limits.serverHeartbeatMs * 3 <= limits.serverDownMs,
  'two heartbeats may be lost before a server is down',
);
assert(limits.xattrValueBytes + limits.xattrNameBytes < limits.frameHeaderBytes, 'an xattr fits a header');
assert(
  limits.callsPerConnection < limits.repliesPerSession,
  'replies are kept for every outstanding mutation',
);
assert(
  limits.readdirPageEntries * (limits.nameBytes + 200) < limits.frameHeaderBytes,
  'a readdir page fits a header',
);
assert(limits.accessesPerMessage * 100 < limits.frameHeaderBytes, 'a report of reads fits a header');
assert(limits.lockWaitsPerSession * 9 < limits.frameHeaderBytes, 'news of every waiting lock fits a header');
assert(limits.extentsPerMessage * 40 < limits.frameHeaderBytes, 'an extents reply fits a header');
