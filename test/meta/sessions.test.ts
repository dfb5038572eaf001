import t from 'tap';
import { ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { createArgs, name, Rig } from './rig.js';

const mountInfo = { host: 'h', pid: 8, mountpoint: '/again' };

t.test('a session lives as long as heartbeats come, and ends its time after the last', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  for (let beat = 0; beat < 12; beat++) {
    await rig.pass(limits.heartbeatMs);
    await mount.call('heartbeat', { finishedBelow: 0 });
  }
  t.match((await rig.status()).sessions, [{ connected: true, mountpoint: '/m', host: 'h', pid: 7 }]);
  await rig.pass(limits.sessionTtlMs - 1000);
  t.equal((await rig.status()).sessions.length, 1);
  await rig.pass(2000);
  t.equal((await rig.status()).sessions.length, 0);
  t.ok(mount.peer.closed, 'its connection is closed');
  await t.rejects(rig.connect().call('openSession', { ...mountInfo, resume: mount.ticket }), {
    code: 'sessionLost',
  });
});

t.test('resuming raises the token and closes the connection of the old one', async (t) => {
  const rig = new Rig(t);
  const old = await rig.mount();
  await old.create('a');
  const next = rig.connect();
  const reply = await next.call('openSession', { ...mountInfo, resume: old.ticket });
  t.equal(reply.session, old.ticket.session);
  t.equal(reply.token, old.ticket.token + 1);
  await old.gone();
  await next.call('create', createArgs('b'), { sequence: 2 });
  await t.rejects(rig.connect().call('openSession', { ...mountInfo, resume: old.ticket }), {
    code: 'fenced',
  });
  t.match((await rig.status()).sessions, [{ mountpoint: '/again', connected: true }]);
});

t.test('a request of the old token that is still under way is refused', async (t) => {
  const rig = new Rig(t);
  const old = await rig.mount();
  const next = rig.connect();
  const resumed = next.call('openSession', { ...mountInfo, resume: old.ticket });
  const late = old.call('create', createArgs('late'), { sequence: 1 });
  await t.rejects(late, { code: /fenced|disconnected/ });
  await resumed;
  await t.rejects(next.call('lookup', { parent: ROOT_INO, name: name('late') }), { code: 'ENOENT' });
});

t.test('a resume whose answers were lost can be repeated, until a new token was used', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const { session, token } = mount.ticket;
  await mount.call('heartbeat', { finishedBelow: 0 });
  const resume = async (from: typeof token) => {
    const client = rig.connect();
    const reply = await client.call('openSession', { ...mountInfo, resume: { session, token: from } });
    return { client, token: reply.token };
  };
  const second = await resume(token);
  await resume(token);
  const fourth = await resume(token);
  t.equal(fourth.token, token + 3);
  await fourth.client.call('heartbeat', { finishedBelow: 0 });
  for (const older of [token, second.token]) await t.rejects(resume(older), { code: 'fenced' });
  const fifth = await resume(fourth.token);
  t.equal(fifth.token, token + 4);
});

t.test('two resumes at once do not get the same token', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  await mount.create('a');
  const answers = await Promise.allSettled(
    [rig.connect(), rig.connect()].map((client) =>
      client.call('openSession', { ...mountInfo, resume: mount.ticket }),
    ),
  );
  const tokens = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value.token] : []));
  t.equal(new Set(tokens).size, tokens.length);
  t.ok(tokens.length > 0);
});

t.test('opening again on one connection gives the session that it has', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  const again = await mount.call('openSession', mountInfo);
  t.match(again, mount.ticket);
  t.equal((await rig.status()).sessions.length, 1);
});

t.test('nothing is done without a session', async (t) => {
  const rig = new Rig(t);
  const client = rig.connect();
  await t.rejects(client.call('create', createArgs('a'), { sequence: 1 }), { code: 'notAllowed' });
  await t.rejects(client.call('getattr', { ino: ROOT_INO }), { code: 'notAllowed' });
  await t.rejects(client.call('heartbeat', { finishedBelow: 0 }), { code: 'notAllowed' });
  await t.rejects(client.call('sync', {}), { code: 'notAllowed' });
  await client.call('statfs', {});
  await client.call('map', {});
});

t.test('closing a session releases what it has open and refuses what comes after', async (t) => {
  const rig = new Rig(t);
  const [mount, other] = [await rig.mount(), await rig.mount('/other')];
  for (let index = 0; index < 1200; index++) {
    await mount.create(`f${index}`);
    await other.unlink(`f${index}`);
  }
  t.match(await rig.status(), { inodes: 1201, orphans: 1200 });
  await mount.call('closeSession', {});
  t.match(await rig.status(), { inodes: 1, orphans: 0, sessions: [{ mountpoint: '/other' }] });
  await t.rejects(mount.create('x'), { code: 'sessionLost' });
  const fresh = await mount.call('openSession', mountInfo);
  t.not(fresh.session, mount.ticket.session, 'the connection may open another');
});

t.test('an expired session lets go of its orphans', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  await mount.create('a');
  await mount.unlink('a');
  t.match(await rig.status(), { orphans: 1 });
  await rig.pass(limits.sessionTtlMs + 2000);
  t.match(await rig.status(), { orphans: 0, inodes: 1, sessions: [] });
});

t.test('after a restart every session has its whole time again', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  await mount.create('a');
  await rig.pass(limits.sessionTtlMs - 2000);
  await rig.restart();
  await rig.pass(limits.sessionTtlMs - 2000);
  const back = rig.connect();
  const reply = await back.call('openSession', { ...mountInfo, resume: mount.ticket });
  t.equal(reply.token, mount.ticket.token + 1);
  t.match((await rig.status()).sessions, [{ openInodes: 1, connected: true }]);
  await rig.restart();
  await rig.pass(limits.sessionTtlMs + 1000);
  t.match(await rig.status(), { sessions: [], inodes: 2 });
});

t.test('a server that stood still blames nobody for it', async (t) => {
  const rig = new Rig(t);
  const mount = await rig.mount();
  rig.clock.jump(limits.sessionTtlMs * 2);
  await rig.pass(600);
  t.equal((await rig.status()).sessions.length, 1);
  await mount.call('heartbeat', { finishedBelow: 0 });
});
