import t from 'tap';
import { compareTimespec, type Timespec } from '../../src/base/clock.js';
import { ServerClock } from '../../src/client/server-clock.js';
import { ManualClock } from '../rpc/manual-clock.js';

t.test('times are the server’s, to half a round trip', async (t) => {
  const clock = new ManualClock();
  await clock.advance(10_000);
  const server = new ServerClock(clock);
  server.observe({ sec: 500, nsec: 0 }, 20);
  t.same(server.now(), { sec: 500, nsec: 10_000_000 });
  server.observe({ sec: 900, nsec: 0 }, 2_000);
  t.equal(server.now().sec, 500, 'a slower answer says less');
  await clock.advance(1_000);
  t.same(server.now(), { sec: 501, nsec: 10_000_000 });
});

t.test('now never goes back, and comes after every time that the server was seen to set', (t) => {
  const clock = new ManualClock();
  const server = new ServerClock(clock);
  server.observe({ sec: 100, nsec: 0 }, 1);
  let last: Timespec = server.now();
  server.observe({ sec: 99, nsec: 0 }, 0);
  for (let step = 0; step < 5; step++) {
    const now = server.now();
    t.ok(compareTimespec(now, last) > 0);
    last = now;
  }
  server.seen({ sec: 100, nsec: 900_000_000 });
  t.ok(compareTimespec(server.now(), { sec: 99, nsec: 900_000_000 }) > 0);
  server.seen({ sec: 5_000, nsec: 0 });
  t.ok(server.now().sec < 200, 'a time set on purpose in the far future does not move the clock');
  t.end();
});
