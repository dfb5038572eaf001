/**
 * A cluster in this process, the real servers on loopback in a scratch directory, and mounts without a
 * kernel: Vfs objects that a test calls as a driver would.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { setLogLevel } from '../../src/base/log.js';
import type { MaybePromise } from '../../src/base/maybe-promise.js';
import { type ChunkServer, startChunkServer } from '../../src/chunk/server.js';
import { connectFilesystem, type Filesystem, type FilesystemOptions } from '../../src/client/filesystem.js';
import { type RunningMetaServer, startMetaServer } from '../../src/meta/server.js';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { Vfs } from '../../src/vfs/vfs.js';
import { FaultyNetwork } from '../client/faulty-network.js';
import { TestRequest } from './test-request.js';

// Failures made on purpose are not worth a line.
if (process.env.LEASEFS_LOG === undefined) setLogLevel('error');

/** An operation's answer as a promise, whether it is given, or thrown, at once or later. */
export const asked = async <T>(operation: () => MaybePromise<T>): Promise<T> => await operation();

export const bytesOf = (text: string): Buffer => Buffer.from(text);

export const root = new TestRequest();

export interface TestMount {
  readonly vfs: Vfs;
  readonly fs: Filesystem;
  readonly network: FaultyNetwork;
  readonly cacheDir: string;
}

type VfsOptions = NonNullable<ConstructorParameters<typeof Vfs>[1]>;

export class LocalCluster {
  readonly dir = mkdtempSync(join(tmpdir(), 'leasefs-vfs-'));
  readonly chunkServers: ChunkServer[] = [];
  readonly #mounts: TestMount[] = [];
  readonly #replicas: number;
  meta: RunningMetaServer;

  private constructor(meta: RunningMetaServer, dir: string, replicas: number) {
    this.meta = meta;
    this.dir = dir;
    this.#replicas = replicas;
  }

  /** Starts one that ends with the test. */
  static async start(
    t: Test,
    options: { chunkServers?: number; replicas?: number } = {},
  ): Promise<LocalCluster> {
    const dir = mkdtempSync(join(tmpdir(), 'leasefs-vfs-'));
    const replicas = options.replicas ?? 2;
    const meta = await startMetaServer({ dataDir: join(dir, 'meta'), host: '127.0.0.1', port: 0, replicas });
    const cluster = new LocalCluster(meta, dir, replicas);
    t.teardown(() => cluster.stop());
    for (let index = 0; index < (options.chunkServers ?? 3); index++) await cluster.startChunkServer(index);
    return cluster;
  }

  get metaUrl(): string {
    return this.meta.url;
  }

  async startChunkServer(index: number, capacityBytes?: number): Promise<ChunkServer> {
    const server = await startChunkServer({
      dataDir: join(this.dir, `chunk${index}`),
      host: '127.0.0.1',
      port: 0,
      metaUrl: this.meta.url,
      hostLabel: `host${index}`,
      rack: 'rack',
      ...(capacityBytes === undefined ? {} : { capacityBytes }),
    });
    this.chunkServers[index] = server;
    return server;
  }

  /** Stops the metadata server and starts it again where it was. */
  async restartMeta(whileDown: () => Promise<void> = async () => {}): Promise<void> {
    const port = Number(new URL(this.meta.url).port);
    await this.meta.stop();
    await whileDown();
    const dataDir = join(this.dir, 'meta');
    this.meta = await startMetaServer({ dataDir, host: '127.0.0.1', port, replicas: this.#replicas });
  }

  async mount(options: Partial<FilesystemOptions> & VfsOptions = {}): Promise<TestMount> {
    const network = new FaultyNetwork();
    const { cacheDir = join(this.dir, `cache${this.#mounts.length}`) } = options;
    const fs = await connectFilesystem({
      metaUrl: this.meta.url,
      mountpoint: '/test',
      cacheDir,
      timeoutMs: 5_000,
      readOnly: false,
      connect: network.connect,
      ...options,
    });
    const mount = { vfs: new Vfs(fs, options), fs, network, cacheDir };
    this.#mounts.push(mount);
    return mount;
  }

  async stop(): Promise<void> {
    for (const { vfs } of this.#mounts) await vfs.close();
    for (const server of this.chunkServers) await server.stop();
    await this.meta.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** What the calls answer, in one buffer. */
export async function readAll(vfs: Vfs, ino: Ino, fh: number, offset = 0, length = 1 << 20): Promise<Buffer> {
  const parts = await vfs.read(root, ino, fh, offset, length);
  return Buffer.concat(parts);
}

/** Creates a file with these bytes and closes it. */
export async function writeFile(
  vfs: Vfs,
  name: string,
  data: Uint8Array,
  parent: Ino = ROOT_INO,
): Promise<Ino> {
  const { entry, open } = await vfs.create(root, parent, bytesOf(name), 0o644, 0o1101);
  const ino = entry.attr.ino;
  await vfs.write(root, ino, open.fh, 0, data, false);
  await vfs.flush(root, ino, open.fh);
  await vfs.release(ino, open.fh);
  return ino;
}

/** Looks a file up, opens it and reads all of it, as cat does. */
export async function readFile(vfs: Vfs, name: string, parent: Ino = ROOT_INO): Promise<Buffer> {
  const { attr } = await vfs.lookup(root, parent, bytesOf(name));
  const { fh } = await vfs.open(root, attr.ino, 0);
  const parts: Buffer[] = [];
  for (let offset = 0; ; ) {
    const part = await readAll(vfs, attr.ino, fh, offset, 128 * 1024);
    if (part.length === 0) break;
    parts.push(part);
    offset += part.length;
  }
  await vfs.release(attr.ino, fh);
  return Buffer.concat(parts);
}
