import t from 'tap';
import { crc32c } from '../../src/base/crc32c.js';
import { setLogLevel } from '../../src/base/log.js';
import { MemoryStore } from '../../src/chunk/memory-store.js';
import { type MetaPeer, TaskRunner } from '../../src/chunk/task-runner.js';
import { asChunkId } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { metaCallbacks, type Task } from '../../src/proto/meta-methods.js';
import { ProtocolError } from '../../src/proto/protocol-error.js';
import { memoryTransportPair } from '../../src/rpc/memory-transport.js';
import { Peer } from '../../src/rpc/peer.js';
import { type MetaSide, metaSide } from './fake-meta.js';

// Tasks fail here on purpose.
setLogLevel('error');

async function filledStore(count: number): Promise<MemoryStore> {
  const store = new MemoryStore({ capacityBytes: 1e9 });
  for (let id = 1; id <= count; id++) {
    const bytes = Buffer.from(`chunk ${id}`);
    await store.put(asChunkId(id), crc32c(bytes), bytes);
  }
  return store;
}

const sweep = (id: number, first: number, last: number): Task => ({
  id,
  leaseMs: 60_000,
  work: { kind: 'sweep', first: asChunkId(first), last: asChunkId(last) },
});

function linked(handlers: Partial<MetaSide['handlers']>): { meta: MetaPeer; side: MetaSide } {
  const [ours, theirs] = memoryTransportPair();
  const side = metaSide(handlers);
  new Peer(theirs, {
    remote: metaCallbacks,
    local: side.table,
    handlers: side.handlers,
    name: 'chunk server',
  });
  const meta = side.connect(ours);
  return { meta, side };
}

t.test(
  'a sweep asks about what is stored, in its range and page by page, and deletes what is named',
  async (t) => {
    const store = await filledStore(limits.chunksPerMessage + 100);
    const asked: number[] = [];
    const { meta, side } = linked({
      findGarbage: ({ chunks }) => {
        asked.push(chunks.length);
        return { garbage: chunks.filter((id) => id % 10 === 0) };
      },
    });
    const runner = new TaskRunner(store, meta);
    runner.accept([sweep(1, 1, Number.MAX_SAFE_INTEGER)]);
    await side.finished(1);
    t.same(asked, [limits.chunksPerMessage, 100]);
    t.same(
      side.reports.map((report) => report.state),
      ['running', 'done'],
    );
    t.equal((await store.usage()).chunks, limits.chunksPerMessage + 100 - 419);
    await runner.stop();
  },
);

t.test('what a metadata server names without having been asked is not deleted', async (t) => {
  const store = await filledStore(20);
  const { meta, side } = linked({ findGarbage: () => ({ garbage: [3, 15].map(asChunkId) }) });
  const runner = new TaskRunner(store, meta);
  runner.accept([sweep(1, 10, 20)]);
  await side.finished(1);
  t.equal((await store.usage()).chunks, 19, 'chunk 3 lies outside of the sweep');
});

t.test('a task that fails is reported, and the next one is run', async (t) => {
  const store = await filledStore(5);
  let asked = 0;
  const { meta, side } = linked({
    findGarbage: () => {
      if (asked++ === 0) throw new ProtocolError('notAllowed', 'not now');
      return { garbage: [] };
    },
  });
  const runner = new TaskRunner(store, meta);
  runner.accept([sweep(1, 1, 5), sweep(2, 1, 5)]);
  await side.finished(2);
  t.match(side.reports, [
    { id: 1, state: 'failed', message: /not now/ },
    { id: 2, state: 'done', done: 5 },
  ]);
});

t.test('a runner that is stopped lets go of the store, reports nothing and takes nothing', async (t) => {
  const store = await filledStore(5);
  let asked: () => void = () => undefined;
  const isAsked = new Promise<void>((resolve) => {
    asked = resolve;
  });
  const { meta, side } = linked({
    findGarbage: () => {
      asked();
      return new Promise(() => undefined);
    },
  });
  const runner = new TaskRunner(store, meta);
  runner.accept([sweep(1, 1, 5), sweep(2, 1, 5)]);
  await isAsked;
  await runner.stop();
  await store.close();
  runner.accept([sweep(3, 1, 5)]);
  await new Promise((resolve) => setTimeout(resolve, 10));
  t.same(side.reports, []);
});

t.test('more tasks than are held are left to their leases', async (t) => {
  const store = await filledStore(1);
  const { meta, side } = linked({});
  const runner = new TaskRunner(store, meta);
  runner.accept(Array.from({ length: limits.tasksHeld + 10 }, (_, index) => sweep(index + 1, 1, 2)));
  await side.finished(limits.tasksHeld);
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.equal(side.reports.length, limits.tasksHeld);
});
