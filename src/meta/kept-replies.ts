/**
 * How the answer to a mutation is kept, so that a retransmission gets the same one: a reply or an errno, with
 * the method it belongs to. Written in the transaction of the mutation itself. Protocol codes are not kept:
 * they are given before anything was tried.
 */
import { Packr, Unpackr } from 'msgpackr/pack';
import { assert } from '../base/assert.js';
import { type ErrnoName, errnoName, FsError } from '../proto/errno.js';
import { type MetaMethods, metaMethods } from '../proto/meta-methods.js';
import type { ReplyOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { checksOf } from '../rpc/method-checks.js';

/** What became of a request that was carried out. */
export type Settled<Reply> = { readonly reply: Reply } | { readonly error: FsError };

const packr = new Packr({ useRecords: false, variableMapSize: true, ...{ skipValues: [undefined] } });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** One row of kept replies: [method, reply] or [method, null, errno, op, message]. */
export function encodeKept(method: keyof MetaMethods, settled: Settled<unknown>): Uint8Array {
  if ('reply' in settled) return packr.pack([method, settled.reply]);
  const { errno, op, message } = settled.error;
  return packr.pack([method, null, errno, op, message]);
}

/**
 * The answer that was kept for a mutation of this method.
 * **Errors:** badMessage when its sequence number was used for another method.
 */
export function decodeKept<K extends keyof MetaMethods>(
  method: K,
  bytes: Uint8Array,
): Settled<ReplyOf<MetaMethods[K]>> {
  const row: unknown = unpackr.unpack(bytes);
  assert(Array.isArray(row), 'a kept reply is an array');
  const [keptMethod, reply, errno, op, detail]: unknown[] = row;
  if (keptMethod !== method)
    throw new ProtocolError('badMessage', `this sequence number was used for ${String(keptMethod)}`);
  if (errno !== undefined)
    return {
      error: new FsError(codeOf(errno), String(op), { detail: `answered before: ${String(detail)}` }),
    };
  const check = checksOf(metaMethods)[method].reply;
  assert(check.Check(reply), `the kept reply of ${method} has its shape`);
  return { reply };
}

function codeOf(errno: unknown): ErrnoName {
  const code = typeof errno === 'number' ? errnoName(errno) : undefined;
  assert(code !== undefined, 'a kept errno has a name');
  return code;
}
