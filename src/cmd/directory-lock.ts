/**
 * One process at a time over a directory: a lock file that names its holder. A file whose holder is dead
 * counts for nothing, so `kill -9` and power cuts leave no lock behind.
 *
 * The file appears under its name complete (link(2) of a finished file), and a dead one is first renamed
 * away: of two processes that find the same dead lock only one gets it, and neither removes a living one.
 */
import { linkSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { present } from '../base/assert.js';
import { CommandError, systemCode } from './command-error.js';
import { identifyProcess, isAlive, type ProcessIdentity } from './process-identity.js';

const ATTEMPTS = 10;

export class DirectoryLock {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Takes the lock `name` of `dir`. Throws LockHeld when a living process has it. */
  static acquire(dir: string, name: string): DirectoryLock {
    const path = join(dir, name);
    const mine = `${path}.${process.pid}`;
    const self = present(identifyProcess(process.pid), 'this process exists');
    writeFileSync(mine, `${JSON.stringify(self)}\n`);
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
        if (tryLink(mine, path)) return new DirectoryLock(path);
        const holder = readHolder(path);
        if (holder !== undefined && isAlive(holder)) throw new LockHeld(dir, holder);
        removeDead(path, mine);
      }
      throw new CommandError(`${path} keeps changing hands; try again`);
    } finally {
      unlinkSync(mine);
    }
  }

  /** The living process that holds the lock, if any. */
  static holder(dir: string, name: string): ProcessIdentity | undefined {
    const holder = readHolder(join(dir, name));
    return holder !== undefined && isAlive(holder) ? holder : undefined;
  }

  release(): void {
    removeIfThere(this.#path);
  }
}

export class LockHeld extends CommandError {
  override name = 'LockHeld';
  readonly holder: ProcessIdentity;

  constructor(dir: string, holder: ProcessIdentity) {
    super(`${dir} is in use by process ${holder.pid}`);
    this.holder = holder;
  }
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/** What the file says; undefined when it is gone or damaged (a power cut can leave it empty). */
function readHolder(path: string): ProcessIdentity | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (typeof value !== 'object' || value === null || !('pid' in value) || !('start' in value))
      return undefined;
    return typeof value.pid === 'number' && typeof value.start === 'string'
      ? { pid: value.pid, start: value.start }
      : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function removeDead(path: string, mine: string): void {
  const aside = `${mine}.dead`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw error;
  }
  const moved = readHolder(aside);
  // Somebody was quicker, and this is their living lock: put it back.
  if (moved !== undefined && isAlive(moved)) tryLink(aside, path);
  unlinkSync(aside);
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}
