import t, { type Test } from 'tap';
import { InvariantError } from '../../src/base/assert.js';
import { setLogLevel } from '../../src/base/log.js';
import { GroupCommit, type MetaRequest } from '../../src/meta/group-commit.js';
import { MemoryStore } from '../../src/meta/memory-store.js';
import { FsError } from '../../src/proto/errno.js';
import { limits } from '../../src/proto/limits.js';
import { FIRST_IDS, filesystem } from '../contract/meta-store.js';

// The failures here are meant, and logged as errors.
setLogLevel('error');

/** A store that tells how it was used, and fails when asked to. */
class WatchedStore extends MemoryStore {
  readonly durable: boolean[] = [];
  failCommit: Error | undefined;

  override transaction<T>(durable: boolean, body: () => T): T {
    return super.transaction(durable, () => {
      const result = body();
      if (this.failCommit !== undefined) throw this.failCommit;
      this.durable.push(durable);
      return result;
    });
  }
}

function fresh(t: Test, onBroken?: (error: unknown) => void): { store: WatchedStore; commit: GroupCommit } {
  const store = new WatchedStore(filesystem, FIRST_IDS);
  const commit = new GroupCommit(onBroken === undefined ? { store } : { store, onBroken });
  t.teardown(() => commit.stop());
  return { store, commit };
}

const request = <Reply>(
  carryOut: () => Reply,
  more: Partial<MetaRequest<Reply>> = {},
): MetaRequest<Reply> => ({
  writes: true,
  durable: false,
  plan: () => carryOut,
  ...more,
});

const source = {};

t.test('what arrives in one turn is one transaction, in order, answered after it', async (t) => {
  const { store, commit } = fresh(t);
  const ids = Promise.all(
    [1, 2, 3].map(() =>
      commit.submit(
        source,
        request(() => store.allocate('inode', 1), { committed: () => t.equal(store.durable.length, 1) }),
      ),
    ),
  );
  t.equal(store.nextId('inode'), 2, 'nothing has run yet');
  t.strictSame(await ids, [2, 3, 4]);
  t.strictSame(store.durable, [false]);
});

t.test('one that must be on disk takes the whole transaction there', async (t) => {
  const { store, commit } = fresh(t);
  await Promise.all([
    commit.submit(
      source,
      request(() => store.allocate('inode', 1)),
    ),
    commit.submit(
      source,
      request(() => 0, { writes: false, durable: true }),
    ),
  ]);
  t.strictSame(store.durable, [true]);
});

t.test('reads alone open no transaction, and see what was written before them', async (t) => {
  const { store, commit } = fresh(t);
  const read = (): Promise<number> =>
    commit.submit(
      source,
      request(() => store.nextId('inode'), { writes: false }),
    );
  t.equal(await read(), 2);
  t.strictSame(store.durable, []);
  const write = commit.submit(
    source,
    request(() => store.allocate('inode', 5)),
  );
  t.equal(await read(), 7);
  await write;
});

t.test('a refusal concerns nobody else', async (t) => {
  const { store, commit } = fresh(t);
  const [good, refused, bug] = await Promise.allSettled([
    commit.submit(
      source,
      request(() => store.allocate('inode', 1)),
    ),
    commit.submit(
      source,
      request(() => 0, {
        plan: () => {
          throw new FsError('ENOENT', 'test');
        },
      }),
    ),
    commit.submit(
      source,
      request(() => 0, {
        plan: () => {
          throw new TypeError('oh');
        },
      }),
    ),
  ]);
  t.match(good, { value: 2 });
  t.match(refused, { reason: { code: 'ENOENT' } });
  t.match(bug, { reason: TypeError });
  t.equal(store.nextId('inode'), 3);
});

t.test('when the store fails, all of the transaction fails and nothing of it stays', async (t) => {
  const { store, commit } = fresh(t);
  store.failCommit = new FsError('ENOSPC', 'store');
  let told = false;
  const both = await Promise.allSettled([
    commit.submit(
      source,
      request(() => store.allocate('inode', 1), { committed: () => (told = true) }),
    ),
    commit.submit(
      source,
      request(() => store.nextId('inode'), { writes: false }),
    ),
  ]);
  t.match(both, [{ reason: { code: 'ENOSPC' } }, { reason: { code: 'ENOSPC' } }]);
  t.equal(store.nextId('inode'), 2);
  t.equal(told, false);
  store.failCommit = undefined;
  t.equal(
    await commit.submit(
      source,
      request(() => store.allocate('inode', 1)),
    ),
    2,
    'and it goes on',
  );
});

t.test('after an I/O error everybody is told, and the process stops', async (t) => {
  const broken: unknown[] = [];
  const { store, commit } = fresh(t, (error) => broken.push(error));
  store.failCommit = new FsError('EIO', 'store');
  await t.rejects(
    commit.submit(
      source,
      request(() => store.allocate('inode', 1)),
    ),
    { code: 'EIO' },
  );
  t.match(broken, [{ code: 'EIO' }]);
  store.failCommit = undefined;
});

t.test('a broken invariant stops everything and answers nobody', async (t) => {
  const broken: unknown[] = [];
  const { commit } = fresh(t, (error) => broken.push(error));
  let answered = false;
  const settle = (): void => {
    answered = true;
  };
  commit
    .submit(
      source,
      request(() => {
        throw new InvariantError('no');
      }),
    )
    .then(settle, settle);
  await new Promise((resolve) => setTimeout(resolve, 10));
  t.match(broken, [InvariantError]);
  t.equal(answered, false);
});

t.test('whoever sends little is not kept waiting by whoever sends much', async (t) => {
  const { store, commit } = fresh(t);
  const greedy = {};
  let done = 0;
  const many = Array.from({ length: 2000 }, () =>
    commit
      .submit(
        greedy,
        request(() => store.nextId('inode'), { writes: false }),
      )
      .then(() => {
        done += 1;
      }),
  );
  await commit.submit(
    source,
    request(() => 0),
  );
  t.ok(done < 2000, `answered when ${done} of 2000 of the other were`);
  const refused = await Promise.allSettled(
    Array.from({ length: limits.callsPerConnection + 1 }, () =>
      commit.submit(
        greedy,
        request(() => 0, { writes: false }),
      ),
    ),
  );
  t.match(refused.at(-1), { reason: { code: 'busy' } });
  await Promise.all(many);
});

t.test('one that runs alone is seen by what comes behind it', async (t) => {
  const { store, commit } = fresh(t);
  let known = 0;
  const alone = request(() => store.allocate('inode', 1), {
    alone: true,
    committed: (id) => {
      known = id;
    },
  });
  const [, , after] = await Promise.all([
    commit.submit(
      source,
      request(() => known),
    ),
    commit.submit(source, alone),
    commit.submit(
      source,
      request(() => known),
    ),
  ]);
  t.equal(after, 2);
  t.equal(store.durable.length, 3);
});

t.test('stopping answers what waits and refuses what comes', async (t) => {
  const { store, commit } = fresh(t);
  const waiting = commit.submit(
    source,
    request(() => store.allocate('inode', 1)),
  );
  const stopped = commit.stop();
  await t.rejects(
    commit.submit(
      source,
      request(() => 0),
    ),
    { code: 'busy' },
  );
  t.equal(await waiting, 2);
  await stopped;
});
