/**
 * The rows of the inodes that this mount has exclusive leases on: what the rules in names/ need to run here as
 * they run in the metadata server. Names are where `LeaseCache` keeps them.
 *
 * What is not known for certain is not answered: `answer` throws NOT_COVERED, and the server has to be asked.
 *
 * INVARIANT: nobody else changes these inodes, and this mount only through `apply`; whatever else may have
 * changed one takes it out (`drop`).
 */
import { assert, unreachable } from '../base/assert.js';
import { hashName } from '../names/dentry.js';
import type { Answer } from '../names/operation.js';
import type { DentryRow, ExtentRow, InodeRow, RowChange, RowRead, XattrRow } from '../names/rows.js';
import { isDir, S_IFMT } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import type { Taken } from '../proto/lease-methods.js';

/** Thrown by `answer`; a single object, because it is thrown often. */
export const NOT_COVERED = new Error('not covered by exclusive leases');

/** The names of a directory, as far as they are known. */
export interface LeasedNames {
  /** By name (latin1); null: there is no such name. */
  readonly children: ReadonlyMap<string, Ino | null>;
  readonly isComplete: boolean;
}

export interface LeasedRowsOptions {
  readonly namesOf: (ino: Ino) => LeasedNames | undefined;
  readonly isExclusive: (ino: Ino) => boolean;
}

interface Known {
  /** Undefined: there is no such inode (any more). */
  row: InodeRow | undefined;
  /** This session has it open, as the server will know it. */
  isOpen: boolean;
  /** By offset. */
  extents: ExtentRow[];
  /** By name (latin1). */
  readonly xattrs: Map<string, XattrRow>;
  /** Of a directory that is listed: its entries by hash, as long as nothing has changed. */
  listing: DentryRow[] | undefined;
}

type Put = Extract<RowChange, { put: string }>;
type Delete = Extract<RowChange, { delete: string }>;

const textOf = (name: Uint8Array): string =>
  Buffer.from(name.buffer, name.byteOffset, name.byteLength).toString('latin1');

export class LeasedRows {
  readonly #options: LeasedRowsOptions;
  readonly #known = new Map<Ino, Known>();
  /** Rows that were asked for, and nothing has changed since. */
  readonly #awaited = new Set<Ino>();

  constructor(options: LeasedRowsOptions) {
    this.#options = options;
  }

  has(ino: Ino): boolean {
    return this.#known.has(ino) && this.#options.isExclusive(ino);
  }

  get size(): number {
    return this.#known.size;
  }

  /** An inode that was made a moment ago: nothing is in it, and its attributes are these. */
  adoptNew(row: InodeRow, isOpen: boolean): void {
    this.#known.set(row.ino, { row, isOpen, extents: [], xattrs: new Map(), listing: undefined });
  }

  /** Its rows are asked for: `adopt`, later, if it is not dropped before. */
  await(ino: Ino): void {
    this.#awaited.add(ino);
  }

  notComing(ino: Ino): void {
    this.#awaited.delete(ino);
  }

  /** An inode that was there before, with all that there is of it. False: it may have changed since that was asked for. */
  adopt({ attr, parent, target, isOpen, extents, xattrs }: Taken): boolean {
    const { ino } = attr;
    if (!this.#awaited.delete(ino)) return false;
    const { lease: _lease, ...plain } = attr;
    this.#known.set(ino, {
      row: { ...plain, parent, target },
      isOpen,
      extents: extents.map((extent) => ({ ...extent, ino })),
      xattrs: new Map(xattrs.map((xattr) => [textOf(xattr.name), { ...xattr, ino }])),
      listing: undefined,
    });
    return true;
  }

  /** It may be other than it is here, or is not this mount's alone any more. */
  drop(ino: Ino): void {
    this.#known.delete(ino);
    this.#awaited.delete(ino);
  }

  clear(): void {
    this.#known.clear();
    this.#awaited.clear();
  }

  /** **Throws** NOT_COVERED. */
  answer(read: RowRead): Answer {
    switch (read.read) {
      case 'inode':
        return this.#of(read.ino).row;
      case 'dentry':
        return this.#dentry(read.parent, read.name);
      case 'namesakes': {
        // Others of this hash, which hardly ever are, matter only for slots: the server gives those.
        const row = this.#dentry(read.parent, read.name);
        return row === undefined ? [] : [row];
      }
      case 'dentries':
        return this.#dentries(read.parent, read.fromHash, read.limit);
      case 'extents': {
        const extents = this.#of(read.ino).extents;
        return extents
          .filter((row) => row.offset < read.to && row.offset + row.length > read.from)
          .slice(0, read.limit);
      }
      case 'chunk':
        // A chunk is named when it is new, in the commit that brings all of its extents.
        return undefined;
      case 'xattr':
        return this.#of(read.ino).xattrs.get(textOf(read.name));
      case 'xattrs':
        return [...this.#of(read.ino).xattrs.values()].sort((a, b) => Buffer.compare(a.name, b.name));
      case 'isOpen':
        return this.#of(read.ino).isOpen;
      case 'isOpenByOthers':
        this.#of(read.ino);
        return false;
      case 'opens':
      case 'newIno':
        return notCovered();
      default:
        return unreachable(read);
    }
  }

  /** Whether there is the inode, and no such attribute of it, for certain. */
  lacksXattr(ino: Ino, name: Uint8Array): boolean {
    const known = this.#options.isExclusive(ino) ? this.#known.get(ino) : undefined;
    return known?.row !== undefined && !known.xattrs.has(textOf(name));
  }

  #of(ino: Ino): Known {
    return this.#options.isExclusive(ino) ? this.#must(ino) : notCovered();
  }

  #must(ino: Ino): Known {
    return this.#known.get(ino) ?? notCovered();
  }

  #dentry(parent: Ino, name: Uint8Array): DentryRow | undefined {
    this.#of(parent);
    const names = this.#options.namesOf(parent) ?? notCovered();
    const child = names.children.get(textOf(name));
    if (child === undefined) return names.isComplete ? undefined : notCovered();
    return child === null ? undefined : this.#dentryTo(parent, name, child);
  }

  #dentryTo(parent: Ino, name: Uint8Array, child: Ino): DentryRow {
    const { row } = this.#of(child);
    assert(row !== undefined, 'a name leads to an inode');
    return { parent, hash: hashName(name), slot: 0, name, ino: child, kind: row.mode & S_IFMT };
  }

  #dentries(parent: Ino, fromHash: number, limit: number): DentryRow[] {
    const known = this.#of(parent);
    const names = this.#options.namesOf(parent) ?? notCovered();
    if (!names.isComplete) notCovered();
    known.listing ??= this.#listing(parent, names.children);
    const { listing } = known;
    let [low, high] = [0, listing.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((listing[middle]?.hash ?? 0) < fromHash) low = middle + 1;
      else high = middle;
    }
    return listing.slice(low, low + limit);
  }

  #listing(parent: Ino, children: LeasedNames['children']): DentryRow[] {
    const rows: DentryRow[] = [];
    for (const [name, child] of children)
      if (child !== null) rows.push(this.#dentryTo(parent, Buffer.from(name, 'latin1'), child));
    rows.sort((a, b) => a.hash - b.hash);
    // The server has told them apart by slots, which are not known here.
    if (rows.some((row, index) => row.hash === rows[index + 1]?.hash)) notCovered();
    return rows;
  }

  /** What the rules have made of what `answer` said; names are not kept here. */
  apply(changes: readonly RowChange[]): void {
    for (const change of changes) {
      if ('put' in change) this.#put(change);
      else if ('delete' in change) this.#delete(change);
    }
  }

  #put(change: Put): void {
    switch (change.put) {
      case 'inode': {
        const known = this.#known.get(change.row.ino);
        if (known === undefined) this.adoptNew(change.row, false);
        else known.row = change.row;
        return;
      }
      case 'dentry':
        this.#must(change.row.parent).listing = undefined;
        return;
      case 'extent': {
        const extents = this.#must(change.row.ino).extents;
        const at = extents.findIndex((other) => other.offset >= change.row.offset);
        if (at < 0) extents.push(change.row);
        else extents.splice(at, extents[at]?.offset === change.row.offset ? 1 : 0, change.row);
        return;
      }
      case 'xattr':
        this.#must(change.row.ino).xattrs.set(textOf(change.row.name), change.row);
        return;
      case 'open':
        this.#must(change.ino).isOpen = true;
        return;
      case 'reapable':
        // The server takes it apart by itself.
        this.drop(change.ino);
        return;
      case 'chunk':
        return;
      default:
        unreachable(change);
    }
  }

  #delete(change: Delete): void {
    switch (change.delete) {
      case 'inode':
        this.drop(change.ino);
        return;
      case 'dentry':
        this.#must(change.parent).listing = undefined;
        return;
      case 'extent': {
        const known = this.#must(change.ino);
        known.extents = known.extents.filter((row) => row.offset !== change.offset);
        return;
      }
      case 'xattr':
        this.#must(change.ino).xattrs.delete(textOf(change.name));
        return;
      case 'open':
        this.#must(change.ino).isOpen = false;
        return;
      default:
        unreachable(change);
    }
  }

  checkInvariants(): void {
    for (const [ino, { row, extents }] of this.#known) {
      assert(row === undefined || row.ino === ino, 'a row is where it is looked for');
      if (row === undefined) continue;
      const allocated = extents.reduce((sum, extent) => sum + extent.length, 0);
      assert(isDir(row.mode) || row.allocated === allocated, 'extents add up');
    }
  }
}

function notCovered(): never {
  throw NOT_COVERED;
}
