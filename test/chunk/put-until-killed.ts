/**
 * A process that stores chunks until it is killed: `node put-until-killed.js DIRECTORY FIRST_ID`. It prints a
 * line `id length` when a put has been acknowledged; the bytes follow from the id (chunkBytes).
 */
import { crc32c } from '../../src/base/crc32c.js';
import { DiskStore } from '../../src/chunk/disk-store.js';
import { asChunkId } from '../../src/proto/ids.js';
import { chunkBytes, chunkLength } from './numbered-chunk.js';

const [path, first] = process.argv.slice(2);
if (path === undefined || first === undefined) throw new Error('usage: DIRECTORY FIRST_ID');
const store = DiskStore.open({ path });
let next = Number(first);

async function putAndSay(): Promise<void> {
  for (;;) {
    const id = next++;
    const bytes = chunkBytes(id);
    await store.put(asChunkId(id), crc32c(bytes), bytes);
    process.stdout.write(`${id} ${chunkLength(id)}\n`);
    if (id % 7 === 0) await store.delete([asChunkId(id)]);
  }
}

await Promise.all(Array.from({ length: 8 }, putAndSay));
