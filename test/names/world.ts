/**
 * A filesystem in memory with short ways to say what is done to it, for the tests of names/. Every operation
 * is followed by a check of all invariants, and every errno is checked against the method's table.
 */
import t, { type Test } from 'tap';
import type { Timespec } from '../../src/base/clock.js';
import { MemoryRows } from '../../src/names/memory-rows.js';
import { type NamespaceMethod, namespace } from '../../src/names/namespace.js';
import { releaseSession } from '../../src/names/open.js';
import type { OperationContext } from '../../src/names/operation.js';
import { reap } from '../../src/names/orphan.js';
import type { Attr } from '../../src/proto/attr.js';
import { type ErrnoName, FsError } from '../../src/proto/errno.js';
import type { Extent } from '../../src/proto/extent.js';
import { asChunkId, asSessionId, type ChunkId, type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { type MetaMethods, metaMethods, type SetAttr } from '../../src/proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../../src/proto/method.js';

const owner = { uid: 1000, gid: 100 };

export class World {
  readonly rows = new MemoryRows({ sec: 1, nsec: 0 });
  /** Time of the next operation; each takes a second. */
  seconds = 10;
  session = asSessionId(1);
  #nextChunk = 1;

  get context(): OperationContext {
    return { now: { sec: this.seconds, nsec: 7 }, session: this.session };
  }

  /** Runs a method; throws the FsError it fails with, which must be in the method's table. */
  do<K extends NamespaceMethod>(method: K, args: ArgsOf<MetaMethods[K]>): ReplyOf<MetaMethods[K]> {
    this.seconds += 1;
    try {
      return this.rows.run(namespace[method](this.context, args));
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      const allowed: readonly ErrnoName[] = metaMethods[method].errnos;
      if (!allowed.includes(error.code)) throw new Error(`${method} may not fail with ${error.code}`);
      throw error;
    } finally {
      this.rows.checkInvariants();
    }
  }

  /** The errno that a method fails with; `ok` when it does not. */
  errno<K extends NamespaceMethod>(method: K, args: ArgsOf<MetaMethods[K]>): ErrnoName | 'ok' {
    try {
      this.do(method, args);
      return 'ok';
    } catch (error) {
      if (error instanceof FsError) return error.code;
      throw error;
    }
  }

  mkdir(parent: Ino, name: string, mode = 0o755): Ino {
    return this.do('mkdir', { parent, name: bytes(name), owner, mode }).ino;
  }

  /** A regular file that nobody has open. */
  file(parent: Ino, name: string): Ino {
    return this.do('mknod', { parent, name: bytes(name), owner, mode: 0o100644, rdev: 0 }).ino;
  }

  symlink(parent: Ino, name: string, target: string): Ino {
    return this.do('symlink', { parent, name: bytes(name), owner, target: bytes(target) }).ino;
  }

  create(parent: Ino, name: string, flags: { exclusive?: boolean; truncate?: boolean } = {}) {
    const { exclusive = false, truncate = false } = flags;
    return this.do('create', { parent, name: bytes(name), owner, mode: 0o640, exclusive, truncate });
  }

  attr(ino: Ino): Attr {
    return this.do('getattr', { ino });
  }

  set(ino: Ino, set: SetAttr): Attr {
    return this.do('setattr', { ino, set });
  }

  names(ino: Ino): string[] {
    return this.list(ino).map((entry) => Buffer.from(entry.name).toString());
  }

  /** All entries, in pages of `limit`. */
  list(ino: Ino, limit = 1024) {
    const all: ReplyOf<MetaMethods['readdir']>['entries'] = [];
    for (let after = 0; ; after = all.at(-1)?.cookie ?? 0) {
      const page = this.do('readdir', { ino, after, limit, plus: false });
      all.push(...page.entries);
      if (page.end) return all;
    }
  }

  /** Commits a new chunk of `length` bytes as extents of one file. */
  write(ino: Ino, offset: number, length: number, chunkLength = length): ChunkId {
    const id = asChunkId(this.#nextChunk++);
    const extent: Extent = { offset, length, chunk: id, chunkOffset: 0 };
    this.do('commit', {
      chunks: [{ id, length: chunkLength, crc: id }],
      files: [{ ino, extents: [extent], minSize: 0, mtime: this.context.now, clearPrivileges: false }],
      durable: false,
    });
    return id;
  }

  newChunk(): ChunkId {
    return asChunkId(this.#nextChunk++);
  }

  extentsOf(ino: Ino): [number, number, number, number][] {
    const { extents } = this.do('extents', { ino, offset: 0, length: Number.MAX_SAFE_INTEGER });
    return extents.map((extent) => [extent.offset, extent.length, extent.chunk, extent.chunkOffset]);
  }

  reap(ino: Ino, limit: number): boolean {
    const { more } = this.rows.run(reap(this.context, { ino, limit }));
    this.rows.checkInvariants();
    return more;
  }

  releaseSession(limit: number): boolean {
    const { more } = this.rows.run(releaseSession(this.context, { limit }));
    this.rows.checkInvariants();
    return more;
  }
}

export const root = ROOT_INO;
export const bytes = (name: string): Buffer => Buffer.from(name);
export const at = (parent: Ino, name: string) => ({ parent, name: bytes(name) });
export const newAt = (parent: Ino, name: string) => ({ parent, name: bytes(name), owner });
export const ns = (sec: number): Timespec => ({ sec, nsec: 7 });

/** A test with a world of its own. */
export function inWorld(name: string, body: (t: Test, world: World) => void): void {
  t.test(name, async (t) => body(t, new World()));
}
