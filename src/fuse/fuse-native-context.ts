/**
 * What every handler of the fuse-native driver needs: the operations, the walk from paths to inodes, the
 * files that are open, and the way to answer.
 *
 * Invariants: every call is answered exactly once while the mount lives and not at all afterwards; an
 * exception never leaves a handler. Callers' ids are unknown: everything is done as this process's user.
 */
import { makeLog } from '../base/log.js';
import { Errno, FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import type { Operations, Request } from '../vfs/operations.js';
import type {
  NativeArgs,
  NativeBinding,
  NativeCall,
  NativeHandler,
  NativeName,
  NativePayload,
} from './fuse-native-binding.js';
import { type NativeFile, NativeFiles } from './fuse-native-files.js';
import { PathWalker, UnknownBytes } from './fuse-native-paths.js';

const log = makeLog('fuse-native');

/** On behalf of the daemon's own user; nobody can interrupt it. */
export const self: Request = {
  uid: process.geteuid?.() ?? 0,
  gid: process.getegid?.() ?? 0,
  pid: 0,
  interrupted: false,
  onInterrupt: () => () => {},
};

/** What a handler's body makes of a call that succeeds. */
export interface NativeAnswer<Name extends NativeName> {
  readonly result: number;
  readonly payload: NativePayload<Name>;
}

/** The operations that give nothing but success. */
type PlainName = { [Name in NativeName]: NativePayload<Name> extends [] ? Name : never }[NativeName];

export class NativeContext {
  readonly operations: Operations;
  readonly walker: PathWalker;
  readonly files = new NativeFiles();
  /** Mounted with -o sync: every write is durable when it returns. */
  readonly syncWrites: boolean;
  readonly #binding: NativeBinding;
  readonly #debug: boolean;
  #ended = false;

  constructor(options: {
    operations: Operations;
    binding: NativeBinding;
    syncWrites: boolean;
    debug: boolean;
  }) {
    this.operations = options.operations;
    this.walker = new PathWalker(options.operations, self);
    this.syncWrites = options.syncWrites;
    this.#binding = options.binding;
    this.#debug = options.debug;
  }

  /** Whether the mount is gone: buffers of calls under way must not be touched any more. */
  get ended(): boolean {
    return this.#ended;
  }

  end(): void {
    this.#ended = true;
  }

  /** A handler that runs `body` and answers; `failed` gives the payload that goes with an errno. */
  handler<Name extends NativeName>(
    name: Name,
    failed: (...args: NativeArgs<Name>) => NativePayload<Name>,
    body: (call: NativeCall, ...args: NativeArgs<Name>) => Promise<NativeAnswer<Name>>,
  ): NativeHandler<Name> {
    const answer = this.#binding.answerer(name);
    const run = async (call: NativeCall, args: NativeArgs<Name>): Promise<void> => {
      const outcome = await body(call, ...args).catch((error: unknown) => ({
        result: -errnoOf(error, name),
        payload: failed(...args),
      }));
      if (this.#debug) log.debug(name, { path: args[0], result: outcome.result });
      if (!this.#ended) answer(call, outcome.result, outcome.payload);
    };
    return (call, ...args) => void run(call, args);
  }

  /** A handler of an operation that gives nothing but success. */
  plain<Name extends PlainName>(
    name: Name,
    body: (...args: NativeArgs<Name>) => unknown,
  ): NativeHandler<Name> {
    const answer = this.#binding.answerer<PlainName>(name);
    const run = async (call: NativeCall, args: NativeArgs<Name>): Promise<void> => {
      let result = 0;
      try {
        await body(...args);
      } catch (error) {
        result = -errnoOf(error, name);
      }
      if (this.#debug) log.debug(name, { path: args[0], result });
      if (!this.#ended) answer(call, result, []);
    };
    return (call, ...args) => void run(call, args);
  }

  /** Runs `body` with the inode that `path` leads to, which may be one that has lost its name. */
  async at<T>(path: string, body: (ino: Ino) => T | Promise<T>): Promise<T> {
    const hidden = this.files.hiddenAt(path);
    return hidden === undefined ? await this.walker.at(path, body) : await body(hidden);
  }

  file(fd: number, op: string): NativeFile {
    const file = this.files.get(fd);
    if (file === undefined) throw new FsError('EBADF', op, { detail: `descriptor ${fd}` });
    return file;
  }
}

function errnoOf(error: unknown, op: NativeName): number {
  if (error instanceof FsError || error instanceof UnknownBytes) return error.errno;
  log.error(`${op} failed in a way that no program can be told`, { error });
  return Errno.EIO;
}
