/**
 * Large chunks as files, `files/<shard>/<id>-<run>-<n>`: 256 directories, neighbouring ids in the same one so
 * that chunks written together share its fsync. A file is complete and on disk, name included, before its row
 * is written to the index; a file that no row names is what a crash left, and is swept away at the next
 * start. So no temporary name and no rename is needed (they would cost another journal commit per chunk:
 * native-notes/fsync.md).
 *
 * INVARIANT: a name is used once: `run` is drawn at random at every start, `n` counts. Removing an old file
 * of a chunk can therefore never hit a new one.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { type FileHandle, open, opendir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { makeLog } from '../base/log.js';
import { FsError } from '../proto/errno.js';
import { asChunkId, type ChunkId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { syncDirectory } from './data-directory.js';
import { Gate } from './gate.js';
import { OpenFiles } from './open-files.js';
import { SharedSync } from './shared-sync.js';

const log = makeLog('chunk');
const SHARDS = 256;
const NAME = /^(\d{1,16})-([0-9a-f]{12})-\d+$/;

const shardName = (shard: number): string => shard.toString(16).padStart(2, '0');

export class ChunkFiles {
  readonly #root: string;
  readonly #run = randomBytes(6).toString('hex');
  readonly #writers = new Gate(limits.chunkFileWrites);
  readonly #directories = new SharedSync();
  readonly #open = new OpenFiles(limits.openChunkFiles);
  #count = 0;

  private constructor(root: string) {
    this.#root = root;
  }

  /** Opens the files under `root`, which is made with all its directories if need be. */
  static open(root: string): ChunkFiles {
    const missing = Array.from({ length: SHARDS }, (_, shard) => join(root, shardName(shard))).filter(
      (path) => !existsSync(path),
    );
    for (const path of missing) mkdirSync(path, { recursive: true });
    if (missing.length > 0) {
      syncDirectory(root);
      syncDirectory(join(root, '..'));
    }
    return new ChunkFiles(root);
  }

  /**
   * Writes a new file for chunk `id`; resolves to its name when it is on disk. On failure nothing of it
   * remains. **Codes:** serverFull. **Errors:** EIO.
   */
  async write(id: ChunkId, bytes: Uint8Array): Promise<string> {
    const shard = shardName(Math.floor(id / SHARDS) % SHARDS);
    const name = `${shard}/${id}-${this.#run}-${++this.#count}`;
    try {
      await this.#writers.run(() => writeSynced(join(this.#root, name), bytes));
      await this.#directories.sync(join(this.#root, shard));
      return name;
    } catch (error) {
      await this.discard(name);
      throw translateWrite(error, name);
    }
  }

  /**
   * Bytes [start, end) of a file; fewer when it is shorter, undefined when there is none.
   * **Codes:** corrupt when the disk cannot read them.
   */
  async read(name: string, start: number, end: number): Promise<Buffer | undefined> {
    try {
      return await this.#open.use(join(this.#root, name), (file) => readFully(file, start, end));
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined;
      if (codeOf(error) === 'EIO')
        throw new ProtocolError('corrupt', `the disk cannot read ${name}`, { cause: error });
      throw new FsError('EIO', `read ${name}`, { cause: error });
    }
  }

  /** Removes a file that nothing names any more. What cannot be removed now goes at the next start. */
  async discard(name: string): Promise<void> {
    const path = join(this.#root, name);
    this.#open.forget(path);
    try {
      await unlink(path);
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return;
      log.warn('a file that is no longer needed could not be removed', { name, error });
    }
  }

  /** Closes what is kept open, once nobody reads. */
  close(): Promise<void> {
    return this.#open.close();
  }

  /** Chunk files that were there before this run, one by one; a directory at a time is read. */
  async *fromEarlierRuns(): AsyncGenerator<{ id: ChunkId; name: string }> {
    for (let shard = 0; shard < SHARDS; shard++) {
      for await (const entry of await opendir(join(this.#root, shardName(shard)))) {
        const [, id, run] = NAME.exec(entry.name) ?? [];
        if (id === undefined || run === this.#run) continue;
        yield { id: asChunkId(Number(id)), name: `${shardName(shard)}/${entry.name}` };
      }
    }
  }
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    let done = 0;
    while (done < bytes.length)
      done += (await file.write(bytes, done, bytes.length - done, done)).bytesWritten;
    await file.datasync();
  } finally {
    await file.close();
  }
}

async function readFully(file: FileHandle, start: number, end: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(end - start);
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, start + done);
    if (bytesRead === 0) return bytes.subarray(0, done);
    done += bytesRead;
  }
  return bytes;
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

function translateWrite(error: unknown, name: string): Error {
  const code = codeOf(error);
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new ProtocolError('serverFull', `no space for ${name}`, { cause: error });
  return new FsError('EIO', `write ${name}`, { cause: error });
}
