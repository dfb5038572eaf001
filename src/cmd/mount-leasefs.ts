#!/usr/bin/env node
/**
 * mount.leasefs, which mount(8) calls for `mount -t leasefs URL DIR -o ...` and for fstab lines of type
 * leasefs. Installed by a link: `ln -s .../dist/src/cmd/mount-leasefs.js /sbin/mount.leasefs`.
 *
 * **Source:** mount(8), "Exit status".
 */
import { spawnSync } from 'node:child_process';
import { executablePath } from './daemon.js';
import { parseHelperArgs } from './mount-helper.js';

const Status = { ok: 0, usage: 1, failed: 32 } as const;

function main(): number {
  const request = parseHelperArgs(process.argv.slice(2));
  if (request === undefined) {
    console.error('Usage: mount.leasefs URL MOUNTPOINT [-sfnv] [-o OPTIONS]');
    return Status.usage;
  }
  if (request.fake) return Status.ok;
  const args = ['mount', request.source, request.target, ...request.options.flatMap((list) => ['-o', list])];
  const result = spawnSync(process.execPath, [executablePath, ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (result.error !== undefined) console.error(`mount.leasefs: ${result.error.message}`);
  if (result.status === 0) return Status.ok;
  return result.status === 2 ? Status.usage : Status.failed;
}

process.exitCode = main();
