/**
 * The figures that the server shows: statfs(2) for mounts, `leasefs status` for people.
 */
import type { MetaMethods, Status } from '../proto/meta-methods.js';
import type { ReplyOf } from '../proto/method.js';
import type { MetaParts } from './service.js';

/** Inodes are limited by their numbers alone: `inodes` is all that there can be. */
export function statfs({ store, cluster }: MetaParts): ReplyOf<MetaMethods['statfs']> {
  const { inodes } = store.counters();
  const freeInodes = Number.MAX_SAFE_INTEGER - store.nextId('inode') - inodes;
  return { ...cluster.space(), inodes: inodes + freeInodes, freeInodes };
}

export function status({ store, clock, sessions, cluster, tasks, startedAt }: MetaParts): Status {
  const nowMs = clock.monotonicMs();
  return {
    clusterId: store.filesystem.clusterId,
    formatVersion: store.filesystem.formatVersion,
    startedAt,
    map: cluster.map(),
    ...store.counters(),
    sessions: [...sessions.all()].map((session) => ({
      id: session.id,
      host: session.row.host,
      pid: session.row.pid,
      mountpoint: session.row.mountpoint,
      connected: session.connection !== undefined,
      expiresInMs: Math.round(session.expiresAtMs - nowMs),
      openInodes: store.openCount(session.id),
    })),
    tasks: tasks.status(),
  };
}
