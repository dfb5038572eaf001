/**
 * Frames over WebSocket; the only file that imports `ws`. One frame is one binary message, uncompressed.
 *
 * A connection is closed, with a code and one log line, when the other side sends text, breaks the WebSocket
 * protocol, exceeds limits.frameBytes or falls silent: no connection outlives limits.silentPings pings
 * without a byte from the other side, so a machine that is gone without saying so is noticed. No connection
 * affects another. What is in a frame is the Peer's business.
 *
 * The listener speaks WebSocket and nothing else: plain HTTP gets 426; a request with an Origin header, which
 * only a browser sends, gets 403, so that no web page can reach a server on its visitor's machine.
 *
 * **Source:** RFC 6455; native-notes/websocket.md.
 */
import { createServer, type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type RawData, WebSocket, WebSocketServer } from 'ws';
import { makeLog } from '../base/log.js';
import { limits } from '../proto/limits.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { CloseCode, type Transport } from './transport.js';
import { MAX_HEADER_BYTES, writeMessageHeader } from './websocket-header.js';

const log = makeLog('rpc');

/** Frames up to this size are joined into one buffer; the parts of larger ones are written as they are. */
const JOIN_BYTES = 16 * 1024;
/** A close frame holds this many bytes of reason. */
const CLOSE_REASON_BYTES = 123;

const WEBSOCKET_OPTIONS = {
  perMessageDeflate: false,
  maxPayload: limits.frameBytes,
  closeTimeout: limits.closeMs,
};

class WebSocketTransport implements Transport {
  readonly remote: string;
  readonly #socket: WebSocket;
  readonly #stream: Socket;
  readonly #isClient: boolean;
  readonly #keepAlive: NodeJS.Timeout;
  readonly #pingIntervalMs: number;
  #corked = false;
  #heardBytes = 0;
  #silentPings = 0;
  /** Why this side ended the connection, when it did. */
  #endReason: string | undefined;
  #closed: { readonly reason: string } | undefined;
  #onFrame: ((frame: Buffer) => void) | undefined;
  #onClose: ((reason: string) => void) | undefined;

  /** `socket` is open; `stream` is the connection beneath it, which messages are written to directly. */
  constructor(socket: WebSocket, stream: Socket, options: { isClient: boolean; pingIntervalMs: number }) {
    this.#socket = socket;
    this.#stream = stream;
    this.#isClient = options.isClient;
    this.#pingIntervalMs = options.pingIntervalMs;
    this.remote = `${stream.remoteAddress ?? '?'}:${stream.remotePort ?? 0}`;
    socket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', (code, reason) => this.#ended(code, reason.toString()));
    // Nothing is read until there is somebody to hear it.
    socket.pause();
    this.#keepAlive = setInterval(() => this.#checkAlive(), options.pingIntervalMs);
    this.#keepAlive.unref();
  }

  send(parts: readonly Uint8Array[]): void {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    this.#gatherWrites();
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    const joined = bytes <= JOIN_BYTES;
    const head = Buffer.allocUnsafe(MAX_HEADER_BYTES + (joined ? bytes : 0));
    let at = writeMessageHeader(head, bytes, this.#isClient);
    if (!joined) {
      this.#stream.write(head.subarray(0, at));
      for (const part of parts) this.#stream.write(part);
      return;
    }
    for (const part of parts) {
      head.set(part, at);
      at += part.length;
    }
    this.#stream.write(head.subarray(0, at));
  }

  get bufferedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  close(code: number, reason: string): void {
    if (this.#endReason !== undefined || this.#closed !== undefined) return;
    this.#endReason = reason;
    const cut = Buffer.from(reason).subarray(0, CLOSE_REASON_BYTES);
    this.#socket.close(code, new TextDecoder().decode(cut).replace(/\uFFFD$/, ''));
    this.#socket.resume();
  }

  /** Ends the connection at once, without goodbye. */
  terminate(reason: string): void {
    this.#endReason ??= reason;
    this.#socket.terminate();
  }

  get onFrame(): (frame: Buffer) => void {
    return this.#onFrame ?? (() => {});
  }
  set onFrame(receive: (frame: Buffer) => void) {
    this.#onFrame = receive;
    this.#socket.resume();
  }

  get onClose(): (reason: string) => void {
    return this.#onClose ?? (() => {});
  }
  set onClose(closed: (reason: string) => void) {
    this.#onClose = closed;
    const already = this.#closed;
    if (already !== undefined) setImmediate(() => this.#tellClose(already.reason));
  }

  /** What is sent in one turn of the event loop leaves in one system call. */
  #gatherWrites(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.#stream.cork();
    process.nextTick(() => {
      this.#corked = false;
      this.#stream.uncork();
    });
  }

  #receive(data: RawData, isBinary: boolean): void {
    if (this.#endReason !== undefined) return;
    if (!isBinary || !Buffer.isBuffer(data)) {
      log.warn('text instead of a frame: closing the connection', { remote: this.remote });
      this.close(CloseCode.unsupportedData, 'frames are binary');
      return;
    }
    this.#onFrame?.(data);
  }

  /** ws has found the other side at fault (and closes with the fitting code), or the connection broke. */
  #fail(error: Error): void {
    log.warn('connection failed', { remote: this.remote, error: error.message });
    this.#endReason ??= error.message;
  }

  #checkAlive(): void {
    const heard = this.#stream.bytesRead;
    this.#silentPings = heard === this.#heardBytes ? this.#silentPings + 1 : 0;
    this.#heardBytes = heard;
    if (this.#silentPings > limits.silentPings) {
      const reason = `nothing heard for ${this.#pingIntervalMs * limits.silentPings} ms`;
      log.warn('cutting a silent connection', { remote: this.remote, reason });
      this.terminate(reason);
    } else if (this.#socket.readyState === WebSocket.OPEN) this.#socket.ping();
  }

  #ended(code: number, reason: string): void {
    clearInterval(this.#keepAlive);
    const said = reason === '' ? `closed with code ${code}` : `${reason} (code ${code})`;
    this.#closed = { reason: this.#endReason ?? (code === 1006 ? 'connection lost' : said) };
    this.#tellClose(this.#closed.reason);
  }

  #tellClose(reason: string): void {
    const tell = this.#onClose;
    if (tell === undefined) return;
    this.#onClose = () => {};
    tell(reason);
  }
}

/** RFC 6455 asks clients to mask; an all-zero mask is a mask, and costs nothing to apply. */
function generateMask(mask: Buffer): void {
  mask.fill(0);
}

/**
 * Connects to `url` (`ws://host:port`).
 * **Errors:** ProtocolError disconnected (no such server, refused, not a WebSocket server), timeout.
 */
export function connectWebSocket(
  url: string,
  options: {
    timeoutMs: number;
    /** Default limits.pingIntervalMs. */
    pingIntervalMs?: number;
  },
): Promise<Transport> {
  return new Promise((resolve, reject) => {
    const unreachable = (cause: unknown): ProtocolError =>
      new ProtocolError('disconnected', `cannot connect to ${url}: ${messageOf(cause)}`, { cause });
    let socket: WebSocket;
    try {
      socket = new WebSocket(url, { ...WEBSOCKET_OPTIONS, generateMask });
    } catch (error) {
      reject(unreachable(error));
      return;
    }
    let stream: Socket | undefined;
    const timer = setTimeout(() => {
      reject(new ProtocolError('timeout', `no connection to ${url} within ${options.timeoutMs} ms`));
      socket.terminate();
    }, options.timeoutMs);
    socket.once('upgrade', (response) => {
      stream = response.socket;
    });
    const failed = (error: Error): void => {
      clearTimeout(timer);
      reject(unreachable(error));
    };
    socket.on('error', failed);
    socket.once('open', () => {
      clearTimeout(timer);
      socket.off('error', failed);
      if (stream === undefined) socket.terminate();
      else {
        const pingIntervalMs = options.pingIntervalMs ?? limits.pingIntervalMs;
        resolve(new WebSocketTransport(socket, stream, { isClient: true, pingIntervalMs }));
      }
    });
  });
}

export interface WebSocketListener {
  readonly url: string;
  readonly port: number;
  /** Says goodbye on every connection, cuts those that do not answer within limits.closeMs. */
  close(): Promise<void>;
}

/**
 * Accepts connections until it is closed; port 0 means a free one. At most limits.connectionsPerListener at
 * once, each of which must be a WebSocket within limits.handshakeMs.
 * **Errors:** an Error that names host and port when they cannot be had.
 */
export async function listenWebSocket(options: {
  host: string;
  port: number;
  onTransport: (transport: Transport) => void;
  /** Default limits.handshakeMs, limits.pingIntervalMs. */
  handshakeMs?: number;
  pingIntervalMs?: number;
}): Promise<WebSocketListener> {
  const handshakeMs = options.handshakeMs ?? limits.handshakeMs;
  const pingIntervalMs = options.pingIntervalMs ?? limits.pingIntervalMs;
  const transports = new Set<WebSocketTransport>();
  const acceptor = new WebSocketServer({ ...WEBSOCKET_OPTIONS, noServer: true, clientTracking: false });
  const server = createServer({
    connectionsCheckingInterval: handshakeMs / 5,
    headersTimeout: handshakeMs,
    requestTimeout: handshakeMs,
  });
  refuseAllButUpgrades(server);
  server.on('upgrade', (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    if (request.headers.origin !== undefined) {
      refuse(stream, 403);
      return;
    }
    acceptor.handleUpgrade(request, stream, head, (socket) => {
      const transport = new WebSocketTransport(socket, request.socket, { isClient: false, pingIntervalMs });
      transports.add(transport);
      socket.once('close', () => transports.delete(transport));
      options.onTransport(transport);
    });
  });
  const port = await listen(server, options);
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  return { url: `ws://${host}:${port}`, port, close: () => shutDown(server, transports) };
}

function refuseAllButUpgrades(server: Server): void {
  server.maxConnections = limits.connectionsPerListener;
  server.on('request', (_request, response) => {
    const headers = { 'content-type': 'text/plain', connection: 'close', upgrade: 'websocket' };
    response.writeHead(426, headers).end('leasefs speaks WebSocket here\n');
  });
  server.on('clientError', (error, stream) => {
    log.warn('a connection that is no WebSocket: closing it', { error: error.message });
    if (stream.writable) refuse(stream, 400);
    else stream.destroy();
  });
  server.on('drop', (data) => {
    log.warn('connection refused: too many', { remote: `${data?.remoteAddress}:${data?.remotePort}` });
  });
}

function refuse(stream: Duplex, status: number): void {
  stream.once('finish', () => stream.destroy());
  stream.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
}

function listen(server: Server, at: { host: string; port: number }): Promise<number> {
  return new Promise((resolve, reject) => {
    const refused = (error: Error): void => {
      const cause = 'code' in error && error.code === 'EADDRINUSE' ? 'the port is taken' : error.message;
      reject(new Error(`cannot listen on ${at.host}:${at.port}: ${cause}`, { cause: error }));
    };
    server.once('error', refused);
    server.listen(at.port, at.host, () => {
      server.off('error', refused);
      server.on('error', (error) => log.error('listener failed', { error }));
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : at.port);
    });
  });
}

async function shutDown(server: Server, transports: ReadonlySet<WebSocketTransport>): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  for (const transport of transports) transport.close(CloseCode.goingAway, 'the server is stopping');
  const timer = setTimeout(() => {
    for (const transport of transports) transport.terminate('the server has stopped');
  }, limits.closeMs);
  await closed;
  clearTimeout(timer);
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
