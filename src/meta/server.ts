/**
 * The metadata server as a program: a data directory, a port. An empty directory is formatted; one that holds
 * something else, another program's database or a newer format is refused and left as it was.
 */
import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { systemClock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import { rootInode } from '../names/inode.js';
import { asClusterId, type ClusterId, ROOT_INO } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { listenWebSocket } from '../rpc/websocket.js';
import { MetadataServer } from './metadata-server.js';
import { FIRST_SESSION } from './sessions.js';
import { openSqliteStore, type SqliteStore } from './sqlite-store.js';

const log = makeLog('meta');

const DATABASE = 'meta.db';
/** What may lie in a directory that is to be formatted. */
const HARMLESS = /^(lost\+found|.*\.log|\..*)$/;

export interface MetaServerOptions {
  /** Created when it is missing. */
  readonly dataDir: string;
  readonly host: string;
  /** 0: a free one is chosen. */
  readonly port: number;
  /** How many chunk servers hold each chunk, 1..limits.replicas. Fixed when the filesystem is made. */
  readonly replicas: number;
  /** Fixed when the filesystem is made. Default: limits.placementGroups. */
  readonly placementGroups?: number;
}

export interface RunningMetaServer {
  readonly url: string;
  readonly clusterId: ClusterId;
  /** Answers what is under way, leaves everything on disk, frees port and directory. */
  stop(): Promise<void>;
}

/** **Throws** an Error for people when the directory or the port cannot be used. */
export async function startMetaServer(options: MetaServerOptions): Promise<RunningMetaServer> {
  const store = openStore(options);
  const server = new MetadataServer({ store });
  const listener = await listenWebSocket({
    host: options.host,
    port: options.port,
    onTransport: (transport) => server.accept(transport),
  }).catch(async (error: unknown) => {
    await server.stop();
    throw error;
  });
  const { clusterId } = store.filesystem;
  log.info('serving', { url: listener.url, clusterId, dataDir: resolve(options.dataDir) });
  return {
    url: listener.url,
    clusterId,
    stop: async () => {
      await server.stop();
      await listener.close();
    },
  };
}

function openStore(options: MetaServerOptions): SqliteStore {
  const { dataDir, replicas } = options;
  const groups = options.placementGroups ?? limits.placementGroups;
  checkNumber('replicas', replicas, limits.replicas);
  checkNumber('placement groups', groups, 65_536);
  makeDirectory(resolve(dataDir));
  const path = join(resolve(dataDir), DATABASE);
  if (!existsSync(path)) checkEmpty(resolve(dataDir));
  const createdAt = systemClock.now();
  return openSqliteStore(
    path,
    {
      clusterId: asClusterId(randomUUID()),
      replicas,
      groups,
      createdAt,
      firstInode: ROOT_INO + 1,
      firstSession: FIRST_SESSION,
    },
    [{ put: 'inode', row: { ...rootInode(createdAt), ...formatter() } }],
  );
}

/** Who runs the server that formats owns the root directory, so that an ordinary user's filesystem is theirs. */
function formatter(): { uid: number; gid: number } {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
}

function checkNumber(what: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 1 || value > max)
    throw new Error(`${what}: a whole number from 1 to ${max} is needed, not ${value}`);
}

/** The directory, with its own name on disk before anything in it is promised to be. */
function makeDirectory(path: string): void {
  if (mkdirSync(path, { recursive: true, mode: 0o700 }) === undefined) return;
  const parent = openSync(dirname(path), 'r');
  try {
    fsyncSync(parent);
  } finally {
    closeSync(parent);
  }
}

function checkEmpty(path: string): void {
  const foreign = readdirSync(path).find((name) => !HARMLESS.test(name));
  if (foreign !== undefined)
    throw new Error(
      `${path}: not empty (${foreign}) and no metadata directory; use an empty directory for a new filesystem`,
    );
}
