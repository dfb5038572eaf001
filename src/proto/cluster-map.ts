/**
 * The cluster map and the placement that follows from it: the distributed hash table of chunks. A chunk id
 * falls into one of N placement groups (N fixed at format), a group onto R chunk servers by weighted
 * rendezvous hashing over every registered server, at most one per failure domain while there are enough
 * domains. No table of chunk locations exists.
 *
 * A server that is down or full keeps its place (its chunks stay where they are); writers avoid it by
 * choosing chunk ids whose group does not need it. Readers ask a group's replicas first and then every
 * other server in rendezvous order, so a chunk written under an earlier map is found as well.
 *
 * **Source:** Thaler & Ravishankar, "Using name-based mappings to increase hit rates" (rendezvous hashing);
 * the weighted form is -weight / ln(hash).
 */
import { type Static, Type } from '@sinclair/typebox';
import type { ChunkId } from './ids.js';
import { limits } from './limits.js';
import { tClusterId, tCount, tLabel, tServerId, tUrl } from './schema.js';

export const tServerState = Type.Union([Type.Literal('up'), Type.Literal('down'), Type.Literal('full')]);
export type ServerState = Static<typeof tServerState>;

export const tServerEntry = Type.Object({
  id: tServerId,
  url: tUrl,
  /** Failure domains, narrow and wide. */
  host: tLabel,
  rack: tLabel,
  /** Share of the data relative to other servers; > 0. */
  weight: Type.Number({ exclusiveMinimum: 0, maximum: 1e9 }),
  state: tServerState,
  capacityBytes: tCount,
  usedBytes: tCount,
});
export type ServerEntry = Static<typeof tServerEntry>;

export const tClusterMap = Type.Object({
  clusterId: tClusterId,
  /** Rises with every change of membership or state. */
  epoch: tCount,
  groups: Type.Integer({ minimum: 1, maximum: 65_536 }),
  replicas: Type.Integer({ minimum: 1, maximum: limits.replicas }),
  servers: Type.Array(tServerEntry, { maxItems: limits.servers }),
});
export type ClusterMap = Static<typeof tClusterMap>;

/** 32-bit mix of two numbers (murmur3's finaliser over both halves). */
function mix(a: number, b: number): number {
  let h = (a ^ 0x9e3779b9) >>> 0;
  for (const word of [b >>> 0, Math.floor(b / 2 ** 32) >>> 0]) {
    h = (h ^ word) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b) >>> 0;
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35) >>> 0;
    h = (h ^ (h >>> 16)) >>> 0;
  }
  return h;
}

function hashText(text: string): number {
  let h = 0x811c9dc5;
  for (let index = 0; index < text.length; index++)
    h = Math.imul(h ^ text.charCodeAt(index), 0x01000193) >>> 0;
  return h;
}

/** The placement group of a chunk, 0 <= group < groups. */
export function groupOfChunk(chunk: ChunkId, groups: number): number {
  return mix(0x6c656173, chunk) % groups;
}

export interface Placement {
  /** The servers that must hold a chunk of this group; fewer than R only when the cluster has fewer. */
  readonly replicas: readonly ServerEntry[];
  /** Every other server, in the order in which a reader should ask. */
  readonly others: readonly ServerEntry[];
}

/** Where chunks of `group` belong under `map`. Pure and the same on every machine. */
export function placeGroup(map: ClusterMap, group: number): Placement {
  const ranked = map.servers
    .map((server) => {
      const unit = (mix(hashText(server.id), group) + 0.5) / 2 ** 32;
      return { server, score: -server.weight / Math.log(unit) };
    })
    .sort((a, b) => b.score - a.score || (a.server.id < b.server.id ? -1 : 1))
    .map((entry) => entry.server);
  const replicas: ServerEntry[] = [];
  for (const apart of [differsInRack, differsInHost, differsAtAll]) {
    for (const server of ranked) {
      if (replicas.length === map.replicas) break;
      if (replicas.every((chosen) => apart(chosen, server))) replicas.push(server);
    }
  }
  return { replicas, others: ranked.filter((server) => !replicas.includes(server)) };
}

const differsInRack = (a: ServerEntry, b: ServerEntry): boolean => a.rack !== b.rack;
const differsInHost = (a: ServerEntry, b: ServerEntry): boolean => a.host !== b.host;
const differsAtAll = (a: ServerEntry, b: ServerEntry): boolean => a.id !== b.id;
