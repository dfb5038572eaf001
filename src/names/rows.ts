/**
 * The rows that the namespace consists of, the reads that semantics may ask for, and the changes they answer
 * with. A store (SQLite, memory, later PostgreSQL) keeps these rows; a client's leased cache holds some of
 * them. Nothing here knows where rows live.
 */
import type { Attr } from '../proto/attr.js';
import type { ChunkRecord } from '../proto/data-methods.js';
import type { Extent } from '../proto/extent.js';
import type { ChunkId, Ino, SessionId } from '../proto/ids.js';

/** An inode. INVARIANT: `allocated` is the sum of its extents' lengths; nlink 0 only while it is an orphan. */
export interface InodeRow extends Attr {
  /** A directory's parent (the root's is itself); null for everything else. */
  readonly parent: Ino | null;
  /** A symlink's target; null for everything else. */
  readonly target: Uint8Array | null;
}

/**
 * A name in a directory. `hash` (48 bits, from the name alone: hashName) orders the directory, so that a
 * listing's cookies survive creations and removals. INVARIANT: (parent, hash, name) is unique, and so are
 * (parent, name) and (parent, hash, slot).
 */
export interface DentryRow {
  readonly parent: Ino;
  readonly hash: number;
  /** 0..15: tells names of equal hash apart in cookies, for as long as the name exists. Nearly always 0. */
  readonly slot: number;
  readonly name: Uint8Array;
  readonly ino: Ino;
  /** File type bits of the inode, S_IFMT. */
  readonly kind: number;
}

/** INVARIANT: extents of one inode never overlap. */
export interface ExtentRow extends Extent {
  readonly ino: Ino;
}

/**
 * INVARIANT: `used` is the number of bytes that extents reference (counted once per extent); >= 0. A chunk
 * whose `used` is 0 at the end of an operation's changes is garbage: it is not read as a chunk ever again.
 */
export interface ChunkRow extends ChunkRecord {
  readonly used: number;
}

export interface XattrRow {
  readonly ino: Ino;
  readonly name: Uint8Array;
  readonly value: Uint8Array;
}

/** What semantics may ask for. Answers reflect every change applied before, in the same transaction too. */
export type RowRead =
  | { readonly read: 'inode'; readonly ino: Ino }
  | { readonly read: 'dentry'; readonly parent: Ino; readonly hash: number; readonly name: Uint8Array }
  /** Rows of `parent` whose names have this hash, that of `name`. */
  | { readonly read: 'namesakes'; readonly parent: Ino; readonly hash: number; readonly name: Uint8Array }
  /** Rows with row.hash >= fromHash in (hash, name) order, at most `limit`. */
  | { readonly read: 'dentries'; readonly parent: Ino; readonly fromHash: number; readonly limit: number }
  /** Extents overlapping [from, to), by offset, at most `limit`. */
  | {
      readonly read: 'extents';
      readonly ino: Ino;
      readonly from: number;
      readonly to: number;
      readonly limit: number;
    }
  | { readonly read: 'chunk'; readonly id: ChunkId }
  | { readonly read: 'xattr'; readonly ino: Ino; readonly name: Uint8Array }
  | { readonly read: 'xattrs'; readonly ino: Ino }
  /** Whether any session has the inode open. */
  | { readonly read: 'isOpen'; readonly ino: Ino }
  /** Whether any session but this one has the inode open. */
  | { readonly read: 'isOpenByOthers'; readonly ino: Ino; readonly session: SessionId }
  /** Inodes that the session has open, in any order, at most `limit`. */
  | { readonly read: 'opens'; readonly session: SessionId; readonly limit: number }
  /** A fresh inode number. */
  | { readonly read: 'newIno' };

/** The answer to each read. */
export interface RowAnswers {
  inode: InodeRow | undefined;
  dentry: DentryRow | undefined;
  namesakes: readonly DentryRow[];
  dentries: readonly DentryRow[];
  extents: readonly ExtentRow[];
  chunk: ChunkRow | undefined;
  xattr: XattrRow | undefined;
  xattrs: readonly XattrRow[];
  isOpen: boolean;
  isOpenByOthers: boolean;
  opens: readonly Ino[];
  newIno: Ino;
}

/**
 * What an operation does to the rows; applied in order, all or none. A put replaces the row with its key:
 * (ino), (parent, name), (ino, offset), (id), (ino, name), (ino, session). Putting a mark that is there and
 * deleting a row that is not are no errors.
 */
export type RowChange =
  | { readonly put: 'inode'; readonly row: InodeRow }
  /** The inode, its xattrs, its open marks and its reapable mark. Its extents are gone before. */
  | { readonly delete: 'inode'; readonly ino: Ino }
  | { readonly put: 'dentry'; readonly row: DentryRow }
  | { readonly delete: 'dentry'; readonly parent: Ino; readonly hash: number; readonly name: Uint8Array }
  | { readonly put: 'extent'; readonly row: ExtentRow }
  | { readonly delete: 'extent'; readonly ino: Ino; readonly offset: number }
  | { readonly put: 'chunk'; readonly row: ChunkRow }
  /** Bytes of a chunk newly referenced (> 0) or no longer (< 0). */
  | { readonly adjust: 'chunk'; readonly id: ChunkId; readonly used: number }
  | { readonly put: 'xattr'; readonly row: XattrRow }
  | { readonly delete: 'xattr'; readonly ino: Ino; readonly name: Uint8Array }
  | { readonly put: 'open'; readonly ino: Ino; readonly session: SessionId }
  | { readonly delete: 'open'; readonly ino: Ino; readonly session: SessionId }
  /** The inode has no name and nobody has it open: its extents go step by step (see `reap`), then the inode. */
  | { readonly put: 'reapable'; readonly ino: Ino };

/** The inode whose lease covers what a read asks for; undefined: none does. */
export function inodeOfRead(read: RowRead): Ino | undefined {
  if ('parent' in read) return read.parent;
  return 'ino' in read ? read.ino : undefined;
}
