/** Chunks whose bytes follow from their number, so that two processes agree on them. */
import { Prng } from '../../src/base/prng.js';

const noise = new Prng(99).bytes(512 * 1024);

/** Mostly small ones; every fourth is larger than what the database takes. */
export function chunkLength(id: number): number {
  return id % 4 === 0 ? 200_000 + (id % 50) * 1000 : 100 + ((id * 977) % 60_000);
}

export function chunkBytes(id: number): Buffer {
  const bytes = Buffer.from(noise.subarray(0, chunkLength(id)));
  bytes.writeUInt32LE(id, 0);
  return bytes;
}
