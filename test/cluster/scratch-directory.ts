/**
 * A test's own directory under the system's temporary one, and what must be gone before it can be removed:
 * processes and mounts. Whatever way the test process ends (its last test, an exception, a signal), they are
 * ended with it: processes by their ids, mounts lazily and without asking them anything.
 *
 * INVARIANT: nothing that was registered here outlives the test process, unless that is killed by SIGKILL.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseMountinfo } from '../../src/fuse/mount-table.js';

const UNMOUNT_TIMEOUT_MS = 5_000;
const REMOVE_TRIES = 5;

const alive = new Set<ScratchDirectory>();

function endAll(): void {
  for (const scratch of alive) scratch.end();
}
process.once('exit', endAll);
// SIGALRM is how tap ends a file that takes too long.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGALRM'] as const)
  process.once(signal, () => process.exit(1));

export class ScratchDirectory {
  readonly path: string;
  readonly #pids = new Set<number>();

  constructor(name: string) {
    this.path = mkdtempSync(join(tmpdir(), `leasefs-${name}-`));
    // Ordinary users' mounts lie in it as well.
    chmodSync(this.path, 0o755);
    alive.add(this);
  }

  /** A new directory in it. */
  directory(name: string): string {
    const path = join(this.path, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** A process that must not outlive the test. */
  addProcess(pid: number): void {
    this.#pids.add(pid);
  }

  /** That process has ended: its id may soon be another's. */
  removeProcess(pid: number): void {
    this.#pids.delete(pid);
  }

  /** Ends the processes, takes away the mounts, removes the directory. Idempotent. */
  end(): void {
    if (!alive.delete(this)) return;
    this.#unmountAll();
    for (const pid of this.#pids) killNow(pid);
    this.#pids.clear();
    this.#unmountAll();
    for (let tries = 1; ; tries++) {
      try {
        rmSync(this.path, { recursive: true, force: true });
        return;
      } catch (error) {
        // A process that was killed may still have been writing.
        if (tries === REMOVE_TRIES) throw error;
        spawnSync('sleep', ['0.2']);
      }
    }
  }

  #unmountAll(): void {
    const mounts = parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
    for (const { mountpoint, device } of mounts.reverse()) {
      if (!mountpoint.startsWith(`${this.path}/`)) continue;
      abortConnection(device);
      const [program, args] =
        process.geteuid?.() === 0 ? ['umount', ['-i', '-c', '-l']] : ['fusermount3', ['-u', '-z']];
      spawnSync(program, [...args, '--', mountpoint], { timeout: UNMOUNT_TIMEOUT_MS, stdio: 'ignore' });
    }
  }
}

/** Ends what waits for a FUSE daemon that is stopped or gone. */
function abortConnection(device: string): void {
  const minor = device.split(':')[1];
  try {
    writeFileSync(`/sys/fs/fuse/connections/${minor}/abort`, '1');
  } catch {
    // Not a FUSE mount, gone already, or not ours to abort: the lazy unmount does the rest.
  }
}

function killNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
