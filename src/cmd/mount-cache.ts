/**
 * The directory that a mount keeps its cache, its log and its lock in: one per mountpoint, so that a daemon
 * that comes back finds what it left, and two never share one.
 */
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { CommandError, lineOf } from './command-error.js';
import { DirectoryLock, LockHeld } from './directory-lock.js';

const LOCK_NAME = 'mount.lock';

/** Where the mount of `mountpoint` (resolved) keeps its things unless told otherwise. */
export function defaultCacheDir(
  mountpoint: string,
  options: { asRoot: boolean; environment: NodeJS.ProcessEnv },
): string {
  const fromEnvironment = options.environment.XDG_CACHE_HOME ?? '';
  const userCache = fromEnvironment.startsWith('/') ? fromEnvironment : join(homedir(), '.cache');
  const base = options.asRoot ? '/var/cache/leasefs' : join(userCache, 'leasefs');
  const digest = createHash('sha256').update(mountpoint).digest('hex').slice(0, 12);
  const readable = basename(mountpoint)
    .replace(/[^\w.-]/g, '_')
    .slice(0, 40);
  return join(base, `${readable === '' ? 'root' : readable}-${digest}`);
}

export class MountCache {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Makes the directory if need be. Errors: CommandError when it may not. */
  static open(path: string): MountCache {
    const absolute = resolve(path);
    try {
      mkdirSync(absolute, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw new CommandError(
        `the cache directory ${absolute} cannot be made (${lineOf(error)}); choose another with --cache`,
      );
    }
    return new MountCache(absolute);
  }

  get logPath(): string {
    return join(this.path, 'mount.log');
  }

  /** Takes it for this process. Errors: CommandError when another mount has it. */
  lock(): DirectoryLock {
    try {
      return DirectoryLock.acquire(this.path, LOCK_NAME);
    } catch (error) {
      if (!(error instanceof LockHeld)) throw error;
      throw new CommandError(
        `the cache directory ${this.path} is in use by another mount (process ${error.holder.pid}); choose another with --cache`,
      );
    }
  }
}
