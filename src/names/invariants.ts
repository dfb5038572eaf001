/**
 * The INVARIANTs of rows.ts as code, over all rows at once: for tests and for checks of a stored filesystem.
 */
import { assert, present } from '../base/assert.js';
import { isDir, isSymlink, S_IFMT } from '../proto/attr.js';
import { type ChunkId, type Ino, ROOT_INO, type SessionId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { DENTRY_SLOTS, hashName, isDots } from './dentry.js';
import type { ChunkRow, DentryRow, ExtentRow, InodeRow, XattrRow } from './rows.js';

/** Every row of a filesystem. */
export interface AllRows {
  readonly inodes: ReadonlyMap<Ino, InodeRow>;
  readonly dentries: ReadonlyMap<Ino, readonly DentryRow[]>;
  readonly extents: ReadonlyMap<Ino, readonly ExtentRow[]>;
  readonly chunks: ReadonlyMap<ChunkId, ChunkRow>;
  readonly xattrs: ReadonlyMap<Ino, readonly XattrRow[]>;
  readonly opens: ReadonlyMap<Ino, ReadonlySet<SessionId>>;
  readonly reapable: ReadonlySet<Ino>;
}

/** Throws InvariantError when an INVARIANT does not hold. */
export function checkInvariants(rows: AllRows): void {
  checkDentries(rows);
  checkLinks(rows);
  checkTree(rows);
  checkExtents(rows);
  checkLeftovers(rows);
}

function checkDentries(rows: AllRows): void {
  for (const [parent, dentries] of rows.dentries) {
    const directory = present(rows.inodes.get(parent), `directory ${parent}`);
    assert(isDir(directory.mode), `${parent} has entries and is a directory`);
    const slots = new Set<string>();
    const names = new Set<string>();
    for (const row of dentries) {
      const inode = present(rows.inodes.get(row.ino), `inode ${row.ino} of a dentry`);
      assert(row.parent === parent && row.hash === hashName(row.name), 'a dentry is filed where it belongs');
      assert(row.kind === (inode.mode & S_IFMT), `kind of a dentry of ${row.ino}`);
      assert(row.slot >= 0 && row.slot < DENTRY_SLOTS, 'slot in range');
      assert(!isDots(row.name) && row.name.length > 0 && row.name.length <= limits.nameBytes, 'a name');
      slots.add(`${row.hash}.${row.slot}`);
      names.add(Buffer.from(row.name).toString('hex'));
    }
    assert(slots.size === dentries.length, `slots of ${parent} are unique`);
    assert(names.size === dentries.length, `names of ${parent} are unique`);
  }
}

function checkLinks(rows: AllRows): void {
  const names = new Map<Ino, DentryRow[]>();
  for (const dentries of rows.dentries.values()) {
    for (const row of dentries) names.set(row.ino, [...(names.get(row.ino) ?? []), row]);
  }
  for (const inode of rows.inodes.values()) {
    const mine = names.get(inode.ino) ?? [];
    const entries = rows.dentries.get(inode.ino) ?? [];
    if (isDir(inode.mode)) {
      const named = inode.ino === ROOT_INO || mine.length === 1;
      const subdirs = entries.filter((row) => isDir(row.kind)).length;
      assert(inode.nlink === (named ? 2 + subdirs : 0), `nlink of directory ${inode.ino}`);
      assert(named || (mine.length === 0 && entries.length === 0), `names of directory ${inode.ino}`);
      assert(inode.ino === ROOT_INO || !named || mine[0]?.parent === inode.parent, `parent of ${inode.ino}`);
    } else {
      assert(inode.nlink === mine.length, `nlink of ${inode.ino}`);
      assert(inode.nlink <= limits.linkCount, `nlink of ${inode.ino} in bounds`);
      assert(inode.parent === null, `${inode.ino} is no directory and has no parent`);
    }
    const target = isSymlink(inode.mode) ? inode.target?.length === inode.size : inode.target === null;
    assert(target, `target of ${inode.ino}`);
  }
}

/** Every directory with a name reaches the root. */
function checkTree(rows: AllRows): void {
  for (const inode of rows.inodes.values()) {
    if (!isDir(inode.mode) || inode.nlink === 0) continue;
    let at = inode;
    for (let depth = 0; at.ino !== ROOT_INO; depth++) {
      assert(depth <= rows.inodes.size, `directory ${inode.ino} is in no cycle`);
      const parent = present(at.parent, `parent pointer of ${at.ino}`);
      at = present(rows.inodes.get(parent), `parent ${parent} of ${at.ino}`);
    }
  }
}

function checkExtents(rows: AllRows): void {
  const used = new Map<ChunkId, number>();
  for (const [ino, extents] of rows.extents) {
    const inode = present(rows.inodes.get(ino), `inode ${ino} of extents`);
    let end = 0;
    for (const row of extents) {
      const chunk = present(rows.chunks.get(row.chunk), `chunk ${row.chunk} of ${ino}`);
      assert(row.offset >= end && row.length > 0, `extents of ${ino} are ordered and apart`);
      assert(row.chunkOffset + row.length <= chunk.length, `an extent of ${ino} lies inside its chunk`);
      end = row.offset + row.length;
      used.set(row.chunk, (used.get(row.chunk) ?? 0) + row.length);
    }
    assert(end <= inode.size, `extents of ${ino} end at its size`);
  }
  for (const inode of rows.inodes.values()) {
    const bytes = (rows.extents.get(inode.ino) ?? []).reduce((sum, row) => sum + row.length, 0);
    assert(bytes === inode.allocated, `allocated of ${inode.ino}`);
  }
  for (const chunk of rows.chunks.values()) {
    assert(chunk.used > 0 && chunk.used === used.get(chunk.id), `usage of chunk ${chunk.id}`);
  }
}

/** Marks and attributes belong to inodes; what has no name is open or on its way out. */
function checkLeftovers(rows: AllRows): void {
  for (const ino of [...rows.xattrs.keys(), ...rows.opens.keys(), ...rows.reapable]) {
    assert(rows.inodes.has(ino), `inode ${ino} of an xattr or a mark`);
  }
  for (const inode of rows.inodes.values()) {
    const dying = rows.reapable.has(inode.ino);
    if (inode.nlink === 0)
      assert(rows.opens.has(inode.ino) !== dying, `orphan ${inode.ino} is held or dying`);
    else assert(!dying, `${inode.ino} has a name and is not dying`);
  }
}
