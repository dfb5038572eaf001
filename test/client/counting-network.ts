/** Connections that count what is asked over them, by method. */
import { decodeFrame } from '../../src/rpc/frame.js';
import type { Transport } from '../../src/rpc/transport.js';
import { connectWebSocket } from '../../src/rpc/websocket.js';

/** Of the session itself, whatever is done. */
const UNASKED = new Set(['openSession', 'closeSession', 'heartbeat', 'returnLeases', 'map', 'hello']);

export class CountingNetwork {
  readonly asked = new Map<string, number>();

  readonly connect = async (url: string, options: { timeoutMs: number }): Promise<Transport> => {
    const transport = await connectWebSocket(url, options);
    const send = transport.send.bind(transport);
    transport.send = (parts) => {
      const frame = decodeFrame(Buffer.concat(parts));
      if (frame.kind === 'request' && !UNASKED.has(frame.method))
        this.asked.set(frame.method, (this.asked.get(frame.method) ?? 0) + 1);
      send(parts);
    };
    return transport;
  };

  count(...methods: string[]): number {
    return methods.reduce((sum, method) => sum + (this.asked.get(method) ?? 0), 0);
  }

  get total(): number {
    return [...this.asked.values()].reduce((sum, count) => sum + count, 0);
  }
}
