/** How the toy filesystem (toy-operations.ts) answers; its files, directories and symlinks; names as map keys. */
import { systemClock } from '../../src/base/clock.js';
import { type Attr, isDir } from '../../src/proto/attr.js';
import { FsError } from '../../src/proto/errno.js';
import type { Ino } from '../../src/proto/ids.js';

export interface ToyOptions {
  /** Answer every operation with a promise, a turn of the event loop later. */
  readonly later: boolean;
  readonly attrTimeoutMs: number;
  readonly entryTimeoutMs: number;
}

export interface Node {
  attr: Attr;
  data: Buffer;
  parent: Node | undefined;
  readonly entries: Map<string, Node>;
  readonly xattrs: Map<string, Buffer>;
}

export const keyOf = (name: Uint8Array): string => Buffer.from(name).toString('latin1');
export const nameOf = (key: string): Buffer => Buffer.from(key, 'latin1');

export function newNode(ino: Ino, mode: number, uid: number, gid: number): Node {
  const now = systemClock.now();
  const attr: Attr = {
    ino,
    mode,
    nlink: isDir(mode) ? 2 : 1,
    uid,
    gid,
    rdev: 0,
    size: 0,
    allocated: 0,
    atime: now,
    mtime: now,
    ctime: now,
    crtime: now,
    version: 1,
  };
  return { attr, data: Buffer.alloc(0), parent: undefined, entries: new Map(), xattrs: new Map() };
}

/** An operation that the toy does not have. */
export const unsupported = (op: string) => (): never => {
  throw new FsError('ENOSYS', op);
};
