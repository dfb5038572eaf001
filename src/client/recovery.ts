/**
 * What an earlier daemon of this mount has answered and left behind when it was killed, or a session that was lost:
 * brought to the servers before anything else is answered. What others have changed meanwhile is not overwritten: it goes as files into
 * `lost+found` in the cache directory, outside the filesystem, and into the log.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock, Timespec } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { Attr } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { ChunkLinks, type Connect } from './chunk-links.js';
import type { ChunkWriter } from './chunk-writer.js';
import { ClusterView } from './cluster-view.js';
import { type RefusedEntry, recoverJournal } from './journal.js';
import { KeptWrites, type LeftWrite } from './kept-writes.js';
import type { MetadataPeer } from './link-call.js';
import { openMountDatabase } from './mount-database.js';
import { PendingFile } from './pending-file.js';
import { reservedChunkIds } from './reserved-ids.js';
import type { ServerClock } from './server-clock.js';
import type { OpenedReply } from './session-keeper.js';
import { makeWriter } from './session-writer.js';

const log = makeLog('client');

export class LostAndFound {
  readonly #cacheDir: string;
  #count = 0;

  constructor(cacheDir: string) {
    this.#cacheDir = cacheDir;
  }

  /** Operations that were not carried out, one JSON object to a line. */
  refused(entries: readonly RefusedEntry[]): void {
    const lines = entries.map(({ entry, reason }) => {
      const { method, args, now, ino } = entry;
      return `${JSON.stringify({ reason, method, args, now, ...(ino === undefined ? {} : { ino }) }, readable)}\n`;
    });
    const path = this.#write('operations.jsonl', Buffer.from(lines.join('')));
    log.error(
      'changes made here were refused, because others have changed the same meanwhile; they are kept',
      {
        count: entries.length,
        path,
      },
    );
  }

  /** Bytes that were written to a file that is another one by now. */
  written({ ino, pieces }: LeftWrite, why: string): void {
    const size = Math.max(0, ...pieces.map(({ offset, bytes }) => offset + bytes.length));
    const content = Buffer.alloc(size);
    for (const { offset, bytes } of pieces) bytes.copy(content, offset);
    const path = this.#write(`inode-${ino}`, content);
    log.error('what was written to a file here could not be brought to it; it is kept', { ino, why, path });
  }

  #write(name: string, bytes: Uint8Array): string {
    const directory = join(this.#cacheDir, 'lost+found');
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const stamp = new Date().toISOString().replaceAll(':', '');
    const path = join(directory, `${stamp}-${++this.#count}-${name}`);
    writeFileSync(path, bytes, { mode: 0o600, flag: 'wx' });
    return path;
  }
}

/** Names as text, other bytes as base64. */
function readable(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('type' in value) || !('data' in value)) return value;
  if (value.type !== 'Buffer' || !Array.isArray(value.data)) return value;
  const bytes = Buffer.from(value.data as number[]);
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : { base64: bytes.toString('base64') };
}

export interface WritesRecovery {
  readonly kept: KeptWrites;
  readonly writer: ChunkWriter;
  readonly lost: LostAndFound;
  readonly getattr: (ino: Ino) => Promise<Attr>;
  /** Nobody else can have changed these files since. */
  readonly isAlone: boolean;
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
    const why = await whyNot(over, write);
    if (why !== undefined) lost.written(write, why);
    else {
      const file = new PendingFile(ino);
      for (const { offset, bytes } of pieces)
        await writer.write(file, bytes, () => offset, { append: false, clearPrivileges });
      file.timeSet(mtime);
      await writer.flush(file, { durable: true });
    }
    kept.forget(write);
  } catch (error) {
    log.error('bytes that were left behind cannot be written now: the next mount tries again', {
      ino,
      error: String(error),
    });
  }
}

/** Why it must not be written, if others were there before. */
async function whyNot(
  { getattr, isAlone }: WritesRecovery,
  { ino, version }: LeftWrite,
): Promise<string | undefined> {
  try {
    const attr = await getattr(ino);
    if (isAlone || attr.version === version) return undefined;
    return `it may have been changed by others (version ${attr.version}, not ${version})`;
  } catch (error) {
    if (error instanceof FsError && error.code === 'ENOENT') return 'the file is gone';
    throw error;
  }
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
      journalled: left.journalled,
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
      kept: new KeptWrites(db),
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
