/**
 * Walks a msgpack value without building it. The unpacker behind it recurses, allocates what a length says
 * and knows extension types; bytes from outside reach it only after this scan has found them to be one
 * complete value of bounded nesting and size, made of nil, booleans, numbers, strings, binaries, arrays and
 * maps with short string keys. INVARIANT: the scan allocates nothing that grows with its input and does not
 * recurse. It does not judge what the value means.
 *
 * **Source:** msgpack specification (github.com/msgpack/msgpack/blob/master/spec.md).
 */
import { limits } from '../proto/limits.js';

const LENGTH_8 = -1;
const LENGTH_16 = -2;
const LENGTH_32 = -3;
const FIX_ARRAY = -4;
const FIX_MAP = -5;
const ARRAY_16 = -6;
const ARRAY_32 = -7;
const MAP_16 = -8;
const MAP_32 = -9;
const REFUSED = -10;

const TRUNCATED = 'a value passes the end of the header';

/** For each first byte: how many bytes follow it, or one of the classes above. */
const FOLLOWING = followingBytes();

function followingBytes(): Int8Array {
  const table = new Int8Array(256);
  table.fill(FIX_MAP, 0x80, 0x90);
  table.fill(FIX_ARRAY, 0x90, 0xa0);
  for (let length = 0; length < 32; length++) table[0xa0 + length] = length;
  // 0xc1 is unused; ext 8..32 and fixext 1..16 could name types that the unpacker brings to life.
  for (const first of [0xc1, 0xc7, 0xc8, 0xc9, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8]) table[first] = REFUSED;
  for (const first of [0xc4, 0xd9]) table[first] = LENGTH_8;
  for (const first of [0xc5, 0xda]) table[first] = LENGTH_16;
  for (const first of [0xc6, 0xdb]) table[first] = LENGTH_32;
  table.set([4, 8], 0xca);
  table.set([1, 2, 4, 8, 1, 2, 4, 8], 0xcc);
  table.set([ARRAY_16, ARRAY_32, MAP_16, MAP_32], 0xdc);
  return table;
}

/** A fixstr or a str 8: what a map's key has to be. */
const isShortString = (first: number): boolean => (first >= 0xa0 && first < 0xc0) || first === 0xd9;

/** Bytes of the length field that follows the first byte of a class. */
function lengthWidth(following: number): number {
  switch (following) {
    case LENGTH_8:
      return 1;
    case LENGTH_16:
    case ARRAY_16:
    case MAP_16:
      return 2;
    case LENGTH_32:
    case ARRAY_32:
    case MAP_32:
      return 4;
    default:
      return 0;
  }
}

const isMapClass = (following: number): boolean =>
  following === FIX_MAP || following === MAP_16 || following === MAP_32;

// One container per level, and the token being looked at. A scan is synchronous, so that all scans share them.
const itemsLeft = new Uint32Array(limits.frameHeaderDepth + 1);
const isMap = new Uint8Array(limits.frameHeaderDepth + 1);
/** The last token: where it ends (a container: where its items begin), how many items it holds. */
const token = { end: 0, isContainer: false, isMap: false, items: 0 };

/**
 * Checks that bytes [start, end) are exactly one acceptable msgpack value.
 * Returns undefined when they are, otherwise what is wrong, for a log line.
 */
export function scanMsgpack(bytes: Buffer, start: number, end: number): string | undefined {
  let at = start;
  let elements = 0;
  let depth = 0;
  itemsLeft[0] = 1;
  isMap[0] = 0;
  for (;;) {
    while (itemsLeft[depth] === 0) {
      if (depth === 0) return at === end ? undefined : 'bytes behind the header value';
      depth -= 1;
    }
    if (at >= end) return TRUNCATED;
    elements += 1;
    if (elements > limits.frameHeaderElements) return 'too many elements';
    const left = itemsLeft[depth] ?? 0;
    // Of a map's items every other one is a key, the first among them.
    if (isMap[depth] === 1 && left % 2 === 0 && !isShortString(bytes.readUInt8(at)))
      return 'a map key is no short string';
    itemsLeft[depth] = left - 1;
    const wrong = readToken(bytes, at, end);
    if (wrong !== undefined) return wrong;
    at = token.end;
    if (!token.isContainer) continue;
    if (depth === limits.frameHeaderDepth) return 'nested too deeply';
    depth += 1;
    itemsLeft[depth] = token.items;
    isMap[depth] = token.isMap ? 1 : 0;
  }
}

/** Looks at the token at `at` < `end`; returns what is wrong with it. INVARIANT: token.end <= end. */
function readToken(bytes: Buffer, at: number, end: number): string | undefined {
  const first = bytes.readUInt8(at);
  const following = FOLLOWING[first] ?? REFUSED;
  if (following === REFUSED) return `refused type 0x${first.toString(16)}`;
  if (following >= 0) return endToken(at + 1 + following, end);
  const width = lengthWidth(following);
  const behind = at + 1 + width;
  if (behind > end) return TRUNCATED;
  const length = width === 0 ? first & 0x0f : bytes.readUIntBE(at + 1, width);
  if (following >= LENGTH_32) return endToken(behind + length, end);
  token.isContainer = true;
  token.isMap = isMapClass(following);
  token.items = token.isMap ? length * 2 : length;
  token.end = behind;
  // Every item takes a byte at least.
  return token.items > end - behind ? TRUNCATED : undefined;
}

function endToken(tokenEnd: number, end: number): string | undefined {
  token.isContainer = false;
  token.end = tokenEnd;
  return tokenEnd > end ? TRUNCATED : undefined;
}
