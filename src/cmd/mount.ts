/** `leasefs mount`: mounts a filesystem and serves the mount, in the background unless told otherwise. */
import { Command } from 'commander';
import { resolveMountpoint } from '../fuse/mount-table.js';
import { limits } from '../proto/limits.js';
import { UsageError } from './command-error.js';
import { isDaemon, startDaemon } from './daemon.js';
import { defaultCacheDir, MountCache } from './mount-cache.js';
import type { MountPlan } from './mount-daemon.js';
import {
  type DriverName,
  mountOptionsHelp,
  parseCacheSize,
  parseDriver,
  parseMountOptions,
} from './mount-options.js';
import { checkPlace } from './mountpoint.js';
import { parseServerUrl } from './option-values.js';

interface MountCommandOptions {
  cache?: string;
  cacheSize?: number;
  driver?: DriverName;
  o?: string[];
  foreground?: true;
  force?: true;
}

export function mountCommand(): Command {
  return new Command('mount')
    .summary('mount a filesystem')
    .description(
      'Mounts the filesystem of a metadata server. Returns once the mount answers; the daemon goes on in the background and logs to a file in the cache directory.',
    )
    .argument('<url>', 'the metadata server, for example ws://127.0.0.1:9400', (text: string) =>
      parseServerUrl(text, 'URL'),
    )
    .argument('<mountpoint>', 'an empty directory')
    .option(
      '--cache <dir>',
      'for what is not stored yet, what is worth keeping, the log and the lock (default: /var/cache/leasefs/... for root, else ~/.cache/leasefs/...)',
    )
    .option(
      '--cache-size <size>',
      'bytes of files to keep in it, and never more than half of what is free there; 0: none (default: 1G)',
      (text: string) => parseCacheSize(text, '--cache-size'),
    )
    .option('--driver <name>', 'kernel or fuse-native (default: kernel)', parseDriver)
    .option('-o <options>', 'mount options, listed below', (list: string, before: string[] = []) => [
      ...before,
      list,
    ])
    .option('--foreground', 'stay in the foreground and log to standard error')
    .option('--force', 'clear a dead mount at the mountpoint away first')
    .addHelpText('after', mountOptionsHelp())
    .action(async (url: string, mountpoint: string, options: MountCommandOptions) => {
      const plan = makePlan(url, mountpoint, options);
      if (options.foreground !== true) return await mountInBackground(plan, options);
      // Loaded here alone: no other command needs the client and the drivers.
      const { serveMount } = await import('./mount-daemon.js');
      await serveMount(plan);
    });
}

function makePlan(metaUrl: string, mountpoint: string, options: MountCommandOptions): MountPlan {
  const asRoot = process.getuid?.() === 0;
  const settings = parseMountOptions(options.o ?? [], { asRoot });
  if (options.driver !== undefined) settings.driver = options.driver;
  if (options.cache !== undefined) settings.cacheDir = options.cache;
  if (options.cacheSize !== undefined) settings.cacheBytes = options.cacheSize;
  if (settings.dirtyBytes !== undefined && settings.dirtyBytes < 4 * limits.chunkBytes)
    throw new UsageError(`-o dirty: at least ${(4 * limits.chunkBytes) / 1024 ** 2}M`);
  const path = resolveMountpoint(mountpoint);
  const cacheDir = settings.cacheDir ?? defaultCacheDir(path, { asRoot, environment: process.env });
  return { metaUrl, mountpoint: path, cacheDir, settings, clearDead: options.force === true };
}

async function mountInBackground(plan: MountPlan, options: MountCommandOptions): Promise<void> {
  await checkPlace(plan.mountpoint, { clearDead: plan.clearDead, nonEmpty: plan.settings.nonEmpty });
  const cache = MountCache.open(plan.cacheDir);
  const daemon = await startDaemon({
    args: [
      'mount',
      plan.metaUrl,
      plan.mountpoint,
      '--foreground',
      ...(options.force === true ? ['--force'] : []),
      ...['--cache', cache.path, '--driver', plan.settings.driver],
      ...(options.cacheSize === undefined ? [] : ['--cache-size', String(options.cacheSize)]),
      ...(options.o ?? []).flatMap((list) => ['-o', list]),
    ],
    logPath: cache.logPath,
    timeoutMs: limits.startMs,
  });
  if (!isDaemon())
    console.log(`leasefs: ${plan.metaUrl} is mounted at ${plan.mountpoint}; log: ${cache.logPath}`);
  daemon.child.unref();
}
