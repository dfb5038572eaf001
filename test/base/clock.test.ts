import t from 'tap';
import { compareTimespec, systemClock } from '../../src/base/clock.js';

t.test('wall time has nanoseconds, never runs backwards here and agrees with Date', async (t) => {
  let last = systemClock.now();
  for (let count = 0; count < 1000; count++) {
    const now = systemClock.now();
    t.ok(compareTimespec(now, last) >= 0) || t.bailout('time ran backwards');
    last = now;
  }
  t.ok(Math.abs(last.sec * 1000 + last.nsec / 1e6 - Date.now()) < 50);
});

t.test('a cancelled timer does not fire', async (t) => {
  let fired = 0;
  const timer = systemClock.after(5, () => fired++);
  systemClock.after(5, () => (fired += 10));
  timer.cancel();
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.equal(fired, 10);
});
