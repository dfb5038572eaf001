/**
 * What goes wrong in a simulation, and when: connections cut and stalled, processes frozen, the metadata
 * server killed and started again. Everything is well again when `run` has come to its end.
 */
import type { Prng } from '../../src/base/prng.js';
import { limits } from '../../src/proto/limits.js';
import type { SimCluster, SimMount } from './cluster.js';
import type { SimNode } from './scheduler.js';

/** A connection whose other side was silent for this long is given up. */
const SILENT_MS = limits.pingIntervalMs * limits.silentPings;

type Fault = (cluster: SimCluster, prng: Prng) => Promise<string>;

async function freeze(cluster: SimCluster, node: SimNode, ms: number): Promise<void> {
  const { scheduler, network, trace } = cluster;
  if (node.frozen || node.crashed) return;
  trace.note(node.name, `is frozen for ${ms} ms`);
  scheduler.freeze(node);
  const world = cluster.world;
  const silentMs = SILENT_MS + (ms % limits.pingIntervalMs);
  if (ms > silentMs) {
    await scheduler.sleep(silentMs, world);
    network.cutAll(node, 'silent for too long');
    await scheduler.sleep(ms - silentMs, world);
  } else await scheduler.sleep(ms, world);
  trace.note(node.name, 'thaws');
  scheduler.thaw(node);
}

/** Waits for the next answer to a mutation, of `node` or anybody, and has it lost; false: none came in time. */
async function loseAnswer(
  cluster: SimCluster,
  node: SimNode | undefined,
  lose: () => void,
): Promise<boolean> {
  const { network, scheduler, world } = cluster;
  let isLost = false;
  const trap = (_from: unknown, to: { readonly node: SimNode }): boolean => {
    if (isLost || (node !== undefined && to.node !== node)) return false;
    isLost = true;
    lose();
    return true;
  };
  network.traps.add(trap);
  for (let waited = 0; waited < 100 && !isLost; waited++) await scheduler.sleep(50, world);
  network.traps.delete(trap);
  return isLost;
}

/** A mount; one that is ahead of the server, if there is any. */
function victim(cluster: SimCluster, prng: Prng): SimMount {
  const ahead = cluster.mounts.filter(({ node }) => cluster.logical.isAhead(node.name));
  return prng.pick(ahead.length > 0 ? ahead : cluster.mounts);
}

/** Waits until some mount is ahead of the server, for a while. */
async function untilAhead({ mounts, logical, scheduler, world }: SimCluster): Promise<void> {
  for (let waited = 0; waited < 1500; waited++) {
    if (mounts.some(({ node }) => logical.isAhead(node.name))) return;
    await scheduler.sleep(2, world);
  }
}

const FAULTS: { readonly weight: number; readonly fault: Fault }[] = [
  {
    weight: 4,
    fault: async (cluster, prng) => {
      const { node } = victim(cluster, prng);
      cluster.network.cut(node, cluster.meta.node, 'cut');
      return `${node.name} is cut from the metadata server`;
    },
  },
  {
    weight: 1,
    fault: async (cluster, prng) => {
      const [{ node }, server] = [prng.pick(cluster.mounts), prng.pick(cluster.chunkServers)];
      cluster.network.cut(node, server.node, 'cut');
      return `${node.name} is cut from ${server.node.name}`;
    },
  },
  {
    weight: 3,
    fault: async (cluster, prng) => {
      const { node } = victim(cluster, prng);
      const ms = prng.pick([prng.int(50, 3000), prng.int(3000, 11_000)]);
      cluster.network.stall(node, cluster.meta.node, ms);
      return `${node.name} and the metadata server do not hear each other for ${ms} ms`;
    },
  },
  {
    weight: 5,
    fault: async (cluster, prng) => {
      const { node } = victim(cluster, prng);
      const ms = prng.pick([prng.int(500, 8000), prng.int(9000, 14_000), prng.int(25_000, 45_000)]);
      await freeze(cluster, node, ms);
      return `${node.name} was frozen for ${ms} ms`;
    },
  },
  {
    weight: 1,
    fault: async (cluster, prng) => {
      const { node } = prng.pick(cluster.chunkServers);
      const ms = prng.int(500, 15_000);
      await freeze(cluster, node, ms);
      return `${node.name} was frozen for ${ms} ms`;
    },
  },
  {
    weight: 4,
    fault: async (cluster, prng) => {
      const mount = victim(cluster, prng);
      const ms = prng.pick([prng.int(1, 300), prng.int(300, 6000), prng.int(9000, 40_000)]);
      const { name, crashed } = mount.node;
      if (crashed) return 'no kill';
      cluster.killMount(mount);
      await cluster.scheduler.sleep(ms, cluster.world);
      await cluster.remount(name);
      return `${name} was away for ${ms} ms`;
    },
  },
  {
    weight: 1,
    fault: async (cluster, prng) => {
      const ms = prng.int(500, 12_000);
      const { node } = cluster.meta;
      await freeze(cluster, node, ms);
      return `the metadata server was frozen for ${ms} ms`;
    },
  },
  {
    weight: 3,
    fault: async (cluster, prng) => {
      const { node } = victim(cluster, prng);
      const isLost = await loseAnswer(cluster, node, () =>
        cluster.network.cut(node, cluster.meta.node, 'cut with an answer'),
      );
      return `${node.name} is cut with an answer: ${isLost}`;
    },
  },
  {
    weight: 3,
    fault: async (cluster, prng) => {
      const ms = prng.int(1, 1000);
      if (cluster.meta.node.frozen) return 'no crash';
      const isLost = await loseAnswer(cluster, undefined, () => {
        if (!cluster.meta.node.crashed) cluster.crashMeta();
      });
      await cluster.scheduler.sleep(ms, cluster.world);
      if (isLost && cluster.meta.node.crashed) cluster.restartMeta();
      return `the metadata server crashes with an answer: ${isLost}`;
    },
  },
  {
    weight: 4,
    fault: async (cluster, prng) => {
      const ms = prng.pick([prng.int(1, 300), prng.int(300, 6000)]);
      if (cluster.meta.node.crashed || cluster.meta.node.frozen) return 'no crash';
      cluster.crashMeta();
      await cluster.scheduler.sleep(ms, cluster.world);
      if (cluster.meta.node.crashed) cluster.restartMeta();
      return `the metadata server was away for ${ms} ms`;
    },
  },
];

/** One fault after the other, each at its time; ends when all are over. */
export async function runFaults(
  cluster: SimCluster,
  prng: Prng,
  { count, withinMs }: { count: number; withinMs: number },
): Promise<void> {
  const chosen = FAULTS.flatMap(({ weight, fault }) => Array.from({ length: weight }, () => fault));
  await Promise.all(
    Array.from({ length: count }, async () => {
      await cluster.scheduler.sleep(prng.next() * withinMs, cluster.world);
      if (prng.next() < 0.5) await untilAhead(cluster);
      const fault = prng.pick(chosen);
      cluster.trace.note('fault', await fault(cluster, prng));
    }),
  );
}
