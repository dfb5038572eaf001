import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { BadLink } from './bad-link.js';

/** A client and a server with a link between them; both ends of the connection. */
async function linked(t: Test): Promise<{ link: BadLink; client: Socket; served: Socket }> {
  const server: Server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const link = await BadLink.start(address.port);
  t.teardown(() => link.stop());
  const accepted = once(server, 'connection');
  const client = connect(link.port, '127.0.0.1');
  const [served] = (await accepted) as [Socket];
  return { link, client, served };
}

t.test('while a link is frozen neither bytes nor the end of the other side come through', async (t) => {
  const { link, client, served } = await linked(t);
  let text = '';
  let isClosed = false;
  client.on('data', (bytes) => {
    text += String(bytes);
  });
  const closed = once(client, 'close').then(() => {
    isClosed = true;
  });
  link.freeze();
  served.write('late');
  await sleep(30);
  served.destroy();
  await sleep(100);
  t.equal(text, '');
  t.notOk(isClosed, 'that a server was killed is not known yet');
  link.thaw();
  await closed;
});

t.test('a link that is not frozen tells of an end at once, and so does a cut', async (t) => {
  const [one, two] = [await linked(t), await linked(t)];
  const closed = [once(one.client, 'close'), once(two.client, 'close')];
  one.served.destroy();
  two.link.freeze();
  two.link.cut();
  await Promise.all(closed);
  t.pass('both clients know');
});
