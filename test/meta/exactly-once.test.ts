import t, { type Test } from 'tap';
import { Prng } from '../../src/base/prng.js';
import { ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { ProtocolError } from '../../src/proto/protocol-error.js';
import { type Client, createArgs, name, owner, Rig } from './rig.js';

const mountInfo = { host: 'h', pid: 8, mountpoint: '/m' };

async function resumed(rig: Rig, mount: Client): Promise<Client> {
  const next = rig.connect();
  next.session = await next.call('openSession', { ...mountInfo, resume: mount.ticket });
  return next;
}

t.test('a mutation sent again is answered with the first reply', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const first = await mount.call('create', createArgs('a'), { sequence: 5 });
  t.strictSame(await mount.call('create', createArgs('a'), { sequence: 5 }), first);
  await t.rejects(mount.call('create', createArgs('a'), { sequence: 6 }), { code: 'EEXIST' });
  t.match(await rig.status(), { inodes: 2 });
});

t.test('a mutation sent twice in one breath runs once', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const replies = await Promise.all(
    [1, 1, 1].map((sequence) => mount.call('create', createArgs('a'), { sequence })),
  );
  t.strictSame(replies[1], replies[0]);
  t.strictSame(replies[2], replies[0]);
});

t.test('an errno is kept like a reply', async (t) => {
  const rig = new Rig(t);
  const [mount, other] = [await rig.mount(), await rig.mount()];
  await other.create('a');
  await t.rejects(mount.call('create', createArgs('a'), { sequence: 1 }), { code: 'EEXIST' });
  await other.unlink('a');
  await t.rejects(mount.call('create', createArgs('a'), { sequence: 1 }), { code: 'EEXIST' });
  t.equal(await mount.call('create', createArgs('a'), { sequence: 2 }).then((reply) => reply.created), true);
});

t.test('replies survive a reconnect and a restart, bytes included', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const target = Buffer.from([0xff, 0x2f, 0x00 + 1]);
  const args = { parent: ROOT_INO, name: name('l'), owner, target };
  const first = await mount.call('symlink', args, { sequence: 1 });
  await t.rejects(mount.unlink('missing'), { code: 'badMessage' }, 'number 1 was another method');
  await t.rejects(mount.call('rmdir', { parent: ROOT_INO, name: name('l') }, { sequence: 2 }), {
    code: 'ENOTDIR',
  });
  const second = await resumed(rig, mount);
  t.strictSame(await second.call('symlink', args, { sequence: 1 }), first);
  await rig.restart();
  const third = await resumed(rig, second);
  t.strictSame(await third.call('symlink', args, { sequence: 1 }), first);
  await t.rejects(third.call('rmdir', { parent: ROOT_INO, name: name('l') }, { sequence: 2 }), {
    code: 'ENOTDIR',
  });
  t.strictSame(await third.call('readlink', { ino: first.ino }), { target });
});

t.test('sessions do not see one another’s replies', async (t) => {
  const rig = new Rig(t);
  const [mount, other] = [await rig.mount(), await rig.mount()];
  await mount.call('create', createArgs('a'), { sequence: 1 });
  await t.rejects(other.call('create', createArgs('a'), { sequence: 1 }), { code: 'EEXIST' });
});

t.test('what is finished with is forgotten, and cannot be sent again', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  for (let sequence = 1; sequence <= 300; sequence++)
    await mount.call('create', createArgs(`f${sequence}`), { sequence, finishedBelow: sequence });
  const kept = rig.store.keptReplies(mount.ticket.session);
  t.ok(kept.count < 130, `${kept.count} replies are kept`);
  await t.rejects(mount.call('create', createArgs('f1'), { sequence: 1 }), { code: 'replayed' });
  await mount.call('heartbeat', { finishedBelow: 500 });
  t.equal(rig.store.keptReplies(mount.ticket.session).count, 0);
});

t.test('a session that never finishes anything is refused at last', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const args = { parent: ROOT_INO, name: name('none') };
  const send = (sequence: number): Promise<unknown> => mount.call('unlink', args, { sequence });
  for (let sequence = 1; sequence <= limits.repliesPerSession; ) {
    const burst: Promise<unknown>[] = [];
    for (let count = 0; count < 512; count++) burst.push(send(sequence++).catch(() => {}));
    await Promise.all(burst);
  }
  await t.rejects(send(limits.repliesPerSession + 1), { code: 'busy' });
  await mount.call('heartbeat', { finishedBelow: limits.repliesPerSession });
  await t.rejects(send(limits.repliesPerSession + 1), { code: 'ENOENT' });
});

t.test('a mutation without a sequence number is refused', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  await t.rejects(mount.call('create', createArgs('a')), { code: 'badMessage' });
});

/** Sends mutations until each is answered, over connections that are cut again and again. */
class StubbornMount {
  readonly #rig: Rig;
  readonly #prng: Prng;
  #client: Client | undefined;
  #ticket: Client['ticket'] | undefined;
  reconnects = 0;

  constructor(rig: Rig, prng: Prng) {
    this.#rig = rig;
    this.#prng = prng;
  }

  /** The errno, or the reply, of the one execution. */
  async create(sequence: number): Promise<unknown> {
    for (;;) {
      try {
        const client = await this.#connected();
        const finishedBelow = Math.max(0, sequence - 8);
        return await client.call('create', createArgs(`f${sequence}`), { sequence, finishedBelow });
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        if (!['disconnected', 'cancelled', 'busy'].includes(error.code)) throw error;
        if (this.#client?.peer.closed === true) this.#client = undefined;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  }

  #connecting: Promise<Client> | undefined;

  #connected(): Promise<Client> {
    if (this.#client?.peer.closed === false) return Promise.resolve(this.#client);
    this.#connecting ??= this.#reconnect().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #reconnect(): Promise<Client> {
    this.reconnects += 1;
    const client = this.#rig.connect({ prng: this.#prng, cutProbability: 0.03 });
    const resume = this.#ticket === undefined ? {} : { resume: this.#ticket };
    try {
      const { session, token } = await client.call('openSession', { ...mountInfo, ...resume });
      this.#ticket = { session, token };
      this.#client = client;
      return client;
    } catch (error) {
      client.peer.close('no answer');
      throw error;
    }
  }
}

async function everythingOnce(t: Test, seed: number): Promise<void> {
  const rig = new Rig(t);
  const prng = new Prng(seed);
  const mount = new StubbornMount(rig, prng);
  const replies: unknown[] = [];
  for (let sequence = 1; sequence <= 240; sequence += 8) {
    const burst = Array.from({ length: 8 }, (_, index) => mount.create(sequence + index));
    if (prng.int(1, 8) === 1) await rig.restart();
    replies.push(...(await Promise.all(burst)));
  }
  t.strictSame(
    replies.filter((reply) => !isCreated(reply)),
    [],
  );
  t.match(await rig.status(), { inodes: 241 });
  t.ok(mount.reconnects > 5, `${mount.reconnects} connections`);
}

function isCreated(reply: unknown): boolean {
  return typeof reply === 'object' && reply !== null && 'created' in reply && reply.created === true;
}

t.test('over connections that break and servers that restart, everything happens once', async (t) => {
  for (let seed = 1; seed <= 4; seed++) await t.test(`seed ${seed}`, (t) => everythingOnce(t, seed));
});
