/**
 * Operations that write down how they were called and answer with fixed values: those of the golden reply
 * frames. `answer` replaces the result of one method.
 */
import type { Timespec } from '../../src/base/clock.js';
import type { MaybePromise } from '../../src/base/maybe-promise.js';
import type { Attr } from '../../src/proto/attr.js';
import { asIno, type Ino } from '../../src/proto/ids.js';
import type { Operations, ReaddirSink, Request } from '../../src/vfs/operations.js';

const time = (sec: number, nsec: number): Timespec => ({ sec, nsec });

export const goldenAttr: Attr = {
  ino: asIno(0x1122334455),
  mode: 0o100644,
  nlink: 2,
  uid: 1000,
  gid: 100,
  rdev: 0x12345,
  size: 123_456_789_012,
  allocated: 241_126_542 * 512 - 100,
  atime: time(1_700_000_001, 1),
  mtime: time(-5, 999_999_999),
  ctime: time(1_700_000_003, 3),
  crtime: time(1_600_000_000, 4),
  version: 9,
};

const entry = { attr: goldenAttr, entryTimeoutMs: 1500, attrTimeoutMs: 2250 };
const attr = { attr: goldenAttr, attrTimeoutMs: 2250 };
const open = { fh: 77, keepCache: true, directIo: true };

/** What each operation answers unless told otherwise. */
const ANSWERS: Readonly<Record<string, unknown>> = {
  lookup: entry,
  getattr: attr,
  setattr: attr,
  readlink: Buffer.from('to/there'),
  mknod: entry,
  mkdir: entry,
  symlink: entry,
  link: entry,
  open,
  create: { entry, open },
  read: [Buffer.from('data one'), Buffer.from('and two')],
  write: 5,
  tmpfile: { entry, open },
  lseek: 0x1ffffffff000,
  copyFileRange: 0x2000,
  opendir: { fh: 77, cacheDir: true, keepCache: true },
  getlk: { space: 'fcntl', owner: '', start: 7, end: Number.MAX_SAFE_INTEGER, type: 'write', pid: 99 },
  statfs: {
    blockSize: 4096,
    blocks: 1000,
    freeBlocks: 900,
    availableBlocks: 800,
    inodes: 70,
    freeInodes: 60,
    nameMax: 255,
  },
  getxattr: Buffer.from('value'),
  listxattr: [Buffer.from('user.x'), Buffer.from('user.yy')],
};

export type Recorded = readonly [string, ...unknown[]];

/** Bytes as text and the caller as `uid/gid/pid`, so that calls compare by value. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  if (typeof value === 'function') return 'take';
  if (
    value instanceof Object &&
    'onInterrupt' in value &&
    'uid' in value &&
    'gid' in value &&
    'pid' in value
  ) {
    return `${value.uid}/${value.gid}/${value.pid}`;
  }
  return value;
}

function fill(take: ReaddirSink, directory: Ino, plus: boolean): void {
  take({ name: Buffer.from('.'), ino: directory, kind: 0o040000, nextOffset: 1 });
  const child = {
    name: Buffer.from('eightlet'),
    ino: goldenAttr.ino,
    kind: 0o100000,
    nextOffset: 0x1fffffffffff,
  };
  take(plus ? { ...child, entry } : child);
}

export class RecordingOperations {
  readonly calls: Recorded[] = [];
  readonly requests: Request[] = [];
  readonly #replaced = new Map<string, () => MaybePromise<unknown>>();

  /** From now on `method` gives what `result` gives, or throws what it throws. */
  answer(method: keyof Operations, result: () => MaybePromise<unknown>): void {
    this.#replaced.set(method, result);
  }

  /** The operations themselves. Each property is a function that records; tests never ask for another. */
  readonly operations: Operations = new Proxy({} as Operations, {
    get:
      (_target, method: string) =>
      (...args: unknown[]) =>
        this.#call(method, args),
  });

  #call(method: string, args: unknown[]): unknown {
    const replaced = this.#replaced.get(method);
    // Questions that something else is called for unless a test answers them.
    if (method.startsWith('lacks')) return replaced?.() ?? false;
    this.calls.push([method, ...args.map(plain)]);
    const [request] = args;
    if (isRequest(request)) this.requests.push(request);
    if (replaced !== undefined) return replaced();
    if (method === 'readdir') {
      const [, directory, , , plus, take] = args;
      if (typeof take === 'function')
        fill((item) => take(item) === true, asIno(Number(directory)), plus === true);
    }
    return ANSWERS[method];
  }
}

function isRequest(value: unknown): value is Request {
  return value instanceof Object && 'onInterrupt' in value;
}
