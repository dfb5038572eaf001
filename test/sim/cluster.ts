/**
 * A cluster in one process on virtual time: a metadata server over rows in memory, chunk servers, and mounts
 * under kernels that are modelled (kernel.ts). Everything but the processes' shells is the product's own code.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { present } from '../../src/base/assert.js';
import type { Prng } from '../../src/base/prng.js';
import { connectFilesystem, type Filesystem } from '../../src/client/filesystem.js';
import { MemoryStore } from '../../src/meta/memory-store.js';
import { MetadataServer } from '../../src/meta/metadata-server.js';
import { FIRST_SESSION } from '../../src/meta/sessions.js';
import { FsError } from '../../src/proto/errno.js';
import { asClusterId, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import type { Notifier } from '../../src/vfs/operations.js';
import { Vfs } from '../../src/vfs/vfs.js';
import { SimChunkServer } from './chunk-server.js';
import { History, keyParts } from './history.js';
import { Kernel } from './kernel.js';
import { isErrno } from './kernel-base.js';
import { Logical } from './logical.js';
import { Network } from './network.js';
import { Observer } from './observer.js';
import { RecordingStore } from './recording-store.js';
import { Scheduler, SimNode } from './scheduler.js';
import { Trace } from './trace.js';

const META_URL = 'ws://meta';
/** How long a mount's calls wait for servers. */
export const TIMEOUT_MS = 30_000;

/** Where tests plant bugs. */
export interface Plant {
  readonly store?: (store: RecordingStore, history: History) => void;
  readonly filesystem?: (filesystem: Filesystem) => void;
  readonly notifier?: (notifier: Notifier) => Notifier;
  /** A mount's daemon was killed. */
  readonly killed?: (cacheDir: string) => void;
  /** Before anything is made; returns the way to undo it. */
  readonly everywhere?: () => () => void;
}

export interface SimMount {
  readonly node: SimNode;
  readonly fs: Filesystem;
  readonly vfs: Vfs;
  readonly kernel: Kernel;
}

interface Meta {
  readonly node: SimNode;
  readonly server: MetadataServer;
  readonly store: RecordingStore;
}

export interface Shape {
  readonly chunkServers: number;
  readonly replicas: number;
  readonly delayUs: { readonly min: number; readonly max: number };
  /** Probability that a program gets a signal while it waits. */
  readonly interrupted: number;
}

export class SimCluster {
  readonly scheduler: Scheduler;
  readonly trace: Trace;
  readonly network: Network;
  readonly history = new History();
  readonly observer: Observer;
  readonly logical: Logical;
  readonly chunkServers: SimChunkServer[] = [];
  readonly mounts: SimMount[] = [];
  readonly #prng: Prng;
  readonly #plant: Plant;
  readonly #shape: Shape;
  readonly #rows: MemoryStore;
  /** Whoever is outside of the cluster. */
  readonly world: SimNode;
  readonly #dir = mkdtempSync(join(tmpdir(), 'leasefs-sim-'));
  #meta: Meta;

  constructor(prng: Prng, shape: Shape, plant: Plant) {
    this.#prng = prng;
    this.#plant = plant;
    this.#shape = shape;
    this.scheduler = new Scheduler(prng);
    const { scheduler } = this;
    this.world = new SimNode('world', scheduler);
    this.trace = new Trace(() => scheduler.nowMs);
    this.network = new Network({ scheduler, trace: this.trace, prng, delayUs: shape.delayUs });
    this.network.sniffer = (frame, from, to) => this.history.sniff(frame, from, to);
    this.observer = new Observer(this.history, (error) => scheduler.fail(error));
    const createdAt = { sec: 1_700_000_000, nsec: 0 };
    this.logical = new Logical(createdAt, this.history, (text) => this.observer.violated(text));
    this.#rows = new MemoryStore(
      {
        clusterId: asClusterId('11111111-2222-4333-8444-555555555555'),
        formatVersion: 1,
        replicas: shape.replicas,
        groups: 8,
        createdAt,
      },
      { firstInode: ROOT_INO + 1, firstSession: FIRST_SESSION },
    );
    this.history.start((read) => this.logical.rows.answer(read));
    scheduler.onStep = () => this.#checkInvariants();
    this.#meta = this.#startMeta();
    for (let number = 1; number <= shape.chunkServers; number++)
      this.chunkServers.push(
        new SimChunkServer({
          node: this.#node(`chunk${number}`),
          network: this.network,
          number,
          chunks: this.history.chunks,
        }),
      );
  }

  /** A process whose clocks are as clocks are. */
  #node(name: string): SimNode {
    return new SimNode(name, this.scheduler, {
      rate: 1 + (this.#prng.next() - 0.5) / 200,
      originMs: this.#prng.int(0, 1_000_000),
      wallOffsetMs: this.#prng.int(-3000, 3000),
    });
  }

  get meta(): Meta {
    return this.#meta;
  }

  #startMeta(): Meta {
    const node = this.#node('meta');
    const store = new RecordingStore(this.#rows, this);
    this.#plant.store?.(store, this.history);
    const server = new MetadataServer({
      store,
      clock: node.clock,
      onLeasesVoid: (session) => {
        if (this.history.closed.has(session)) return;
        this.trace.note('meta', `leases of session ${session} are void`);
        this.logical.voided(session);
        this.observer.voided(this.history.mountOf(session));
      },
    });
    this.network.listen(META_URL, { node, accept: (transport) => server.accept(transport) });
    return { node, server, store };
  }

  /** `kill -9`: what was not committed is gone, and so is everything that memory kept. */
  crashMeta(): void {
    const { node, store } = this.#meta;
    this.trace.note('meta', 'crashes');
    store.isDead = true;
    this.scheduler.crash(node);
    this.network.cutAll(node, 'the metadata server crashed');
  }

  restartMeta(): void {
    this.trace.note('meta', 'starts again');
    this.#meta = this.#startMeta();
  }

  async mount(name: string): Promise<SimMount> {
    const node = this.#node(name);
    const { scheduler, trace, observer } = this;
    const { interrupted } = this.#shape;
    const fs = await scheduler.on(node, 0, () =>
      connectFilesystem({
        metaUrl: META_URL,
        mountpoint: `/${name}`,
        cacheDir: join(this.#dir, name),
        timeoutMs: TIMEOUT_MS,
        readOnly: false,
        // Reading and writing them takes real time.
        diskCacheBytes: 0,
        hintBytes: limits.hintBytes,
        clock: node.clock,
        ownObserver: this.logical.observerOf(name),
        connect: this.network.connector(node),
      }),
    );
    this.#plant.filesystem?.(fs);
    const vfs = new Vfs(fs, { kernelForgets: true });
    const machine = new SimNode(`${name}'s machine`, scheduler);
    const kernel = new Kernel({ scheduler, trace, observer, node, vfs, session: fs, interrupted }, machine);
    const notifier = kernel.notifier();
    vfs.mounted(this.#plant.notifier?.(notifier) ?? notifier);
    const mount = { node, fs, vfs, kernel };
    const before = this.mounts.findIndex((other) => other.node.name === name);
    if (before < 0) this.mounts.push(mount);
    else this.mounts[before] = mount;
    return mount;
  }

  mounted(name: string): SimMount {
    return present(
      this.mounts.find(({ node }) => node.name === name),
      `${name} was mounted`,
    );
  }

  /** `kill -9` of its daemon: its machine goes on. */
  killMount({ node, fs, kernel }: SimMount): void {
    this.trace.note(node.name, 'is killed');
    this.scheduler.crash(node);
    this.network.cutAll(node, 'the daemon was killed');
    fs.abandon();
    this.#plant.killed?.(join(this.#dir, node.name));
    kernel.died();
    this.observer.killed(node.name);
  }

  /** Another daemon takes over what a killed one has left. */
  async remount(name: string): Promise<void> {
    for (;;) {
      try {
        await this.mount(name);
        return;
      } catch (error) {
        // The attempt before may still have the database open, which a process that had ended would not.
        const isOpen = error instanceof Error && error.message.includes('has this database open');
        if (!(error instanceof FsError) && !isOpen) throw error;
        this.trace.note(name, `cannot be mounted: ${String(error)}`);
      }
      await this.scheduler.sleep(500, this.world);
    }
  }

  /** Of whoever has just done something. */
  #checkInvariants(): void {
    const { current } = this.scheduler;
    if (current === this.#meta.node && !current.crashed) this.#meta.server.checkInvariants();
    for (const { node, vfs } of this.mounts) if (node === current) vfs.checkInvariants();
  }

  /** What kernels and mounts would answer from memory now, to whoever asked, is right. */
  peek(): void {
    for (const mount of this.mounts) {
      if (!mount.node.crashed) mount.kernel.peek();
      if (!mount.node.frozen && !mount.node.crashed) this.#peekInto(mount);
    }
  }

  #peekInto({ node, fs }: SimMount): void {
    const { history, observer } = this;
    const now = observer.moment(node.name);
    const who = `${node.name}'s memory (peek)`;
    for (const [ino, states] of history.inodes) {
      // Nobody has a way to what is gone.
      if (states.at(-1)?.row === undefined) continue;
      const attr = fs.leases.answer('getattr', { ino });
      if (attr !== undefined) observer.version(who, attr, now);
    }
    for (const key of history.names.keys()) {
      const [parent, name] = keyParts(key);
      try {
        const attr = fs.leases.answer('lookup', { parent, name: Buffer.from(name, 'latin1') });
        if (attr !== undefined) observer.named(who, parent, name, attr.ino, now);
      } catch (error) {
        if (!isErrno(error, 'ENOENT')) throw error;
        observer.named(who, parent, name, null, now);
      }
    }
  }

  /** Of the rows, which is slow. */
  checkStore(): void {
    this.#rows.checkInvariants();
    this.logical.checkSettled();
  }

  remove(): void {
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
