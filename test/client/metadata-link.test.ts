import t from 'tap';
import { setLogLevel } from '../../src/base/log.js';
import { MetadataLink } from '../../src/client/metadata-link.js';
import type { Attr } from '../../src/proto/attr.js';
import type { ClusterMap } from '../../src/proto/cluster-map.js';
import type { FsError } from '../../src/proto/errno.js';
import { asClusterId, asFencingToken, asSessionId, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { metaCallbacks, metaMethods } from '../../src/proto/meta-methods.js';
import { ProtocolError } from '../../src/proto/protocol-error.js';
import { memoryTransportPair } from '../../src/rpc/memory-transport.js';
import { type CallContext, Peer } from '../../src/rpc/peer.js';
import type { Transport } from '../../src/rpc/transport.js';
import { ManualClock } from '../rpc/manual-clock.js';

setLogLevel('error');

const served = {
  openSession: metaMethods.openSession,
  heartbeat: metaMethods.heartbeat,
  closeSession: metaMethods.closeSession,
  getattr: metaMethods.getattr,
  mkdir: metaMethods.mkdir,
  map: metaMethods.map,
};

const map: ClusterMap = {
  clusterId: asClusterId('11111111-2222-4333-8444-555555555555'),
  epoch: 1,
  groups: 4,
  replicas: 1,
  servers: [],
};

const zero = { sec: 0, nsec: 0 };
const attr: Attr = {
  ino: ROOT_INO,
  mode: 0o40755,
  nlink: 2,
  uid: 0,
  gid: 0,
  rdev: 0,
  size: 0,
  allocated: 0,
  atime: zero,
  mtime: zero,
  ctime: zero,
  crtime: zero,
  version: 1,
};

/** A metadata server whose every answer the test decides. */
class ScriptedServer {
  readonly clock = new ManualClock();
  /** Every call, as `method sequence/finishedBelow` or `openSession resume-token`. */
  readonly calls: string[] = [];
  /** When heartbeats arrived. */
  readonly heartbeatsMs: number[] = [];
  refuses = false;
  expired = false;
  silent = new Set<string>();
  mapEpoch = 1;
  #sessions = 0;
  #token = 0;
  #cut: () => void = () => {};
  readonly #late: (() => void)[] = [];

  readonly connect = async (): Promise<Transport> => {
    if (this.refuses) throw new ProtocolError('disconnected', 'refused');
    const [near, far] = memoryTransportPair();
    this.#cut = () => far.cut('cut');
    new Peer(far, {
      remote: metaCallbacks,
      local: served,
      handlers: this.#handlers(),
      clock: this.clock,
      name: 'mount',
    });
    return near;
  };

  cut(): void {
    this.#cut();
  }

  #note(method: string, context: CallContext): Promise<undefined> | undefined {
    this.calls.push(`${method} ${context.sequence}/${context.finishedBelow}`);
    return this.silent.has(method) ? this.#until() : undefined;
  }

  async #until(): Promise<undefined> {
    await new Promise<void>((resolve) => this.#late.push(resolve));
  }

  /** Answers what it was silent about. */
  answer(): void {
    for (const resolve of this.#late.splice(0)) resolve();
  }

  #handlers() {
    return {
      openSession: (args: { resume?: { token: number } }) => {
        this.calls.push(`openSession ${args.resume?.token ?? 'new'}`);
        if (args.resume !== undefined && this.expired) {
          this.expired = false;
          throw new ProtocolError('sessionLost', 'expired');
        }
        if (args.resume === undefined) this.#sessions++;
        this.#token++;
        const session = asSessionId(this.#sessions);
        return {
          session,
          token: asFencingToken(this.#token),
          ttlMs: 30_000,
          left: { lapsed: false },
          leaseTtlMs: 10_000,
          now: this.clock.now(),
          map,
        };
      },
      heartbeat: async (args: { finishedBelow: number }, context: CallContext) => {
        this.heartbeatsMs.push(this.clock.monotonicMs());
        await this.#note(`heartbeat<${args.finishedBelow}`, context);
        if (this.silent.has('heartbeat')) await new Promise(() => {});
        return { now: this.clock.now(), mapEpoch: this.mapEpoch };
      },
      closeSession: () => ({}),
      getattr: async (_args: object, context: CallContext) => (await this.#note('getattr', context)) ?? attr,
      mkdir: async (_args: object, context: CallContext) => (await this.#note('mkdir', context)) ?? attr,
      map: () => ({ ...map, epoch: this.mapEpoch }),
    };
  }
}

interface Rig {
  readonly server: ScriptedServer;
  readonly link: MetadataLink;
  readonly maps: number[];
  readonly lost: number[];
}

async function start(timeoutMs = 10_000): Promise<Rig> {
  const server = new ScriptedServer();
  const maps: number[] = [];
  const lost: number[] = [];
  const link = new MetadataLink({
    url: 'memory:',
    host: 'host',
    pid: 1,
    mountpoint: '/m',
    timeoutMs,
    clock: server.clock,
    connect: server.connect,
    onMap: (newer) => maps.push(newer.epoch),
    onSessionLost: () => lost.push(link.generation),
  });
  await link.start();
  return { server, link, maps, lost };
}

const turns = async (count = 20): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
};

const newDirectory = { parent: ROOT_INO, name: Buffer.from('d'), owner: { uid: 0, gid: 0 }, mode: 0o755 };

t.test('heartbeats renew the session from when they were sent', async (t) => {
  const { server, link } = await start();
  await server.clock.advance(limits.heartbeatMs);
  await turns();
  t.same(server.heartbeatsMs, [limits.heartbeatMs]);
  server.silent.add('heartbeat');
  await server.clock.advance(limits.heartbeatMs);
  await turns();
  t.ok(link.isValid);
  server.refuses = true;
  await server.clock.advance(limits.sessionTtlMs - limits.heartbeatMs - 1);
  t.ok(link.isValid, 'until 30 s after the one that was answered');
  await server.clock.advance(1);
  t.notOk(link.isValid);
});

t.test(
  'a heartbeat without an answer ends the connection, and the next one resumes the session',
  async (t) => {
    const { server, link } = await start();
    server.silent.add('heartbeat');
    await server.clock.advance(limits.heartbeatMs + 14_000);
    t.equal(link.connections, 1);
    await server.clock.advance(2_000);
    await turns();
    await server.clock.advance(limits.reconnectMaxMs);
    await turns();
    t.equal(link.connections, 2);
    t.same(
      server.calls.filter((call) => call.startsWith('openSession')),
      ['openSession new', 'openSession 1'],
    );
    t.equal(link.generation, 0);
  },
);

t.test('what was not answered is sent again with its sequence number, in order', async (t) => {
  const { server, link } = await start();
  server.silent.add('mkdir');
  const first = link.call('mkdir', newDirectory);
  const second = link.call('mkdir', newDirectory);
  const read = link.call('getattr', { ino: ROOT_INO });
  t.equal((await read).ino, ROOT_INO);
  server.cut();
  await turns();
  server.silent.clear();
  await server.clock.advance(limits.reconnectMaxMs);
  await Promise.all([first, second]);
  const third = link.call('mkdir', newDirectory);
  await third;
  await turns();
  const mutations = server.calls.filter((call) => call.startsWith('mkdir'));
  t.same(mutations, ['mkdir 1/1', 'mkdir 2/1', 'mkdir 1/1', 'mkdir 2/1', 'mkdir 3/3']);
  t.equal(link.outstanding, 0);
  await server.clock.advance(limits.heartbeatMs);
  await turns();
  t.ok(server.calls.some((call) => call.startsWith('heartbeat<4')));
});

t.test('a lost session fails sent mutations with EIO and sends the rest under the new one', async (t) => {
  const { server, link, lost } = await start();
  server.silent.add('mkdir');
  const sent = link.call('mkdir', newDirectory);
  sent.catch(() => {});
  await turns();
  server.refuses = true;
  server.cut();
  await turns();
  const unsent = link.call('mkdir', newDirectory);
  server.silent.clear();
  server.expired = true;
  server.refuses = false;
  await server.clock.advance(limits.reconnectMaxMs);
  await t.rejects(sent, { code: 'EIO' });
  await unsent;
  t.same(lost, [1]);
  t.same(
    server.calls.filter((call) => call.startsWith('mkdir')),
    ['mkdir 1/1', 'mkdir 1/1'],
    'numbers start over with the session',
  );
});

t.test(
  'calls end with EIO when the server cannot be reached, ETIMEDOUT when it does not answer',
  async (t) => {
    const { server, link } = await start(3_000);
    server.silent.add('getattr');
    const unanswered = link.call('getattr', { ino: ROOT_INO });
    unanswered.catch(() => {});
    await turns();
    await server.clock.advance(3_100);
    await t.rejects(unanswered, { code: 'ETIMEDOUT' });
    server.refuses = true;
    server.cut();
    await turns();
    const unreachable = link.call('getattr', { ino: ROOT_INO });
    unreachable.catch(() => {});
    await server.clock.advance(3_200);
    await t.rejects(unreachable, { code: 'EIO' });
    t.equal(link.outstanding, 0);
  },
);

t.test(
  'a call that was given up is over when its answer has come late, or cannot come any more',
  async (t) => {
    const { server, link } = await start(3_000);
    server.silent.add('mkdir');
    const said: string[] = [];
    let interrupt = (): void => {};
    const mkdir = (): Promise<unknown> =>
      link
        .call('mkdir', newDirectory, {
          request: {
            interrupted: false,
            onInterrupt: (listener) => {
              interrupt = listener;
              return () => {};
            },
          },
          onLate: () => said.push('late'),
          onOver: () => said.push('over'),
        })
        .catch((error: FsError) => said.push(error.code));
    const interrupted = mkdir();
    await turns();
    interrupt();
    await server.clock.advance(limits.interruptGraceMs);
    await interrupted;
    await turns();
    t.same(said.splice(0), ['EINTR'], 'it may be carried out yet');
    server.answer();
    await turns();
    t.same(said.splice(0), ['late', 'over']);

    const expired = mkdir();
    await turns();
    await server.clock.advance(3_100);
    await expired;
    await turns();
    t.same(
      [...new Set(said.splice(0))].sort(),
      ['ETIMEDOUT', 'over'],
      'the server is told that nobody waits',
    );

    const cut = mkdir();
    await turns();
    interrupt();
    await server.clock.advance(limits.interruptGraceMs);
    await cut;
    t.same(said.splice(0), ['EINTR']);
    server.cut();
    await turns();
    t.same(said.splice(0), ['over'], 'over a connection that is gone nothing comes');
  },
);

t.test('a newer map that a heartbeat tells of is fetched', async (t) => {
  const { server, maps } = await start();
  server.mapEpoch = 7;
  await server.clock.advance(limits.heartbeatMs);
  await turns();
  t.same(maps, [1, 7]);
});

t.test('a closed link fails what is outstanding and everything after', async (t) => {
  const { server, link } = await start();
  server.silent.add('getattr');
  const outstanding = link.call('getattr', { ino: ROOT_INO });
  outstanding.catch(() => {});
  await link.close();
  await t.rejects(outstanding, { code: 'EIO' });
  await t.rejects(link.call('getattr', { ino: ROOT_INO }), { code: 'EIO' });
});
