import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Gate } from '../../src/chunk/gate.js';
import { SharedSync } from '../../src/chunk/shared-sync.js';
import { scratch } from './scratch.js';

t.test('callers who come while a sync runs share the next one', async (t) => {
  const path = scratch(t);
  const other = join(path, 'other');
  mkdirSync(other);
  const syncs = new SharedSync();
  const first = syncs.sync(path);
  const second = syncs.sync(path);
  const third = syncs.sync(path);
  t.not(second, first, 'the running one may have begun too early');
  t.equal(third, second, 'those who wait, wait together');
  t.not(syncs.sync(other), first, 'another directory is another matter');
  await Promise.all([first, second, third]);
  const later = syncs.sync(path);
  t.not(later, second);
  await later;
});

t.test('a sync that fails is told to those who waited for it, and the next one is tried', async (t) => {
  const path = join(scratch(t), 'missing');
  const syncs = new SharedSync();
  const first = syncs.sync(path);
  const second = syncs.sync(path);
  await t.rejects(first, { code: 'ENOENT' });
  await t.rejects(second, { code: 'ENOENT' });
  mkdirSync(path);
  await t.resolves(syncs.sync(path));
});

t.test('a gate lets its width through at once, the others in order, also past failures', async (t) => {
  const gate = new Gate(2);
  let running = 0;
  let most = 0;
  const begun: number[] = [];
  const results = await Promise.allSettled(
    [0, 1, 2, 3, 4, 5].map((index) =>
      gate.run(async () => {
        begun.push(index);
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 2));
        running--;
        if (index === 1) throw new Error('fails');
      }),
    ),
  );
  t.equal(most, 2);
  t.same(begun, [0, 1, 2, 3, 4, 5]);
  t.equal(results.filter((result) => result.status === 'rejected').length, 1);
});
