/** Asks a metadata server for its status, as an observer without a session. */
import { limits } from '../proto/limits.js';
import { ignoredCallbacks, metaCallbacks, metaMethods, type Status } from '../proto/meta-methods.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { Peer } from '../rpc/peer.js';
import { connectWebSocket } from '../rpc/websocket.js';
import { CommandError, lineOf } from './command-error.js';

/** **Errors:** CommandError when the server cannot be reached or does not answer within `timeoutMs`. */
export async function fetchStatus(
  metaUrl: string,
  timeoutMs: number = limits.connectTimeoutMs,
): Promise<Status> {
  try {
    const transport = await connectWebSocket(metaUrl, { timeoutMs });
    const peer = new Peer(transport, {
      name: 'observer',
      remote: metaMethods,
      local: metaCallbacks,
      handlers: ignoredCallbacks,
    });
    try {
      return await peer.call('status', {}, { timeoutMs });
    } finally {
      peer.close('done');
    }
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    throw new CommandError(
      `no answer from the metadata server ${metaUrl} (${lineOf(error)}); is it running?`,
    );
  }
}
