/**
 * Random operations on a namespace, valid and not, by seed. After each: all invariants hold (World sees to
 * it, and that errnos are the method's), and at times the tree is compared with a model made of paths and
 * byte arrays. NAMES_SEED and NAMES_STEPS in the environment replay or lengthen a run.
 */
import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import type { FileCommit } from '../../src/proto/data-methods.js';
import { type ErrnoName, FsError } from '../../src/proto/errno.js';
import type { Extent } from '../../src/proto/extent.js';
import { asIno, asSessionId, type ChunkId, type Ino } from '../../src/proto/ids.js';
import { at, newAt, root, World } from '../names/world.js';

const seed = Number(process.env.NAMES_SEED ?? 20);
const steps = Number(process.env.NAMES_STEPS ?? 1500);
const FILE_BYTES = 96;
/** Two of them share a hash. */
const NAMES = ['a', 'b', 'c', 'd', '6mgaa', '9llwc'];

/** Chunk content is a function of chunk and place, so that a file's bytes tell where they came from. */
const contentOf = (chunk: ChunkId, offset: number): number => ((chunk * 31 + offset * 7) % 255) + 1;

class Fuzzer {
  readonly world = new World();
  readonly prng: Prng;
  /** What every file must contain, by inode. */
  readonly files = new Map<Ino, Uint8Array>();
  readonly chunks: { id: ChunkId; length: number }[] = [];
  readonly outcomes = new Map<string, number>();

  constructor(seed: number) {
    this.prng = new Prng(seed);
  }

  step(): void {
    const { world, prng } = this;
    world.session = asSessionId(prng.int(1, 3));
    const [what, act] = prng.pick(this.#acts);
    let outcome: ErrnoName | 'ok' = 'ok';
    try {
      act();
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      outcome = error.code;
    }
    const key = `${what} ${outcome}`;
    this.outcomes.set(key, (this.outcomes.get(key) ?? 0) + 1);
  }

  /** Compares every file with its model. */
  compare(): void {
    for (const [ino, model] of this.files) {
      const row = this.world.rows.inodes.get(ino);
      if (row === undefined || this.world.rows.reapable.has(ino)) {
        this.files.delete(ino);
        continue;
      }
      const bytes = new Uint8Array(row.size);
      for (const extent of this.world.rows.extents.get(ino) ?? []) {
        for (let index = 0; index < extent.length; index++) {
          bytes[extent.offset + index] = contentOf(extent.chunk, extent.chunkOffset + index);
        }
      }
      if (Buffer.compare(bytes, model) !== 0) throw new Error(`content of inode ${ino} differs`);
    }
  }

  readonly #acts: [string, () => void][] = [
    ['create', () => this.#create()],
    ['create', () => this.#create()],
    ['mkdir', () => void this.world.do('mkdir', { ...this.#newAt(), mode: 0o755 })],
    ['mkdir', () => void this.world.do('mkdir', { ...this.#newAt(), mode: 0o2755 })],
    ['mknod', () => this.#mknod()],
    ['symlink', () => void this.world.do('symlink', { ...this.#newAt(), target: Buffer.from('t') })],
    ['link', () => void this.world.do('link', { ino: this.#ino(), ...this.#at() })],
    ['tmpfile', () => this.#tmpfile()],
    ['unlink', () => void this.world.do('unlink', { ...this.#at(), hold: this.#hold() })],
    ['rmdir', () => void this.world.do('rmdir', { ...this.#at(), hold: this.#hold() })],
    ['rename', () => this.#rename()],
    ['rename', () => this.#rename()],
    ['rename', () => this.#rename()],
    ['lookup', () => void this.world.do('lookup', this.#at())],
    ['readdir', () => this.#readdir()],
    ['open', () => this.#open()],
    ['release', () => void this.world.do('release', { inos: [this.#ino(), this.#ino(), this.#ino()] })],
    ['releaseSession', () => void this.world.releaseSession(2)],
    ['setattr', () => this.#setattr()],
    ['truncate', () => this.#truncate()],
    ['truncate', () => this.#truncate()],
    ['commit', () => this.#commit()],
    ['commit', () => this.#commit()],
    ['commit', () => this.#commit()],
    ['fallocate', () => this.#fallocate()],
    ['copyRange', () => this.#copyRange()],
    ['copyRange', () => this.#copyRange()],
    ['xattr', () => this.#xattr()],
    ['reap', () => this.#reap()],
  ];

  #ino(): Ino {
    if (this.prng.int(0, 19) === 0) return asIno(this.prng.int(1, 500));
    return this.prng.pick([...this.world.rows.inodes.keys()]);
  }

  #dir(): Ino {
    const dirs = [...this.world.rows.inodes.values()].filter((row) => row.parent !== null);
    return this.prng.int(0, 9) === 0 ? this.#ino() : this.prng.pick(dirs).ino;
  }

  #file(): Ino {
    const files = [...this.files.keys()];
    return files.length === 0 || this.prng.int(0, 19) === 0 ? this.#ino() : this.prng.pick(files);
  }

  #name(): string {
    if (this.prng.int(0, 29) === 0) return this.prng.pick(['.', '..', '', 'x/y', 'n\0', 'l'.repeat(256)]);
    return this.prng.pick(NAMES);
  }

  #at() {
    return at(this.#dir(), this.#name());
  }

  #newAt() {
    return newAt(this.#dir(), this.#name());
  }

  #create(): void {
    const { prng } = this;
    const truncate = prng.int(0, 3) === 0;
    const exclusive = prng.int(0, 2) === 0;
    const args = { ...this.#newAt(), mode: 0o644, exclusive, truncate };
    const { attr, created } = this.world.do('create', args);
    if (created || truncate) this.files.set(attr.ino, new Uint8Array(0));
  }

  #mknod(): void {
    const type = this.prng.pick([0o100000, 0o100000, 0o010000, 0o040000]);
    const attr = this.world.do('mknod', { ...this.#newAt(), mode: type | 0o644, rdev: 0 });
    if (type === 0o100000) this.files.set(attr.ino, new Uint8Array(0));
  }

  #rename(): void {
    const mode = this.prng.pick(['replace', 'replace', 'noreplace', 'exchange'] as const);
    const to = this.#at();
    this.world.do('rename', {
      ...this.#at(),
      newParent: to.parent,
      newName: to.name,
      mode,
      hold: this.#hold(),
    });
  }

  #hold(): boolean {
    return this.prng.int(0, 3) === 0;
  }

  /** A file without a name, which gets one at once, later or never. */
  #tmpfile(): void {
    const { world, prng } = this;
    const held = [...world.rows.inodes.values()].filter((row) => row.nlink === 0).map((row) => row.ino);
    if (held.length > 0 && prng.int(0, 1) === 0) {
      world.do('link', { ino: prng.pick(held), ...this.#at(), unnamed: true });
      return;
    }
    const { parent, owner } = this.#newAt();
    const attr = world.do('tmpfile', { parent, owner, mode: 0o600 });
    this.files.set(attr.ino, new Uint8Array(0));
  }

  #fallocate(): void {
    const { prng, world } = this;
    const ino = this.#file();
    const [offset, length] = [prng.int(0, FILE_BYTES), prng.int(1, 40)];
    const mode = prng.pick(['allocate', 'zero', 'zero'] as const);
    const keepSize = prng.int(0, 1) === 0;
    world.do('fallocate', { ino, offset, length, mode, keepSize, clearPrivileges: false });
    const bytes = this.#grown(ino, keepSize ? 0 : offset + length);
    if (mode === 'zero') bytes.fill(0, offset, offset + length);
    this.files.set(ino, bytes);
  }

  #copyRange(): void {
    const { prng, world } = this;
    const [ino, newIno] = [this.#file(), this.#file()];
    const [offset, newOffset] = [prng.int(0, FILE_BYTES), prng.int(0, FILE_BYTES)];
    const args = { ino, newIno, offset, newOffset, length: prng.int(0, 80), clearPrivileges: false };
    const { copied } = world.do('copyRange', args);
    const from = (this.files.get(ino) ?? new Uint8Array(0)).slice(offset, offset + copied);
    if (from.length !== copied) throw new Error(`copied ${copied} bytes of ${from.length}`);
    if (copied === 0) return;
    const bytes = this.#grown(newIno, newOffset + copied);
    bytes.set(from, newOffset);
    this.files.set(newIno, bytes);
  }

  /** A copy of a file's model, at least `size` bytes long. */
  #grown(ino: Ino, size: number): Uint8Array {
    const model = this.files.get(ino) ?? new Uint8Array(0);
    const bytes = new Uint8Array(Math.max(model.length, size));
    bytes.set(model);
    return bytes;
  }

  #readdir(): void {
    const ino = this.#dir();
    const listed = this.world.list(ino, this.prng.int(1, 4)).map((entry) => entry.ino);
    const rows = (this.world.rows.dentries.get(ino) ?? []).map((row) => row.ino);
    if ([...listed].sort().join() !== [...rows].sort().join()) throw new Error(`listing of ${ino} differs`);
  }

  #open(): void {
    const ino = this.#ino();
    const truncate = this.prng.int(0, 5) === 0;
    this.world.do('open', { ino, truncate });
    if (truncate) this.files.set(ino, new Uint8Array(0));
  }

  #setattr(): void {
    const { prng } = this;
    const set = prng.pick([
      { mode: prng.int(0, 0o7777) },
      { uid: prng.int(0, 2), gid: prng.int(0, 2) },
      { mtime: 'now' as const, atime: { sec: -5, nsec: 1 } },
      { clearPrivileges: true },
      {},
    ]);
    this.world.do('setattr', { ino: this.#ino(), set });
  }

  #truncate(): void {
    const ino = this.#file();
    const size = this.prng.int(0, FILE_BYTES);
    this.world.do('setattr', { ino, set: { size } });
    const bytes = new Uint8Array(size);
    bytes.set((this.files.get(ino) ?? bytes).subarray(0, size));
    this.files.set(ino, bytes);
  }

  #commit(): void {
    const { prng, world } = this;
    const fresh = { id: world.newChunk(), length: prng.int(1, 64) };
    const known = this.chunks.filter(({ id }) => world.rows.chunks.has(id));
    const usable = [fresh, ...(known.length > 0 ? [prng.pick(known), prng.pick(known)] : [])];
    const files: FileCommit[] = [];
    for (let count = prng.int(1, 4); count > 0; count--) {
      const extents = Array.from({ length: prng.int(0, 5) }, () => this.#extent(usable));
      const mtime = world.context.now;
      files.push({ ino: this.#file(), extents, minSize: prng.int(0, 20), mtime, clearPrivileges: false });
    }
    const chunks = [{ ...fresh, crc: 1 }];
    const { missing } = world.do('commit', { chunks, files, durable: false });
    this.chunks.push(fresh);
    for (const file of files) if (!missing.includes(file.ino)) this.#applyToModel(file);
  }

  /** Mostly a proper extent, at times one that runs on from where its chunk was used, or is beyond it. */
  #extent(usable: readonly { id: ChunkId; length: number }[]): Extent {
    const { prng } = this;
    const chunk = prng.pick(usable);
    const chunkOffset = prng.int(0, chunk.length - 1);
    const length = prng.int(1, Math.max(1, chunk.length - chunkOffset));
    const offset = prng.int(0, 2) === 0 ? chunkOffset : prng.int(0, FILE_BYTES - 64);
    const bad = prng.int(0, 199) === 0;
    return { offset, length: bad ? length + 64 : length, chunk: chunk.id, chunkOffset };
  }

  #applyToModel(file: FileCommit): void {
    let bytes = this.files.get(file.ino) ?? new Uint8Array(0);
    const end = Math.max(file.minSize, ...file.extents.map((extent) => extent.offset + extent.length));
    if (end > bytes.length) {
      const longer = new Uint8Array(end);
      longer.set(bytes);
      bytes = longer;
    }
    for (const extent of file.extents) {
      for (let index = 0; index < extent.length; index++) {
        bytes[extent.offset + index] = contentOf(extent.chunk, extent.chunkOffset + index);
      }
    }
    this.files.set(file.ino, bytes);
  }

  #xattr(): void {
    const { prng, world } = this;
    const [ino, name] = [this.#ino(), Buffer.from(prng.pick(['user.a', 'user.b', 'security.capability']))];
    if (prng.int(0, 2) === 0) world.do('removexattr', { ino, name });
    else {
      const mode = prng.pick(['any', 'create', 'replace'] as const);
      world.do('setxattr', { ino, name, value: prng.bytes(3), mode });
    }
  }

  #reap(): void {
    for (const ino of this.world.rows.reapable) this.world.reap(ino, this.prng.int(1, 10));
  }
}

t.test('random operations keep every invariant, and files contain what was written', async (t) => {
  const outcomes = new Map<string, number>();
  for (let run = 0; run < 4; run++) {
    const fuzzer = new Fuzzer(seed + run);
    for (let step = 0; step < steps; step++) {
      try {
        fuzzer.step();
        fuzzer.compare();
      } catch (error) {
        t.error(error, `seed ${seed + run}, step ${step}`);
        return;
      }
    }
    for (const [key, count] of fuzzer.outcomes) outcomes.set(key, (outcomes.get(key) ?? 0) + count);
    t.pass(`seed ${seed + run}: ${steps} steps`);
  }
  const wanted = [
    ...['ok', 'EINVAL', 'ENOTEMPTY', 'EISDIR', 'ENOTDIR', 'EEXIST', 'ENOENT'].map((code) => `rename ${code}`),
    ...['ok', 'EINVAL'].map((code) => `commit ${code}`),
    ...['ok', 'EEXIST', 'ENOTDIR', 'ENAMETOOLONG'].map((code) => `create ${code}`),
    ...['ok', 'EPERM'].map((code) => `link ${code}`),
    ...['ok', 'ENOTDIR', 'EEXIST'].map((code) => `tmpfile ${code}`),
    ...['ok', 'EISDIR'].map((code) => `fallocate ${code}`),
    ...['ok', 'EINVAL', 'EISDIR'].map((code) => `copyRange ${code}`),
    ...['ok', 'ENOTEMPTY'].map((code) => `rmdir ${code}`),
  ];
  for (const key of wanted) t.ok(outcomes.has(key), `${key} occurred`);
  t.comment([...outcomes].map(([key, count]) => `${key} ${count}`).join(', '));
});

t.test('everything can be removed, and nothing is left behind', async (t) => {
  const fuzzer = new Fuzzer(seed);
  for (let step = 0; step < 400; step++) fuzzer.step();
  const { world } = fuzzer;
  const clear = (dir: Ino): void => {
    for (const entry of world.list(dir)) {
      if (entry.kind === 0o040000) clear(entry.ino);
      world.do(entry.kind === 0o040000 ? 'rmdir' : 'unlink', { parent: dir, name: entry.name });
    }
  };
  clear(root);
  for (const session of [1, 2, 3]) {
    world.session = asSessionId(session);
    while (world.releaseSession(3));
  }
  for (const ino of [...world.rows.reapable]) while (world.reap(ino, 3));
  const { inodes, dentries, extents, chunks, opens, reapable } = world.rows;
  t.equal(inodes.size, 1);
  t.same(
    [dentries, extents, chunks, opens, reapable].map((rows) => rows.size),
    [0, 0, 0, 0, 0],
  );
});
