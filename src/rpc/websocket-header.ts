/**
 * The header of a WebSocket message, written here for one reason: `ws` sends a message of several parts as
 * fragments, and the receiver's `ws` then copies them together once more. One header before all parts costs
 * no copy on either side (native-notes/websocket.md has the figures).
 *
 * **Source:** RFC 6455, section 5.2.
 */

const FINAL_BINARY = 0x82;
const MASKED = 0x80;
const LENGTH_16 = 126;
const LENGTH_64 = 127;

export const MAX_HEADER_BYTES = 14;

/**
 * Writes the header of an unfragmented binary message of `payloadBytes` to the start of `into`; returns its
 * length, at most MAX_HEADER_BYTES. `masked`: the sender is a client; RFC 6455 asks it to mask, and with an
 * all-zero mask the payload stays as it is.
 */
export function writeMessageHeader(into: Buffer, payloadBytes: number, masked: boolean): number {
  into[0] = FINAL_BINARY;
  const maskBit = masked ? MASKED : 0;
  let at = 2;
  if (payloadBytes < LENGTH_16) into[1] = maskBit | payloadBytes;
  else if (payloadBytes <= 0xffff) {
    into[1] = maskBit | LENGTH_16;
    at = into.writeUInt16BE(payloadBytes, at);
  } else {
    into[1] = maskBit | LENGTH_64;
    // Frames are far below 4 GiB: the upper half of the 64 bits is 0.
    at = into.writeUInt32BE(0, at);
    at = into.writeUInt32BE(payloadBytes, at);
  }
  return masked ? into.writeUInt32BE(0, at) : at;
}
