/**
 * The `kernel` driver: serves an `Operations` at a mountpoint by speaking the FUSE kernel protocol. Wires
 * the parts together: mount.ts gives the device, device-loop.ts reads it, session.ts answers, notify.ts
 * makes the kernel forget.
 *
 * Invariants: `ended` settles exactly once; whatever way a mount ends, the descriptor is closed (which makes
 * the kernel answer every waiting program with ENOTCONN) and every operation under way is told.
 *
 * It does not: touch the mount it serves, ever (see unmount.ts).
 */
import { close } from 'node:fs';
import { makeLog } from '../base/log.js';
import type { MountDriver, MountedDriver, MountOptions, Operations } from '../vfs/operations.js';
import { type DeviceLoop, ParkedLoop, SPIN_MS, WatchedLoop } from './device-loop.js';
import { canWatch } from './libc.js';
import { abortConnection, mountpointOf, type OpenedMount, openMount, raiseReadAhead } from './mount.js';
import { MountError } from './mount-error.js';
import { KernelNotifier } from './notify.js';
import { ReplyWriter } from './reply-writer.js';
import { Session } from './session.js';
import { unmountPath } from './unmount.js';

const log = makeLog('fuse');

/** The kernel sends INIT as soon as it has mounted. */
const INIT_TIMEOUT_MS = 10_000;

/** How the device is waited for; the default is what measured best (native-notes/fuse-kernel.md). */
export interface KernelDriverTuning {
  readonly loop: 'watched' | 'parked';
  /** Longest polling before sleeping; 0 for none. `watched` only. */
  readonly spinMs: number;
}

export const defaultTuning: KernelDriverTuning = { loop: canWatch ? 'watched' : 'parked', spinMs: SPIN_MS };

export const mountKernel: MountDriver = (operations, options) =>
  mountKernelTuned(operations, options, defaultTuning);

/** As mountKernel, with another way to wait; for measuring. **Errors:** MountError. */
export async function mountKernelTuned(
  operations: Operations,
  options: MountOptions,
  tuning: KernelDriverTuning,
): Promise<MountedDriver & { readonly notifier: KernelNotifier }> {
  const opened = await openMount(options);
  const mounted = new KernelMount(operations, options, tuning, opened);
  try {
    await mounted.start();
  } catch (error) {
    if (opened.mountpoint !== undefined)
      await unmountPath(opened.mountpoint, { force: true }).catch(() => {});
    throw error;
  }
  if (opened.mountpoint !== undefined) raiseReadAhead(opened.mountpoint);
  return mounted.handle();
}

class KernelMount {
  readonly #opened: OpenedMount;
  readonly #loop: DeviceLoop;
  readonly #replies: ReplyWriter;
  readonly #session: Session;
  readonly #ended: Promise<void>;
  readonly #ready: Promise<number>;
  #notifier: KernelNotifier | undefined;
  #hasEnded = false;
  #settleEnded: (error: Error | undefined) => void = () => {};
  #settleReady: (minor: number | Error) => void = () => {};

  constructor(
    operations: Operations,
    options: MountOptions,
    tuning: KernelDriverTuning,
    opened: OpenedMount,
  ) {
    this.#opened = opened;
    this.#ended = new Promise((resolve, reject) => {
      this.#settleEnded = (error) => (error === undefined ? resolve() : reject(error));
    });
    // Whoever cares awaits `ended`; until then a failure of the device must not count as unhandled.
    this.#ended.catch(() => {});
    this.#ready = new Promise((resolve, reject) => {
      this.#settleReady = (result) => (result instanceof Error ? reject(result) : resolve(result));
    });
    this.#replies = new ReplyWriter(opened.fd);
    this.#session = new Session({
      operations,
      port: this.#replies,
      debug: options.debug,
      isSync: options.kernelOptions.includes('sync'),
      events: { onReady: (minor) => this.#settleReady(minor), onBroken: (error) => this.#end(error) },
    });
    const loopOptions = {
      fd: opened.fd,
      serve: (frame: Buffer) => this.#session.serve(frame),
      onEnd: (error: Error | undefined) => this.#end(error),
    };
    this.#loop =
      tuning.loop === 'watched' ? new WatchedLoop(loopOptions, tuning.spinMs) : new ParkedLoop(loopOptions);
  }

  /** Resolves when the kernel has been answered INIT. */
  async start(): Promise<void> {
    const timer = setTimeout(() => {
      this.#end(new MountError('failed', 'the kernel did not begin the conversation (no INIT)'));
    }, INIT_TIMEOUT_MS);
    try {
      this.#loop.start();
      this.#notifier = new KernelNotifier(this.#opened.fd, await this.#ready);
    } catch (error) {
      this.#end(error instanceof Error ? error : new Error(String(error)));
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  handle(): MountedDriver & { readonly notifier: KernelNotifier } {
    const notifier = this.#notifier;
    if (notifier === undefined) throw new MountError('failed', 'the mount ended while it began');
    return { ended: this.#ended, notifier, unmount: (options) => this.#unmount(options) };
  }

  async #unmount(options: { force: boolean }): Promise<void> {
    const mountpoint = this.#opened.mountpoint ?? mountpointOf(this.#opened.fd);
    if (mountpoint === undefined) {
      throw new MountError('notMounted', 'the mount was handed over as a descriptor: unmount it by its path');
    }
    await unmountPath(mountpoint, options);
  }

  /** The kernel has ended the mount, or nothing more can be said to it. Idempotent. */
  #end(error: Error | undefined): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    if (error !== undefined) {
      log.error('the mount ended', { mountpoint: this.#opened.mountpoint, error });
      abortConnection(this.#opened.mountpoint);
    }
    this.#loop.stop();
    this.#replies.close();
    this.#session.abandon();
    this.#settleReady(error ?? new MountError('failed', 'unmounted before it was ready'));
    void this.#close(error);
  }

  /** Closes the descriptor when nothing uses its number any more, and then says that the mount has ended. */
  async #close(error: Error | undefined): Promise<void> {
    await this.#notifier?.close();
    // Libuv lets go of a descriptor that it watched at the end of this turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
    close(this.#opened.fd, (problem) => {
      if (problem !== null) log.error('closing the FUSE device failed', { error: problem });
      this.#settleEnded(error);
    });
  }
}
