/**
 * What a mount's connection to a filesystem is put together from.
 */
import type { Clock } from '../base/clock.js';
import type { Attr } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { ChunkId, Ino, SessionId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf } from '../proto/method.js';
import type { Database } from '../sqlite/database.js';
import { AbandonedChunks } from './abandoned-chunks.js';
import { BlockStore } from './block-store.js';
import { CacheDatabase } from './cache-database.js';
import { ChunkLinks, type Connect } from './chunk-links.js';
import { ChunkReader } from './chunk-reader.js';
import type { ChunkWriter } from './chunk-writer.js';
import type { ClusterView } from './cluster-view.js';
import { Contents } from './contents.js';
import { Hints } from './hints.js';
import { Journal } from './journal.js';
import { commitKept, type KeptCommitsOptions } from './kept-commits.js';
import { KeptWrites } from './kept-writes.js';
import { LeaseCache } from './lease-cache.js';
import { LeaseHolder, withinRecall } from './lease-holder.js';
import { LeaseTaker } from './lease-taker.js';
import type { InterruptSource } from './link-call.js';
import { LocalOperations, type OwnObserver } from './local-operations.js';
import { LostAndFound } from './lost-and-found.js';
import { MetadataCalls } from './metadata-calls.js';
import type { MetadataLink } from './metadata-link.js';
import { openMountDatabase } from './mount-database.js';
import { recoverWrites } from './recovery.js';
import { Remembering } from './remembering.js';
import { ReplicaReader } from './replica-reader.js';
import { reservedChunkIds, reservedInodes } from './reserved-ids.js';
import { Revalidation } from './revalidation.js';
import { makeWriter } from './session-writer.js';
import { Xattrs } from './xattrs.js';

export interface PartsOptions {
  readonly cacheDir: string;
  /** Changes nothing by itself: everything goes to the metadata server at once. */
  readonly asksAlways?: boolean;
  readonly timeoutMs: number;
  readonly dirtyBytes?: number;
  readonly blockCacheBytes?: number;
  readonly diskCacheBytes?: number;
  readonly hintBytes?: number;
  readonly ownObserver?: OwnObserver;
}

/** Made once the first session is open. */
export interface Parts {
  readonly leases: LeaseCache;
  readonly holder: LeaseHolder;
  readonly calls: MetadataCalls;
  readonly own: LocalOperations;
  readonly journal: Journal;
  readonly db: Database;
  readonly kept: KeptWrites;
  readonly lost: LostAndFound;
  readonly link: MetadataLink;
  readonly links: ChunkLinks;
  readonly writer: ChunkWriter;
  readonly reader: ChunkReader;
  readonly cache: CacheDatabase;
  readonly blocks: BlockStore;
  readonly remembering: Remembering;
}

/** Parts, and what the link tells them. */
export interface MadeParts extends Parts {
  readonly view: ClusterView;
  readonly connected: () => void;
  readonly forgetSession: () => void;
}

export function makeParts(
  over: {
    link: MetadataLink;
    view: ClusterView;
    clock: Clock;
    connect: Connect;
    /** What was answered about these was given up. */
    onLost: (inodes: readonly Ino[], why: FsError) => void;
    /** The contents of this one are not what its handles here have made them. */
    onChanged: (ino: Ino) => void;
  },
  options: PartsOptions,
): MadeParts {
  const { link, view, clock, connect, onLost, onChanged } = over;
  const bytesLost = (ino: Ino, detail: string): void =>
    onLost([ino], new FsError('EIO', 'write-back', { detail }));
  const { timeoutMs } = options;
  const untilAnswered = { timeoutMs: Number.POSITIVE_INFINITY };
  const links = new ChunkLinks({ connect, clock });
  const ids = reservedChunkIds((count) => link.call('reserveIds', { kind: 'chunk', count }));
  const abandoned = new AbandonedChunks((chunks) => link.call('abandonChunks', { chunks }, untilAnswered));
  const refreshMap = (): void => link.refreshMap();
  const leases = new LeaseCache({
    trustedMs: () => link.leasesTrustedMs,
    maxLeases: limits.leasesCached,
    giveBack: (dropped) => void holder.giveBack(dropped),
    onChanged: (ino) => own.rows.drop(ino),
    onLearned: (ino) => remembering.learned(ino),
  });
  const numbers = reservedInodes((count) => link.call('reserveIds', { kind: 'inode', count }));
  let allReturned = 0;
  const returnLeases = (args: ArgsOf<MetaMethods['returnLeases']>): Promise<unknown> => {
    if (args.all === true) allReturned++;
    return link.call('returnLeases', args);
  };
  const db = openMountDatabase(options.cacheDir);
  const kept: KeptWrites = new KeptWrites(db, {
    later: (run) => {
      clock.after(limits.keptTidyMs, () => {
        if (db.isOpen) run();
      });
    },
    unanswered: (ino) => journal.lastOf(ino),
    term: () => (link.leasesTrustedMs > 0 ? link.lapses + allReturned : Number.NaN),
  });
  const lost = new LostAndFound(options.cacheDir);
  const journal: Journal = new Journal({
    clock,
    db,
    send: (args) => link.call('journal', args, { ...untilAnswered, endsWithSession: true }),
    onAnswered: (reply, last) => {
      kept.answered(last);
      const unneeded = own.answered(reply, last);
      // Nobody waits for them.
      if (unneeded.length > 0) returnLeases({ leases: unneeded }).catch(() => {});
    },
    onRefused: (entries) => {
      lost.refused(entries);
      for (const { number, entry, inodes, reason } of entries) {
        for (const ino of inodes) {
          leases.changed(ino, { entries: true });
          if (entry.method === 'commit') kept.refused(ino, number, (write) => lost.written(write, reason));
        }
        holder.forgetInKernel(inodes);
        // No program was told that others know it as closed.
        if (entry.method !== 'release') onLost(inodes, new FsError('EIO', 'journal', { detail: reason }));
      }
    },
  });
  const isTrusted = (): boolean => options.asksAlways !== true && link.leasesTrustedMs > 0;
  const own: LocalOperations = new LocalOperations({
    cache: leases,
    journal,
    numbers,
    now: () => link.serverClock.now(),
    session: () => link.session,
    isTrusted,
    observer: options.ownObserver,
    follow: (states) => kept.versions(states),
    onChangedThere: (states) => kept.changedThere(states),
    onGone: (ino) => kept.gone(ino),
  });
  const holder: LeaseHolder = new LeaseHolder(
    leases,
    {
      connection: () => link.connections,
      send: returnLeases,
      sync: () => link.call('sync', {}, untilAnswered),
    },
    own,
  );
  const taker = new LeaseTaker({
    take: (args) => link.call('takeLeases', args),
    prepare: () => numbers.prepare(),
    cache: leases,
    rows: own.rows,
    isDirty: (ino) => journal.isDirty(ino),
    clock,
    isTrusted,
  });
  const { diskCacheBytes = limits.diskCacheBytes } = options;
  const cache = CacheDatabase.open(options.cacheDir, view.map.clusterId);
  const blocks = new BlockStore({ cache, clock, capacityBytes: diskCacheBytes });
  const hints = new Hints(cache, options.hintBytes ?? Math.min(limits.hintBytes, diskCacheBytes / 16));
  const known = {
    attrOf: (ino: Ino) => leases.answer('getattr', { ino }),
    isQuiet: () => own.isQuiet,
    onLearned: (ino: Ino) => remembering.learned(ino),
  };
  const xattrs = new Xattrs(known);
  const contents = new Contents({
    ...known,
    onListed: (ino, at, names) => leases.adopt(ino, at, names),
  });
  const remembering: Remembering = new Remembering({ clock, hints, leases, contents, xattrs, own, journal });
  const revalidation = new Revalidation({
    hints,
    leases,
    contents,
    xattrs,
    isDirty: (ino) => journal.isDirty(ino),
    ask: (args) => link.call('revalidate', args, untilAnswered),
  });
  const calls = new MetadataCalls({
    link,
    leases,
    contents,
    xattrs,
    revalidation,
    own,
    journal,
    holder,
    taker,
    clock,
    timeoutMs,
  });
  const replicas = new ReplicaReader({ view, links, clock, timeoutMs, refreshMap });
  const reader = new ChunkReader({
    replicas,
    cacheBytes: options.blockCacheBytes ?? limits.blockCacheBytes,
    store: blocks,
  });
  const committing: KeptCommitsOptions = {
    kept,
    lost,
    commit: async (args) => await calls.call('commit', args, untilAnswered),
    untilQuiet: () => withinRecall(Promise.resolve(own.untilQuiet()), clock),
    onOvertaken: (ino) => {
      leases.changed(ino, { entries: false });
      holder.forgetInKernel([ino]);
      onChanged(ino);
    },
  };
  const writer = makeWriter({
    clock,
    serverClock: link.serverClock,
    view,
    links,
    ids,
    timeoutMs,
    dirtyBytes: options.dirtyBytes,
    refreshMap,
    commit: async (args) => {
      const reply = await commitKept(committing, args);
      if (args.durable && !(await journal.flush({ durable: true })))
        await link.call('sync', {}, untilAnswered);
      return reply;
    },
    sync: async (request: InterruptSource | undefined) => {
      await calls.flushJournal(request);
      await link.call('sync', {}, { request });
    },
    abandon: (id: ChunkId) => abandoned.add(id),
    onCommitted: (id, bytes) => reader.keep(id, bytes),
    onSettled: (chunk) => kept.committed(chunk),
  });
  // From the moment when a session is lost until what it has left is brought to the next one.
  let recovered: (() => void) | undefined;
  const forgetSession = (): void => {
    if (recovered === undefined)
      calls.waitFor(
        new Promise<void>((resolve) => {
          recovered = resolve;
        }),
      );
    ids.clear();
    abandoned.clear();
    reader.clear();
    writer.sessionLost((file) => kept.holds(file));
    for (const ino of kept.sessionLost()) bytesLost(ino, 'the session was lost');
    journal.sessionLost();
    leases.clear();
    contents.clear();
    xattrs.clear();
    own.clear();
    numbers.clear();
  };
  let began: SessionId | undefined;
  const connected = (): void => {
    if (link.session !== undefined && link.session !== began) {
      journal.begin(link.session);
      const getattr = async (ino: Ino): Promise<Attr> => {
        await journal.flush();
        return await link.call('getattr', { ino });
      };
      const told = { onWritten: onChanged, onLost: bytesLost };
      const recovery = recoverWrites({ kept, writer, lost, getattr, isAlone: false, ...told });
      calls.waitFor(recovery.then(recovered));
      recovered = undefined;
    }
    began = link.session;
    revalidation.restart();
    holder.connected();
  };
  connected();
  return {
    link,
    links,
    writer,
    reader,
    leases,
    holder,
    own,
    journal,
    db,
    kept,
    lost,
    calls,
    cache,
    blocks,
    remembering,
    view,
    connected,
    forgetSession,
  };
}
