/**
 * Leases over the wire. They are granted along with attributes (Attr.lease) and belong to the session and its
 * connection: what was granted over one connection is void on the next.
 */
import { Type } from '@sinclair/typebox';
import { limits } from './limits.js';
import { method } from './method.js';
import { tCount, tIno, tNothing } from './schema.js';

const tLeases = Type.Array(Type.Object({ ino: tIno, epoch: tCount }), {
  maxItems: limits.leasesPerMessage,
});

export const leaseMethods = {
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
} as const;

export const leaseCallbacks = {
  /**
   * Somebody waits for these: stop answering from what is remembered of the inodes, then `returnLeases`. A
   * grant that is still on its way to the mount comes before its recall.
   */
  recallLeases: method('control', { args: Type.Object({ leases: tLeases }), reply: tNothing }),
} as const;
