/**
 * What the metadata server answers: one handler for each row of metaMethods, bound to one connection. A
 * handler says who may call it, which rules run, and whether group commit or memory answers; what a method
 * means is written elsewhere (names/, sessions.ts, cluster.ts, tasks.ts).
 */
import type { Clock } from '../base/clock.js';
import { type NamespaceMethod, namespace } from '../names/namespace.js';
import { runSync } from '../names/operation.js';
import { attrsOf, bornIn } from '../names/reply-attrs.js';
import { inodeOfRead, type RowChange } from '../names/rows.js';
import { FsError } from '../proto/errno.js';
import { asChunkId, asIno, type ChunkId, type Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import type { CallContext, Handlers } from '../rpc/peer.js';
import type { Cluster } from './cluster.js';
import type { Connection } from './connection.js';
import type { GroupCommit, MetaRequest } from './group-commit.js';
import type { Housekeeping } from './housekeeping.js';
import { journalHandler } from './journal.js';
import { type Granted, inodesOf, type Leases, markLeases } from './leases.js';
import type { Locks } from './locks.js';
import { contextOf, type Mutations, type Rules, unwrap } from './mutations.js';
import { type RemovedPush, removalOf } from './removed-push.js';
import { revalidateHandler } from './revalidate.js';
import { mayCommit, type Session, type Sessions } from './sessions.js';
import { statfs, status } from './status.js';
import type { MetaStore } from './store.js';
import { takeHandler } from './take-leases.js';
import type { QueueChange, Tasks } from './tasks.js';

/** The parts of a running metadata server. */
export interface MetaParts {
  readonly store: MetaStore;
  readonly clock: Clock;
  readonly commit: GroupCommit;
  readonly sessions: Sessions;
  readonly mutations: Mutations;
  readonly cluster: Cluster;
  readonly tasks: Tasks;
  readonly locks: Locks;
  readonly leases: Leases;
  readonly removed: RemovedPush;
  readonly housekeeping: Housekeeping;
  readonly startedAt: ReturnType<Clock['now']>;
}

type Handler<K extends keyof MetaMethods> = (
  args: ArgsOf<MetaMethods[K]>,
  context: CallContext,
) => Promise<ReplyOf<MetaMethods[K]>>;

/** The handlers for one connection. */
export function serve(parts: MetaParts, connection: Connection): Handlers<MetaMethods> {
  const { read, mutation, named } = runners(parts, connection);
  return {
    ...sessionHandlers(parts, connection),
    ...clusterHandlers(parts, connection),
    ...lockHandlers(parts, connection),
    ...leaseHandlers(parts, connection),
    journal: journalHandler(parts, connection),
    takeLeases: takeHandler(parts, connection),
    revalidate: revalidateHandler(parts, connection),
    lookup: read('lookup'),
    getattr: read('getattr'),
    setattr: named('setattr'),
    create: named('create'),
    mknod: named('mknod'),
    mkdir: named('mkdir'),
    symlink: named('symlink'),
    link: named('link'),
    unlink: named('unlink'),
    rmdir: named('rmdir'),
    rename: named('rename'),
    readlink: read('readlink'),
    readdir: read('readdir'),
    open: named('open'),
    release: named('release'),
    accessed: named('accessed'),
    getxattr: read('getxattr'),
    setxattr: named('setxattr'),
    listxattr: read('listxattr'),
    removexattr: named('removexattr'),
    extents: read('extents'),
    fallocate: named('fallocate'),
    copyRange: named('copyRange'),
    tmpfile: named('tmpfile'),
    commit: async (args, context) => {
      // Awaited, as in `named`: answers leave in the order in which they came about, those with leases too.
      const reply = await mutation('commit', context, args.durable, (session) => {
        checkChunks(parts.store, session, args.chunks);
        return namespaceEffect(parts, 'commit', args, session);
      });
      return reply;
    },
    reserveIds: (args, context) =>
      // On disk before it is answered: chunks under these ids are stored before they are committed.
      mutation('reserveIds', context, true, (session) => reserveIds(parts, session, args)),
    abandonChunks: (args, context) =>
      mutation('abandonChunks', context, false, (session) => abandonChunks(parts, session, args.chunks)),
  };
}

/** The three ways in which a method reaches the store. */
function runners(parts: MetaParts, connection: Connection) {
  const { commit, sessions, mutations, leases, removed } = parts;
  const mutation = async <K extends keyof MetaMethods>(
    method: K,
    context: CallContext,
    durable: boolean,
    rules: Rules<ReplyOf<MetaMethods[K]>>,
  ): Promise<ReplyOf<MetaMethods[K]>> => {
    const request = mutations.request(method, connection, context, { durable, rules });
    const done = await leases.settled(() => commit.submit(connection, request));
    return unwrap(done.settled);
  };
  const named =
    <K extends NamespaceMethod>(method: K): Handler<K> =>
    async (args, context) => {
      let granted: Granted = new Map();
      let born: Ino | undefined;
      let tell = (): void => {};
      const reply = await mutation(method, context, false, (session) => {
        const effect = namespaceEffect(parts, method, args, session);
        const removal = removalOf(method, args, effect.changes);
        if (removal !== undefined) tell = () => removed.note(session.id, removal);
        born = bornIn(method, effect);
        granted = leases.grant(session, attrsOf(method, effect.reply), born);
        return effect;
      });
      tell();
      // Not before: a reply that is kept, and sent again later, must not say what has been void since.
      markLeases(attrsOf(method, reply), leases.stillGranted(granted), born);
      return reply;
    };
  const read =
    <K extends NamespaceMethod>(method: K): Handler<K> =>
    (args, context) => {
      const request: MetaRequest<ReplyOf<MetaMethods[K]>> = {
        writes: false,
        durable: false,
        plan: () => {
          const session = sessions.live(connection);
          if (context.aborted) throw new ProtocolError('cancelled', method);
          const { reply } = namespaceEffect(parts, method, args, session);
          const attrs = attrsOf(method, reply);
          markLeases(attrs, leases.grant(session, attrs));
          return () => reply;
        },
      };
      return leases.settled(() => commit.submit(connection, request));
    };
  return { mutation, named, read };
}

function namespaceEffect<K extends NamespaceMethod>(
  { store, leases, clock }: MetaParts,
  method: K,
  args: ArgsOf<MetaMethods[K]>,
  session: Session,
): ReturnType<Rules<ReplyOf<MetaMethods[K]>>> & { readonly changes: readonly RowChange[] } {
  const operation = namespace[method](contextOf(session, clock.now()), args);
  const reads = new Set<Ino>();
  const look = (): void => leases.check(session.id, { reads, writes: [] });
  try {
    const { reply, changes } = runSync(operation, (row) => {
      const ino = inodeOfRead(row);
      if (ino !== undefined) reads.add(ino);
      return store.answer(row);
    });
    leases.check(session.id, { reads, writes: inodesOf(changes) });
    return { reply, changes, apply: () => store.apply(changes) };
  } catch (error) {
    // An error is an answer too: of what it went by.
    if (error instanceof FsError) look();
    throw error;
  }
}

/**
 * A session commits chunks that were given to it, and none whose deletion may be under way.
 * **Errors:** EINVAL.
 */
export function checkChunks(store: MetaStore, session: Session, chunks: readonly { id: ChunkId }[]): void {
  for (const { id } of chunks) {
    if (!mayCommit(session, id))
      throw new FsError('EINVAL', 'commit', { detail: `chunk ${id} was not given to session ${session.id}` });
    const known = store.answer({ read: 'chunk', id }) !== undefined;
    if (store.isRetired(id) || (!known && store.hasChunk(id)))
      throw new FsError('EINVAL', 'commit', { detail: `chunk ${id} is garbage already` });
  }
}

function reserveIds(
  { store, sessions }: MetaParts,
  session: Session,
  { kind, count }: ArgsOf<MetaMethods['reserveIds']>,
): ReturnType<Rules<ReplyOf<MetaMethods['reserveIds']>>> {
  const first = store.nextId(kind);
  const last = asChunkId(first + count - 1);
  const range = { first: asChunkId(first), last, session: session.id };
  return {
    reply: { first, count },
    apply: () => {
      store.allocate(kind, count);
      if (kind === 'chunk') store.putRange(range);
      else store.putInodeRange({ first: asIno(first), last: asIno(first + count - 1), session: session.id });
    },
    committed: () => {
      if (kind === 'chunk') sessions.granted(session, range);
    },
  };
}

/** What was committed is not abandoned, whatever the mount says. **Codes:** notAllowed (another's chunk). */
function abandonChunks(
  { store, housekeeping, tasks }: MetaParts,
  session: Session,
  chunks: readonly ChunkId[],
): ReturnType<Rules<ReplyOf<MetaMethods['abandonChunks']>>> {
  const foreign = chunks.find((id) => !mayCommit(session, id));
  if (foreign !== undefined)
    throw new ProtocolError('notAllowed', `chunk ${foreign} was not given to session ${session.id}`);
  const garbage = chunks.filter((id) => !store.hasChunk(id) && !store.isRetired(id));
  let change: QueueChange = { put: [], deleted: [] };
  return {
    reply: {},
    apply: () => {
      change = housekeeping.queueDeletion(garbage);
    },
    committed: () => tasks.committed(change),
  };
}

type SessionMethod = 'openSession' | 'heartbeat' | 'closeSession' | 'sync' | 'statfs';

function sessionHandlers(parts: MetaParts, connection: Connection): { [K in SessionMethod]: Handler<K> } {
  const { commit, sessions, cluster, clock, housekeeping } = parts;
  return {
    openSession: async (args) => {
      const { resume, ...mount } = args;
      const request =
        resume === undefined ? sessions.open(connection, mount) : sessions.resume(connection, mount, resume);
      const binding = await commit.submit(connection, request);
      return {
        ...binding,
        ttlMs: sessions.ttlMs,
        leaseTtlMs: limits.leaseTtlMs,
        left: { lapsed: parts.leases.hasLapsed(binding.session) },
        now: clock.now(),
        map: cluster.map(),
      };
    },
    heartbeat: async ({ finishedBelow }) => {
      const session = sessions.live(connection);
      sessions.renew(session);
      const news = sessions.news(connection, finishedBelow);
      if (news !== undefined) await commit.submit(connection, news);
      return { now: clock.now(), mapEpoch: cluster.epoch };
    },
    closeSession: async () => {
      const session = await commit.submit(connection, sessions.close(connection));
      await housekeeping.endSession(session);
      return {};
    },
    sync: () =>
      commit.submit(connection, {
        writes: false,
        durable: true,
        plan: () => {
          sessions.live(connection);
          return () => ({});
        },
      }),
    statfs: async () => statfs(parts),
  };
}

/** What a mount says of its leases takes effect at once. */
function leaseHandlers(
  { sessions, leases }: MetaParts,
  connection: Connection,
): { returnLeases: Handler<'returnLeases'> } {
  return {
    returnLeases: async ({ leases: returned, all = false }) => {
      const session = sessions.live(connection);
      try {
        leases.returned(session, returned);
      } finally {
        if (all) leases.returnedAll(session.id);
      }
      return {};
    },
  };
}

type LockMethod = 'setlk' | 'getlk' | 'cancelLock';

/** Each change of locks runs alone, so that the next one sees what memory keeps of it. */
function lockHandlers(parts: MetaParts, connection: Connection): { [K in LockMethod]: Handler<K> } {
  const { commit, sessions, mutations, locks } = parts;
  return {
    setlk: async (args, context) => {
      const rules: Rules<ReplyOf<MetaMethods['setlk']>> = (session) => locks.set(connection, session, args);
      const request = mutations.request('setlk', connection, context, { durable: false, rules });
      return unwrap((await commit.submit(connection, { ...request, alone: true })).settled);
    },
    getlk: (args) =>
      commit.submit(connection, {
        writes: false,
        durable: false,
        plan: () => {
          const reply = locks.test(sessions.live(connection), args);
          return () => reply;
        },
      }),
    cancelLock: ({ wait }) =>
      commit.submit(connection, {
        writes: false,
        durable: false,
        alone: true,
        plan: () => {
          const session = sessions.live(connection);
          return () => {
            locks.cancel(session, wait);
            return {};
          };
        },
      }),
  };
}

type ClusterMethod = 'map' | 'status' | 'registerServer' | 'serverHeartbeat' | 'reportTask' | 'findGarbage';

function clusterHandlers(parts: MetaParts, connection: Connection): { [K in ClusterMethod]: Handler<K> } {
  const { commit, cluster, tasks, store } = parts;
  return {
    map: async () => cluster.map(),
    status: async () => status(parts),
    registerServer: async (args) => {
      cluster.greet(connection, args);
      await commit.submit(connection, cluster.register(connection, args));
      tasks.returned(args.id);
      const { clusterId } = store.filesystem;
      return { clusterId, heartbeatMs: cluster.heartbeatMs, map: cluster.map() };
    },
    serverHeartbeat: async (args) => {
      const news = cluster.heartbeat(connection, args);
      if (news !== undefined) await commit.submit(connection, news);
      return { tasks: tasks.lease(connection.requireServer()) };
    },
    reportTask: async (report) => {
      const server = connection.requireServer();
      if (report.state === 'running') tasks.progress(server, report);
      else
        await commit.submit(connection, {
          writes: true,
          durable: false,
          alone: true,
          plan: () => () => tasks.settle(server, report),
          committed: (change) => tasks.committed(change),
        });
      return {};
    },
    findGarbage: async ({ chunks }) => {
      connection.requireServer();
      return { garbage: await commit.submit(connection, garbageAmong(parts, chunks)) };
    },
  };
}

/** Chunks that no row references and no session can commit any more. Ids never given out are not ours. */
function garbageAmong({ store, sessions }: MetaParts, chunks: readonly ChunkId[]) {
  return {
    writes: false,
    durable: false,
    plan: () => {
      const committable = sessions.committable();
      const next = store.nextId('chunk');
      const garbage = chunks.filter(
        (id) => id < next && !store.hasChunk(id) && (store.isRetired(id) || !committable(id)),
      );
      return () => garbage;
    },
  };
}
