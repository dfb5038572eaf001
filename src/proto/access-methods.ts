/**
 * Access times over the wire: mounts that keep them (`relatime`, `strictatime`) say what was read, later and
 * many at once.
 */
import { type Static, Type } from '@sinclair/typebox';
import { limits } from './limits.js';
import { method } from './method.js';
import { tIno, tNothing, tTimespec } from './schema.js';

/** An inode was read at `atime`, when its access time was `seen`. */
export const tAccess = Type.Object({ ino: tIno, atime: tTimespec, seen: tTimespec });
export type Access = Static<typeof tAccess>;

export const accessMethods = {
  /**
   * Raises access times and changes nothing else, no ctime and no version. One that was set since, to another
   * value than `seen`, stays. Inodes that are gone are passed over.
   */
  accessed: method('mutation', {
    args: Type.Object({ files: Type.Array(tAccess, { maxItems: limits.accessesPerMessage }) }),
    reply: tNothing,
  }),
};
