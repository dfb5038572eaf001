/**
 * The namespace's rows in memory, as simple as can be: the model that tests compare with and the heart of the
 * in-memory store. It keeps nothing on disk and rolls nothing back (an operation that fails has not changed
 * anything).
 */
import { assert, present, unreachable } from '../base/assert.js';
import type { Timespec } from '../base/clock.js';
import { asIno, type ChunkId, type Ino, ROOT_INO, type SessionId } from '../proto/ids.js';
import { rootInode } from './inode.js';
import { checkInvariants } from './invariants.js';
import { type Answer, type Operation, runSync } from './operation.js';
import type { ChunkRow, DentryRow, ExtentRow, InodeRow, RowChange, RowRead, XattrRow } from './rows.js';

type AdjustChunk = Extract<RowChange, { adjust: 'chunk' }>;
type Put = Extract<RowChange, { put: string }>;
type Delete = Extract<RowChange, { delete: string }>;

export class MemoryRows {
  readonly inodes = new Map<Ino, InodeRow>();
  /** By parent, in (hash, name) order. */
  readonly dentries = new Map<Ino, DentryRow[]>();
  /** By inode, in offset order. */
  readonly extents = new Map<Ino, ExtentRow[]>();
  readonly chunks = new Map<ChunkId, ChunkRow>();
  /** By inode, in name order. */
  readonly xattrs = new Map<Ino, XattrRow[]>();
  readonly opens = new Map<Ino, Set<SessionId>>();
  readonly reapable = new Set<Ino>();
  /** Chunks that lost their last reference. Whoever has had them deleted may clear them away. */
  readonly garbage = new Set<ChunkId>();
  #nextIno = ROOT_INO + 1;

  /** A filesystem with an empty root. */
  constructor(now: Timespec) {
    this.inodes.set(ROOT_INO, rootInode(now));
  }

  /** Runs an operation and applies what it changes. Errors: the operation's; nothing has changed then. */
  run<Reply>(operation: Operation<Reply>): Reply {
    const outcome = runSync(operation, (read) => this.answer(read));
    this.apply(outcome.changes);
    return outcome.reply;
  }

  answer(read: RowRead): Answer {
    switch (read.read) {
      case 'inode':
        return this.inodes.get(read.ino);
      case 'dentry':
        return this.#dentry(read.parent, read.name);
      case 'namesakes':
        return (this.dentries.get(read.parent) ?? []).filter((row) => row.hash === read.hash);
      case 'dentries':
        return (this.dentries.get(read.parent) ?? [])
          .filter((row) => row.hash >= read.fromHash)
          .slice(0, read.limit);
      case 'extents':
        return (this.extents.get(read.ino) ?? [])
          .filter((row) => row.offset < read.to && row.offset + row.length > read.from)
          .slice(0, read.limit);
      case 'chunk':
        return this.chunks.get(read.id);
      case 'xattr':
        return this.xattrs.get(read.ino)?.find((row) => sameBytes(row.name, read.name));
      case 'xattrs':
        return this.xattrs.get(read.ino) ?? [];
      case 'isOpen':
        return this.opens.has(read.ino);
      case 'isOpenByOthers':
        return [...(this.opens.get(read.ino) ?? [])].some((session) => session !== read.session);
      case 'opens':
        return this.#opensOf(read.session).slice(0, read.limit);
      case 'newIno':
        return asIno(this.#nextIno++);
      default:
        return unreachable(read);
    }
  }

  /** Applies an operation's changes; chunks left without a reference become garbage. */
  apply(changes: readonly RowChange[]): void {
    const touched = new Set<ChunkId>();
    for (const change of changes) {
      if ('put' in change) {
        this.#put(change);
        if (change.put === 'chunk') touched.add(change.row.id);
      } else if ('adjust' in change) {
        this.#adjust(change);
        touched.add(change.id);
      } else this.#delete(change);
    }
    for (const id of touched) {
      if (this.chunks.get(id)?.used !== 0) continue;
      this.chunks.delete(id);
      this.garbage.add(id);
    }
  }

  /** Throws InvariantError unless every INVARIANT of rows.ts holds. */
  checkInvariants(): void {
    checkInvariants(this);
  }

  #put(change: Put): void {
    switch (change.put) {
      case 'inode':
        this.inodes.set(change.row.ino, change.row);
        return;
      case 'dentry':
        putSorted(this.dentries, change.row.parent, change.row, compareDentries);
        return;
      case 'extent':
        putSorted(this.extents, change.row.ino, change.row, (a, b) => a.offset - b.offset);
        return;
      case 'chunk':
        assert(!this.garbage.has(change.row.id), `chunk ${change.row.id} is garbage already`);
        this.chunks.set(change.row.id, change.row);
        return;
      case 'xattr':
        putSorted(this.xattrs, change.row.ino, change.row, (a, b) => Buffer.compare(a.name, b.name));
        return;
      case 'open':
        this.opens.set(change.ino, (this.opens.get(change.ino) ?? new Set()).add(change.session));
        return;
      case 'reapable':
        this.reapable.add(change.ino);
        return;
      default:
        unreachable(change);
    }
  }

  #delete(change: Delete): void {
    switch (change.delete) {
      case 'inode':
        for (const rows of [this.inodes, this.xattrs, this.opens, this.reapable]) rows.delete(change.ino);
        return;
      case 'dentry':
        drop(this.dentries, change.parent, (row) => sameBytes(row.name, change.name));
        return;
      case 'extent':
        drop(this.extents, change.ino, (row) => row.offset === change.offset);
        return;
      case 'xattr':
        drop(this.xattrs, change.ino, (row) => sameBytes(row.name, change.name));
        return;
      case 'open': {
        const sessions = this.opens.get(change.ino);
        sessions?.delete(change.session);
        if (sessions?.size === 0) this.opens.delete(change.ino);
        return;
      }
      default:
        unreachable(change);
    }
  }

  #adjust(change: AdjustChunk): void {
    const row = present(this.chunks.get(change.id), `chunk ${change.id} to adjust`);
    this.chunks.set(change.id, { ...row, used: row.used + change.used });
  }

  #dentry(parent: Ino, name: Uint8Array): DentryRow | undefined {
    return this.dentries.get(parent)?.find((row) => sameBytes(row.name, name));
  }

  #opensOf(session: SessionId): Ino[] {
    return [...this.opens].filter(([, sessions]) => sessions.has(session)).map(([ino]) => ino);
  }
}

export function compareDentries(a: DentryRow, b: DentryRow): number {
  return a.hash - b.hash || Buffer.compare(a.name, b.name);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Puts a row into the sorted rows of `key`, in place of an equal one. */
function putSorted<Row>(map: Map<Ino, Row[]>, key: Ino, row: Row, compare: (a: Row, b: Row) => number): void {
  const rows = map.get(key) ?? [];
  map.set(key, rows);
  const index = rows.findIndex((other) => compare(other, row) >= 0);
  const at = rows[index];
  if (at === undefined) rows.push(row);
  else rows.splice(index, compare(at, row) === 0 ? 1 : 0, row);
}

function drop<Row>(map: Map<Ino, Row[]>, key: Ino, matches: (row: Row) => boolean): void {
  const rows = map.get(key)?.filter((row) => !matches(row)) ?? [];
  if (rows.length > 0) map.set(key, rows);
  else map.delete(key);
}
