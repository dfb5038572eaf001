/**
 * What this mount has answered under exclusive leases and the metadata server has not carried out yet: in order,
 * on this machine's disk before it is answered, so that it outlives the
 * daemon, and sent in batches in the background.
 *
 * INVARIANT: numbers have no gaps; an entry leaves the journal when the server has answered for it.
 */
import { Packr } from 'msgpackr';
import type { Clock, Timer } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import { FsError } from '../proto/errno.js';
import type { Ino, SessionId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import type { Database } from '../sqlite/database.js';
import { entriesDone, forgetEntries } from './kept-writes.js';

const log = makeLog('client');

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 2_000;

export type JournalEntry = ArgsOf<MetaMethods['journal']>['entries'][number];
export type JournalReply = ReplyOf<MetaMethods['journal']>;

interface Numbered {
  readonly number: number;
  readonly entry: JournalEntry;
  /** The inodes that it has changed, or made. */
  readonly inodes: readonly Ino[];
}

/** What of an entry was refused: of a commit it may be some of the files. */
export interface RefusedEntry extends Numbered {
  readonly reason: string;
}

type CommitArgs = ArgsOf<MetaMethods['commit']>;

export interface JournalOptions {
  readonly clock: Clock;
  readonly db: Database;
  readonly send: (args: ArgsOf<MetaMethods['journal']>) => Promise<JournalReply>;
  /** The server has answered for entries up to `last`. */
  readonly onAnswered: (reply: JournalReply, last: number) => void;
  readonly onRefused: (entries: readonly RefusedEntry[]) => void;
}

/** The session ended while somebody waited; what is left in the journal goes on under the next one. */
export class SessionLostError extends FsError {
  constructor() {
    super('EIO', 'journal', { detail: 'the session was lost' });
  }
}

const packr = new Packr({ useRecords: false });

/** Of a commit what is about these inodes; another entry as it is. */
function about(entry: JournalEntry, inodes: readonly Ino[] | undefined): JournalEntry {
  if (inodes === undefined || entry.method !== 'commit') return entry;
  const about = new Set(inodes);
  // This program has written it.
  const args = entry.args as CommitArgs;
  const files = args.files.filter(({ ino }) => about.has(ino));
  return { ...entry, args: { ...args, files }, saw: entry.saw.filter(([ino]) => about.has(ino)) };
}

/**
 * An entry as another session can carry it out. A commit's chunks were given to the session before, and go with it:
 * what is left is what it has made of the files' times, which entries behind it go by. The bytes of files that were
 * closed come from elsewhere (kept-writes.ts).
 */
function underAnother(entry: JournalEntry): JournalEntry {
  if (entry.method !== 'commit') return entry;
  const args = entry.args as CommitArgs;
  const files = args.files.map((file) => ({ ...file, extents: [], minSize: 0 }));
  return { ...entry, args: { ...args, chunks: [], files } };
}

/** What the session before has refused comes first, with numbers of its own. */
const REFUSED = Number.MAX_SAFE_INTEGER;

/** What an earlier daemon has answered and not brought to the server. */
function leftovers(db: Database): Numbered[] {
  return db
    .prepare<{ number: number; entry: Buffer }>('SELECT number, entry FROM entries ORDER BY number')
    .all()
    .map(({ number, entry: bytes }) => {
      const entry = packr.unpack(bytes) as JournalEntry;
      const inodes = entry.saw.map(([ino]) => ino);
      return { number, entry, inodes: entry.ino === undefined ? inodes : [...inodes, entry.ino] };
    });
}

/**
 * Brings what an earlier daemon has left to the server, under the session in which it was done; false: it was
 * done under another. What is refused stays: it is tried under the next session. What the server has carried out
 * or refused before is sent again, because its answer may have been lost with the daemon. **Errors:** ProtocolError,
 * those of the server's storage.
 */
export async function recoverJournal(
  db: Database,
  from: { session: SessionId; send: JournalOptions['send'] },
): Promise<boolean> {
  const owner = db.prepare<{ session: SessionId }>('SELECT session FROM owner').get();
  if (owner?.session !== from.session) return false;
  const left = leftovers(db).filter(({ number }) => number > 0);
  if (left.length > 0)
    log.warn('an earlier mount has left changes, which are made now', { count: left.length });
  for (let at = 0; at < left.length; at += limits.journalEntriesPerMessage) {
    const batch = left.slice(at, at + limits.journalEntriesPerMessage);
    const [first] = batch;
    if (first === undefined) break;
    const entries = batch.map(({ entry }) => entry);
    const { refused } = await from.send({ first: first.number, entries, durable: true });
    const kept = new Map(refused.map((each) => [each.number, each]));
    db.transaction(() => {
      for (const { number } of batch)
        if (!kept.has(number)) db.run('DELETE FROM entries WHERE number = ?', number);
      for (const { number, entry } of batch) {
        const left = packr.pack(about(entry, kept.get(number)?.inos));
        if (kept.has(number))
          db.run('UPDATE entries SET number = ?, entry = ? WHERE number = ?', number - REFUSED, left, number);
      }
      entriesDone(
        db,
        batch.map(({ number }) => number).filter((number) => !kept.has(number)),
      );
    });
  }
  return true;
}

export class Journal {
  readonly #options: JournalOptions;
  readonly #db: Database;
  /** Not answered, by number. */
  #entries: Numbered[] = [];
  #next = 1;
  /** The last entry that has changed each inode. */
  readonly #touched = new Map<Ino, number>();
  #timer: Timer | undefined;
  #running = false;
  #durableWanted = false;
  /** The server has entries up to this one on disk. */
  #durableUpTo = 0;
  #waiters: { readonly upTo: number; readonly done: (error?: FsError) => void }[] = [];
  isClosed = false;
  /** The session is over and the next one has not begun: numbers mean nothing. */
  #isBetween = false;

  constructor(options: JournalOptions) {
    this.#options = options;
    this.#db = options.db;
    this.#entries = leftovers(this.#db);
  }

  /** The number of the newest entry. */
  get last(): number {
    return this.#next - 1;
  }

  get size(): number {
    return this.#entries.length;
  }

  /** The server does not know yet all that was done to an inode here. */
  isDirty(ino: Ino): boolean {
    return this.#touched.has(ino);
  }

  /** The newest entry about an inode that the server has not answered for; 0: there is none. */
  lastOf(ino: Ino): number {
    return this.#touched.get(ino) ?? 0;
  }

  /** The session is over; what is left waits until the next one `begin`s. */
  sessionLost(): void {
    this.#isBetween = true;
  }

  /** Begins anew for a session: what is left of an earlier one is to be done under this one. */
  begin(session: SessionId): void {
    this.#isBetween = false;
    const entries = this.#entries.map(({ entry, inodes }, index) => ({
      entry: underAnother(entry),
      inodes,
      number: index + 1,
    }));
    // Bytes may have gone with the session, and the numbers that they wait for are none any more.
    for (const { done } of this.#waiters.splice(0)) done(new SessionLostError());
    // In one step: a daemon that is killed meanwhile leaves the one or the other.
    this.#db.transaction(() => {
      this.#db.run('DELETE FROM entries');
      this.#db.run('INSERT OR REPLACE INTO owner(id, session) VALUES (1, ?)', session);
      forgetEntries(this.#db);
      for (const { number, entry } of entries) this.#insert(number, entry);
    });
    this.#next = entries.length + 1;
    this.#durableUpTo = 0;
    this.#entries = entries;
    this.#touched.clear();
    for (const { number, inodes } of entries) for (const ino of inodes) this.#touched.set(ino, number);
    if (entries.length > 0) void this.#run();
  }

  #insert(number: number, entry: JournalEntry): void {
    this.#db.run('INSERT INTO entries(number, entry) VALUES (?, ?)', number, packr.pack(entry));
  }

  /** `also` is written with it, or neither is. **Errors:** ENOSPC, EIO of this machine's disk; it is not done then. */
  append(entry: JournalEntry, inodes: readonly Ino[], also?: () => void): void {
    const number = this.#next;
    if (also === undefined) this.#insert(number, entry);
    else
      this.#db.transaction(() => {
        this.#insert(number, entry);
        also();
      });
    this.#next++;
    this.#entries.push({ number, entry, inodes });
    for (const ino of inodes) this.#touched.set(ino, number);
    if (this.#entries.length >= limits.journalEntriesPerMessage) void this.#run();
    else this.#runLater();
  }

  /**
   * Calls `done` when the server has answered for everything that is in the journal now, at once if that is
   * nothing. Returns the way not to be called.
   */
  whenFlushed(done: (error?: FsError) => void): () => void {
    if (this.#entries.length === 0 || this.isClosed) {
      done(this.#entries.length === 0 ? undefined : new FsError('EIO', 'journal', { detail: 'unmounted' }));
      return () => {};
    }
    const waiter = { upTo: this.#next - 1, done };
    this.#waiters.push(waiter);
    void this.#run();
    return () => {
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
    };
  }

  /**
   * Resolves when the server has answered for everything that is in the journal now; to whether it has it on
   * disk, which it is asked for with `durable`. **Errors:** those of the server's storage; EIO when it is closed.
   */
  flush({ durable = false } = {}): Promise<boolean> {
    const upTo = this.last;
    if (durable && this.#entries.length > 0) this.#durableWanted = true;
    return new Promise((resolve, reject) => {
      this.whenFlushed((error) => (error === undefined ? resolve(this.#durableUpTo >= upTo) : reject(error)));
    });
  }

  async #run(): Promise<void> {
    if (this.#running || this.#isBetween) return;
    this.#running = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    let pauseMs = RETRY_MIN_MS;
    while (this.#entries.length > 0 && !this.isClosed && !this.#isBetween) {
      try {
        await this.#send();
        pauseMs = RETRY_MIN_MS;
        if (!this.#isUrgent) break;
      } catch (error) {
        if (this.#isBetween) break;
        const failure = error instanceof FsError ? error : new FsError('EIO', 'journal', { cause: error });
        log.error('what was changed here cannot be brought to the metadata server yet', {
          entries: this.#entries.length,
          error: String(error),
        });
        for (const { done } of this.#waiters.splice(0)) done(failure);
        if (this.isClosed) break;
        const pause = pauseMs;
        await new Promise<void>((resolve) => this.#options.clock.after(pause, resolve));
        pauseMs = Math.min(2 * pauseMs, RETRY_MAX_MS);
      }
    }
    this.#running = false;
    // What came meanwhile waits for more.
    if (this.#entries.length > 0 && !this.isClosed && !this.#isBetween) this.#runLater();
  }

  get #isUrgent(): boolean {
    return this.#waiters.length > 0 || this.#entries.length >= limits.journalEntriesPerMessage;
  }

  /** Whoever is sending looks again when that is over. */
  #runLater(): void {
    if (this.#running) return;
    this.#timer ??= this.#options.clock.after(limits.journalDelayMs, () => {
      this.#timer = undefined;
      void this.#run();
    });
  }

  async #send(): Promise<void> {
    const batch = this.#entries.slice(0, limits.journalEntriesPerMessage);
    const [first] = batch;
    if (first === undefined) return;
    const durable = this.#durableWanted && batch.length === this.#entries.length;
    if (durable) this.#durableWanted = false;
    const reply = await this.#options.send({
      first: first.number,
      entries: batch.map(({ entry }) => entry),
      durable,
    });
    // A session that was lost meanwhile has begun anew.
    if (this.#entries[0] !== first) return;
    if (durable) this.#durableUpTo = batch.at(-1)?.number ?? 0;
    this.#answered(batch, reply);
  }

  #answered(batch: readonly Numbered[], reply: JournalReply): void {
    const last = batch.at(-1)?.number ?? 0;
    const refusals = new Map(reply.refused.map((each) => [each.number, each]));
    const refused = batch.flatMap(({ number, entry, inodes }): RefusedEntry[] => {
      const refusal = refusals.get(number);
      if (refusal === undefined) return [];
      const { reason, inos } = refusal;
      return [{ number, entry: about(entry, inos), inodes: inos ?? inodes, reason }];
    });
    // They are put elsewhere before they go from here.
    if (refused.length > 0) this.#options.onRefused(refused);
    this.#db.run('DELETE FROM entries WHERE number <= ?', last);
    this.#entries.splice(0, batch.length);
    for (const { inodes } of batch)
      for (const ino of inodes) if ((this.#touched.get(ino) ?? 0) <= last) this.#touched.delete(ino);
    this.#options.onAnswered(reply, last);
    const waiters = this.#waiters;
    this.#waiters = waiters.filter(({ upTo }) => upTo > last);
    for (const { upTo, done } of waiters) if (upTo <= last) done();
  }

  /** What is left stays on disk. */
  close(): void {
    this.isClosed = true;
    this.#timer?.cancel();
    for (const { done } of this.#waiters.splice(0))
      done(new FsError('EIO', 'journal', { detail: 'unmounted' }));
  }
}
