/**
 * What every family of operations works on: the filesystem, and what this mount knows of its files. Every
 * reply's attributes pass through here, so that a program never sees attributes older than its own writes.
 */
import type { Filesystem } from '../client/filesystem.js';
import type { Attr } from '../proto/attr.js';
import { type ErrnoName, FsError } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import { FileTable } from './file-table.js';
import { LockOperations } from './lock-operations.js';
import { OpenInodes } from './open-inodes.js';
import type { AttrReply, Entry } from './operations.js';

export class MountContext {
  readonly fs: Filesystem;
  readonly files = new FileTable();
  readonly opens: OpenInodes;
  readonly locks: LockOperations;

  constructor(fs: Filesystem) {
    this.fs = fs;
    this.opens = new OpenInodes(fs);
    this.locks = new LockOperations(this);
    fs.onSessionLost = () => {
      this.locks.sessionLost();
      this.opens.remarkAll(this.files.states());
    };
  }

  /** Before anything that changes the filesystem. **Errors:** EROFS on a read-only mount. */
  assertWritable(op: string): void {
    if (this.fs.readOnly) throw new FsError('EROFS', op);
  }

  /** The newest that is known of an inode now that a reply says `attr`, this mount's pending writes included. */
  learn(attr: Attr): Attr {
    this.fs.seen(attr);
    return this.files.get(attr.ino)?.learn(attr, this.fs.connections) ?? attr;
  }

  /** Nothing may be remembered by the kernel without asking: there are no leases yet. */
  entry(attr: Attr): Entry {
    return { attr: this.learn(attr), entryTimeoutMs: 0, attrTimeoutMs: 0 };
  }

  attrReply(attr: Attr): AttrReply {
    return { attr, attrTimeoutMs: 0 };
  }
}

export const isFsError = (error: unknown, code: ErrnoName): boolean =>
  error instanceof FsError && error.code === code;

/** **Errors:** ENAMETOOLONG. */
export function checkName(name: Uint8Array, op: string): void {
  if (name.length > limits.nameBytes) throw new FsError('ENAMETOOLONG', op);
}
