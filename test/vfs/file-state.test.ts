import t from 'tap';
import { PendingChunk } from '../../src/client/pending-chunk.js';
import type { Attr } from '../../src/proto/attr.js';
import { asIno } from '../../src/proto/ids.js';
import { FileState } from '../../src/vfs/file-state.js';

const ino = asIno(5);
const at = (sec: number) => ({ sec, nsec: 0 });
const attrOf = (version: number, mtime: number): Attr => ({
  ...{ ino, version, mode: 0o100644, nlink: 1, uid: 0, gid: 0, rdev: 0, size: 32, allocated: 32 },
  ...{ atime: at(1), mtime: at(mtime), ctime: at(mtime), crtime: at(1) },
});

/** A file of 32 bytes, known as of version 1, with a write of 20 seconds pending; it is 100 seconds. */
function written(): FileState {
  const state = new FileState(ino, () => at(100));
  state.learn(attrOf(1, 10), 1);
  const space = new ArrayBuffer(64);
  const chunk = new PendingChunk(Buffer.from(space));
  chunk.append(state.pending, 0, Buffer.from('bytes'), at(20));
  return state;
}

t.test('what others write moves the time of a file with pending bytes, whoever wrote last', async (t) => {
  const state = written();
  t.same(state.learn(attrOf(1, 10), 1).mtime, at(20));
  t.same(state.learn(attrOf(2, 15), 1).mtime, at(100));
  t.same(state.pending.committedMtime, at(15), 'which the commit says it knew');
});

t.test('also while there was no connection', async (t) => {
  t.same(written().learn(attrOf(2, 15), 2).mtime, at(100));
});

t.test('changes of the mount itself do not', async (t) => {
  const state = written();
  t.same(state.learn(attrOf(2, 20), 1).mtime, at(20), 'its own commit, not answered yet');
  state.pending.timeSet(at(3));
  t.same(state.changed(attrOf(3, 3), 1, false).mtime, at(3), 'a time that was set');
  t.same(state.learn(attrOf(4, 3), 1).mtime, at(3), 'nor does what leaves the time as it is');
  t.same(state.learn(attrOf(3, 10), 1).mtime, at(3), 'nor a reply that was overtaken');
});
