import t from 'tap';
import { Prng } from '../../src/base/prng.js';

t.test('the same seed gives the same numbers', async (t) => {
  const first = new Prng(7);
  const second = new Prng(7);
  t.same(
    Array.from({ length: 100 }, () => first.int(0, 1000)),
    Array.from({ length: 100 }, () => second.int(0, 1000)),
  );
});

t.test('integers stay within their bounds, which are both reached', async (t) => {
  const prng = new Prng(1);
  const seen = new Set(Array.from({ length: 1000 }, () => prng.int(3, 6)));
  t.same([...seen].sort(), [3, 4, 5, 6]);
});
