/**
 * Which session this mount has, how it is opened and resumed, and its trace on disk. The file `session.json`
 * in the cache directory names the session and its token as soon as they are known. A daemon that starts and
 * finds the file of one that is gone closes that session, so that what it had open is let go at once, and
 * opens its own: without a journal there is nothing of the old one to continue.
 *
 * A resume whose answer was lost may have raised the token at the server. The next attempt therefore tries
 * the token it knows and, when that one is fenced, as many higher ones as answers were lost; nobody else can
 * have raised it, because nobody else knows the session.
 *
 * INVARIANT: the file is replaced as a whole, never half written.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Static, Type } from '@sinclair/typebox';
import { TypeCompiler } from '@sinclair/typebox/compiler';
import type { Clock, Timespec } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { ClusterMap } from '../proto/cluster-map.js';
import { asFencingToken, type ClusterId } from '../proto/ids.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ReplyOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { tFencingToken, tSessionId } from '../proto/schema.js';
import type { MetadataPeer } from './link-call.js';

const log = makeLog('client');

/** Lost answers beyond this many are not counted: the session has expired by then. */
const LOST_ANSWERS = 8;

const tIdentity = Type.Object({
  session: tSessionId,
  token: tFencingToken,
  pid: Type.Integer({ minimum: 1 }),
});
type Identity = Static<typeof tIdentity>;
const identityCheck = TypeCompiler.Compile(tIdentity);

export interface OpenedSession {
  readonly session: Identity['session'];
  readonly token: Identity['token'];
  readonly ttlMs: number;
  readonly left: { readonly lapsed: boolean };
  readonly leaseTtlMs: number;
  readonly now: Timespec;
  readonly map: ClusterMap;
  /** Monotonic time at which the request that opened it was sent. */
  readonly sentAtMs: number;
}

export type OpenedReply = ReplyOf<MetaMethods['openSession']>;

export interface SessionKeeperOptions {
  readonly host: string;
  readonly pid: number;
  readonly mountpoint: string;
  readonly clock: Clock;
  /** A session that an earlier daemon has left is open once more, before it is closed. */
  readonly recover?: (peer: MetadataPeer, opened: OpenedReply) => Promise<void>;
  /** Where `session.json` is; undefined: nothing is written. */
  readonly cacheDir?: string | undefined;
}

export class SessionKeeper {
  readonly #options: SessionKeeperOptions;
  #identity: Identity | undefined;
  #lostAnswers = 0;
  #clusterId: ClusterId | undefined;
  /** Of an earlier daemon, to be closed first. */
  #stale: Identity | undefined;

  constructor(options: SessionKeeperOptions) {
    this.#options = options;
    this.#stale = this.#readStale();
  }

  /**
   * Resumes the session on a new connection, or opens one. `lost` is called when there was one and it is
   * over. **Errors:** ProtocolError disconnected, timeout, wrongCluster.
   */
  async open(peer: MetadataPeer, lost: () => void): Promise<OpenedSession> {
    await this.#closeStale(peer);
    const resumed = this.#identity === undefined ? undefined : await this.#resume(peer, this.#identity);
    if (resumed !== undefined) return resumed;
    if (this.#identity !== undefined) {
      this.#identity = undefined;
      lost();
    }
    return await this.#ask(peer, undefined);
  }

  /** The session has been closed: its file goes. */
  forget(): void {
    this.#identity = undefined;
    const { cacheDir } = this.#options;
    if (cacheDir !== undefined) rmSync(join(cacheDir, 'session.json'), { force: true });
  }

  async #resume(peer: MetadataPeer, identity: Identity): Promise<OpenedSession | undefined> {
    const lostBefore = this.#lostAnswers;
    this.#lostAnswers = Math.min(lostBefore + 1, LOST_ANSWERS);
    for (let raised = 0; raised <= lostBefore; raised++) {
      const resume = { session: identity.session, token: asFencingToken(identity.token + raised) };
      try {
        return await this.#ask(peer, resume);
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        if (error.code === 'sessionLost') return undefined;
        if (error.code !== 'fenced') throw error;
      }
    }
    return undefined;
  }

  async #ask(
    peer: MetadataPeer,
    resume: Pick<Identity, 'session' | 'token'> | undefined,
  ): Promise<OpenedSession> {
    const { host, pid, mountpoint, clock } = this.#options;
    const sentAtMs = clock.monotonicMs();
    const args = { host, pid, mountpoint, leases: true, ...(resume === undefined ? {} : { resume }) };
    const reply = await peer.call('openSession', args, { timeoutMs: limits.connectTimeoutMs });
    this.#clusterId ??= reply.map.clusterId;
    if (this.#clusterId !== reply.map.clusterId) {
      log.error('the metadata server serves another filesystem now', {
        mounted: this.#clusterId,
        served: reply.map.clusterId,
      });
      throw new ProtocolError('wrongCluster', `the server has filesystem ${reply.map.clusterId}`);
    }
    this.#lostAnswers = 0;
    this.#identity = { session: reply.session, token: reply.token, pid };
    this.#write(this.#identity);
    return { ...reply, sentAtMs };
  }

  async #closeStale(peer: MetadataPeer): Promise<void> {
    const stale = this.#stale;
    if (stale === undefined) return;
    const { host, pid, mountpoint } = this.#options;
    try {
      const resume = { session: stale.session, token: stale.token };
      const opened = await peer.call(
        'openSession',
        { host, pid, mountpoint, resume, leases: true },
        { timeoutMs: limits.connectTimeoutMs },
      );
      this.#stale = { ...stale, token: opened.token };
      await this.#options.recover?.(peer, opened);
      await peer.call('closeSession', {}, { timeoutMs: limits.connectTimeoutMs });
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      if (error.retryable) throw error;
      log.info('the session of an earlier daemon is over already', { session: stale.session });
    }
    this.#stale = undefined;
  }

  /** The identity that an earlier daemon has left, unless that daemon still runs. */
  #readStale(): Identity | undefined {
    const { cacheDir } = this.#options;
    if (cacheDir === undefined) return undefined;
    mkdirSync(cacheDir, { recursive: true, mode: 0o700 });
    let text: string;
    try {
      text = readFileSync(join(cacheDir, 'session.json'), 'utf8');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      throw error;
    }
    const identity = parseIdentity(text);
    if (identity === undefined) log.warn('session.json is not readable and will be replaced', { cacheDir });
    // Our own pid is an earlier daemon's, too: in a container every daemon has the same one.
    if (identity === undefined || identity.pid === this.#options.pid) return identity;
    return isRunning(identity.pid) ? undefined : identity;
  }

  #write(identity: Identity): void {
    const { cacheDir } = this.#options;
    if (cacheDir === undefined) return;
    const path = join(cacheDir, 'session.json');
    writeFileSync(`${path}.new`, JSON.stringify(identity), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
}

function parseIdentity(text: string): Identity | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return identityCheck.Check(value) ? value : undefined;
  } catch {
    // Not JSON: the caller says so.
    return undefined;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
