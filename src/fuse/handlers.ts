/**
 * Which operation each opcode asks for: decode the body, call the operation, encode its result. A table from
 * opcode to handler; what is missing from it is answered with ENOSYS, which the kernel remembers and stops
 * asking (ioctl and poll then have the kernel's own fallbacks). Handlers of what moves extents are in
 * data-handlers.ts.
 *
 * Invariants: a handler throws or rejects with FsError only on purpose; whatever else comes out of it is a
 * fault that session.ts turns into EIO. A handler keeps nothing of the body but WRITE's data, and that only
 * until its promise settles.
 *
 * It does not: send replies; handle INIT, FORGET, INTERRUPT and DESTROY, which belong to the session.
 */
import { chain, type MaybePromise } from '../base/maybe-promise.js';
import { S_ISGID, S_ISUID } from '../proto/attr.js';
import { type ErrnoName, FsError } from '../proto/errno.js';
import { asIno, type Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { OpenReply, Operations, RenameMode, SetxattrMode } from '../vfs/operations.js';
import * as abi from './abi.js';
import { Opcode } from './abi.js';
import { copyFileRange, fallocate, lseek } from './data-handlers.js';
import * as decode from './decode.js';
import { decodeTmpfile } from './decode-data.js';
import * as encode from './encode.js';
import type { FuseRequest } from './fuse-request.js';
import type { Agreement } from './init.js';
import * as locks from './lock-frames.js';

/** Bytes of a file, sent behind the header without being copied together. */
export interface DataReply {
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
}

/** An error that was found without one being thrown. */
export interface ErrorReply {
  readonly errno: ErrnoName;
}

/** A sealed-later frame, file data, an error, or success without a result. */
export type Reply = encode.Frame | DataReply | ErrorReply | undefined;

/** What a handler is given besides the body. */
export interface Call {
  readonly operations: Operations;
  readonly request: FuseRequest;
  /** The request's node id, as an inode number. */
  readonly ino: Ino;
  /** What INIT settled. */
  readonly agreement: Agreement;
  /** Every write is as with O_SYNC. */
  readonly isSync: boolean;
}

export type Handler = (call: Call, body: Buffer) => MaybePromise<Reply>;

/** An inode number from outside. **Errors:** EIO (malformed) for 0 and above 2^53 - 1. */
export function inoOf(nodeid: number, op: string): Ino {
  if (!Number.isSafeInteger(nodeid) || nodeid < 1) throw new decode.MalformedRequest(op, `node id ${nodeid}`);
  return asIno(nodeid);
}

const nothing = (): undefined => undefined;
const done = (result: MaybePromise<void>): MaybePromise<undefined> => chain(result, nothing);

const NO_SUCH_NAME: ErrorReply = { errno: 'ENOENT' };

function lookup({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const name = decode.decodeName(body, 'lookup');
  if (operations.lacksName(ino, name)) return NO_SUCH_NAME;
  return chain(operations.lookup(request, ino, name), encode.encodeEntry);
}

function getattr({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { flags, fh } = decode.decodeGetattr(body);
  const handle = flags & abi.GETATTR_FH ? fh : undefined;
  return chain(operations.getattr(request, ino, handle), encode.encodeAttr);
}

function statx({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { flags, fh } = decode.decodeStatx(body);
  const handle = flags & abi.GETATTR_FH ? fh : undefined;
  return chain(operations.getattr(request, ino, handle), encode.encodeStatx);
}

function setattr({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { fh, change } = decode.decodeSetattr(body);
  // chown(-1, -1) names nothing to set (chown_common, fs/open.c), and moves ctime and takes setuid all the same.
  if (Object.keys(change).every((key) => key === 'clearPrivileges')) {
    change.ctime = 'now';
    change.clearPrivileges = true;
  }
  return chain(operations.setattr(request, ino, fh, change), encode.encodeAttr);
}

function mknod({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { name, mode, rdev, umask } = decode.decodeMknod(body);
  return chain(operations.mknod(request, ino, name, mode, rdev, umask), encode.encodeEntry);
}

function mkdir({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { name, mode, umask } = decode.decodeMkdir(body);
  return chain(operations.mkdir(request, ino, name, mode, umask), encode.encodeEntry);
}

function symlink({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { name, target } = decode.decodeSymlink(body);
  return chain(operations.symlink(request, ino, name, target), encode.encodeEntry);
}

function link({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { ino: existing, name } = decode.decodeLink(body);
  return chain(operations.link(request, inoOf(existing, 'link'), ino, name), encode.encodeEntry);
}

const RENAME_MODES: ReadonlyMap<number, RenameMode> = new Map([
  [0, 'replace'],
  [abi.RENAME_NOREPLACE, 'noreplace'],
  [abi.RENAME_EXCHANGE, 'exchange'],
]);

function rename(call: Call, body: Buffer, hasFlags: boolean): MaybePromise<Reply> {
  const { newParent, flags, name, newName } = decode.decodeRename(body, hasFlags);
  const whiteout = (flags & abi.RENAME_WHITEOUT) !== 0;
  const mode = RENAME_MODES.get(flags & ~abi.RENAME_WHITEOUT);
  if (mode === undefined || (whiteout && mode === 'exchange'))
    throw new FsError('EINVAL', 'rename', { detail: `flags ${flags}` });
  const target = inoOf(newParent, 'rename');
  return done(call.operations.rename(call.request, call.ino, name, target, newName, mode, whiteout));
}

/**
 * Clears setuid and setgid after an open that truncated, when the kernel leaves that to us
 * (FUSE_OPEN_KILL_SUIDGID). A handle whose privileges could not be cleared is not given out.
 */
function clearedAfterOpen<T>(call: Call, ino: Ino, fh: number, openFlags: number, reply: T): MaybePromise<T> {
  if ((openFlags & abi.OPEN_KILL_SUIDGID) === 0) return reply;
  const { operations, request } = call;
  const giveUp = async (error: unknown): Promise<never> => {
    await operations.release(ino, fh);
    // An entry that came with the handle never reaches the kernel.
    if (reply instanceof Object && 'entry' in reply) operations.forget(ino, 1);
    throw error;
  };
  try {
    const cleared = operations.setattr(request, ino, fh, { clearPrivileges: true });
    return cleared instanceof Promise ? cleared.then(() => reply, giveUp) : reply;
  } catch (error) {
    return giveUp(error);
  }
}

/** A handle bypasses the page cache where that was agreed upon; it is served without otherwise. */
function allowed({ agreement: { directIo } }: Call, open: OpenReply): OpenReply {
  return directIo || !open.directIo ? open : { ...open, directIo };
}

function open(call: Call, body: Buffer): MaybePromise<Reply> {
  const { flags, openFlags } = decode.decodeOpen(body);
  const opened = chain(call.operations.open(call.request, call.ino, flags), (reply: OpenReply) =>
    clearedAfterOpen(call, call.ino, reply.fh, openFlags, reply),
  );
  return chain(opened, (reply) => encode.encodeOpen(allowed(call, reply)));
}

function create(call: Call, body: Buffer): MaybePromise<Reply> {
  const { name, mode, flags, umask, openFlags } = decode.decodeCreate(body);
  const created = chain(call.operations.create(call.request, call.ino, name, mode, flags, umask), (reply) => {
    const { attr } = reply.entry;
    if ((attr.mode & (S_ISUID | S_ISGID)) === 0) return reply;
    return clearedAfterOpen(call, attr.ino, reply.open.fh, openFlags, reply);
  });
  return chain(created, ({ entry, open }) => encode.encodeCreate({ entry, open: allowed(call, open) }));
}

function tmpfile(call: Call, body: Buffer): MaybePromise<Reply> {
  const { mode, flags, umask } = decodeTmpfile(body);
  return chain(call.operations.tmpfile(call.request, call.ino, mode, flags, umask), ({ entry, open }) =>
    encode.encodeCreate({ entry, open: allowed(call, open) }),
  );
}

function read({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { fh, offset, length } = decode.decodeRead(body, 'read');
  return chain(operations.read(request, ino, fh, offset, length), (data) => {
    const parts = Array.isArray(data) ? data : [data];
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    if (bytes > length) throw new Error(`read of ${length} bytes was answered with ${bytes}`);
    return { parts, bytes };
  });
}

function write(call: Call, body: Buffer): MaybePromise<Reply> {
  const { operations, request, ino } = call;
  const { fh, offset, flags, openFlags, data } = decode.decodeWrite(body);
  const clear = (flags & abi.WRITE_KILL_SUIDGID) !== 0;
  // A page of a mapping has its place, whichever handle the kernel writes it back through.
  const append = (flags & abi.WRITE_CACHE) === 0 && (openFlags & abi.O_APPEND) !== 0;
  const written = operations.write(request, ino, fh, offset, data, clear, append);
  // The kernel follows other O_SYNC writes with FSYNC, but none on a handle opened with FOPEN_DIRECT_IO, as those
  // that append are (fuse_direct_write_iter, fs/fuse/file.c).
  const isSync = call.isSync || (openFlags & abi.O_DSYNC) !== 0;
  if (!append || !isSync) return chain(written, encode.encodeWrite);
  return chain(written, (count) =>
    chain(operations.fsync(request, ino, fh, false), () => encode.encodeWrite(count)),
  );
}

function fsync({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { fh, flags } = decode.decodeFsync(body, 'fsync');
  return done(operations.fsync(request, ino, fh, (flags & abi.FSYNC_FDATASYNC) !== 0));
}

function fsyncdir({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { fh, flags } = decode.decodeFsync(body, 'fsyncdir');
  return done(operations.fsyncdir(request, ino, fh, (flags & abi.FSYNC_FDATASYNC) !== 0));
}

function getlk({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { fh, lock } = locks.decodeLock(body, 'getlk');
  return chain(operations.getlk(request, ino, fh, lock), locks.encodeLock);
}

function setlk({ operations, request, ino }: Call, body: Buffer, wait: boolean): MaybePromise<Reply> {
  const { fh, lock } = locks.decodeLock(body, 'setlk');
  return done(operations.setlk(request, ino, fh, lock, wait));
}

function opendir({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  return chain(operations.opendir(request, ino, decode.decodeOpen(body).flags), encode.encodeOpendir);
}

function readdir({ operations, request, ino }: Call, body: Buffer, plus: boolean): MaybePromise<Reply> {
  const { fh, offset, length } = decode.decodeRead(body, plus ? 'readdirplus' : 'readdir');
  const entries = new encode.DirentFrame(length, plus);
  return chain(operations.readdir(request, ino, fh, offset, plus, entries.take), () => entries.finish());
}

/** A value or list for a caller with `room` bytes: its size when 0. **Errors:** ERANGE when it does not fit. */
function xattrReply(value: Uint8Array, room: number, op: string): Reply {
  if (room === 0) return encode.encodeXattrSize(value.length);
  if (value.length > room) throw new FsError('ERANGE', op);
  return encode.encodeBytes(value);
}

const NO_SUCH_XATTR: ErrorReply = { errno: 'ENODATA' };

function getxattr({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const { room, name } = decode.decodeGetxattr(body);
  if (operations.lacksXattr(ino, name)) return NO_SUCH_XATTR;
  return chain(operations.getxattr(request, ino, name), (value) => xattrReply(value, room, 'getxattr'));
}

const NUL = Uint8Array.of(0);

function listxattr({ operations, request, ino }: Call, body: Buffer): MaybePromise<Reply> {
  const room = decode.decodeListxattr(body);
  return chain(operations.listxattr(request, ino), (names) => {
    const list = Buffer.concat(names.flatMap((name) => [name, NUL]));
    if (list.length > limits.xattrListBytes) throw new FsError('E2BIG', 'listxattr');
    return xattrReply(list, room, 'listxattr');
  });
}

const SETXATTR_MODES: ReadonlyMap<number, SetxattrMode> = new Map([
  [0, 'any'],
  [abi.XATTR_CREATE, 'create'],
  [abi.XATTR_REPLACE, 'replace'],
]);

function setxattr({ operations, request, ino, agreement }: Call, body: Buffer): MaybePromise<Reply> {
  const extended = agreement.setxattrExtended;
  const { name, value, flags, setxattrFlags } = decode.decodeSetxattr(body, extended);
  const mode = SETXATTR_MODES.get(flags);
  if (mode === undefined) throw new FsError('EINVAL', 'setxattr', { detail: `flags ${flags}` });
  const clearSetgid = (setxattrFlags & abi.SETXATTR_ACL_KILL_SGID) !== 0;
  return done(operations.setxattr(request, ino, name, value, mode, clearSetgid));
}

const table: readonly (readonly [number, Handler])[] = [
  [Opcode.LOOKUP, lookup],
  [Opcode.GETATTR, getattr],
  [Opcode.STATX, statx],
  [Opcode.SETATTR, setattr],
  [
    Opcode.ACCESS,
    ({ operations, request, ino }, body) => done(operations.access(request, ino, decode.decodeAccess(body))),
  ],
  [
    Opcode.READLINK,
    ({ operations, request, ino }) => chain(operations.readlink(request, ino), encode.encodeBytes),
  ],
  [Opcode.MKNOD, mknod],
  [Opcode.MKDIR, mkdir],
  [Opcode.SYMLINK, symlink],
  [Opcode.LINK, link],
  [
    Opcode.UNLINK,
    ({ operations, request, ino }, body) =>
      done(operations.unlink(request, ino, decode.decodeName(body, 'unlink'))),
  ],
  [
    Opcode.RMDIR,
    ({ operations, request, ino }, body) =>
      done(operations.rmdir(request, ino, decode.decodeName(body, 'rmdir'))),
  ],
  [Opcode.RENAME, (call, body) => rename(call, body, false)],
  [Opcode.RENAME2, (call, body) => rename(call, body, true)],
  [Opcode.OPEN, open],
  [Opcode.CREATE, create],
  [Opcode.TMPFILE, tmpfile],
  [Opcode.FALLOCATE, fallocate],
  [Opcode.LSEEK, lseek],
  [Opcode.COPY_FILE_RANGE, (call, body) => copyFileRange(call, body, false)],
  [Opcode.COPY_FILE_RANGE_64, (call, body) => copyFileRange(call, body, true)],
  [Opcode.READ, read],
  [Opcode.WRITE, write],
  [
    Opcode.FLUSH,
    ({ operations, request, ino }, body) => {
      const { fh, lockOwner } = locks.decodeFlush(body);
      return done(operations.flush(request, ino, fh, lockOwner));
    },
  ],
  [
    Opcode.RELEASE,
    ({ operations, ino }, body) => {
      const { fh, flockOwner } = locks.decodeRelease(body);
      return done(operations.release(ino, fh, flockOwner));
    },
  ],
  [Opcode.GETLK, getlk],
  [Opcode.SETLK, (call, body) => setlk(call, body, false)],
  [Opcode.SETLKW, (call, body) => setlk(call, body, true)],
  [Opcode.FSYNC, fsync],
  [Opcode.OPENDIR, opendir],
  [Opcode.READDIR, (call, body) => readdir(call, body, false)],
  [Opcode.READDIRPLUS, (call, body) => readdir(call, body, true)],
  [
    Opcode.RELEASEDIR,
    ({ operations, ino }, body) => done(operations.releasedir(ino, decode.decodeHandle(body, 'releasedir'))),
  ],
  [Opcode.FSYNCDIR, fsyncdir],
  [
    Opcode.STATFS,
    ({ operations, request, ino }) => chain(operations.statfs(request, ino), encode.encodeStatfs),
  ],
  [Opcode.SYNCFS, ({ operations, request }) => done(operations.syncfs(request))],
  [Opcode.GETXATTR, getxattr],
  [Opcode.SETXATTR, setxattr],
  [Opcode.LISTXATTR, listxattr],
  [
    Opcode.REMOVEXATTR,
    ({ operations, request, ino }, body) =>
      done(operations.removexattr(request, ino, decode.decodeRemovexattr(body))),
  ],
];

/** The handlers by opcode. */
export const handlers: ReadonlyMap<number, Handler> = new Map(table);
