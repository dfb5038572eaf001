/**
 * The directory on which `leasefs up` keeps a cluster: `meta/`, `chunk-1/` ... `chunk-N/`, `cache/` (the
 * mount's), `logs/`, `cluster.json`, and `up.lock` while it is in use. Nothing else is read or written.
 */
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { CLUSTER_FILE_NAME, readClusterFile, writeClusterFile } from './cluster-file.js';
import { CommandError, lineOf, systemCode } from './command-error.js';
import { DirectoryLock, LockHeld } from './directory-lock.js';
import type { ProcessIdentity } from './process-identity.js';

const LOCK_NAME = 'up.lock';

export class ClusterDirectory {
  readonly path: string;

  /** `path`: absolute; nothing is touched yet. */
  constructor(path: string) {
    this.path = path;
  }

  get metaDir(): string {
    return join(this.path, 'meta');
  }

  get cacheDir(): string {
    return join(this.path, 'cache');
  }

  /** Of chunk server `number`, from 1. */
  chunkDir(number: number): string {
    return join(this.path, `chunk-${number}`);
  }

  logPath(name: string): string {
    return join(this.path, 'logs', `${name}.log`);
  }

  /** Whether a cluster has been here. Errors: CommandError when the directory is somebody else's. */
  check(): 'new' | 'cluster' {
    let names: string[];
    try {
      names = readdirSync(this.path);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return 'new';
      throw new CommandError(`the data directory ${this.path} cannot be used (${lineOf(error)})`);
    }
    if (names.includes(CLUSTER_FILE_NAME)) {
      readClusterFile(this.path);
      return 'cluster';
    }
    if (names.some((name) => !name.startsWith(LOCK_NAME)))
      throw new CommandError(
        `${this.path} is not empty and holds no leasefs cluster; choose another directory with --data`,
      );
    return 'new';
  }

  /** Makes what is missing. Errors: CommandError when it may not. */
  prepare(): void {
    try {
      mkdirSync(this.path, { recursive: true, mode: 0o700 });
      for (const dir of [this.cacheDir, join(this.path, 'logs')])
        mkdirSync(dir, { recursive: true, mode: 0o700 });
      // From now on the directory is known for what it is, however its first start ends.
      if (readClusterFile(this.path) === undefined)
        writeClusterFile(this.path, { metaUrl: '', mountpoint: '', processes: [], ports: [] });
    } catch (error) {
      throw new CommandError(`the data directory ${this.path} cannot be made (${lineOf(error)})`);
    }
  }

  /** Takes it for this process. Errors: CommandError when another `leasefs up` has it. */
  lock(): DirectoryLock {
    try {
      return DirectoryLock.acquire(this.path, LOCK_NAME);
    } catch (error) {
      if (!(error instanceof LockHeld)) throw error;
      throw new CommandError(
        `${this.path} is in use by another 'leasefs up' (process ${error.holder.pid}); stop it with: leasefs down --data ${this.path}`,
      );
    }
  }

  /** The `leasefs up` that has it now, if any. */
  lockHolder(): ProcessIdentity | undefined {
    return DirectoryLock.holder(this.path, LOCK_NAME);
  }

  /** How many chunk servers have a directory here; they are numbered without a gap. */
  countChunkDirs(): number {
    let count = 0;
    while (existsSync(this.chunkDir(count + 1))) count += 1;
    return count;
  }
}
