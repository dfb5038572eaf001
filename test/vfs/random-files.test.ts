/**
 * Random writes, reads, truncations, flushes and reopenings of several files, through two mounts, with
 * connections cut in between, against byte arrays. SEED and STEPS replay or prolong a run.
 */
import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import type { Ino } from '../../src/proto/ids.js';
import { ROOT_INO } from '../../src/proto/ids.js';
import { bytesOf, LocalCluster, readAll, readFile, root, type TestMount } from './local-cluster.js';

const STEPS = Number(process.env.STEPS ?? 200);
const SEEDS = process.env.SEED === undefined ? [1, 2] : [Number(process.env.SEED)];

class ModelFile {
  bytes: Buffer = Buffer.alloc(0);
  fh = 0;
  readonly name: string;
  readonly ino: Ino;

  constructor(name: string, ino: Ino) {
    this.name = name;
    this.ino = ino;
  }

  write(offset: number, data: Buffer): void {
    if (offset + data.length > this.bytes.length) this.resize(offset + data.length);
    data.copy(this.bytes, offset);
  }

  resize(size: number): void {
    const grown = Buffer.alloc(size);
    this.bytes.copy(grown);
    this.bytes = grown;
  }
}

class Run {
  readonly #prng: Prng;
  readonly #a: TestMount;
  readonly #b: TestMount;
  readonly #cluster: LocalCluster;
  readonly #files: ModelFile[] = [];
  readonly log: string[] = [];

  constructor(seed: number, cluster: LocalCluster, mounts: { a: TestMount; b: TestMount }) {
    this.#prng = new Prng(seed);
    this.#cluster = cluster;
    this.#a = mounts.a;
    this.#b = mounts.b;
  }

  async start(prefix: string): Promise<void> {
    for (let index = 0; index < 4; index++) {
      const name = `${prefix}-${index}`;
      const { entry, open } = await this.#a.vfs.create(root, ROOT_INO, bytesOf(name), 0o644, 0o302);
      const file = new ModelFile(name, entry.attr.ino);
      file.fh = open.fh;
      this.#files.push(file);
    }
  }

  #length(): number {
    const kind = this.#prng.next();
    if (kind < 0.5) return this.#prng.int(1, 200);
    return kind < 0.9 ? this.#prng.int(1, 70_000) : this.#prng.int(1, 1_500_000);
  }

  async step(): Promise<void> {
    const file = this.#prng.pick(this.#files);
    const kind = this.#prng.next();
    if (kind < 0.45) await this.#write(file);
    else if (kind < 0.7) await this.#read(file);
    else if (kind < 0.78) await this.#truncate(file);
    else if (kind < 0.86) await this.#fsync(file);
    else if (kind < 0.93) await this.#reopen(file);
    else if (kind < 0.97) this.#cut();
    else await this.#compare(file);
    this.#a.vfs.checkInvariants();
  }

  async #write(file: ModelFile): Promise<void> {
    const offset = this.#prng.int(0, Math.min(file.bytes.length + 5000, 3_000_000));
    const length = this.#length();
    const data = Buffer.alloc(length, this.#prng.bytes(Math.min(length, 251)));
    this.log.push(`write ${file.name} ${offset}+${length}`);
    const writing = this.#a.vfs.write(root, file.ino, file.fh, offset, data, false);
    file.write(offset, data);
    await writing;
  }

  async #read(file: ModelFile): Promise<void> {
    const offset = this.#prng.int(0, file.bytes.length);
    const length = this.#length();
    this.log.push(`read ${file.name} ${offset}+${length}`);
    const read = await readAll(this.#a.vfs, file.ino, file.fh, offset, length);
    this.#same(read, file.bytes.subarray(offset, offset + length));
  }

  async #truncate(file: ModelFile): Promise<void> {
    const size = this.#prng.int(0, file.bytes.length + 1000);
    this.log.push(`truncate ${file.name} ${size}`);
    const { attr } = await this.#a.vfs.setattr(root, file.ino, file.fh, { size });
    file.resize(size);
    if (attr.size !== size) throw new Error(`size ${attr.size} after a truncation to ${size}`);
  }

  async #fsync(file: ModelFile): Promise<void> {
    this.log.push(`fsync ${file.name}`);
    await this.#a.vfs.fsync(root, file.ino, file.fh, false);
  }

  async #reopen(file: ModelFile): Promise<void> {
    const truncate = this.#prng.next() < 0.3;
    this.log.push(`reopen ${file.name}${truncate ? ' O_TRUNC' : ''}`);
    await this.#a.vfs.flush(root, file.ino, file.fh);
    await this.#a.vfs.release(file.ino, file.fh);
    const { fh } = await this.#a.vfs.open(root, file.ino, truncate ? 0o1002 : 2);
    file.fh = fh;
    if (truncate) file.resize(0);
  }

  #cut(): void {
    const server = this.#prng.pick([
      ...this.#cluster.chunkServers.map((chunk) => chunk.url),
      this.#cluster.metaUrl,
    ]);
    this.log.push(`cut ${server}`);
    this.#a.network.cut(server);
  }

  /** Makes the file durable and compares what the other mount reads, and both mounts' attributes. */
  async #compare(file: ModelFile): Promise<void> {
    await this.#fsync(file);
    this.log.push(`compare ${file.name}`);
    this.#same(await readFile(this.#b.vfs, file.name), file.bytes);
    const own = (await this.#a.vfs.getattr(root, file.ino, file.fh)).attr;
    const other = (await this.#b.vfs.getattr(root, file.ino, undefined)).attr;
    if (own.size !== file.bytes.length || other.size !== own.size)
      throw new Error(`size ${own.size}, ${other.size}`);
  }

  #same(read: Buffer, expected: Buffer): void {
    if (read.equals(expected)) return;
    let at = 0;
    while (read[at] === expected[at]) at++;
    throw new Error(`${read.length} bytes for ${expected.length}, different from byte ${at}`);
  }

  async finish(): Promise<void> {
    for (const file of this.#files) {
      await this.#compare(file);
      await this.#a.vfs.flush(root, file.ino, file.fh);
      await this.#a.vfs.release(file.ino, file.fh);
    }
  }
}

t.test('random operations read back like byte arrays', { timeout: 120_000 }, async (t) => {
  const cluster = await LocalCluster.start(t);
  for (const seed of SEEDS) {
    const a = await cluster.mount({
      dirtyBytes: 4 * 1024 * 1024,
      blockCacheBytes: 2 * 1024 * 1024,
      timeoutMs: 20_000,
    });
    const b = await cluster.mount({ timeoutMs: 20_000 });
    const run = new Run(seed, cluster, { a, b });
    try {
      await run.start(`seed${seed}`);
      for (let step = 0; step < STEPS; step++) await run.step();
      await run.finish();
      t.pass(`seed ${seed}`);
    } catch (error) {
      t.fail(`seed ${seed}, step ${run.log.length}: ${String(error)}`, { last: run.log.slice(-12), error });
    }
  }
});
