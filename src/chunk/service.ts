/**
 * What a chunk server answers: the methods of proto/chunk-methods.ts over a store. It checks what comes from
 * outside (whose cluster, whether the bulk has the checksum it claims) and leaves the rest to the store.
 */
import { crc32c } from '../base/crc32c.js';
import type { ChunkMethods } from '../proto/chunk-methods.js';
import type { ClusterId, ServerId } from '../proto/ids.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { type Handlers, WithBulk } from '../rpc/peer.js';
import type { ChunkStore } from './store.js';

/** Whose chunks a server holds; `clusterId` is null until it has registered for the first time. */
export interface ServerIdentity {
  readonly serverId: ServerId;
  readonly clusterId: ClusterId | null;
}

/** The handlers of one server; the same for every connection. */
export function chunkHandlers(store: ChunkStore, identity: ServerIdentity): Handlers<ChunkMethods> {
  return {
    identify: () => ({ id: identity.serverId, clusterId: identity.clusterId }),
    put: async ({ id, crc, clusterId }, { bulk }) => {
      if (identity.clusterId === null)
        throw new ProtocolError('busy', 'this chunk server has not joined its cluster yet');
      if (clusterId !== identity.clusterId)
        throw new ProtocolError('wrongCluster', `this chunk server belongs to ${identity.clusterId}`);
      if (crc32c(bulk) !== crc)
        throw new ProtocolError('corrupt', `the bytes sent as chunk ${id} do not have their checksum`);
      await store.put(id, crc, bulk);
      return {};
    },
    get: async ({ id, offset, length }) => new WithBulk({}, await store.get(id, offset, length)),
    delete: async ({ chunks }) => ({ deleted: await store.delete(chunks) }),
    list: ({ after, last, limit }) => store.list(after, last, limit),
    usage: () => store.usage(),
  };
}
