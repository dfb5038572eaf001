/** `leasefs up`: a whole cluster on this machine and a mount of it; the quick start. */
import { basename, relative, resolve, sep } from 'node:path';
import { Command } from 'commander';
import { resolveMountpoint } from '../fuse/mount-table.js';
import { limits } from '../proto/limits.js';
import { ClusterDirectory } from './cluster-directory.js';
import { readClusterFile } from './cluster-file.js';
import { CommandError } from './command-error.js';
import { isDaemon, reportReady, startDaemon } from './daemon.js';
import { findLeftovers, stopLeftovers } from './leftovers.js';
import { LocalCluster } from './local-cluster.js';
import { type DriverName, mountOptionsHelp, parseDriver, parseMountOptions } from './mount-options.js';
import { checkPlace, clearIfDead } from './mountpoint.js';
import { parseCount } from './option-values.js';
import { Termination } from './termination.js';

const DEFAULT_CHUNK_SERVERS = 3;
const DEFAULT_REPLICAS = 2;

interface UpOptions {
  data: string;
  chunkServers?: number;
  replicas?: number;
  driver?: DriverName;
  o?: string[];
  detach?: true;
}

/** How this program can be called again from here. */
const program = ((): string => {
  const path = process.argv[1] ?? 'leasefs';
  if (basename(path) === 'leasefs') return 'leasefs';
  const fromHere = relative(process.cwd(), path);
  return fromHere.startsWith('..') ? path : `./${fromHere}`;
})();

const report = (line: string): void => console.log(`leasefs: ${line}`);

export function upCommand(): Command {
  return new Command('up')
    .summary('run a whole cluster on this machine and mount it')
    .description(
      'Starts a metadata server, chunk servers and a mount, keeps them running, and stops them in order on Ctrl-C. Started again on the same directory it goes on with the data.',
    )
    .argument('<mountpoint>', 'an empty directory')
    .option('--data <dir>', 'where the cluster keeps everything', '.leasefs')
    .option(
      '--chunk-servers <count>',
      `how many (default: ${DEFAULT_CHUNK_SERVERS}, or as many as there are)`,
      (text) => parseCount(text, '--chunk-servers', { min: 1, max: 64 }),
    )
    .option(
      '--replicas <count>',
      `copies of every chunk, settled at the first start (default: ${DEFAULT_REPLICAS})`,
      (text) => parseCount(text, '--replicas', { min: 1, max: limits.replicas }),
    )
    .option('--driver <name>', 'kernel or fuse-native (default: kernel)', parseDriver)
    .option('-o <options>', 'mount options, listed below', (list: string, before: string[] = []) => [
      ...before,
      list,
    ])
    .option('--detach', 'go on in the background once the mount answers')
    .addHelpText('after', mountOptionsHelp())
    .action(async (mountpoint: string, options: UpOptions) => {
      const { nonEmpty } = parseMountOptions(options.o ?? [], { asRoot: process.getuid?.() === 0 });
      const directory = new ClusterDirectory(resolve(options.data));
      const request = { directory, mountpoint: resolveMountpoint(mountpoint), nonEmpty, options };
      if (options.detach === true) await runInBackground(request);
      else await runHere(request);
    });
}

interface UpRequest {
  readonly directory: ClusterDirectory;
  readonly mountpoint: string;
  readonly nonEmpty: boolean;
  readonly options: UpOptions;
}

async function runInBackground(request: UpRequest): Promise<void> {
  const { directory } = request;
  await checkRequest(request);
  directory.prepare();
  // Refuses at once, in this terminal, what the background process would refuse as well.
  directory.lock().release();
  const logPath = directory.logPath('up');
  const args = process.argv.slice(2).filter((arg) => arg !== '--detach');
  const daemon = await startDaemon({ args, logPath, timeoutMs: 5 * limits.startMs });
  const stop = `${program} down --data ${directory.path}`;
  console.log(welcome(request, daemon.url ?? '', { stop, log: logPath }));
  // The daemon's handle would keep this process waiting for it.
  daemon.child.unref();
}

async function runHere(request: UpRequest): Promise<void> {
  const { directory, mountpoint } = request;
  await checkRequest(request);
  directory.prepare();
  const lock = directory.lock();
  try {
    const cluster = await makeCluster(request);
    const termination = new Termination((signal) => {
      report(`second ${signal}: ending everything at once; what was not written back is lost`);
      cluster.kill();
    });
    if (isDaemon()) process.chdir('/');
    try {
      const started = await Promise.race([
        cluster.start().then(() => true),
        termination.requested.then(() => false),
      ]);
      if (started) {
        await reportReady({ url: cluster.metaUrl });
        console.log(welcome(request, cluster.metaUrl, { stop: 'Ctrl-C', log: directory.logPath('*') }));
        await termination.requested;
      }
      report(`unmounting ${mountpoint} and stopping the cluster`);
    } finally {
      await cluster.stop();
    }
    report(`stopped; the data stays in ${directory.path}`);
  } finally {
    lock.release();
  }
}

/** Refuses what can be seen to be wrong before anything is written. */
async function checkRequest({ directory, mountpoint, nonEmpty }: UpRequest): Promise<void> {
  if (directory.path === mountpoint || directory.path.startsWith(mountpoint + sep))
    throw new CommandError(
      `the data directory ${directory.path} lies inside the mountpoint; choose another with --data`,
    );
  // A mount of a crashed cluster on this directory is looked at once its processes are stopped.
  if (directory.check() === 'new') await checkPlace(mountpoint, { clearDead: false, nonEmpty });
}

async function makeCluster({ directory, mountpoint, nonEmpty, options }: UpRequest): Promise<LocalCluster> {
  const before = readClusterFile(directory.path);
  if (before !== undefined) {
    if (findLeftovers(before).length > 0) report('stopping what an earlier start has left running');
    await stopLeftovers(before, report);
    if (await clearIfDead(mountpoint)) report(`cleared the dead mount at ${mountpoint}`);
    await checkPlace(mountpoint, { clearDead: false, nonEmpty });
  }
  return new LocalCluster({
    directory,
    mountpoint,
    report,
    chunkServers: countChunkServers(directory, options.chunkServers),
    replicas: options.replicas ?? DEFAULT_REPLICAS,
    mountArgs: [
      ...(options.driver === undefined ? [] : ['--driver', options.driver]),
      ...(options.o ?? []).flatMap((list) => ['-o', list]),
    ],
  });
}

function countChunkServers(directory: ClusterDirectory, wanted: number | undefined): number {
  const existing = directory.countChunkDirs();
  if (wanted !== undefined && wanted < existing)
    report(`starting all ${existing} chunk servers that have data here, not ${wanted}`);
  return Math.max(existing, wanted ?? (existing === 0 ? DEFAULT_CHUNK_SERVERS : existing));
}

function welcome(request: UpRequest, metaUrl: string, words: { stop: string; log: string }): string {
  const { directory, mountpoint } = request;
  return `
leasefs is mounted at ${mountpoint}

  use it           cp -a src ${mountpoint}/ && ls -l ${mountpoint}
  its state        ${program} status --data ${directory.path}
  a second mount   mkdir -p /tmp/second && ${program} mount ${metaUrl} /tmp/second
  logs             ${words.log}
  stop             ${words.stop}   (the data stays in ${directory.path})
`;
}
