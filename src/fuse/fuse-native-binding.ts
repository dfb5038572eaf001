/**
 * The C side of the npm package fuse-native 2.2.6 (libfuse 2.9), typed: the one file that loads it, and only
 * when asked to. The package's own JavaScript is passed over: it answers fgetattr by path instead of by
 * descriptor, cannot say ERANGE, answers with ETIMEDOUT behind the back of an operation that goes on, and
 * takes a fixed list of mount options.
 *
 * How the C side works: a thread of libfuse that has a request fills a structure (its `NativeCall`), wakes
 * the event loop, and sleeps on a semaphore until `signal` for that structure. The loop hands the structure
 * and the arguments to the operation's handler.
 *
 * Invariants: every call is signalled exactly once, and never after the mount has ended (the stack that the
 * structure points into is gone by then). `signal` detaches the buffer of a read, write or xattr call.
 *
 * **Source:** fuse-native.c of the package; native-notes/fuse-native.md, "The C side".
 */
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { assert } from '../base/assert.js';
import { MountError } from './mount-error.js';

/** What libfuse asks, and for each the arguments that the C side hands over and the payload it takes back. */
export interface NativeOperations {
  init: { args: []; payload: [] };
  access: { args: [path: string, mask: number]; payload: [] };
  statfs: { args: [path: string]; payload: [figures: Uint32Array] };
  fgetattr: { args: [path: string, fd: number]; payload: [stat: Uint32Array] };
  getattr: { args: [path: string]; payload: [stat: Uint32Array] };
  flush: { args: [path: string, fd: number]; payload: [] };
  fsync: { args: [path: string, dataOnly: number, fd: number]; payload: [] };
  fsyncdir: { args: [path: string, dataOnly: number, fd: number]; payload: [] };
  readdir: { args: [path: string]; payload: [names: string[], stats: Uint32Array[]] };
  truncate: { args: [path: string, sizeLow: number, sizeHigh: number]; payload: [] };
  ftruncate: { args: [path: string, fd: number, sizeLow: number, sizeHigh: number]; payload: [] };
  /** The atime is handed over twice; `mtimeOf` finds the mtime. */
  utimens: { args: [path: string, atimeLow: number, atimeHigh: number]; payload: [] };
  readlink: { args: [path: string]; payload: [target: string] };
  chown: { args: [path: string, uid: number, gid: number]; payload: [] };
  chmod: { args: [path: string, mode: number]; payload: [] };
  mknod: { args: [path: string, mode: number, rdev: number]; payload: [] };
  setxattr: {
    args: [path: string, name: string, value: Buffer, position: number, flags: number];
    payload: [value: ArrayBufferLike];
  };
  getxattr: { args: [path: string, name: string, into: Buffer]; payload: [into: ArrayBufferLike] };
  listxattr: { args: [path: string, into: Buffer]; payload: [into: ArrayBufferLike] };
  removexattr: { args: [path: string, name: string]; payload: [] };
  open: { args: [path: string, flags: number]; payload: [fd: number] };
  read: {
    args: [path: string, fd: number, into: Buffer, length: number, offsetLow: number, offsetHigh: number];
    payload: [unused: number, into: ArrayBufferLike];
  };
  write: {
    args: [path: string, fd: number, data: Buffer, length: number, offsetLow: number, offsetHigh: number];
    payload: [unused: number, data: ArrayBufferLike];
  };
  release: { args: [path: string, fd: number]; payload: [] };
  create: { args: [path: string, mode: number]; payload: [fd: number] };
  unlink: { args: [path: string]; payload: [] };
  rename: { args: [path: string, destination: string]; payload: [] };
  link: { args: [path: string, destination: string]; payload: [] };
  symlink: { args: [target: string, path: string]; payload: [] };
  mkdir: { args: [path: string, mode: number]; payload: [] };
  rmdir: { args: [path: string]; payload: [] };
}

export type NativeName = keyof NativeOperations;
export type NativeArgs<Name extends NativeName> = NativeOperations[Name]['args'];
export type NativePayload<Name extends NativeName> = NativeOperations[Name]['payload'];

/** The structure of the thread that waits: fuse_thread_locals_t. */
export type NativeCall = Buffer;

/** `call` also carries what the arguments leave out. */
export type NativeHandler<Name extends NativeName> = (call: NativeCall, ...args: NativeArgs<Name>) => void;
export type NativeHandlers = { [Name in NativeName]: NativeHandler<Name> };

export interface NativeMount {
  /** Lets the process end; the mount itself ends by unmounting it. */
  release(): void;
}

/** The C strings that mountpoint and options are copied into, terminating NUL included. */
const STRING_BYTES = 1024;
const OPCODE_SLOTS = 35;

type Foreign = (...args: unknown[]) => unknown;

export class NativeBinding {
  readonly #exports: Readonly<Record<string, unknown>>;
  /** Structures that C threads use until the process ends: never collected. */
  readonly #pinned: unknown[] = [];

  constructor(exports: Readonly<Record<string, unknown>>) {
    this.#exports = exports;
  }

  #function(name: string): Foreign {
    const value = this.#exports[name];
    if (typeof value !== 'function') throw notInstalled(`it has no ${name}`);
    return (...args) => Reflect.apply(value, undefined, args);
  }

  #number(name: string): number {
    const value = this.#exports[name];
    if (typeof value !== 'number') throw notInstalled(`it has no ${name}`);
    return value;
  }

  /** The way to answer calls of `name`: `result` is >= 0 or minus an errno. */
  answerer<Name extends NativeName>(
    name: Name,
  ): (call: NativeCall, result: number, payload: NativePayload<Name>) => void {
    const signal = this.#function(`fuse_native_signal_${name}`);
    return (call, result, payload) => void signal(call, result, ...payload);
  }

  /**
   * Mounts and starts libfuse's threads. Waits for fusermount, if that is needed. **Errors:** MountError;
   * what libfuse has to say stands on standard error.
   */
  mount(mountpoint: string, options: readonly string[], handlers: NativeHandlers): NativeMount {
    const optionArgument = `-o${options.join(',')}`;
    for (const text of [mountpoint, optionArgument]) {
      if (Buffer.byteLength(text) >= STRING_BYTES)
        throw new MountError('badOption', `too long for the fuse-native driver: ${text.slice(0, 80)}...`);
    }
    const thread = Buffer.alloc(this.#number('sizeof_fuse_thread_t'));
    const allocate = (length: number): Buffer => Buffer.alloc(length);
    const slots: Foreign[] = Array.from({ length: OPCODE_SLOTS }, () => () => undefined);
    const implemented = new Uint32Array(OPCODE_SLOTS);
    for (const [name, handler] of Object.entries(handlers)) {
      const opcode = this.#number(`op_${name}`);
      // The C side calls with (call, opcode, ...arguments).
      slots[opcode] = (call, _opcode, ...args) => Reflect.apply(handler, undefined, [call, ...args]);
      implemented[opcode] = 1;
    }
    this.#pinned.push([thread, slots, allocate]);
    this.#function('fuse_native_mount')(mountpoint, optionArgument, thread, {}, allocate, slots, implemented);
    const unmount = this.#function('fuse_native_unmount');
    return { release: () => void unmount(mountpoint, thread) };
  }
}

function notInstalled(detail: string, cause?: unknown): MountError {
  return new MountError('failed', `the driver fuse-native cannot be loaded: ${detail}`, { cause });
}

/** Loads the package. **Errors:** MountError that says what to install. */
export function loadNativeBinding(): NativeBinding {
  const require = createRequire(import.meta.url);
  let directory: string;
  try {
    directory = dirname(require.resolve('fuse-native/package.json'));
  } catch (cause) {
    throw notInstalled('the npm package is missing; install it with: npm install fuse-native@2.2.6', cause);
  }
  let loaded: unknown;
  try {
    const load: unknown = createRequire(`${directory}/`)('node-gyp-build');
    assert(typeof load === 'function', 'node-gyp-build is a function');
    loaded = Reflect.apply(load, undefined, [directory]);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    if (/libfuse/.test(message))
      throw notInstalled(
        'libfuse.so.2 is missing; install it with: apt-get install libfuse2 (libfuse2t64 from Ubuntu 24.04 on)',
        cause,
      );
    throw notInstalled(message.split('\n')[0] ?? message, cause);
  }
  if (!isRecord(loaded)) throw notInstalled('it exports nothing');
  return new NativeBinding(loaded);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

/** fuse_thread_locals_t on a 64-bit Linux: where the operation's number, atime and mtime stand. */
const CALL = { opcode: 8, atime: 104, mtime: 112, bytes: 120 } as const;
const UTIMENS_OPCODE = 12;

/**
 * The mtime of a utimens call in milliseconds since 1970, which the C side keeps in the call's structure and
 * forgets to hand over. undefined where the structure is not laid out as expected: that is checked against
 * the opcode and the atime that was handed over.
 */
export function mtimeOf(call: NativeCall, atimeMs: bigint): bigint | undefined {
  if (process.platform !== 'linux' || call.length < CALL.bytes) return undefined;
  if (call.readUInt32LE(CALL.opcode) !== UTIMENS_OPCODE) return undefined;
  if (call.readBigInt64LE(CALL.atime) !== atimeMs) return undefined;
  return call.readBigInt64LE(CALL.mtime);
}
