/**
 * What the metadata server sees of a mount: a session that heartbeats, takes the leases that come with what it
 * lists, and gives back at once what is recalled.
 */
import { asIno, type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import {
  type MetaCallbacks,
  type MetaMethods,
  metaCallbacks,
  metaMethods,
} from '../../src/proto/meta-methods.js';
import { Peer } from '../../src/rpc/peer.js';
import { connectWebSocket } from '../../src/rpc/websocket.js';

const TIMEOUT_MS = 60_000;

export class SimulatedMount {
  readonly #peer: Peer<MetaMethods, MetaCallbacks>;
  #timer: NodeJS.Timeout | undefined;
  #sequence = 1;
  /** That were granted and not recalled. */
  leases = 0;

  private constructor(peer: Peer<MetaMethods, MetaCallbacks>) {
    this.#peer = peer;
  }

  /** `leases`: whether it may be given any. `firstMs`: when the first heartbeat is sent. */
  static async start(
    url: string,
    { leases, firstMs }: { leases: boolean; firstMs: number },
  ): Promise<SimulatedMount> {
    const transport = await connectWebSocket(url, { timeoutMs: TIMEOUT_MS });
    const peer: Peer<MetaMethods, MetaCallbacks> = new Peer(transport, {
      remote: metaMethods,
      local: metaCallbacks,
      handlers: {
        mapChanged: () => ({}),
        lockReady: () => ({}),
        removed: () => ({}),
        recallLeases: ({ leases: recalled }) => {
          mount.leases -= recalled.length;
          peer.call('returnLeases', { leases: recalled }).catch((error: unknown) => mount.#failed(error));
          return {};
        },
      },
      name: 'metadata server',
    });
    const mount = new SimulatedMount(peer);
    await peer.call('openSession', { host: 'bench', pid: process.pid, mountpoint: '/', leases });
    mount.#timer = setTimeout(() => mount.#beat(), firstMs);
    return mount;
  }

  #failed(error: unknown): never {
    throw new Error('the metadata server does not answer a simulated mount', { cause: error });
  }

  #beat(): void {
    this.#timer = setTimeout(() => this.#beat(), limits.heartbeatMs);
    this.heartbeat().catch((error: unknown) => this.#failed(error));
  }

  async heartbeat(): Promise<void> {
    await this.#peer.call('heartbeat', { finishedBelow: this.#sequence }, { timeoutMs: TIMEOUT_MS });
  }

  /** Lists a directory of the root with everybody's attributes; the inodes in it. */
  async list(name: string): Promise<Ino[]> {
    const { ino } = await this.#peer.call('lookup', { parent: ROOT_INO, name: Buffer.from(name) });
    const found: Ino[] = [];
    for (let after = 0, end = false; !end; ) {
      const page = await this.#peer.call(
        'readdir',
        { ino, after, limit: limits.readdirPageEntries, plus: true },
        { timeoutMs: TIMEOUT_MS },
      );
      for (const { attr, cookie } of page.entries) {
        after = cookie;
        if (attr?.lease !== undefined) this.leases++;
        if (attr !== undefined) found.push(asIno(attr.ino));
      }
      end = page.end;
    }
    return found;
  }

  /** Changes an inode, for which leases of others have to be recalled. */
  async chmod(ino: Ino): Promise<void> {
    const sequence = this.#sequence++;
    await this.#peer.call(
      'setattr',
      { ino, set: { mode: 0o600 } },
      { timeoutMs: TIMEOUT_MS, sequence, finishedBelow: sequence },
    );
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#peer.call('closeSession', {}, { timeoutMs: TIMEOUT_MS });
    this.#peer.close('done');
  }
}
