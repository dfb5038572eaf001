/**
 * The contract of src/meta/store.ts as a suite, and a random walk that two stores must take alike.
 */
import { strict as assert } from 'node:assert';
import type { Test } from 'tap';
import { InvariantError } from '../../src/base/assert.js';
import { Prng } from '../../src/base/prng.js';
import type { FilesystemRow, MetaStore } from '../../src/meta/store.js';
import { namespace } from '../../src/names/namespace.js';
import { releaseSession } from '../../src/names/open.js';
import { type Operation, runSync } from '../../src/names/operation.js';
import { reap } from '../../src/names/orphan.js';
import { FsError } from '../../src/proto/errno.js';
import {
  asChunkId,
  asClusterId,
  asFencingToken,
  asIno,
  asServerId,
  asSessionId,
  type ChunkId,
  type Ino,
  ROOT_INO,
  type SessionId,
} from '../../src/proto/ids.js';
import { lockSuite } from './meta-locks.js';

export const filesystem: FilesystemRow = {
  clusterId: asClusterId('11111111-2222-4333-8444-555555555555'),
  formatVersion: 4,
  replicas: 2,
  groups: 16,
  createdAt: { sec: 1_700_000_000, nsec: 999_999_999 },
};
export const FIRST_IDS = { firstInode: 2, firstSession: 2 };

/** A fresh store of `filesystem`, with an empty root, in which ids begin with FIRST_IDS. */
export type StoreFactory = (t: Test) => MetaStore;

const A = asSessionId(2);
const B = asSessionId(3);
const SERVER = asServerId('aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee');
const owner = { uid: 7, gid: 8 };
const name = (text: string): Buffer => Buffer.from(text);

export function session(id: SessionId) {
  return {
    id,
    token: asFencingToken(1),
    confirmedToken: 0,
    host: 'here',
    pid: 1,
    mountpoint: '/m',
    finishedBelow: 0,
    leases: true,
  };
}

function server() {
  return {
    id: SERVER,
    url: 'ws://127.0.0.1:1',
    host: 'h',
    rack: 'r',
    weight: 1.5,
    state: 'up' as const,
    capacityBytes: 2 ** 45,
    usedBytes: 3,
  };
}

/** Runs an operation in the open transaction. */
export function perform<Reply>(store: MetaStore, operation: Operation<Reply>): Reply {
  const outcome = runSync(operation, (read) => store.answer(read));
  store.apply(outcome.changes);
  return outcome.reply;
}

function mkfile(store: MetaStore, text: string, by: SessionId): Ino {
  const args = { parent: ROOT_INO, name: name(text), owner, mode: 0o644, exclusive: true, truncate: false };
  return perform(store, namespace.create({ now: { sec: -5, nsec: 1 }, session: by }, args)).attr.ino;
}

function write(store: MetaStore, ino: Ino, chunk: ChunkId, length: number): void {
  const extents = [{ offset: 0, length, chunk, chunkOffset: 0 }];
  const mtime = { sec: 9, nsec: 9 };
  perform(
    store,
    namespace.commit(
      { now: mtime, session: A },
      {
        chunks: [{ id: chunk, length, crc: 0xffffffff }],
        files: [{ ino, extents, minSize: 0, mtime, clearPrivileges: false }],
        durable: false,
      },
    ),
  );
}

export function suite(t: Test, factory: StoreFactory): void {
  t.test('what is known of a session’s journal and inode numbers goes with the session', async (t) => {
    const store = factory(t);
    const row = session(asSessionId(5));
    store.transaction(false, () => {
      store.putSession(row);
      store.setJournalled(row.id, 7);
      store.putInodeRange({ first: asIno(100), last: asIno(199), session: row.id });
    });
    t.strictSame([store.journalled(row.id), store.journalled(asSessionId(6))], [7, 0]);
    t.strictSame(
      [99, 100, 199, 200].map((ino) => store.inodeOwner(asIno(ino))),
      [undefined, 5, 5, undefined],
    );
    store.transaction(false, () => store.deleteSession(row.id));
    t.strictSame([store.journalled(row.id), store.inodeOwner(asIno(150))], [0, undefined]);
  });

  t.test('a fresh store has a root and nothing else', async (t) => {
    const store = factory(t);
    t.strictSame(store.filesystem, filesystem);
    t.strictSame(store.counters(), { inodes: 1, orphans: 0, chunks: 0, referencedBytes: 0, chunkBytes: 0 });
    t.match(store.answer({ read: 'inode', ino: ROOT_INO }), { ino: 1, nlink: 2, parent: 1 });
    t.strictSame([store.nextId('inode'), store.nextId('session'), store.nextId('chunk')], [2, 2, 1]);
    t.strictSame([store.sessions(), store.servers(), store.tasks(), store.ranges()], [[], [], [], []]);
    store.checkInvariants();
  });

  lockSuite(t, factory);

  t.test('a transaction that throws takes everything back, counters too', async (t) => {
    const store = factory(t);
    const root = store.answer({ read: 'inode', ino: ROOT_INO });
    const attempt = (): void =>
      store.transaction(true, () => {
        store.putSession(session(A));
        write(store, mkfile(store, 'a', A), asChunkId(store.allocate('chunk', 10)), 100);
        t.notSame(store.answer({ read: 'inode', ino: ROOT_INO }), root);
        store.putServer(server());
        store.putReply(A, 1, name('x'));
        store.setEpoch(5);
        const work = { kind: 'delete' as const, chunks: [] };
        store.putTask({ id: store.allocate('task', 1), server: SERVER, work, attempts: 0, message: '' });
        throw new FsError('ENOENT', 'test');
      });
    t.throws(attempt, { code: 'ENOENT' });
    t.equal(store.counters().inodes, 1);
    t.strictSame(
      [store.nextId('inode'), store.nextId('chunk'), store.nextId('task'), store.epoch],
      [2, 1, 1, 1],
    );
    t.strictSame([store.sessions(), store.servers(), store.tasks()], [[], [], []]);
    t.equal(store.reply(A, 1), undefined);
    t.strictSame(store.answer({ read: 'dentries', parent: ROOT_INO, fromHash: 0, limit: 9 }), []);
    t.strictSame(store.answer({ read: 'inode', ino: ROOT_INO }), root);
    t.equal(store.answer({ read: 'inode', ino: asIno(2) }), undefined);
    store.checkInvariants();
  });

  t.test('writes outside a transaction, nested ones and promises are bugs', async (t) => {
    const store = factory(t);
    t.throws(() => store.putServer(server()), InvariantError);
    t.throws(() => store.allocate('inode', 1), InvariantError);
    t.throws(() => store.apply([{ delete: 'inode', ino: ROOT_INO }]), InvariantError);
    t.throws(() => store.transaction(false, () => store.transaction(false, () => 1)), InvariantError);
    t.throws(() => store.transaction(false, async () => 1), InvariantError);
    t.equal(
      store.transaction(false, () => 4),
      4,
    );
  });

  t.test('a closed store answers EIO', async (t) => {
    const store = factory(t);
    store.close();
    store.close();
    t.throws(() => store.answer({ read: 'inode', ino: ROOT_INO }), { code: 'EIO' });
    t.throws(() => store.transaction(false, () => 1), { code: 'EIO' });
  });

  t.test('ids are given out once', async (t) => {
    const store = factory(t);
    store.transaction(false, () => {
      t.equal(store.allocate('chunk', 4096), 1);
      t.equal(store.allocate('chunk', 1), 4097);
      t.equal(store.allocate('inode', 2), 2);
      t.equal(store.answer({ read: 'newIno' }), 4);
    });
    t.strictSame([store.nextId('chunk'), store.nextId('inode')], [4098, 5]);
  });

  t.test('64-bit numbers and negative times come back exactly', async (t) => {
    const store = factory(t);
    const big = Number.MAX_SAFE_INTEGER;
    const row = {
      ino: asIno(big - 2),
      mode: 0o100644,
      nlink: 1,
      uid: 0xffffffff,
      gid: 0xfffffffe,
      rdev: 0xffffffff,
      size: big,
      allocated: 0,
      atime: { sec: -big, nsec: 999_999_999 },
      mtime: { sec: big, nsec: 0 },
      ctime: { sec: -1, nsec: 1 },
      crtime: { sec: 2 ** 33, nsec: 5 },
      version: big - 1,
      parent: null,
      target: null,
    };
    store.transaction(false, () => store.apply([{ put: 'inode', row }]));
    t.strictSame(store.answer({ read: 'inode', ino: row.ino }), row);
  });

  t.test('sessions, ranges, replies and opens live and end together', async (t) => {
    const store = factory(t);
    const range = { first: asChunkId(1), last: asChunkId(50), session: A };
    store.transaction(false, () => {
      store.putSession(session(A));
      store.putSession({ ...session(B), token: asFencingToken(9), finishedBelow: 2 ** 40 });
      store.putRange(range);
      for (const sequence of [1, 2, 3]) store.putReply(A, sequence, name(`r${sequence}`));
      store.putReply(B, 1, name('other'));
      mkfile(store, 'a', A);
    });
    t.strictSame(
      store.sessions().map((row) => [row.id, row.token, row.finishedBelow]),
      [
        [A, 1, 0],
        [B, 9, 2 ** 40],
      ],
    );
    t.strictSame(store.ranges(), [range]);
    t.equal(Buffer.from(store.reply(A, 2) ?? []).toString(), 'r2');
    t.strictSame(store.keptReplies(A), { count: 3, bytes: 6 });
    store.transaction(false, () => store.pruneReplies(A, 3));
    t.strictSame(store.keptReplies(A), { count: 1, bytes: 2 });
    t.equal(store.openCount(A), 1);
    t.throws(() => store.transaction(false, () => store.deleteSession(A)), InvariantError);
    store.transaction(false, () => {
      perform(store, releaseSession({ now: { sec: 1, nsec: 1 }, session: A }, { limit: 10 }));
      store.deleteSession(A);
    });
    t.strictSame([store.ranges(), store.openCount(A), store.reply(A, 3)], [[], 0, undefined]);
    t.equal(Buffer.from(store.reply(B, 1) ?? []).toString(), 'other');
    store.checkInvariants();
  });

  t.test('servers and tasks come back as they were put', async (t) => {
    const store = factory(t);
    const task = {
      id: 3,
      server: SERVER,
      work: { kind: 'delete' as const, chunks: [asChunkId(5), asChunkId(2 ** 52)] },
      attempts: 2,
      message: 'disk on fire',
    };
    const sweep = {
      ...task,
      id: 2,
      work: { kind: 'sweep' as const, first: asChunkId(1), last: asChunkId(9) },
    };
    store.transaction(true, () => {
      store.putServer(server());
      store.putServer({ ...server(), state: 'full' });
      store.putTask(task);
      store.putTask(sweep);
      store.setEpoch(77);
    });
    t.strictSame(store.servers(), [{ ...server(), state: 'full' }]);
    t.strictSame(store.tasks(), [sweep, task]);
    t.equal(store.epoch, 77);
    t.throws(() => store.transaction(false, () => store.setEpoch(76)), InvariantError);
    store.transaction(false, () => store.deleteTask(2));
    t.strictSame(store.tasks(), [task]);
  });

  t.test(
    'a chunk without references is garbage until it is taken, and retired ids are remembered',
    async (t) => {
      const store = factory(t);
      store.transaction(false, () => {
        store.putSession(session(A));
        const first = store.allocate('chunk', 3);
        for (let index = 0; index < 3; index++)
          write(store, mkfile(store, `f${index}`, B), asChunkId(first + index), 1000);
        store.putSession(session(B));
        perform(store, releaseSession({ now: { sec: 1, nsec: 1 }, session: B }, { limit: 10 }));
      });
      t.equal(store.garbageCount(10), 0);
      store.transaction(false, () => {
        for (const text of ['f0', 'f2'])
          perform(
            store,
            namespace.unlink(
              { now: { sec: 1, nsec: 1 }, session: A },
              { parent: ROOT_INO, name: name(text) },
            ),
          );
      });
      t.match(store.counters(), { chunks: 3, referencedBytes: 1000, chunkBytes: 3000, inodes: 2 });
      t.equal(store.answer({ read: 'chunk', id: asChunkId(1) }), undefined, 'not read as a chunk');
      t.equal(store.hasChunk(asChunkId(1)), true, 'but still there');
      t.strictSame([store.garbageCount(1), store.garbageCount(9)], [1, 2]);
      store.transaction(false, () => {
        t.strictSame(store.takeGarbage(1), [1]);
        t.strictSame(store.takeGarbage(5), [3]);
        store.retire([asChunkId(1), asChunkId(3), asChunkId(3)]);
      });
      t.match(store.counters(), { chunks: 1, referencedBytes: 1000, chunkBytes: 1000 });
      t.strictSame([store.isRetired(asChunkId(3)), store.isRetired(asChunkId(2))], [true, false]);
      store.transaction(false, () => store.forgetRetired(asChunkId(2), asChunkId(3)));
      t.strictSame([store.isRetired(asChunkId(3)), store.isRetired(asChunkId(1))], [false, true]);
      store.checkInvariants();
    },
  );
}

const NAMES = ['a', 'b', 'c', 'd', 'ä', '\xff'];

/**
 * Does the same `steps` random operations, transactions that fail among them, on every store and throws when
 * they differ in a reply, an errno, or what is left.
 */
export function walkAlike(stores: readonly MetaStore[], seed: number, steps: number): void {
  const walks = stores.map((store) => new Walk(store, new Prng(seed)));
  for (const store of stores) {
    store.transaction(false, () => {
      for (const id of [A, B]) store.putSession(session(id));
    });
  }
  for (let step = 0; step < steps; step++) {
    const [first, ...others] = walks.map((walk) => walk.step(step));
    for (const other of others) assert.deepEqual(other, first, `seed ${seed}, step ${step}`);
    if (step % 50 === 0) for (const store of stores) store.checkInvariants();
  }
  for (const store of stores) store.checkInvariants();
}

class Walk {
  readonly #store: MetaStore;
  readonly #prng: Prng;
  readonly #dirs: Ino[] = [ROOT_INO];
  readonly #inos: Ino[] = [ROOT_INO];

  constructor(store: MetaStore, prng: Prng) {
    this.#store = store;
    this.#prng = prng;
  }

  /** One transaction of up to three operations; what came out, in a form that can be compared. */
  step(step: number): unknown {
    const store = this.#store;
    const fails = this.#prng.int(1, 10) === 1;
    const replies: unknown[] = [];
    try {
      store.transaction(false, () => {
        for (let count = this.#prng.int(1, 3); count > 0; count--) replies.push(this.#operation(step));
        if (fails) throw new FsError('EIO', 'test');
      });
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      replies.push(error.code);
    }
    const chunk = asChunkId(Math.max(1, store.nextId('chunk') - 1));
    replies.push(store.counters(), store.reapable(5), store.answer({ read: 'chunk', id: chunk }));
    // Buffer or Uint8Array, with or without a prototype: the same bytes are the same reply.
    return JSON.parse(JSON.stringify(replies, (_key, value) => plain(value)));
  }

  #operation(step: number): unknown {
    const operation = this.#pick({ now: { sec: step, nsec: step }, session: this.#prng.pick([A, B]) });
    if (operation === undefined) return this.#store.takeGarbage(this.#prng.int(1, 5));
    try {
      return perform(this.#store, operation);
    } catch (error) {
      if (error instanceof FsError) return error.code;
      throw error;
    }
  }

  #at(): { parent: Ino; name: Buffer } {
    return { parent: this.#prng.pick(this.#dirs), name: Buffer.from(this.#prng.pick(NAMES), 'latin1') };
  }

  #ino(): Ino {
    return this.#prng.pick(this.#inos);
  }

  #grown(operation: Operation<unknown>, isDirectory: boolean): Operation<unknown> {
    // The next inode number is known before: names that fail leave numbers that lead nowhere, as in life.
    const ino = asIno(this.#store.nextId('inode'));
    this.#inos.push(ino);
    if (isDirectory) this.#dirs.push(ino);
    return operation;
  }

  #pick(context: { now: { sec: number; nsec: number }; session: SessionId }): Operation<unknown> | undefined {
    const prng = this.#prng;
    const at = this.#at();
    const to = this.#at();
    switch (prng.int(0, 18)) {
      case 0:
      case 1:
      case 2: {
        const flags = { exclusive: prng.int(0, 1) === 1, truncate: prng.int(0, 3) === 0 };
        return this.#grown(namespace.create(context, { ...at, owner, mode: 0o644, ...flags }), false);
      }
      case 3:
        return this.#grown(namespace.mkdir(context, { ...at, owner, mode: 0o755 }), true);
      case 4:
        return this.#grown(namespace.symlink(context, { ...at, owner, target: name('to') }), false);
      case 5:
        return namespace.unlink(context, at);
      case 6:
        return namespace.rmdir(context, at);
      case 7: {
        const mode = prng.pick(['replace', 'noreplace', 'exchange'] as const);
        return namespace.rename(context, { ...at, newParent: to.parent, newName: to.name, mode });
      }
      case 8:
        return namespace.link(context, { ...at, ino: this.#ino() });
      case 9:
        return namespace.readdir(context, { ino: at.parent, after: 0, limit: prng.int(1, 5), plus: true });
      case 10:
        return namespace.release(context, { inos: [this.#ino(), this.#ino()] });
      case 11:
        return namespace.open(context, { ino: this.#ino(), truncate: false });
      case 12:
        return namespace.setattr(context, { ino: this.#ino(), set: { size: prng.int(0, 20_000) } });
      case 13:
        return namespace.setxattr(context, {
          ino: this.#ino(),
          name: at.name,
          value: prng.bytes(prng.int(0, 9)),
          mode: 'any',
        });
      case 14:
        return namespace.listxattr(context, { ino: this.#ino() });
      case 15:
        return (
          this.#reaping(context) ??
          namespace.extents(context, { ino: this.#ino(), offset: 5000, length: 9000 })
        );
      case 16:
        return undefined;
      case 17: {
        const files = [this.#ino(), this.#ino()].map((ino) => ({
          ino,
          atime: context.now,
          seen: context.now,
        }));
        return namespace.accessed(context, { files });
      }
      default:
        return this.#commit(context);
    }
  }

  #reaping(context: {
    now: { sec: number; nsec: number };
    session: SessionId;
  }): Operation<unknown> | undefined {
    const ino = this.#store.reapable(1)[0];
    return ino === undefined ? undefined : reap(context, { ino, limit: this.#prng.int(1, 6) });
  }

  #commit(context: { now: { sec: number; nsec: number }; session: SessionId }): Operation<unknown> {
    const prng = this.#prng;
    const id = asChunkId(this.#store.allocate('chunk', 1));
    const extents = Array.from({ length: prng.int(1, 24) }, () => ({
      offset: prng.int(0, 20_000),
      length: prng.int(1, 900),
      chunk: id,
      chunkOffset: prng.int(0, 100),
    }));
    return namespace.commit(context, {
      chunks: [{ id, length: 1000, crc: id }],
      files: [
        { ino: this.#ino(), extents, minSize: prng.int(0, 9), mtime: context.now, clearPrivileges: false },
      ],
      durable: false,
    });
  }
}

function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  // A Buffer has become this by its toJSON before we are asked.
  if (
    typeof value === 'object' &&
    value !== null &&
    'type' in value &&
    'data' in value &&
    Array.isArray(value.data)
  )
    return Buffer.from(value.data).toString('hex');
  return value;
}
