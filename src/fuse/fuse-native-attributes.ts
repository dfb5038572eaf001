/**
 * What libfuse asks about attributes, extended ones included, answered with the inode-based operations.
 *
 * **Source:** libfuse 2.9.9 lib/fuse.c fuse_lib_getattr, fuse_lib_setattr; native-notes/fuse-native.md, "Times".
 */
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import type { AttrChange, SetxattrMode } from '../vfs/operations.js';
import { mtimeOf, type NativeCall, type NativeHandlers } from './fuse-native-binding.js';
import { type NativeContext, self } from './fuse-native-context.js';
import { toBytes, toText } from './fuse-native-paths.js';
import {
  fromHalves,
  fromMs,
  msFromHalves,
  noFigures,
  noStat,
  toFigures,
  toStat,
} from './fuse-native-stat.js';

const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
/** chown's "leave as it is". */
const UNCHANGED = 0xffffffff;

export class NativeAttributes {
  readonly #context: NativeContext;

  constructor(context: NativeContext) {
    this.#context = context;
  }

  handlers(): Pick<
    NativeHandlers,
    | 'access'
    | 'statfs'
    | 'getattr'
    | 'fgetattr'
    | 'truncate'
    | 'ftruncate'
    | 'utimens'
    | 'readlink'
    | 'chown'
    | 'chmod'
  > {
    const { operations } = this.#context;
    return {
      access: this.#context.plain('access', (path, mask) =>
        this.#context.at(path, (ino) => operations.access(self, ino, mask)),
      ),
      statfs: this.#context.handler(
        'statfs',
        () => [noFigures()],
        async (_call, path) => {
          const figures = await this.#context.at(path, (ino) => operations.statfs(self, ino));
          return { result: 0, payload: [toFigures(figures)] };
        },
      ),
      getattr: this.#context.handler(
        'getattr',
        () => [noStat()],
        async (_call, path) => {
          const stat = await this.#context.at(path, (ino) => this.#stat(ino, undefined));
          return { result: 0, payload: [stat] };
        },
      ),
      fgetattr: this.#context.handler(
        'fgetattr',
        () => [noStat()],
        async (_call, _path, fd) => {
          const { ino, fh } = this.#context.file(fd, 'fgetattr');
          return { result: 0, payload: [await this.#stat(ino, fh)] };
        },
      ),
      truncate: this.#context.plain('truncate', (path, low, high) =>
        this.#change(path, { size: fromHalves(low, high) }),
      ),
      ftruncate: this.#context.plain('ftruncate', (_path, fd, low, high) => {
        const { ino, fh } = this.#context.file(fd, 'ftruncate');
        return operations.setattr(self, ino, fh, { size: fromHalves(low, high) });
      }),
      utimens: this.#context.handler(
        'utimens',
        () => [],
        async (call, path, low, high) => {
          await this.#change(path, timesOf(call, msFromHalves(low, high)));
          return { result: 0, payload: [] };
        },
      ),
      readlink: this.#context.handler(
        'readlink',
        () => [''],
        async (_call, path) => {
          const target = await this.#context.at(path, (ino) => operations.readlink(self, ino));
          return { result: 0, payload: [toText(target)] };
        },
      ),
      chown: this.#context.plain('chown', (path, uid, gid) =>
        this.#change(path, {
          ...(uid === UNCHANGED ? {} : { uid }),
          ...(gid === UNCHANGED ? {} : { gid }),
        }),
      ),
      chmod: this.#context.plain('chmod', (path, mode) => this.#change(path, { mode: mode & 0o7777 })),
    };
  }

  async #stat(ino: Ino, fh: number | undefined): Promise<Uint32Array> {
    const { attr } = await this.#context.operations.getattr(self, ino, fh);
    // libfuse takes the hidden name off the count itself; here it never was in it.
    return toStat(attr, attr.nlink + (this.#context.files.isHidden(ino) ? 1 : 0));
  }

  async #change(path: string, change: AttrChange): Promise<void> {
    await this.#context.at(path, (ino) => this.#context.operations.setattr(self, ino, undefined, change));
  }
}

export class NativeXattrs {
  readonly #context: NativeContext;

  constructor(context: NativeContext) {
    this.#context = context;
  }

  handlers(): Pick<NativeHandlers, 'setxattr' | 'getxattr' | 'listxattr' | 'removexattr'> {
    const { operations } = this.#context;
    return {
      setxattr: this.#context.handler(
        'setxattr',
        (_path, _name, value) => [value.buffer],
        async (_call, path, name, value, _position, flags) => {
          const attribute = attributeName(name, 'setxattr');
          await this.#context.at(path, (ino) =>
            operations.setxattr(self, ino, attribute, value, setxattrMode(flags)),
          );
          return { result: 0, payload: [value.buffer] };
        },
      ),
      getxattr: this.#context.handler(
        'getxattr',
        (_path, _name, into) => [into.buffer],
        async (_call, path, name, into) => {
          const attribute = attributeName(name, 'getxattr');
          const value = await this.#context.at(path, (ino) => operations.getxattr(self, ino, attribute));
          return { result: this.#context.ended ? 0 : giveXattr(into, value), payload: [into.buffer] };
        },
      ),
      listxattr: this.#context.handler(
        'listxattr',
        (_path, into) => [into.buffer],
        async (_call, path, into) => {
          const names = await this.#context.at(path, (ino) => operations.listxattr(self, ino));
          const list = Buffer.concat(names.flatMap((name) => [name, Buffer.alloc(1)]));
          return { result: this.#context.ended ? 0 : giveXattr(into, list), payload: [into.buffer] };
        },
      ),
      removexattr: this.#context.plain('removexattr', async (path, name) => {
        const attribute = attributeName(name, 'removexattr');
        await this.#context.at(path, (ino) => operations.removexattr(self, ino, attribute));
      }),
    };
  }
}

/** Both times. **Errors:** EOPNOTSUPP where the mtime cannot be found: a wrong one would be worse. */
function timesOf(call: NativeCall, atimeMs: bigint): AttrChange {
  const mtimeMs = mtimeOf(call, atimeMs);
  if (mtimeMs === undefined) throw new FsError('EOPNOTSUPP', 'utimens', { detail: 'the mtime is not known' });
  return { atime: fromMs(atimeMs), mtime: fromMs(mtimeMs) };
}

/**
 * An attribute's name. **Errors:** EOPNOTSUPP for ACLs: without FUSE_POSIX_ACL, which libfuse 2.9 does not ask
 * for, the kernel does not check them here, and to set what is not kept to would mislead.
 */
function attributeName(name: string, op: string): Uint8Array {
  if (name.startsWith('system.')) throw new FsError('EOPNOTSUPP', op);
  return toBytes(name);
}

function setxattrMode(flags: number): SetxattrMode {
  if ((flags & XATTR_CREATE) !== 0) return 'create';
  return (flags & XATTR_REPLACE) !== 0 ? 'replace' : 'any';
}

/** The length of `value`, which is copied unless only its length was asked for. **Errors:** ERANGE. */
function giveXattr(into: Buffer, value: Uint8Array): number {
  if (into.length === 0) return value.length;
  if (into.length < value.length) throw new FsError('ERANGE', 'xattr');
  into.set(value);
  return value.length;
}
