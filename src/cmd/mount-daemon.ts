/**
 * The mount daemon: puts driver, vfs and client together, serves until it is unmounted or told to stop, and
 * then writes back what is pending. However it is ended, it unmounts: lazily when programs still use the
 * mount, saying so.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { makeLog, setLogLevel } from '../base/log.js';
import { connectFilesystem } from '../client/filesystem.js';
import { MountError } from '../fuse/mount-error.js';
import { limits } from '../proto/limits.js';
import type { MountDriver, MountedDriver } from '../vfs/operations.js';
import { Vfs } from '../vfs/vfs.js';
import { CommandError, lineOf } from './command-error.js';
import { isDaemon, reportReady } from './daemon.js';
import { MountCache } from './mount-cache.js';
import type { DriverName, MountSettings } from './mount-options.js';
import { checkPlace, makePlace } from './mountpoint.js';
import { Termination } from './termination.js';

const log = makeLog('mount');

/** How long the kernel may take to let go of a mount that has been taken out of the tree. */
const LET_GO_MS = 2_000;

export interface MountPlan {
  readonly metaUrl: string;
  /** Absolute, symlinks resolved. */
  readonly mountpoint: string;
  readonly cacheDir: string;
  readonly settings: MountSettings;
  /** A dead mount at the mountpoint is cleared away first. */
  readonly clearDead: boolean;
}

async function loadDriver(name: DriverName): Promise<MountDriver> {
  // Each is loaded only when chosen: fuse-native needs a system library that nobody else needs.
  if (name === 'kernel') return (await import('../fuse/kernel-driver.js')).mountKernel;
  return (await import('../fuse/fuse-native-driver.js')).mountFuseNative;
}

/** Mounts, serves and returns when the mount is gone and everything is written back. */
export async function serveMount(plan: MountPlan): Promise<void> {
  const { metaUrl, mountpoint, settings } = plan;
  if (settings.debug) setLogLevel('debug');
  const termination = new Termination((signal) => {
    log.warn(`second ${signal}: ending at once; what was not written back is lost`);
    process.exit(1);
  });
  const cache = MountCache.open(plan.cacheDir);
  const lock = cache.lock();
  try {
    const place = { clearDead: plan.clearDead, nonEmpty: settings.nonEmpty };
    await checkPlace(mountpoint, place);
    const driver = await loadDriver(settings.driver);
    if (isDaemon()) process.chdir('/');
    const filesystem = await connectFilesystem({
      metaUrl,
      mountpoint,
      cacheDir: cache.path,
      timeoutMs: settings.timeoutMs ?? limits.callTimeoutMs,
      readOnly: settings.readOnly,
      // native-notes/fuse-native.md: that daemon may die.
      asksAlways: settings.driver === 'fuse-native',
      ...(settings.dirtyBytes === undefined ? {} : { dirtyBytes: settings.dirtyBytes }),
      ...(settings.cacheBytes === undefined ? {} : { diskCacheBytes: settings.cacheBytes }),
    });
    const vfs = new Vfs(filesystem, vfsOptions(settings));
    try {
      await makePlace(mountpoint, place);
      const mounted = await driver(vfs, driverOptions(plan));
      vfs.mounted(mounted.notifier);
      log.info('mounted', { mountpoint, metaUrl, driver: settings.driver });
      await reportReady({});
      await untilUnmounted(mounted, termination, mountpoint);
    } finally {
      await vfs.close();
    }
    log.info('unmounted; everything is written back', { mountpoint });
  } finally {
    lock.release();
  }
}

function vfsOptions({
  driver,
  accessTimes,
  kernelOptions,
}: MountSettings): ConstructorParameters<typeof Vfs>[1] {
  const kernelForgets = driver === 'kernel';
  if (accessTimes === 'noatime') return { kernelForgets };
  return { kernelForgets, accessTimes: { mode: accessTimes, directories: !kernelOptions.has('nodiratime') } };
}

function driverOptions(plan: MountPlan): Parameters<MountDriver>[1] {
  const { settings } = plan;
  return {
    mountpoint: plan.mountpoint,
    source: settings.source ?? plan.metaUrl,
    allowOther: settings.allowOther,
    defaultPermissions: settings.defaultPermissions,
    readOnly: settings.readOnly,
    kernelOptions: [...settings.kernelOptions, ...(settings.nonEmpty ? ['nonempty'] : [])],
    debug: settings.debug,
  };
}

/** Serves until somebody unmounts or a signal asks for it. Errors: CommandError when the device failed. */
async function untilUnmounted(
  mounted: MountedDriver,
  termination: Termination,
  mountpoint: string,
): Promise<void> {
  const ended = mounted.ended.then(
    () => 'ended' as const,
    (error: unknown) => {
      throw new CommandError(`the mount at ${mountpoint} has failed: ${lineOf(error)}`);
    },
  );
  const first = await Promise.race([ended, termination.requested]);
  if (first === 'ended') return;
  log.info(`${first}: unmounting`, { mountpoint });
  await takeAway(mounted, mountpoint);
  await Promise.race([ended, sleep(LET_GO_MS)]);
}

/** Unmounts, lazily when programs use the mount. Somebody else's having done so already is as good. */
async function takeAway(mounted: MountedDriver, mountpoint: string): Promise<void> {
  try {
    await mounted.unmount({ force: false });
  } catch (error) {
    if (isUnmounted(error)) return;
    log.warn('programs still use the mount: it is taken away from under them (lazy unmount)', {
      mountpoint,
      reason: lineOf(error),
    });
    try {
      await mounted.unmount({ force: true });
    } catch (again) {
      if (!isUnmounted(again)) throw again;
    }
  }
}

const isUnmounted = (error: unknown): boolean => error instanceof MountError && error.reason === 'notMounted';
