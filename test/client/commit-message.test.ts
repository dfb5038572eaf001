import t from 'tap';
import { commitArgs, nextBatch } from '../../src/client/commit-message.js';
import { ChunkArena, PendingChunk } from '../../src/client/pending-chunk.js';
import { PendingFile } from '../../src/client/pending-file.js';
import { asChunkId, asIno } from '../../src/proto/ids.js';

const at = (sec: number) => ({ sec, nsec: 0 });
const bytes = Buffer.from('bytes');

function chunk(): PendingChunk {
  const space = new ChunkArena().rest();
  if (space === undefined) throw new Error('a new arena has room');
  return new PendingChunk(space);
}

function stored(pending: PendingChunk, id: number): void {
  pending.id = asChunkId(id);
  pending.state = 'stored';
}

/** The times that commits of one chunk each give the file, of those that are stored. */
function times(chunks: readonly PendingChunk[]): number[] {
  return chunks.flatMap((one) => {
    const batch = nextBatch([one], 1);
    return batch === undefined ? [] : commitArgs(batch).files.map(({ mtime }) => mtime?.sec ?? 0);
  });
}

/** A file with bytes of 10 and 20 seconds in two chunks, at one place. */
function twice(): { file: PendingFile; chunks: PendingChunk[] } {
  const file = new PendingFile(asIno(5));
  const chunks = [chunk(), chunk()];
  for (const [index, one] of chunks.entries()) {
    one.append(file, 0, bytes, at(10 * (index + 1)));
    stored(one, index + 1);
  }
  file.checkInvariants();
  return { file, chunks };
}

t.test(
  'a commit sets the time of the bytes that it brings, not of those that are pending behind',
  async (t) => {
    const { file, chunks } = twice();
    t.same(times(chunks), [10, 20]);
    t.equal(file.mtime.sec, 20, 'this mount shows the newest');
    const together = nextBatch(chunks, 2);
    t.equal(together && commitArgs(together).files[0]?.mtime?.sec, 20);
  },
);

t.test('a time that a program has set is that of all that was written before', async (t) => {
  const { file, chunks } = twice();
  file.timeSet(at(3));
  t.same(times(chunks), [3, 3]);
  const last = chunk();
  last.append(file, 0, bytes, at(30));
  stored(last, 3);
  t.same(times([...chunks, last]), [3, 3, 30]);
});

t.test('bytes that come after a change on the server move the time with each chunk', async (t) => {
  const { file, chunks } = twice();
  let now = 40;
  file.comesAfter(() => at(now++));
  t.same(times(chunks), [40, 41]);
  t.equal(file.mtime.sec, 41);
  t.ok(chunks[0]?.truncateFile(file, 0));
  t.same(commitArgs({ chunks: [], files: new Map() }).files, []);
});
