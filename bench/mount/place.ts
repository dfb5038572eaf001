/** Where a workload works and what it is, and the pieces of work that several share. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export interface Place {
  readonly base: string;
  /** The same place seen by a mount that has read and written nothing yet, if there is one. */
  readonly other: string;
  /** The same place seen by a mount that was made after what a workload's `older` makes there. */
  readonly again: string;
  /** On the host's own filesystem: archives and what else is the same for all. */
  readonly local: string;
}

export interface Workload {
  readonly name: string;
  /** What is counted. */
  readonly unit: string;
  /** For every run, before the mount at `again` is made anew: what is there already. */
  readonly older?: (place: Place, run: number) => void;
  /** Once, before the first run. */
  readonly prepare?: (place: Place) => void;
  /** Before every run. */
  readonly before?: (place: Place, run: number) => void;
  /** Timed; how many units it did. */
  readonly run: (place: Place, run: number) => number;
}

export const FILE_COUNT = 1_000;
export const block = Buffer.alloc(4 * 1024, 0x5a);
export const names = Array.from({ length: FILE_COUNT }, (_, index) => `file-${index}`);

/** Of this machine's kernel; a mount that keeps a descriptor for each file it is asked about closes most. */
export function dropCaches(): void {
  spawnSync('sync');
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '3');
  } catch {
    // Not root: the kernel's caches stay, and "first" means the mount's own.
  }
}

export function program(command: string, args: readonly string[], cwd: string): void {
  const { status, stderr } = spawnSync(command, args, {
    cwd,
    encoding: 'utf8',
    env: {
      ...process.env,
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_AUTHOR_NAME: 'bench',
      GIT_AUTHOR_EMAIL: 'bench@example.org',
      GIT_COMMITTER_NAME: 'bench',
      GIT_COMMITTER_EMAIL: 'bench@example.org',
    },
  });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
}

export function writeFiles(directory: string): void {
  for (const name of names) {
    const fd = openSync(join(directory, name), 'w');
    writeSync(fd, block);
    closeSync(fd);
  }
}

export function createFiles(directory: string): void {
  mkdirSync(directory);
  writeFiles(directory);
}

/** Unpacks the archive of `count` files (workloads.ts, makeArchive) into a new directory. */
export function untar(archives: string, count: number, directory: string): void {
  mkdirSync(directory);
  program('tar', ['-xf', join(archives, `tree-${count}.tar`)], directory);
}
