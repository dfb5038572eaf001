/** A short time of what `make deadlock` does for ten minutes: nobody waits for long, nothing hangs at the end. */
import t from 'tap';
import { percentileMs } from '../deadlock/call-times.js';
import { hammer } from '../deadlock/hammering.js';

const SECONDS = 20;
/** What a worker does seldom it does at least this often, or something is not tested. */
const LEAST = 20;
const KINDS = [
  ...['create', 'open', 'read', 'write', 'close', 'fsync', 'stat', 'fstat', 'readdir', 'chmod', 'truncate'],
  ...['ftruncate', 'rename', 'renameDirectory', 'link', 'unlink', 'mkdir', 'rmdir'],
  ...['mmap', 'mapRead', 'mapWrite', 'msync', 'munmap'],
];

t.test(
  'programs on two mounts that work on the same files do not wait for one another for ever',
  async (t) => {
    const { times, complaints, long, unmountMs } = await hammer(t, {
      ...{ seconds: SECONDS, workersPerMount: 3, seed: 1 },
    });
    t.same(complaints, [], JSON.stringify(long));
    t.same(
      KINDS.filter((kind) => (times[kind]?.count ?? 0) < LEAST),
      [],
      'everything was done',
    );
    for (const [kind, at] of Object.entries(times))
      t.comment(
        `${at.count} ${kind}: p99 ${percentileMs(at, 0.99).toFixed(1)} ms, longest ${at.longestMs.toFixed(0)} ms`,
      );
    t.comment(`unmounted in ${unmountMs.map((ms) => ms.toFixed(0)).join(' and ')} ms`);
  },
);
