/**
 * Leases over the wire. They are granted along with attributes (Attr.lease) and belong to the session and its
 * connection: what was granted over one connection is void on the next.
 */
import { Type } from '@sinclair/typebox';
import { limits } from './limits.js';
import { method } from './method.js';
import { tCount, tIno, tNothing } from './schema.js';

const tLeases = Type.Array(Type.Object({ ino: tIno, epoch: tCount }), {
  minItems: 1,
  maxItems: limits.leasesPerMessage,
});

export const leaseMethods = {
  /** These leases are given up, asked or not. What is not held (any more) is passed over. */
  returnLeases: method('control', { args: Type.Object({ leases: tLeases }), reply: tNothing }),
} as const;

export const leaseCallbacks = {
  /**
   * Somebody waits for these: stop answering from what is remembered of the inodes, then `returnLeases`. A
   * grant that is still on its way to the mount comes before its recall.
   */
  recallLeases: method('control', { args: Type.Object({ leases: tLeases }), reply: tNothing }),
} as const;
