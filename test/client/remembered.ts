/** Inodes as a mount remembers them, and what it takes to remember them, for tests. */
import { CacheDatabase } from '../../src/client/cache-database.js';
import { Contents } from '../../src/client/contents.js';
import { type Hint, Hints } from '../../src/client/hints.js';
import { LeaseCache } from '../../src/client/lease-cache.js';
import { Revalidation } from '../../src/client/revalidation.js';
import { Xattrs } from '../../src/client/xattrs.js';
import type { Attr } from '../../src/proto/attr.js';
import { asClusterId, asIno, type Ino } from '../../src/proto/ids.js';
import type { MetaMethods } from '../../src/proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../../src/proto/method.js';

export const CLUSTER = asClusterId('11111111-2222-4333-8444-555555555555');
const zero = { sec: 0, nsec: 0 };

export const attrOf = (ino: number, version = 1, more: Partial<Attr> = {}): Attr => ({
  ...{ ino: asIno(ino), version, mode: 0o100644, nlink: 1, uid: 0, gid: 0, rdev: 0, size: 0, allocated: 0 },
  ...{ atime: zero, mtime: zero, ctime: zero, crtime: zero },
  ...more,
});

export const directory = (ino: number, version = 1): Attr =>
  attrOf(ino, version, { mode: 0o40755, nlink: 2 });

export const fileHint = (ino: number, version = 1): Hint => ({
  attr: attrOf(ino, version),
  names: [],
  isComplete: false,
  content: {
    kind: 'extents',
    extents: [{ offset: 0, length: 1, chunk: ino as never, chunkOffset: 0 }],
  },
  xattrs: { values: [['user.a', Buffer.from('b')]], names: null },
});

/** A directory in which these are, by number. */
export const directoryHint = (ino: number, children: readonly number[], version = 1): Hint => ({
  attr: directory(ino, version),
  names: children.map((child) => [`n${child}`, asIno(child)]),
  isComplete: true,
  content: undefined,
  xattrs: undefined,
});

type Asked = ArgsOf<MetaMethods['revalidate']>;
type Reply = ReplyOf<MetaMethods['revalidate']>;

export class RememberedRig {
  readonly cache: CacheDatabase;
  readonly hints: Hints;
  readonly asked: Ino[][] = [];
  readonly dirty = new Set<Ino>();
  isTrusted = true;
  isQuiet = true;
  /** What the server has; undefined: it is gone. */
  readonly versions = new Map<number, number>();
  answer: (asked: Asked) => Promise<Reply> = async (asked) => this.unchanged(asked);
  readonly leases = new LeaseCache({
    trustedMs: () => (this.isTrusted ? 5000 : 0),
    maxLeases: 10_000,
    giveBack: () => {},
  });
  readonly learned: Ino[] = [];
  /** Other mounts have these to themselves. */
  readonly elsewhere = new Set<Ino>();
  readonly #known = {
    attrOf: (ino: Ino) => this.leases.answer('getattr', { ino }),
    isQuiet: () => this.isQuiet,
    onLearned: (ino: Ino) => void this.learned.push(ino),
  };
  readonly xattrs = new Xattrs(this.#known);
  readonly contents = new Contents({
    ...this.#known,
    onListed: (ino, at, names) => this.leases.adopt(ino, at, names),
  });
  readonly revalidation: Revalidation;

  constructor(cacheDir: string) {
    this.cache = CacheDatabase.open(cacheDir, CLUSTER);
    this.hints = new Hints(this.cache);
    this.revalidation = new Revalidation({
      hints: this.hints,
      leases: this.leases,
      contents: this.contents,
      xattrs: this.xattrs,
      isDirty: (ino) => this.dirty.has(ino),
      ask: (args) => {
        this.asked.push(args.inodes.map(([ino]) => ino));
        return this.answer(args);
      },
    });
  }

  /** What a server answers that has these versions. */
  unchanged({ inodes }: Asked): Reply {
    const same = inodes.filter(([ino, version]) => this.versions.get(ino) === version).map(([ino]) => ino);
    const leased = same.filter((ino) => !this.elsewhere.has(ino));
    return {
      unchanged: leased.map((ino) => [ino, 1000 + ino, { sec: 5, nsec: 0 }]),
      unleased: same.filter((ino) => this.elsewhere.has(ino)),
    };
  }

  remember(hints: readonly Hint[]): void {
    this.hints.put(hints);
    for (const { attr } of hints) this.versions.set(attr.ino, attr.version);
    this.revalidation.restart();
  }
}
