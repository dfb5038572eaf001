/**
 * Mounts that answer for what they do not have, say everything twice, act for others, or never stop: each is
 * refused with a code of its own, logged once a minute, and harms nobody else.
 */
import t, { type Test } from 'tap';
import { setLogLevel } from '../../src/base/log.js';
import { asFencingToken, asSessionId, type Ino, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { decodeFrame, encodeRequest, type Frame } from '../../src/rpc/frame.js';
import { memoryTransportPair } from '../../src/rpc/memory-transport.js';
import { type Client, commitArgs, createArgs, Rig } from './rig.js';

const leases = { leases: true };
const mountInfo = { host: 'h', pid: 8, mountpoint: '/m' };

interface Held {
  readonly ino: Ino;
  readonly epoch: number;
}

async function lease(mount: Client, ino: Ino): Promise<Held> {
  const epoch = (await mount.call('getattr', { ino })).lease;
  if (epoch === undefined) throw new Error('no lease was granted');
  return { ino, epoch };
}

const give = (mount: Client, ...held: Held[]): Promise<unknown> =>
  mount.call('returnLeases', { leases: held });

/** A file, a mount that has a lease for it, one that would like to change it, and one that is up to no good. */
class Scene {
  private constructor(
    readonly rig: Rig,
    readonly holder: Client,
    readonly other: Client,
    readonly rogue: Client,
    readonly held: Held,
  ) {}

  static async begin(t: Test): Promise<Scene> {
    const rig = new Rig(t);
    const [holder, other, rogue] = [
      await rig.mount('/holder', leases),
      await rig.mount('/other', leases),
      await rig.mount('/rogue', leases),
    ];
    // Who makes a file has it to itself at first.
    const ino = await (await rig.mount('/maker')).create('f');
    return new Scene(rig, holder, other, rogue, await lease(holder, ino));
  }

  /** The holder's lease is in force: another's change waits for the holder, and for nobody else. */
  async checkUnharmed(t: Test): Promise<void> {
    let isDone = false;
    const changing = this.other.do('setattr', { ino: this.held.ino, set: { mode: 0o600 } });
    changing.then(
      () => {
        isDone = true;
      },
      () => {},
    );
    await this.rig.pass(200);
    t.notOk(isDone, 'the lease is in force');
    t.strictSame(this.holder.recalls, [this.held]);
    await give(this.holder, this.held);
    await changing;
    this.rig.server.checkInvariants();
  }
}

/** The log's lines with this in them, from now on. */
function logLines(t: Test): (part: string) => string[] {
  setLogLevel('warn');
  const written = t.capture(process.stderr, 'write', () => true);
  const lines: string[] = [];
  t.teardown(() => setLogLevel('error'));
  return (part) => {
    lines.push(...written().map(({ args }) => String(args[0])));
    return lines.filter((line) => line.includes(part));
  };
}

t.test('a lease that is given back twice', async (t) => {
  const scene = await Scene.begin(t);
  const own = await lease(scene.rogue, scene.held.ino);
  await give(scene.rogue, own);
  await t.rejects(give(scene.rogue, own), { code: 'leaseGone' });
  const next = await lease(scene.rogue, scene.held.ino);
  await t.rejects(give(scene.rogue, own), { code: 'leaseGone' }, 'nor is the next one ended');
  t.not(next.epoch, own.epoch);
  await give(scene.rogue, next);
  await scene.checkUnharmed(t);
});

t.test('leases of others, and such as there never were', async (t) => {
  const scene = await Scene.begin(t);
  const { rogue, held } = scene;
  await t.rejects(give(rogue, held), { code: 'notHolder' });
  await t.rejects(give(rogue, { ...held, epoch: Number.MAX_SAFE_INTEGER }), { code: 'notHolder' });
  const own = await lease(rogue, held.ino);
  await t.rejects(give(rogue, held, own), { code: 'notHolder' });
  await t.rejects(give(rogue, own), { code: 'leaseGone' }, 'what was its own was given back');
  await scene.checkUnharmed(t);
});

t.test('all leases of a session that resumes nothing', async (t) => {
  const scene = await Scene.begin(t);
  for (const mount of [scene.rogue, scene.holder])
    await mount.call('returnLeases', { leases: [], all: true });
  await scene.checkUnharmed(t);
});

t.test('leases of nobody', async (t) => {
  const scene = await Scene.begin(t);
  await t.rejects(give(scene.rig.connect(), scene.held), { code: 'notAllowed' });
  await scene.rogue.call('closeSession', {});
  await t.rejects(give(scene.rogue, scene.held), { code: 'sessionLost' });
  const chunkServer = scene.rig.connect();
  await t.rejects(chunkServer.call('returnLeases', { leases: [], all: true }), { code: 'notAllowed' });
  await scene.checkUnharmed(t);
});

t.test('messages with more leases than may be, and with none that is one', async (t) => {
  const scene = await Scene.begin(t);
  const many = Array.from({ length: limits.leasesPerMessage + 1 }, () => scene.held);
  await t.rejects(give(scene.rogue, ...many), { code: 'badMessage' });
  await t.rejects(give(scene.rogue, { ...scene.held, epoch: -1 }), { code: 'badMessage' });
  await scene.checkUnharmed(t);
});

t.test('a flood of returns ends with the connection', async (t) => {
  const scene = await Scene.begin(t);
  const lines = logLines(t);
  const { rogue, held } = scene;
  const codes = new Map<string, number>();
  for (let round = 0; round < 20 && !rogue.peer.closed; round++) {
    const batch = Array.from({ length: 200 }, () =>
      give(rogue, ...Array.from({ length: 20 }, () => held)).catch((error: { code: string }) => {
        codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
      }),
    );
    await Promise.all(batch);
  }
  t.ok(rogue.peer.closed);
  t.strictSame([...codes.keys()].sort(), ['disconnected', 'notHolder']);
  t.ok((codes.get('notHolder') ?? 0) <= limits.refusalsPerMinute);
  t.equal(lines('notHolder').length, 1);
  await scene.checkUnharmed(t);
});

t.test('what is refused now and then costs nobody the connection', async (t) => {
  const scene = await Scene.begin(t);
  const { rig, rogue, held } = scene;
  for (let minute = 0; minute < 3; minute++) {
    const wrong = Array.from({ length: limits.refusalsPerMinute / 2 }, () => give(rogue, held));
    const codes = await Promise.all(wrong.map((call) => call.catch((error: { code: string }) => error.code)));
    t.strictSame([...new Set(codes)], ['notHolder']);
    for (let seconds = 0; seconds < 60; seconds += 5) {
      await rig.pass(5000);
      for (const mount of [rogue, scene.holder, scene.other])
        await mount.call('heartbeat', { finishedBelow: 0 });
    }
  }
  t.notOk(rogue.peer.closed);
  await scene.checkUnharmed(t);
});

t.test('a flood of requests is refused beyond what may wait, and others are served in between', async (t) => {
  const scene = await Scene.begin(t);
  const lines = logLines(t);
  const [here, there] = memoryTransportPair();
  scene.rig.server.accept(there);
  const frames: Frame[] = [];
  here.onClose = () => {};
  here.onFrame = (bytes) => frames.push(decodeFrame(bytes));
  let id = 1;
  const send = (method: string, args: object): void =>
    here.send(
      encodeRequest({
        id: id++,
        method,
        args,
        sequence: undefined,
        finishedBelow: undefined,
        bulk: undefined,
      }),
    );
  send('openSession', { ...mountInfo, leases: true });
  await scene.rig.pass(1);
  t.equal(frames.length, 1);
  const sent = 2 * limits.callsPerConnection;
  for (let count = 0; count < sent; count++) send('getattr', { ino: ROOT_INO });
  await new Promise((resolve) => setImmediate(resolve));
  await scene.other.call('getattr', { ino: scene.held.ino });
  const served = frames.filter((frame) => frame.kind === 'reply').length - 1;
  t.ok(served <= 3 * limits.batchRequests, `${served} of the flood were served before another’s call`);
  while (frames.length < sent + 1) await new Promise((resolve) => setImmediate(resolve));
  const refused = frames.flatMap((frame) => (frame.kind === 'error' ? [frame.failure] : []));
  t.ok(refused.length >= limits.callsPerConnection - 100, `${refused.length} were refused`);
  t.strictSame([...new Set(refused.map((failure) => 'code' in failure && failure.code))], ['busy']);
  t.equal(lines('busy').length, 1);
  await scene.checkUnharmed(t);
});

t.test('a commit under a token that is not the newest', async (t) => {
  const scene = await Scene.begin(t);
  const lines = logLines(t);
  const { rig, rogue } = scene;
  const ino = await rogue.create('mine');
  const chunk = await rogue.reserveChunks(1);
  const next = rig.connect();
  const resumed = next.call('openSession', { ...mountInfo, resume: rogue.ticket });
  const late = rogue.call('commit', commitArgs(ino, chunk, 10), { sequence: rogue.nextSequence });
  await t.rejects(late, { message: /fenced/ });
  await resumed;
  t.ok(rogue.peer.closed);
  t.equal(lines('"fenced"').length, 1);
  t.equal((await next.call('getattr', { ino })).size, 0);
  await next.call('heartbeat', { finishedBelow: 0 });
  await t.rejects(rig.connect().call('openSession', { ...mountInfo, resume: rogue.ticket }), {
    code: 'fenced',
  });
  await scene.checkUnharmed(t);
});

t.test('a commit that is sent again', async (t) => {
  const scene = await Scene.begin(t);
  const { rig, rogue } = scene;
  const ino = await rogue.create('mine');
  const chunk = await rogue.reserveChunks(2);
  const first = rogue.nextSequence++;
  const reply = await rogue.call('commit', commitArgs(ino, chunk, 10), { sequence: first });
  await rogue.do('setattr', { ino, set: { size: 3 } });
  t.strictSame(await rogue.call('commit', commitArgs(ino, chunk, 10), { sequence: first }), reply);
  t.equal((await rogue.call('getattr', { ino })).size, 3, 'it was not carried out again');
  const back = await rig.resume(rogue);
  t.strictSame(await back.call('commit', commitArgs(ino, chunk, 10), { sequence: first }), reply);
  await back.call('heartbeat', { finishedBelow: first + limits.repliesPrunedAtOnce });
  await t.rejects(back.call('commit', commitArgs(ino, chunk, 10), { sequence: first }), { code: 'replayed' });
  t.equal((await back.call('getattr', { ino })).size, 3);
  await scene.checkUnharmed(t);
});

t.test('another’s session', async (t) => {
  const scene = await Scene.begin(t);
  const { rig, holder, rogue } = scene;
  const lines = logLines(t);
  const claim = (token: number, session = holder.ticket.session): Promise<unknown> =>
    rig.connect().call('openSession', { ...mountInfo, resume: { session, token: asFencingToken(token) } });
  for (const token of [1, 2, rogue.ticket.token, holder.ticket.token + 2 ** 20])
    await t.rejects(claim(token), { code: 'notYours' });
  await t.rejects(claim(1, asSessionId(4711)), { code: 'sessionLost' });
  t.notOk(holder.peer.closed);
  await holder.call('heartbeat', { finishedBelow: 0 });
  t.equal(lines('"notYours"').length, 1);
  t.notOk(
    lines('').some((line) => line.includes(String(holder.ticket.token))),
    'no token is in the log',
  );
  await scene.checkUnharmed(t);
});

t.test('each kind is logged once a minute for each session', async (t) => {
  const scene = await Scene.begin(t);
  const lines = logLines(t);
  const { rig, rogue, other, held } = scene;
  const own = await lease(rogue, held.ino);
  await give(rogue, own);
  const wrong = async (mount: Client): Promise<void> => {
    for (let count = 0; count < 10; count++) {
      await t.rejects(give(mount, held), { code: 'notHolder' });
      await t.rejects(give(mount, own), { code: 'leaseGone' });
    }
  };
  await wrong(rogue);
  t.equal(lines('a call is refused').length, 2);
  await wrong(other);
  t.equal(lines('a call is refused').length, 4);
  for (let seconds = 0; seconds < 60; seconds += 5) {
    await rig.pass(5000);
    for (const mount of [rogue, scene.holder, other]) await mount.call('heartbeat', { finishedBelow: 0 });
  }
  await wrong(rogue);
  t.match(lines('a call is refused').slice(4), [/notHolder.*"unsaid":9/, /leaseGone.*"unsaid":9/]);
  t.equal(lines('a call is refused').length, 6);
  await t.rejects(rogue.call('create', createArgs('x')), { code: 'badMessage' });
  t.equal(lines('badMessage').length, 1);
});

t.test('a mount that never answers is logged, and others wait for it no longer than it may', async (t) => {
  const scene = await Scene.begin(t);
  const lines = logLines(t);
  const { rig, holder, other, held } = scene;
  const changing = other.do('setattr', { ino: held.ino, set: { mode: 0o600 } });
  for (let seconds = 0; seconds < 22; seconds++) {
    await rig.pass(1000);
    for (const mount of [holder, other])
      if (!mount.peer.closed) await mount.call('heartbeat', { finishedBelow: 0 });
  }
  await changing;
  t.equal(lines('does not return leases').length, 1);
  t.equal(lines('is silent').length, 1);
});
