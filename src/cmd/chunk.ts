/** `leasefs chunk`: a chunk server in the foreground. */
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { UsageError } from './command-error.js';
import { type ListenAddress, parseListen, parseServerUrl, parseSize } from './option-values.js';
import { runServer } from './server-process.js';

interface ChunkOptions {
  data: string;
  listen: ListenAddress;
  meta: string;
  advertise?: string;
  hostLabel: string;
  rack: string;
  weight: number;
  capacity?: number;
}

function parseWeight(text: string): number {
  const weight = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!(weight > 0 && weight <= 1e9)) throw new UsageError(`--weight: '${text}' is not a number above 0`);
  return weight;
}

export function chunkCommand(): Command {
  return new Command('chunk')
    .summary('run a chunk server')
    .description(
      'Runs a chunk server in the foreground until SIGINT or SIGTERM. It joins the filesystem of the metadata server given with --meta and belongs to it from then on.',
    )
    .requiredOption('--data <dir>', 'where its chunks are kept')
    .requiredOption('--listen <host:port>', 'address to serve; port 0 takes any free one', (text) =>
      parseListen(text, '--listen'),
    )
    .requiredOption('--meta <url>', 'the metadata server, for example ws://127.0.0.1:9400', (text) =>
      parseServerUrl(text, '--meta'),
    )
    .option(
      '--advertise <url>',
      'URL under which others reach it (default: the address it listens on)',
      (text) => parseServerUrl(text, '--advertise'),
    )
    .option('--host-label <name>', 'failure domain: copies go to different hosts', hostname())
    .option('--rack <name>', 'wider failure domain: copies go to different racks', '')
    .option('--weight <number>', 'its share of the data relative to other servers', parseWeight, 1)
    .option(
      '--capacity <size>',
      'bytes it may store, for example 500G (default: what its disk has)',
      (text) => parseSize(text, '--capacity'),
    )
    .action(async (options: ChunkOptions) => {
      const dataDir = resolve(options.data);
      const { startChunkServer } = await import('../chunk/server.js');
      await runServer({
        name: 'chunk',
        dataDir,
        listen: options.listen,
        start: () =>
          startChunkServer({
            dataDir,
            ...options.listen,
            metaUrl: options.meta,
            hostLabel: options.hostLabel,
            rack: options.rack,
            weight: options.weight,
            ...(options.advertise === undefined ? {} : { advertiseUrl: options.advertise }),
            ...(options.capacity === undefined ? {} : { capacityBytes: options.capacity }),
          }),
      });
    });
}
