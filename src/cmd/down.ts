/** `leasefs down`: stops the cluster that `leasefs up` runs, or what a crash has left of it. */
import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { limits } from '../proto/limits.js';
import { ClusterDirectory } from './cluster-directory.js';
import { readClusterFile, writeClusterFile } from './cluster-file.js';
import { CommandError } from './command-error.js';
import { findLeftovers, stopLeftovers } from './leftovers.js';
import { stopProcess } from './process-identity.js';

/** `up` stops the mount, then the chunk servers at the same time, then the metadata server. */
const UP_STOP_MS = limits.mountStopMs + 2 * limits.serverStopMs + 5_000;

const report = (line: string): void => console.log(`leasefs: ${line}`);

export function downCommand(): Command {
  return new Command('down')
    .summary("stop the cluster that 'leasefs up' runs")
    .description(
      "Unmounts and stops the cluster that 'leasefs up' runs on DIR, and waits for it. After a crash it ends whatever still runs and clears the dead mount. The data stays.",
    )
    .option('--data <dir>', "the directory given to 'leasefs up'", '.leasefs')
    .action(async (options: { data: string }) => {
      const directory = new ClusterDirectory(resolve(options.data));
      if (readClusterFile(directory.path) === undefined)
        throw new CommandError(`no cluster in ${directory.path}; name its directory with --data`);
      await bringDown(directory);
    });
}

function logSize(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** What an 'up' in the background has said since its log had `offset` bytes; nothing when it has a terminal. */
function logSince(path: string, offset: number): string {
  return logSize(path) === offset ? '' : readFileSync(path).subarray(offset).toString();
}

async function bringDown(directory: ClusterDirectory): Promise<void> {
  const holder = directory.lockHolder();
  let saidByUp = '';
  if (holder !== undefined) {
    const logPath = directory.logPath('up');
    const before = logSize(logPath);
    const result = await stopProcess(holder, UP_STOP_MS);
    saidByUp = logSince(logPath, before);
    process.stdout.write(saidByUp);
    if (result !== 'stopped') report(`'leasefs up' (process ${holder.pid}) ${result}`);
  }
  // Nobody starts anything here while what is left is ended.
  const lock = directory.lock();
  try {
    const file = readClusterFile(directory.path);
    if (file === undefined) throw new CommandError(`${directory.path} has lost its cluster.json`);
    await stopLeftovers(file, report);
    const left = findLeftovers(file);
    if (left.length > 0)
      throw new CommandError(
        `still running: ${left.map(({ role, pid }) => `${role} (process ${pid})`).join(', ')}`,
      );
    if (file.processes.length > 0) writeClusterFile(directory.path, { ...file, processes: [] });
    const nothing = holder === undefined && file.processes.length === 0;
    if (nothing) report(`nothing was running on ${directory.path}`);
    else if (!saidByUp.includes(': stopped;')) report(`stopped; the data stays in ${directory.path}`);
  } finally {
    lock.release();
  }
}
