/** `leasefs meta`: a metadata server in the foreground. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { limits } from '../proto/limits.js';
import { type ListenAddress, parseCount, parseListen } from './option-values.js';
import { runServer } from './server-process.js';

interface MetaOptions {
  data: string;
  listen: ListenAddress;
  replicas: number;
  groups: number;
}

export function metaCommand(): Command {
  return new Command('meta')
    .summary('run a metadata server')
    .description(
      'Runs the metadata server of a filesystem in the foreground until SIGINT or SIGTERM. An empty or missing data directory becomes a new filesystem.',
    )
    .requiredOption('--data <dir>', 'where its database is kept')
    .requiredOption('--listen <host:port>', 'address to serve; port 0 takes any free one', (text) =>
      parseListen(text, '--listen'),
    )
    .option(
      '--replicas <count>',
      'copies of every chunk; settled when the filesystem is made',
      (text) => parseCount(text, '--replicas', { min: 1, max: limits.replicas }),
      2,
    )
    .option(
      '--groups <count>',
      'placement groups; settled when the filesystem is made',
      (text) => parseCount(text, '--groups', { min: 1, max: 65_536 }),
      limits.placementGroups,
    )
    .action(async (options: MetaOptions) => {
      const dataDir = resolve(options.data);
      const { startMetaServer } = await import('../meta/server.js');
      await runServer({
        name: 'meta',
        dataDir,
        listen: options.listen,
        start: () =>
          startMetaServer({
            dataDir,
            ...options.listen,
            replicas: options.replicas,
            placementGroups: options.groups,
          }),
      });
    });
}
