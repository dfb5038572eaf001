/** A file, directory or symlink of the toy filesystem (toy-operations.ts), and how names become map keys. */
import { systemClock } from '../../src/base/clock.js';
import { type Attr, isDir } from '../../src/proto/attr.js';
import type { Ino } from '../../src/proto/ids.js';

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
