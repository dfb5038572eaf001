import t from 'tap';
import { findProblems, healthLine } from '../../src/cmd/health.js';
import type { ServerState } from '../../src/proto/cluster-map.js';
import { asClusterId, asServerId } from '../../src/proto/ids.js';
import type { Status } from '../../src/proto/meta-methods.js';

function statusWith(states: readonly ServerState[], extra: Partial<Status> = {}): Status {
  return {
    clusterId: asClusterId('00000000-0000-4000-8000-000000000000'),
    formatVersion: 1,
    startedAt: { sec: 0, nsec: 0 },
    map: {
      clusterId: asClusterId('00000000-0000-4000-8000-000000000000'),
      epoch: 1,
      groups: 256,
      replicas: 2,
      servers: states.map((state, index) => ({
        id: asServerId(`00000000-0000-4000-8000-00000000000${index}`),
        url: `ws://127.0.0.1:${index + 1}`,
        host: 'h',
        rack: '',
        weight: 1,
        state,
        capacityBytes: 100,
        usedBytes: 1,
      })),
    },
    inodes: 1,
    orphans: 0,
    chunks: 0,
    referencedBytes: 0,
    chunkBytes: 0,
    sessions: [],
    tasks: [],
    ...extra,
  };
}

t.test('a cluster with all its servers up is healthy', async (t) => {
  t.equal(healthLine(statusWith(['up', 'up', 'up'])), 'healthy');
});

t.test('what is wrong is said, server by server', async (t) => {
  t.equal(
    healthLine(statusWith(['up', 'down', 'full'])),
    'degraded: 1 of 3 chunk servers down (ws://127.0.0.1:2); 1 of 3 chunk servers full (ws://127.0.0.1:3)',
  );
  t.match(healthLine(statusWith([])), /no chunk server has joined/);
  t.match(healthLine(statusWith(['up'])), /1 chunk server for 2 replicas/);
});

t.test('a failed task is a problem, a running one is not', async (t) => {
  const task = { id: 1, kind: 'sweep', server: null, done: 0, total: 1, attempts: 1 };
  t.same(findProblems(statusWith(['up', 'up'], { tasks: [{ ...task, state: 'running' }] })), []);
  t.same(findProblems(statusWith(['up', 'up'], { tasks: [{ ...task, state: 'failed' }] })), [
    '1 task failed',
  ]);
});
