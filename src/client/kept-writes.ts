/**
 * Bytes of closed files that the metadata server does not have yet, on this machine's disk: a file that this mount
 * alone has a lease on need not wait at close(2) until its chunk is stored on other machines. Whoever else wants to
 * see it recalls the lease, and what was written is committed first; and when the daemon is killed, the next one
 * finds the bytes here.
 *
 * A commit may itself be in the journal: until the server has answered for that, the bytes stay here, because a
 * commit that is refused, or whose session is over, brings no bytes into the file. What is written to the file
 * meanwhile is kept as another part.
 *
 * Once the lease that a file was closed under may have ended, others may have changed it: its commit says in which
 * state it has to be (`since`), and brings nothing into a file that is in another one.
 *
 * INVARIANT: parts have ids in the order in which they were kept. The newest part of a file is all that was pending of it at its last close; the parts before it have
 * been committed, and the server has not answered for that.
 */
import { Packr } from 'msgpackr';
import type { Timespec } from '../base/clock.js';
import type { Attr } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { Database } from '../sqlite/database.js';
import type { PendingChunk } from './pending-chunk.js';
import type { PendingFile } from './pending-file.js';

const packr = new Packr({ useRecords: false });

/** Which state of an inode: versions alone are the same for what this mount and others make of one before. */
export type InodeState = Pick<Attr, 'version' | 'ctime'>;

export type ChangedState = Pick<Attr, 'ino' | 'version' | 'ctime'>;
export type OwnState = ChangedState & Pick<Attr, 'nlink'>;

/** See KeptWrites.versions. */
export interface Following {
  readonly write: (() => void) | undefined;
  readonly written: () => void;
}

interface KeptPiece {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** Of an earlier daemon, of a session that was lost, or of a commit that was refused. */
export interface LeftWrite {
  /** Of its parts. */
  readonly ids: readonly number[];
  readonly ino: Ino;
  readonly version: number;
  /** That the inode had with this version; undefined: it is not known. */
  readonly ctime: Timespec | undefined;
  /** Undefined: as the file has it. */
  readonly mtime: Timespec | undefined;
  readonly clearPrivileges: boolean;
  /** In the order in which they were written. */
  readonly pieces: readonly KeptPiece[];
}

interface Columns {
  readonly id: number;
  readonly generation: number;
  readonly ino: Ino;
  readonly version: number;
  readonly ctimeSec: number | null;
  readonly ctimeNsec: number | null;
  readonly sec: number;
  readonly nsec: number;
  readonly clear: number;
  /** Null: some of it was not committed. */
  readonly entry: number | null;
  readonly pieces: Buffer;
}

const SELECT = `SELECT id, generation, ino, version, ctime_sec AS ctimeSec, ctime_nsec AS ctimeNsec, mtime_sec AS sec,
  mtime_nsec AS nsec, clear_privileges AS clear, entry, pieces
  FROM written JOIN pieces USING(id)`;
const SELECT_PART = `${SELECT} WHERE id = ?`;
const SELECT_LEFT = `${SELECT} WHERE generation < ? ORDER BY generation, ino, id`;
const FOLLOW = 'UPDATE written SET version = ?, ctime_sec = ?, ctime_nsec = ? WHERE id = ?';
const DELETE = ['DELETE FROM written WHERE id = ?', 'DELETE FROM pieces WHERE id = ?'] as const;

/** This program has written it. */
const unpacked = (pieces: Buffer): KeptPiece[] => packr.unpack(pieces) as KeptPiece[];

/** Parts in order as what is left of each file. */
function joined(rows: readonly Columns[]): LeftWrite[] {
  const left: LeftWrite[] = [];
  let generation: number | undefined;
  for (const row of rows) {
    const { ino, version, ctimeSec, ctimeNsec, sec, nsec, clear, entry } = row;
    const before = left.at(-1);
    const isSame = before?.ino === ino && row.generation === generation;
    generation = row.generation;
    const write = {
      ids: [...(isSame ? before.ids : []), row.id],
      ino,
      version,
      ctime: ctimeSec === null || ctimeNsec === null ? undefined : { sec: ctimeSec, nsec: ctimeNsec },
      mtime: entry === null ? { sec, nsec } : undefined,
      clearPrivileges: clear !== 0 || (isSame && before.clearPrivileges),
      pieces: [...(isSame ? before.pieces : []), ...unpacked(row.pieces)],
    };
    if (isSame) left.pop();
    left.push(write);
  }
  return left;
}

interface Part {
  readonly id: number;
  readonly bytes: number;
  /** The server has to answer for the journal up to this entry; 0: it knows all that was committed of it. */
  entry: number;
}

interface Kept {
  readonly file: PendingFile;
  /** See KeptUnder. */
  readonly term: number;
  readonly writtenAt: Timespec;
  state: InodeState;
  /** Oldest first. */
  readonly parts: readonly Part[];
  /** Bytes of the newest part are pending. */
  isPending: boolean;
}

export interface KeptUnder {
  /** Runs something soon, while the database is open. */
  readonly later: (run: () => void) => void;
  /** The journal's last entry about an inode that the server has not answered for; 0: none. */
  readonly unanswered: (ino: Ino) => number;
  /** Another one when leases from before may have ended; no number is one with leases that cannot be trusted now. */
  readonly term: () => number;
}

/** For what an earlier daemon has left: nothing more is kept. */
export const KEPT_BEFORE: KeptUnder = {
  later: (run) => run(),
  unanswered: () => 0,
  term: () => Number.NaN,
};

export class KeptWrites {
  readonly #db: Database;
  readonly #under: KeptUnder;
  readonly #kept = new Map<Ino, Kept>();
  /** Files with bytes that were committed in the journal and are not here, and the last entry with such. */
  readonly #notHere = new Map<Ino, number>();
  /** Files that others have changed while bytes were pending, until none are: in which state those were written. */
  readonly #overtaken = new Map<Ino, InodeState>();
  #bytes = 0;
  /** Parts that wait to be deleted. */
  readonly #doomed: number[] = [];
  /** Rises with every daemon and every session. */
  #generation: number;
  #nextId: number;

  constructor(db: Database, under: KeptUnder) {
    this.#db = db;
    this.#under = under;
    const generations = db.prepare<{ last: number | null }>('SELECT max(generation) AS last FROM written');
    this.#generation = (generations.get()?.last ?? 0) + 1;
    const ids = db.prepare<{ last: number | null }>('SELECT max(id) AS last FROM written');
    this.#nextId = (ids.get()?.last ?? 0) + 1;
  }

  /**
   * Keeps what is pending of a file, whose inode is in this state. False: the server lacks bytes that cannot be kept;
   * they have to be brought there. **Errors:** ENOSPC, EIO of this machine's disk.
   */
  keep(file: PendingFile, state: InodeState): boolean {
    if (this.#notHere.has(file.ino) || this.#overtaken.has(file.ino)) return false;
    if (file.isClean || this.#kept.get(file.ino)?.writtenAt === file.writtenAt) return true;
    const { bytes } = file.overlay;
    if (bytes > limits.keptBytesPerFile || this.#bytes + bytes > limits.keptBytes) return false;
    this.#write(file, state, this.#under.term());
    return true;
  }

  /** Whether all that is pending of a file is kept. */
  holds(file: PendingFile): boolean {
    const kept = this.#kept.get(file.ino);
    return kept?.file === file && kept.isPending && kept.writtenAt === file.writtenAt;
  }

  /** What was pending of a file has changed otherwise than by a write: it was cut to `size`, or got another time. */
  changed(file: PendingFile, size?: number): void {
    const kept = this.#kept.get(file.ino);
    if (kept === undefined) return;
    if (size !== undefined && kept.parts.some(({ entry }) => entry > 0)) this.#cut(file.ino, size);
    if (!kept.isPending) return;
    if (file.isClean) this.#committed(file.ino, kept);
    else this.#write(file, kept.state, kept.term);
  }

  #write(file: PendingFile, { version, ctime }: InodeState, term: number): void {
    const { ino, mtime, clearPrivileges, writtenAt } = file;
    const before = this.#kept.get(ino)?.parts ?? [];
    const last = before.at(-1);
    const isReplaced = last?.entry === 0;
    const id = isReplaced ? last.id : this.#nextId;
    const pieces = file.overlay
      .pieces()
      .map(({ offset, chunk, chunkOffset, length }) => ({ offset, bytes: chunk.bytes(chunkOffset, length) }));
    this.#db.transaction(() => {
      if (last !== undefined && !isReplaced) this.#wait(last);
      this.#db.run('INSERT OR REPLACE INTO pieces VALUES (?, ?)', id, packr.pack(pieces));
      this.#db.run(
        'INSERT OR REPLACE INTO written VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)',
        id,
        this.#generation,
        ino,
        version,
        ctime.sec,
        ctime.nsec,
        mtime.sec,
        mtime.nsec,
        clearPrivileges ? 1 : 0,
      );
    });
    this.#nextId = Math.max(this.#nextId, id + 1);
    const part = { id, bytes: file.overlay.bytes, entry: 0 };
    const parts = [...(isReplaced ? before.slice(0, -1) : before), part];
    this.#bytes += part.bytes - (isReplaced ? last.bytes : 0);
    this.#kept.set(ino, { file, term, writtenAt, state: { version, ctime }, parts, isPending: true });
  }

  /**
   * This mount changes inodes that are its alone, into these states: `write` writes that down, in the caller's
   * transaction, and `written` is to be called once that is committed. Undefined: nothing that is kept follows.
   */
  versions(states: readonly OwnState[]): Following | undefined {
    // Nobody else has it open, and without a name nobody can: it ends with this daemon.
    return this.#following(states, ({ nlink }) => nlink > 0);
  }

  #following<State extends ChangedState>(
    states: readonly State[],
    isWritten: (state: State) => boolean,
  ): Following | undefined {
    const follow = this.#kept.size === 0 ? [] : states.filter((state) => this.#follows(state));
    if (follow.length === 0) return undefined;
    const lasting = follow.filter(isWritten);
    const write = (): void => {
      for (const { ino, version, ctime } of lasting)
        for (const { id } of this.#kept.get(ino)?.parts ?? [])
          this.#db.run(FOLLOW, version, ctime.sec, ctime.nsec, id);
    };
    return {
      write: lasting.length === 0 ? undefined : write,
      written: () => {
        for (const { ino, version, ctime } of follow) {
          const kept = this.#kept.get(ino);
          if (kept !== undefined) kept.state = { version, ctime };
        }
      },
    };
  }

  #follows({ ino, version }: ChangedState): boolean {
    const kept = this.#kept.get(ino);
    if (kept === undefined || kept.state.version >= version) return false;
    // Otherwise others' changes may be among those before it.
    return kept.term === this.#under.term() || kept.state.version + 1 === version;
  }

  /** This mount has changed inodes at the server. */
  changedThere(states: readonly ChangedState[]): void {
    const following = this.#following(states, () => true);
    if (following?.write !== undefined) this.#db.transaction(following.write);
    following?.written();
  }

  /** This mount has removed the inode. */
  gone(ino: Ino): void {
    this.#notHere.delete(ino);
    if (this.#kept.has(ino)) this.#drop(ino);
  }

  /** In which state a file has to be for what is pending of it; undefined: in any. */
  since(ino: Ino): InodeState | undefined {
    const kept = this.#kept.get(ino);
    const isUncertain = kept?.isPending === true && kept.term !== this.#under.term();
    return this.#overtaken.get(ino) ?? (isUncertain ? kept.state : undefined);
  }

  /** It was not in that state: `putElsewhere` gets all that was written, before it goes from here. */
  overtaken(ino: Ino, putElsewhere: (write: LeftWrite) => void): void {
    const kept = this.#kept.get(ino);
    if (kept === undefined) return;
    for (const write of joined(this.#rows(kept.parts))) putElsewhere(write);
    this.#overtaken.set(ino, kept.state);
    this.#db.transaction(() => this.#drop(ino));
  }

  /** A chunk is committed, in the journal or at the server: what is not pending any more may go. */
  committed(chunk: PendingChunk): void {
    const pending: Kept[] = [];
    for (const file of chunk.files.keys()) {
      const { ino } = file;
      if (file.isClean) this.#overtaken.delete(ino);
      const entry = this.#under.unanswered(ino);
      const known = this.#kept.get(ino);
      const kept = known?.file === file ? known : undefined;
      // Something was written since its last close, or it was not closed yet.
      if (entry > 0 && kept?.writtenAt !== file.writtenAt) this.#notHere.set(ino, entry);
      if (kept?.isPending !== true) continue;
      for (const part of kept.parts.slice(-1)) part.entry = entry;
      if (file.isClean) pending.push(kept);
    }
    if (pending.length === 0) return;
    this.#db.transaction(() => {
      for (const kept of pending) this.#committed(kept.file.ino, kept);
    });
  }

  /** Nothing is pending any more of what is kept. */
  #committed(ino: Ino, kept: Kept): void {
    kept.isPending = false;
    const last = kept.parts.at(-1);
    if (last === undefined || last.entry === 0) this.#dropParts(ino, kept, (part) => part === last);
    else this.#wait(last);
  }

  /** It goes when the server has answered. */
  #wait({ id, entry }: Part): void {
    this.#db.run('UPDATE written SET entry = ? WHERE id = ?', entry, id);
  }

  /** The server has answered for the journal up to this entry; what it refused is somewhere else. */
  answered(last: number): void {
    for (const [ino, entry] of this.#notHere) if (entry <= last) this.#notHere.delete(ino);
    if (this.#kept.size === 0) return;
    this.#db.transaction(() => {
      for (const [ino, kept] of this.#kept) {
        const newest = kept.parts.at(-1);
        const isDone = (part: Part): boolean => part.entry > 0 && part.entry <= last;
        this.#dropParts(ino, kept, (part) => isDone(part) && !(part === newest && kept.isPending));
        if (newest !== undefined && isDone(newest)) newest.entry = 0;
      }
    });
  }

  /**
   * The server has refused a commit of the file: `putElsewhere` gets what was committed of it, before it goes from
   * here.
   */
  refused(ino: Ino, entry: number, putElsewhere: (write: LeftWrite) => void): void {
    const kept = this.#kept.get(ino);
    const isRefused = (part: Part): boolean => part.entry >= entry;
    const refused = kept?.parts.filter(isRefused) ?? [];
    if (kept === undefined || refused.length === 0) return;
    for (const write of joined(this.#rows(refused))) putElsewhere(write);
    this.#db.transaction(() => this.#dropParts(ino, kept, isRefused));
  }

  #dropParts(ino: Ino, kept: Kept, goes: (part: Part) => boolean): void {
    const going = kept.parts.filter(goes);
    if (going.length === 0) return;
    for (const { bytes } of going) this.#bytes -= bytes;
    this.#delete(going.map(({ id }) => id));
    const parts = kept.parts.filter((part) => !goes(part));
    if (parts.length === 0) this.#kept.delete(ino);
    else this.#kept.set(ino, { ...kept, parts });
  }

  /** Bytes behind `size` are nowhere any more. */
  #cut(ino: Ino, size: number): void {
    const rows = this.#rows(this.#kept.get(ino)?.parts ?? []);
    this.#db.transaction(() => {
      for (const { id, pieces } of rows) {
        const left = unpacked(pieces)
          .filter(({ offset }) => offset < size)
          .map(({ offset, bytes }) => ({ offset, bytes: bytes.subarray(0, size - offset) }));
        this.#db.run('UPDATE pieces SET pieces = ? WHERE id = ?', packr.pack(left), id);
      }
    });
  }

  #drop(ino: Ino): void {
    const parts = this.#kept.get(ino)?.parts ?? [];
    for (const { bytes } of parts) this.#bytes -= bytes;
    this.#kept.delete(ino);
    this.#delete(parts.map(({ id }) => id));
  }

  /**
   * In a transaction, at once. Elsewhere, soon, many at once: nobody asks for these any more, and left over by a killed
   * daemon they are what they would be had it been killed a moment earlier.
   */
  #delete(ids: readonly number[]): void {
    if (this.#db.inTransaction) for (const id of ids) for (const sql of DELETE) this.#db.run(sql, id);
    else {
      if (this.#doomed.length === 0) this.#under.later(() => this.tidy());
      this.#doomed.push(...ids);
    }
  }

  /** Deletes what is only waiting for that. */
  tidy(): void {
    const doomed = this.#doomed.splice(0);
    if (doomed.length > 0) this.#db.transaction(() => this.#delete(doomed));
  }

  /**
   * The session is over, and what it has not committed is given up; what was kept of it is left over. Answers the
   * files of which some was committed in the journal alone, and not kept.
   */
  sessionLost(): Ino[] {
    this.tidy();
    const lost = [...this.#notHere.keys()];
    this.#generation++;
    this.#kept.clear();
    this.#notHere.clear();
    this.#overtaken.clear();
    this.#bytes = 0;
    return lost;
  }

  /** What an earlier daemon, or a lost session, has kept; oldest first. */
  leftovers(): LeftWrite[] {
    return joined(this.#db.prepare<Columns>(SELECT_LEFT).all(this.#generation));
  }

  #rows(parts: readonly Part[]): Columns[] {
    const select = this.#db.prepare<Columns>(SELECT_PART);
    return parts.flatMap(({ id }) => select.get(id) ?? []);
  }

  /** Something left over is committed, or is somewhere else. */
  forget({ ids }: LeftWrite): void {
    this.#db.transaction(() => this.#delete(ids));
  }
}

/** Those of an earlier session have other numbers. In the caller's transaction. */
export function forgetEntries(db: Database): void {
  db.run('UPDATE written SET entry = 0 WHERE entry > 0');
}

/** The server has carried out what these entries of an earlier daemon's journal have committed. */
export function entriesDone(db: Database, numbers: readonly number[]): void {
  for (const number of numbers) {
    db.run('DELETE FROM pieces WHERE id IN (SELECT id FROM written WHERE entry = ?)', number);
    db.run('DELETE FROM written WHERE entry = ?', number);
  }
}
