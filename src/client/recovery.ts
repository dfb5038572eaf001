/**
 * What an earlier daemon of this mount has answered and left behind when it was killed, or a session that was lost:
 * brought to the servers before anything else is answered. What others have changed meanwhile is not overwritten:
 * see lost-and-found.ts.
 */
import { type Clock, compareTimespec, type Timespec } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { Attr } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { ChunkLinks, type Connect } from './chunk-links.js';
import type { ChunkWriter } from './chunk-writer.js';
import { ClusterView } from './cluster-view.js';
import { recoverJournal } from './journal.js';
import { KEPT_BEFORE, KeptWrites, type LeftWrite } from './kept-writes.js';
import type { MetadataPeer } from './link-call.js';
import { LostAndFound } from './lost-and-found.js';
import { openMountDatabase } from './mount-database.js';
import { PendingFile } from './pending-file.js';
import { reservedChunkIds } from './reserved-ids.js';
import type { ServerClock } from './server-clock.js';
import type { OpenedReply } from './session-keeper.js';
import { makeWriter } from './session-writer.js';

const log = makeLog('client');

export interface WritesRecovery {
  readonly kept: KeptWrites;
  readonly writer: Pick<ChunkWriter, 'write' | 'flush'>;
  readonly lost: LostAndFound;
  readonly getattr: (ino: Ino) => Promise<Attr>;
  /** Nobody else can have changed these files since. */
  readonly isAlone: boolean;
  /** What was written to this one is there. */
  readonly onWritten?: (ino: Ino) => void;
  /** What was written to this one is not there. */
  readonly onLost?: (ino: Ino, why: string) => void;
}

/**
 * Writes what a killed daemon or a lost session has left of closed files. Never fails; what cannot be written
 * stays for the next mount.
 */
export async function recoverWrites(over: WritesRecovery): Promise<void> {
  const left = over.kept.leftovers();
  if (left.length === 0) return;
  log.warn('bytes of closed files were left behind, and are written now', { files: left.length });
  await Promise.all(left.map((write) => recoverWrite(over, write)));
}

async function recoverWrite(over: WritesRecovery, write: LeftWrite): Promise<void> {
  const { kept, lost, writer } = over;
  const { ino, mtime, clearPrivileges, pieces } = write;
  try {
    const attr = await attrOf(over, ino);
    const why = attr === undefined ? 'the file is gone' : over.isAlone ? undefined : whyNot(attr, write);
    if (attr === undefined || why !== undefined) {
      lost.written(write, why ?? 'the file is gone');
      over.onLost?.(ino, why ?? 'the file is gone');
    } else {
      const file = new PendingFile(ino);
      for (const { offset, bytes } of pieces)
        await writer.write(file, bytes, () => offset, { append: false, clearPrivileges });
      file.timeSet(mtime ?? attr.mtime);
      await writer.flush(file, { durable: true });
      if (file.failure !== undefined) throw file.failure;
      over.onWritten?.(ino);
    }
    kept.forget(write);
  } catch (error) {
    log.error('bytes that were left behind cannot be written now: the next mount tries again', {
      ino,
      error: String(error),
    });
    over.onLost?.(ino, String(error));
  }
}

/** Undefined: it is gone. */
async function attrOf({ getattr }: WritesRecovery, ino: Ino): Promise<Attr | undefined> {
  try {
    return await getattr(ino);
  } catch (error) {
    if (error instanceof FsError && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Why it must not be written, if others may have been there before. */
function whyNot(attr: Attr, { version, ctime }: LeftWrite): string | undefined {
  if (attr.version !== version)
    return `others have changed the file (it has version ${attr.version}, not ${version})`;
  if (ctime === undefined) return 'others may have changed the file (an earlier leasefs has kept this)';
  if (compareTimespec(attr.ctime, ctime) === 0) return undefined;
  return `others have changed the file (it has another version ${version})`;
}

/** Sequence numbers that neither the session's mutations have reached nor an earlier attempt: a thousand to a ms. */
const firstSequenceAt = ({ sec, nsec }: Timespec): number => (sec * 1000 + Math.floor(nsec / 1e6)) * 1000;

/** Of an earlier daemon whose session is open once more: everything, under that session. **Errors:** ProtocolError. */
export async function recoverSession(
  peer: MetadataPeer,
  { session, left, map }: OpenedReply,
  over: {
    readonly cacheDir: string;
    readonly clock: Clock;
    readonly serverClock: ServerClock;
    readonly connect: Connect;
    readonly timeoutMs: number;
  },
): Promise<void> {
  const { cacheDir, clock, serverClock, connect, timeoutMs } = over;
  const db = openMountDatabase(cacheDir);
  const links = new ChunkLinks({ connect, clock });
  try {
    const isItsOwn = await recoverJournal(db, {
      session,
      send: (args) => peer.call('journal', args, { timeoutMs }),
    });
    let sequence = firstSequenceAt(clock.now());
    const mutation = () => ({ timeoutMs, sequence: sequence++, finishedBelow: 0 });
    const writer = makeWriter({
      clock,
      serverClock,
      view: new ClusterView(map, clock),
      links,
      ids: reservedChunkIds((count) => peer.call('reserveIds', { kind: 'chunk', count }, mutation())),
      timeoutMs,
      commit: (args) => peer.call('commit', args, mutation()),
      sync: async () => {
        await peer.call('sync', {}, { timeoutMs });
      },
    });
    await recoverWrites({
      kept: new KeptWrites(db, KEPT_BEFORE),
      writer,
      lost: new LostAndFound(cacheDir),
      getattr: (ino) => peer.call('getattr', { ino }, { timeoutMs }),
      isAlone: isItsOwn && !left.lapsed,
    });
  } finally {
    links.close();
    db.close();
  }
}
