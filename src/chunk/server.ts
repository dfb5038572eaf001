/**
 * A chunk server: a data directory, its store, a listener for mounts and the link to the metadata server. It
 * serves what it has as soon as it listens, whether or not the metadata server is there.
 */
import { statfsSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { makeLog } from '../base/log.js';
import { chunkMethods } from '../proto/chunk-methods.js';
import type { ServerId } from '../proto/ids.js';
import { Peer } from '../rpc/peer.js';
import { listenWebSocket, type WebSocketListener } from '../rpc/websocket.js';
import { DataDirectory } from './data-directory.js';
import { DiskStore } from './disk-store.js';
import { MetaLink } from './meta-link.js';
import { chunkHandlers } from './service.js';

const log = makeLog('chunk');

export interface ChunkServerOptions {
  /** Made if it is missing or empty; refused if it is something else (data-directory.ts). */
  readonly dataDir: string;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly metaUrl: string;
  /** Where mounts reach this server; default: the listening URL. */
  readonly advertiseUrl?: string;
  /** Failure domains: no two replicas on one host, nor in one rack, while there are others. */
  readonly hostLabel: string;
  readonly rack: string;
  /** Share of the data relative to other servers; default 1. */
  readonly weight?: number;
  /** Bytes of chunks at most; default: what the disk has. */
  readonly capacityBytes?: number;
}

export interface ChunkServer {
  /** Where it listens. */
  readonly url: string;
  readonly id: ServerId;
  /**
   * Resolves, with the reason, when the server has stopped by itself: the metadata server belongs to another
   * cluster. Never otherwise.
   */
  readonly failed: Promise<Error>;
  /** Ends all connections, finishes what was accepted, gives the directory back. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Starts a chunk server; resolves when it serves and has tried to register once. **Throws** an Error for
 * people: the directory is in use, of another kind or a newer format; the port is taken; the metadata server
 * belongs to another cluster than the directory.
 */
export async function startChunkServer(options: ChunkServerOptions): Promise<ChunkServer> {
  const directory = DataDirectory.open(options.dataDir);
  const { capacityBytes } = options;
  const store = DiskStore.open({
    path: directory.path,
    ...(capacityBytes === undefined ? {} : { capacityBytes }),
  });
  let listener: WebSocketListener;
  try {
    listener = await listenFor(store, directory, options);
  } catch (error) {
    await store.close();
    throw error;
  }
  const link = new MetaLink(store, directory, {
    ...options,
    advertiseUrl: options.advertiseUrl ?? reachableUrl(options.host, listener),
    weight: options.weight ?? 1,
    disk: () => diskBelow(directory.path, options.hostLabel),
  });
  let stopped: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopped ??= (async () => {
      await Promise.all([link.stop(), listener.close()]);
      await store.close();
    })();
    return stopped;
  };
  const failed = link.refused.then(async (error) => {
    log.error('this chunk server stops: it cannot be a member of this cluster', {
      path: directory.path,
      metaUrl: options.metaUrl,
      error,
    });
    await stop();
    return new Error(`${directory.path}: refused by ${options.metaUrl}: ${error.message}`, { cause: error });
  });
  if (await link.attempted) throw await failed;
  return { url: listener.url, id: directory.serverId, failed, stop };
}

function listenFor(
  store: DiskStore,
  directory: DataDirectory,
  options: { host: string; port: number },
): Promise<WebSocketListener> {
  const handlers = chunkHandlers(store, directory);
  return listenWebSocket({
    host: options.host,
    port: options.port,
    onTransport: (transport) => {
      new Peer(transport, { remote: {}, local: chunkMethods, handlers, name: 'chunk client' });
    },
  });
}

/** The listening URL, with this machine's name where it listens on every address. */
function reachableUrl(host: string, listener: WebSocketListener): string {
  return host === '0.0.0.0' || host === '::' ? `ws://${hostname()}:${listener.port}` : listener.url;
}

/** Names a disk by its host and device number: two servers of one host with one number share it. */
function diskBelow(path: string, host: string): { name: string; freeBytes: number } {
  const { bavail, bsize } = statfsSync(path);
  return { name: `${host} ${statSync(path).dev}`, freeBytes: bavail * bsize };
}
