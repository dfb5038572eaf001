/**
 * One binary message between two leasefs programs:
 *
 * ```
 *  0  u8   magic 0x4c ('L')
 *  1  u8   protocol version
 *  2  u16  flags, 0
 *  4  u32  header length H, big-endian
 *  8  H    header: one msgpack array
 *          request [0, id, method, args, sequence | nil, finishedBelow | nil] (trailing nils left out)
 *          reply   [1, id, result]
 *          error   [2, id, {fs?: errno name, code?: protocol code, op, message}]
 *          cancel  [3, id]
 *  8+H     bulk bytes of a request or reply, to the message's end
 * ```
 * Bulk travels beside the header, so that neither side copies it through the packer.
 *
 * INVARIANT: decodeFrame takes any bytes and throws nothing but ProtocolError; what it allocates is bounded
 * by limits.frameHeaderBytes and limits.frameHeaderElements. No class, date, bigint or extension comes out of
 * it, only null, booleans, numbers, strings, Buffers, arrays and plain objects; a key `__proto__` arrives as
 * `__proto_`. Whether arguments have their method's shape is judged by the peer, not here.
 *
 * The packer is imported without its native string reader: bytes from outside meet no native code.
 */
import { Packr, RESERVE_START_SPACE, Unpackr } from 'msgpackr/pack';
import { Errno, type ErrnoName } from '../proto/errno.js';
import { limits } from '../proto/limits.js';
import { isProtocolCode, type ProtocolCode, ProtocolError } from '../proto/protocol-error.js';
import { scanMsgpack } from './msgpack-scan.js';

export const FRAME_MAGIC = 0x4c;
export const FRAME_VERSION = 1;
export const PREAMBLE_BYTES = 8;

const KIND = { request: 0, reply: 1, error: 2, cancel: 3 } as const;

/** Bulk as it is handed over: in one piece, or in parts that are sent one after the other. */
export type Bulk = Uint8Array | readonly Uint8Array[];

/** How a call failed, as it travels: exactly one of `fs` and `code`. */
export type WireFailure = { readonly op: string; readonly message: string } & (
  | { readonly fs: ErrnoName; readonly code?: undefined }
  | { readonly code: ProtocolCode; readonly fs?: undefined }
);

export interface RequestFrame {
  readonly kind: 'request';
  readonly id: number;
  readonly method: string;
  readonly args: unknown;
  readonly sequence: number | undefined;
  readonly finishedBelow: number | undefined;
  readonly bulk: Buffer;
}
export interface ReplyFrame {
  readonly kind: 'reply';
  readonly id: number;
  readonly result: unknown;
  readonly bulk: Buffer;
}
export interface ErrorFrame {
  readonly kind: 'error';
  readonly id: number;
  readonly failure: WireFailure;
}
export interface CancelFrame {
  readonly kind: 'cancel';
  readonly id: number;
}
export type Frame = RequestFrame | ReplyFrame | ErrorFrame | CancelFrame;

// undefined properties are left out; a bare undefined becomes nil, because the extension type that msgpackr
// has for it is refused on the other side.
const packr = new Packr({
  useRecords: false,
  variableMapSize: true,
  encodeUndefinedAsNil: true,
  ...{ skipValues: [undefined] },
});
// Binaries are copied out of the frame: a name that a cache keeps must not keep a whole socket read alive.
const unpackr = new Unpackr({
  useRecords: false,
  mapsAsObjects: true,
  copyBuffers: true,
  int64AsType: 'number',
});

const EMPTY = Buffer.alloc(0);

/**
 * The parts of a message, to be sent one after the other; bulk is passed on, not copied, and must not change
 * until it is sent.
 * **Errors:** ProtocolError badMessage when header or frame would pass the limits.
 */
function encode(header: readonly unknown[], bulk?: Bulk): Uint8Array[] {
  const head = packr.pack(header, RESERVE_START_SPACE | PREAMBLE_BYTES);
  const headerBytes = head.length - PREAMBLE_BYTES;
  if (headerBytes > limits.frameHeaderBytes) throw tooLarge('header', headerBytes);
  head.writeUInt32BE(((FRAME_MAGIC << 24) | (FRAME_VERSION << 16)) >>> 0, 0);
  head.writeUInt32BE(headerBytes, 4);
  const parts: Uint8Array[] = [head];
  if (bulk === undefined) return parts;
  let frameBytes = head.length;
  for (const part of bulk instanceof Uint8Array ? [bulk] : bulk) {
    if (part.length === 0) continue;
    frameBytes += part.length;
    parts.push(part);
  }
  if (frameBytes > limits.frameBytes) throw tooLarge('frame', frameBytes);
  return parts;
}

const tooLarge = (what: string, bytes: number): ProtocolError =>
  new ProtocolError('badMessage', `${what} of ${bytes} bytes is larger than the protocol allows`);

export function encodeRequest(request: {
  id: number;
  method: string;
  args: unknown;
  sequence?: number | undefined;
  finishedBelow?: number | undefined;
  bulk?: Bulk | undefined;
}): Uint8Array[] {
  const { id, method, args, sequence, finishedBelow, bulk } = request;
  const header: unknown[] = [KIND.request, id, method, args];
  if (sequence !== undefined || finishedBelow !== undefined) header.push(sequence ?? null);
  if (finishedBelow !== undefined) header.push(finishedBelow);
  return encode(header, bulk);
}

export function encodeReply(id: number, result: unknown, bulk?: Bulk): Uint8Array[] {
  return encode([KIND.reply, id, result], bulk);
}

export function encodeError(id: number, failure: WireFailure): Uint8Array[] {
  return encode([KIND.error, id, failure]);
}

export function encodeCancel(id: number): Uint8Array[] {
  return encode([KIND.cancel, id]);
}

/**
 * Reads one message. `bulk` of the result is a view of `bytes`: whoever keeps a piece of it keeps all of it;
 * binaries within the header are copies.
 * **Errors:** ProtocolError badVersion (another version of the protocol), badMessage (anything else wrong).
 */
export function decodeFrame(bytes: Buffer): Frame {
  const bulkStart = checkPreamble(bytes);
  const wrong = scanMsgpack(bytes, PREAMBLE_BYTES, bulkStart);
  if (wrong !== undefined) throw malformed(wrong);
  const bulk = bulkStart === bytes.length ? EMPTY : bytes.subarray(bulkStart);
  return toFrame(unpackHeader(bytes.subarray(PREAMBLE_BYTES, bulkStart)), bulk);
}

/** Where bulk begins. */
function checkPreamble(bytes: Buffer): number {
  if (bytes.length > limits.frameBytes) throw malformed(`frame of ${bytes.length} bytes`);
  if (bytes.length < PREAMBLE_BYTES) throw malformed('no preamble');
  if (bytes[0] !== FRAME_MAGIC) throw malformed('not a leasefs frame');
  const version = bytes[1];
  if (version !== FRAME_VERSION)
    throw new ProtocolError(
      'badVersion',
      `the other side speaks protocol version ${version}, this one ${FRAME_VERSION}`,
    );
  if (bytes.readUInt16BE(2) !== 0) throw malformed('unknown flags');
  const headerBytes = bytes.readUInt32BE(4);
  if (headerBytes > limits.frameHeaderBytes) throw malformed(`header of ${headerBytes} bytes`);
  if (headerBytes > bytes.length - PREAMBLE_BYTES) throw malformed('truncated header');
  return PREAMBLE_BYTES + headerBytes;
}

function unpackHeader(header: Buffer): readonly unknown[] {
  let value: unknown;
  try {
    value = unpackr.unpack(header);
  } catch (error) {
    throw new ProtocolError('badMessage', 'header is not msgpack', { cause: error });
  }
  if (!Array.isArray(value)) throw malformed('header is no array');
  return value;
}

function toFrame(header: readonly unknown[], bulk: Buffer): Frame {
  const [kind, id, third, fourth, sequence, finishedBelow] = header;
  if (!isCount(id)) throw malformed('call id');
  if (kind !== KIND.request && kind !== KIND.reply && bulk.length > 0) throw malformed('bulk out of place');
  switch (kind) {
    case KIND.request:
      if (header.length < 4 || header.length > 6 || typeof third !== 'string') throw malformed('request');
      return {
        kind: 'request',
        id,
        method: third,
        args: fourth,
        sequence: optionalCount(sequence),
        finishedBelow: optionalCount(finishedBelow),
        bulk,
      };
    case KIND.reply:
      if (header.length !== 3) throw malformed('reply');
      return { kind: 'reply', id, result: third, bulk };
    case KIND.error:
      if (header.length !== 3) throw malformed('error');
      return { kind: 'error', id, failure: toFailure(third) };
    case KIND.cancel:
      if (header.length !== 2) throw malformed('cancel');
      return { kind: 'cancel', id };
    default:
      throw malformed('unknown kind of frame');
  }
}

function toFailure(value: unknown): WireFailure {
  if (typeof value !== 'object' || value === null) throw malformed('error');
  const { fs, code, op, message } = value as Partial<Record<string, unknown>>;
  if (typeof op !== 'string' || typeof message !== 'string') throw malformed('error without a message');
  if (isErrnoName(fs) && code === undefined) return { fs, op, message };
  if (isProtocolCode(code) && fs === undefined) return { code, op, message };
  throw malformed('error without a known code');
}

const isErrnoName = (value: unknown): value is ErrnoName =>
  typeof value === 'string' && Object.hasOwn(Errno, value);

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

function optionalCount(value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isCount(value)) throw malformed('sequence number');
  return value;
}

const malformed = (what: string): ProtocolError => new ProtocolError('badMessage', `bad frame: ${what}`);
