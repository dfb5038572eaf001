import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import { memoryTransportPair } from '../../src/rpc/memory-transport.js';
import type { Transport } from '../../src/rpc/transport.js';
import { connectWebSocket, listenWebSocket } from '../../src/rpc/websocket.js';
import { type TransportPair, transportContract } from './transport.js';

async function webSocketPair(): Promise<TransportPair> {
  const accepted: Transport[] = [];
  let heard: () => void = () => {};
  const arrival = new Promise<void>((resolve) => {
    heard = resolve;
  });
  const listener = await listenWebSocket({
    host: '127.0.0.1',
    port: 0,
    onTransport: (transport) => {
      accepted.push(transport);
      heard();
    },
  });
  const a = await connectWebSocket(listener.url, { timeoutMs: 5000 });
  await arrival;
  const b = accepted[0];
  if (b === undefined) throw new Error('nothing was accepted');
  return { a, b, end: () => listener.close() };
}

const swapped = ({ a, b, end }: TransportPair): TransportPair => ({ a: b, b: a, end });

transportContract(t, 'WebSocket, from the client', webSocketPair);
transportContract(t, 'WebSocket, from the server', async () => swapped(await webSocketPair()));
transportContract(t, 'memory', async () => {
  const [a, b] = memoryTransportPair();
  return { a, b, end: async () => {} };
});
transportContract(t, 'memory with delays', async () => {
  const [a, b] = memoryTransportPair({ prng: new Prng(7), delayMs: { min: 0, max: 3 } });
  return { a, b, end: async () => {} };
});
