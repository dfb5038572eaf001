/**
 * Which files the server knows this mount to have open, so that an unlinked file lives until its last close
 * here. Under a lease it need not know yet (`mayBeUnknown`). The server is told once per file, whatever the
 * number of handles, and of last closes together and a little later: a file that is opened again meanwhile was
 * never closed for it.
 *
 * INVARIANT: no release is on its way while an open of the same file is; none is sent while a removal is under
 * way that may turn out to hold the file (`removing`), so that the server never carries it out after that. When a session was lost, all marks
 * went with it: every file that is open here is opened again at once, or, when that fails, when it is used.
 */
import { makeLog } from '../base/log.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { boundedWait } from '../client/bounded-wait.js';
import type { Filesystem } from '../client/filesystem.js';
import type { Attr } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { FileState } from './file-state.js';
import type { Request } from './operations.js';

const log = makeLog('vfs');

export class OpenInodes {
  readonly #fs: Filesystem;
  readonly #defers: boolean;
  readonly #closed = new Set<FileState>();
  readonly #releasing = new Map<Ino, Promise<void>>();
  /** Releases sent so far. */
  #sent = 0;
  #scheduled = false;
  /** Removals of names that are not answered. */
  readonly #removals = new Set<Promise<unknown>>();
  #isStopped = false;
  /** Set while a release waits for removals: further ones wait until it is sent. */
  #gate: Promise<void> | undefined;

  /** `defers`: what this mount itself removes is held for those that have it open (KernelReferences). */
  constructor(fs: Filesystem, { defers }: { defers: boolean }) {
    this.#fs = fs;
    this.#defers = defers;
  }

  get sent(): number {
    return this.#sent;
  }

  /**
   * Whether a file may be open here without the server's knowledge: whoever takes its last name asks for this
   * mount's lease first, and it tells the server before it gives that back.
   */
  mayBeUnknown(state: FileState): boolean {
    return this.#defers && this.#fs.leases.heldForMs(state.ino) > 0;
  }

  /** It is open here, and the server does not know. */
  isUnknown(state: FileState): boolean {
    return state.opens + state.opening > 0 && !this.isMarked(state);
  }

  isMarked(state: FileState): boolean {
    return state.markedIn === this.#fs.generation;
  }

  /** Tells the server that the file is open, and empties it when `truncate`. **Errors:** as `open`; ESTALE. */
  async mark(
    state: FileState,
    options: { truncate: boolean; request?: Request | undefined; duringRecovery?: boolean },
  ): Promise<Attr> {
    state.opening++;
    try {
      const { truncate, request, duringRecovery = false } = options;
      await this.#released(state.ino, request);
      const generation = this.#fs.generation;
      const onLate = (): void => this.#late(state, generation);
      const args = { ino: state.ino, truncate };
      const attr = await this.#fs.call('open', args, { request, onLate, duringRecovery });
      state.markedIn = generation;
      return attr;
    } finally {
      state.opening--;
    }
  }

  /** A release that is on its way must not pass the open that follows it. */
  async #released(ino: Ino, request: Request | undefined): Promise<void> {
    const releasing = this.#releasing.get(ino);
    if (releasing === undefined) return;
    const { clock, timeoutMs } = this.#fs;
    await boundedWait({ clock, timeoutMs, request, op: 'open' }, (done) => {
      void releasing.then(() => done());
      return () => {};
    });
  }

  /**
   * Makes sure that the server knows the file as open, as it did before the session was lost. **Errors:** EIO when
   * it is gone: what is open is promised to stay.
   */
  async remark(state: FileState, request: Request | undefined): Promise<void> {
    if (state.lost !== undefined) throw state.lost;
    if (this.isMarked(state)) return;
    try {
      // It has to be known as open as soon as can be.
      const attr = await this.mark(state, { truncate: false, request, duringRecovery: true });
      state.learn(attr, this.#fs.connections);
    } catch (error) {
      if (!(error instanceof FsError) || error.code !== 'ENOENT') throw error;
      const detail = 'its last name was removed, and the server did not know that it is open';
      state.lost = new FsError('EIO', 'open', { cause: error, detail });
      throw state.lost;
    }
  }

  /** The server no longer knows anything of this mount as open: says it again for what is. Never fails. */
  remarkAll(states: Iterable<FileState>): void {
    for (const state of states) {
      if (state.opens === 0) continue;
      this.remark(state, undefined).catch((error: unknown) => {
        log.warn('an open file is lost with the session', { ino: state.ino, error: String(error) });
      });
    }
  }

  /** What this mount has done to the file by itself was refused: whether it is open may be part of that. */
  doubt(state: FileState): void {
    if (state.opens === 0) return;
    state.markedIn = undefined;
    this.remarkAll([state]);
  }

  /** An open or create came through after its caller had given up. */
  #late(state: FileState, generation: number): void {
    state.markedIn = generation;
    if (state.opens === 0) this.close(state);
  }

  /** The last handle of the file is gone. */
  close(state: FileState): void {
    state.trim();
    if (state.markedIn === undefined) return;
    this.#closed.add(state);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#fs.clock.after(limits.releaseDelayMs, () => void this.#releaseInOrder());
  }

  /** The mount ends: with its session the server lets go of everything, and nothing new is to enter the journal. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Runs a call that may leave the session holding an inode, in order with releases. */
  removing<T>(call: () => MaybePromise<T>): MaybePromise<T> {
    if (this.#gate !== undefined) return this.#gate.then(() => this.removing(call));
    const removal = call();
    if (!(removal instanceof Promise)) return removal;
    this.#removals.add(removal);
    return removal.finally(() => this.#removals.delete(removal));
  }

  /** Waits for removals under way, not longer than a release waits for company, and sends what waits. */
  async #releaseInOrder(): Promise<void> {
    let open = (): void => {};
    if (this.#removals.size > 0) {
      this.#gate = new Promise((resolve) => {
        open = resolve;
      });
      const late = new Promise<void>((resolve) => this.#fs.clock.after(limits.releaseDelayMs, resolve));
      await Promise.race([Promise.allSettled(this.#removals), late]);
    }
    this.#scheduled = false;
    if (!this.#isStopped) void this.release();
    this.#gate = undefined;
    open();
  }

  /** Sends what waits; never fails. */
  async release(): Promise<void> {
    const states = [...this.#closed].filter(
      (state) => state.opens === 0 && state.opening === 0 && !state.isHeld,
    );
    this.#closed.clear();
    const generation = this.#fs.generation;
    const batches: Promise<void>[] = [];
    for (let first = 0; first < states.length; first += limits.filesPerCommit) {
      const batch = states.slice(first, first + limits.filesPerCommit);
      const marked = batch.filter((state) => state.markedIn === generation);
      for (const state of batch) state.markedIn = undefined;
      if (marked.length > 0) batches.push(this.#sendRelease(marked.map((state) => state.ino)));
    }
    await Promise.all(batches);
  }

  async #sendRelease(inos: Ino[]): Promise<void> {
    this.#sent++;
    const call = async (): Promise<unknown> =>
      await this.#fs.call('release', { inos }, { timeoutMs: Number.POSITIVE_INFINITY });
    const sending = call().then(
      () => {},
      // The session is over or the mount closing: the server lets go of everything then.
      (error: unknown) =>
        log.info('a release was not answered', { count: inos.length, error: String(error) }),
    );
    for (const ino of inos) this.#releasing.set(ino, sending);
    await sending;
    for (const ino of inos) if (this.#releasing.get(ino) === sending) this.#releasing.delete(ino);
  }
}
