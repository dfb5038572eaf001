/** `leasefs status`: servers, capacity, replicas, mounts, tasks and health of a cluster. */
import { resolve } from 'node:path';
import Table from 'cli-table3';
import { Command } from 'commander';
import prettyBytes from 'pretty-bytes';
import type { Status } from '../proto/meta-methods.js';
import { readClusterFile } from './cluster-file.js';
import { CommandError, ExitCode, UsageError } from './command-error.js';
import { findProblems, healthLine } from './health.js';
import { fetchStatus } from './observer.js';
import { parseServerUrl } from './option-values.js';

const DEFAULT_DATA_DIR = '.leasefs';

interface StatusOptions {
  data?: string;
  json?: true;
}

export function statusCommand(): Command {
  return new Command('status')
    .summary('show the state of a cluster')
    .description(
      `Shows the state of a cluster: the one at URL, the one that 'leasefs up' runs on --data, else $LEASEFS_META, else the one on ./${DEFAULT_DATA_DIR}.`,
    )
    .argument('[url]', 'the metadata server, for example ws://127.0.0.1:9400', (text: string) =>
      parseServerUrl(text, 'URL'),
    )
    .option('--data <dir>', "directory of a cluster that 'leasefs up' runs")
    .option('--json', 'print JSON: what the server knows, and `healthy` and `problems`')
    .addHelpText('after', '\nExit status: 0 healthy; 1 degraded, or the server cannot be reached; 2 usage.')
    .action(async (url: string | undefined, options: StatusOptions) => {
      if (url !== undefined && options.data !== undefined)
        throw new UsageError('give either a URL or --data, not both');
      const metaUrl = url ?? findMetaUrl(options.data);
      const status = await fetchStatus(metaUrl);
      console.log(options.json === true ? asJson(metaUrl, status) : asText(metaUrl, status));
      if (findProblems(status).length > 0) process.exitCode = ExitCode.failure;
    });
}

function findMetaUrl(dataDir: string | undefined): string {
  const fromEnvironment = process.env.LEASEFS_META;
  if (dataDir === undefined && fromEnvironment !== undefined && fromEnvironment !== '')
    return parseServerUrl(fromEnvironment, 'LEASEFS_META');
  const dir = resolve(dataDir ?? DEFAULT_DATA_DIR);
  const file = readClusterFile(dir);
  if (file === undefined)
    throw new CommandError(`no cluster in ${dir}; give its URL, --data DIR, or set LEASEFS_META`);
  if (file.metaUrl === '') throw new CommandError(`the cluster in ${dir} has not been started yet`);
  return file.metaUrl;
}

function asJson(metaUrl: string, status: Status): string {
  const problems = findProblems(status);
  return JSON.stringify({ metaUrl, healthy: problems.length === 0, problems, ...status }, null, 2);
}

const bytes = (count: number): string => prettyBytes(count, { binary: true });

/** A table without frame lines. */
function plainTable(head: string[], rows: readonly (string | number)[][]): string {
  const table = new Table({
    head,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
    chars: {
      top: '',
      'top-mid': '',
      'top-left': '',
      'top-right': '',
      bottom: '',
      'bottom-mid': '',
      'bottom-left': '',
      'bottom-right': '',
      left: '  ',
      'left-mid': '',
      mid: '',
      'mid-mid': '',
      right: '',
      'right-mid': '',
      middle: '',
    },
  });
  table.push(...rows);
  return table.toString().replace(/ +$/gm, '');
}

function asText(metaUrl: string, status: Status): string {
  const { map } = status;
  const started = new Date(status.startedAt.sec * 1000).toISOString();
  const lines = [
    `cluster   ${status.clusterId} (format ${status.formatVersion}, map epoch ${map.epoch}, ${map.groups} placement groups)`,
    `metadata  ${metaUrl}, running since ${started}`,
    `files     ${status.inodes} inodes, ${status.orphans} open without a name`,
    `data      ${bytes(status.referencedBytes)} in files, ${bytes(status.chunkBytes)} in ${status.chunks} chunks, ${map.replicas} replicas of each`,
    '',
    `Chunk servers (${map.servers.length})`,
  ];
  if (map.servers.length > 0) lines.push(serversTable(status));
  lines.push('', `Mounts (${status.sessions.length})`);
  if (status.sessions.length > 0) lines.push(sessionsTable(status));
  if (status.tasks.length > 0) lines.push('', `Tasks (${status.tasks.length})`, tasksTable(status));
  lines.push('', healthLine(status));
  return lines.join('\n');
}

function serversTable(status: Status): string {
  return plainTable(
    ['STATE', 'URL', 'USED', 'CAPACITY', 'HOST', 'RACK', 'ID'],
    status.map.servers
      .toSorted((a, b) => (a.url < b.url ? -1 : 1))
      .map((server) => [
        server.state,
        server.url,
        bytes(server.usedBytes),
        bytes(server.capacityBytes),
        server.host,
        server.rack === '' ? '-' : server.rack,
        server.id,
      ]),
  );
}

function sessionsTable(status: Status): string {
  return plainTable(
    ['SESSION', 'HOST', 'PID', 'MOUNTPOINT', 'STATE', 'OPEN'],
    status.sessions.map((session) => [
      session.id,
      session.host,
      session.pid,
      session.mountpoint,
      session.connected ? 'connected' : `away, expires in ${Math.ceil(session.expiresInMs / 1000)} s`,
      session.openInodes,
    ]),
  );
}

function tasksTable(status: Status): string {
  return plainTable(
    ['TASK', 'KIND', 'STATE', 'DONE', 'ATTEMPTS', 'SERVER'],
    status.tasks.map((task) => [
      task.id,
      task.kind,
      task.state,
      `${task.done}/${task.total}`,
      task.attempts,
      task.server ?? '-',
    ]),
  );
}
