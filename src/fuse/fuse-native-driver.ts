/**
 * The `fuse-native` driver: serves an `Operations` at a mountpoint through the npm package of that name and
 * libfuse 2. The portable driver, with the limits of its C side: native-notes/fuse-native.md lists each.
 *
 * Invariants: the kernel caches neither names nor attributes nor data (no notification could take them
 * back); `ended` settles exactly once.
 *
 * It does not: know callers' ids, locks between mounts, rename flags, interrupts; touch the mount it serves.
 *
 * **Source:** fuse(8) of libfuse 2; libfuse 2.9.9 lib/mount.c, lib/fuse.c.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { makeLog } from '../base/log.js';
import type { MountDriver, MountedDriver, MountOptions, Operations } from '../vfs/operations.js';
import { loadNativeBinding, type NativeBinding, type NativeMount } from './fuse-native-binding.js';
import { NativeSession } from './fuse-native-session.js';
import { MountError } from './mount-error.js';
import { allowsNonEmpty, SUBTYPE } from './mount-options.js';
import { checkMountpoint } from './mountpoint.js';
import { unmountPath } from './unmount.js';

const log = makeLog('fuse-native');

/** The kernel sends its first request as soon as it has mounted. */
const INIT_TIMEOUT_MS = 10_000;
/** The C side does not tell when its loop has ended; its descriptor is looked at this often. */
const WATCH_MS = 200;

/** The words of mount(8) that libfuse 2 knows. */
const KNOWN_WORDS = new Set(
  'ro rw suid nosuid dev nodev exec noexec async sync dirsync atime noatime'.split(' '),
);

/** What is asked of libfuse whatever the user says; each is explained in native-notes/fuse-native.md. */
const FIXED_OPTIONS = [
  'big_writes',
  'direct_io',
  'use_ino',
  'attr_timeout=0',
  'entry_timeout=0',
  'negative_timeout=0',
];

/** libfuse's -o list. **Errors:** MountError badOption. */
export function libfuseOptions(options: MountOptions): string[] {
  for (const word of options.kernelOptions) {
    if (word !== 'nonempty' && !KNOWN_WORDS.has(word))
      throw new MountError('badOption', `the driver fuse-native (libfuse 2) does not know -o ${word}`);
  }
  const source = options.source.replaceAll('\\', '\\\\').replaceAll(',', '\\,');
  // Only mount(2) by libfuse itself, as root, looks whether the directory is empty; fusermount3 refuses the word.
  const nonEmpty = allowsNonEmpty(options) && process.geteuid?.() === 0;
  return [
    ...FIXED_OPTIONS,
    `fsname=${source}`,
    `subtype=${SUBTYPE}`,
    ...(options.allowOther ? ['allow_other'] : []),
    ...(options.defaultPermissions ? ['default_permissions'] : []),
    ...(options.readOnly ? ['ro'] : []),
    ...(nonEmpty ? ['nonempty'] : []),
    ...options.kernelOptions.filter((word) => word !== 'nonempty'),
  ];
}

/** **Errors:** MountError, also when the package or libfuse is missing (it says what to install). */
export const mountFuseNative: MountDriver = async (operations, options) => {
  const binding = loadNativeBinding();
  const words = libfuseOptions(options);
  const mountpoint = await checkMountpoint(options.mountpoint, { allowNonEmpty: allowsNonEmpty(options) });
  const syncWrites = options.kernelOptions.lastIndexOf('sync') > options.kernelOptions.lastIndexOf('async');
  const mount = new FuseNativeMount({ operations, binding, mountpoint, syncWrites, debug: options.debug });
  await mount.start(words);
  return mount;
};

class FuseNativeMount implements MountedDriver {
  readonly ended: Promise<void>;
  /** libfuse 2 has notifications; the C side does not offer them. */
  readonly notifier = undefined;
  readonly #mountpoint: string;
  readonly #binding: NativeBinding;
  readonly #session: NativeSession;
  readonly #ready: Promise<void>;
  #settleEnded: () => void = () => {};
  #settleReady: () => void = () => {};

  constructor(options: {
    operations: Operations;
    binding: NativeBinding;
    mountpoint: string;
    syncWrites: boolean;
    debug: boolean;
  }) {
    this.#mountpoint = options.mountpoint;
    this.#binding = options.binding;
    this.ended = new Promise((resolve) => {
      this.#settleEnded = resolve;
    });
    this.#ready = new Promise((resolve) => {
      this.#settleReady = resolve;
    });
    this.#session = new NativeSession({ ...options, onReady: () => this.#settleReady() });
  }

  /** Mounts; resolves when the kernel has been answered. **Errors:** MountError; nothing is mounted then. */
  async start(words: readonly string[]): Promise<void> {
    const before = new Set(fuseDescriptors());
    let mount: NativeMount;
    try {
      mount = this.#binding.mount(this.#mountpoint, words, this.#session.handlers);
    } catch (error) {
      // libfuse may have mounted before it refused an option.
      await unmountPath(this.#mountpoint, { force: true }).catch(() => {});
      if (error instanceof MountError) throw error;
      throw new MountError(
        'failed',
        `${this.#mountpoint}: libfuse could not mount; it says why on standard error`,
        { cause: error },
      );
    }
    const descriptor = fuseDescriptors().find((fd) => !before.has(fd));
    this.#watch(descriptor, mount);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new MountError('failed', 'the kernel did not begin the conversation (no INIT)')),
        INIT_TIMEOUT_MS,
      );
    });
    const gone = this.ended.then(() => {
      throw new MountError('failed', 'unmounted before it was ready');
    });
    try {
      await Promise.race([this.#ready, late, gone]);
    } catch (error) {
      await unmountPath(this.#mountpoint, { force: true }).catch(() => {});
      throw error;
    } finally {
      clearTimeout(timer);
      gone.catch(() => {});
    }
  }

  /** Notices that libfuse has closed its device, which it does when the kernel has ended the mount. */
  #watch(descriptor: number | undefined, mount: NativeMount): void {
    const timer = setInterval(() => {
      if (descriptor !== undefined && isFuseDescriptor(descriptor)) return;
      clearInterval(timer);
      this.#session.end();
      mount.release();
      log.debug('the mount has ended', { mountpoint: this.#mountpoint });
      this.#settleEnded();
    }, WATCH_MS);
  }

  async unmount(options: { force: boolean }): Promise<void> {
    await unmountPath(this.#mountpoint, options);
  }
}

function isFuseDescriptor(fd: number | string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === '/dev/fuse';
  } catch {
    return false;
  }
}

/** This process's descriptors of /dev/fuse. */
function fuseDescriptors(): number[] {
  return readdirSync('/proc/self/fd').filter(isFuseDescriptor).map(Number);
}
