/**
 * What a POSIX check is: a function over an empty directory of its own that throws when the filesystem there
 * does not do what Linux's local filesystems do. Checks know no framework and no filesystem; they run first
 * on the host's own (the oracle), then on a mount.
 *
 * Every wait inside a check is bounded (children.ts, `tick`); whoever runs checks bounds the check itself.
 */
import assert from 'node:assert/strict';

/** What the machine and the user can do. */
export interface Host {
  /** We are root: other users and device nodes can be had. */
  readonly root: boolean;
  /** An ordinary user that is not us; only when `root`. */
  readonly other: UserIds;
}

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
}

export type Check = (dir: string, host: Host) => Promise<void> | void;
/** By name: a sentence that says what holds. */
export type Checks = Readonly<Record<string, Check>>;

/** Thrown by a check that cannot run here; the message says why. */
export class Skip extends Error {
  override name = 'Skip';
}

export function needsRoot(host: Host): void {
  if (!host.root) throw new Skip('needs root');
}

/** The errno that an action fails with, `ok` when it does not. Other exceptions pass. */
export function outcome(action: () => unknown): string {
  try {
    action();
    return 'ok';
  } catch (error) {
    return codeOf(error);
  }
}

/** Asserts that an action fails with this errno. */
export function fails(code: string, action: () => unknown, what?: string): void {
  assert.equal(outcome(action), code, what ?? `expected ${code} of ${String(action).slice(0, 120)}`);
}

/** The errno of a system call's error; anything else is thrown on. */
export function codeOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  throw error;
}

/** Long enough for two timestamps to differ on any filesystem with a kernel tick's granularity. */
export function tick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 25));
}
