/**
 * A chunk server's data directory and who it belongs to, in `identity.json`: the kind of directory, its
 * format, the server's id and, once the server has joined, the cluster's.
 *
 * A directory is made only out of an empty or missing one. Anything else that is found there, or a newer
 * format, is refused and left untouched. That two servers never share a directory is the index database's
 * lock (chunk-index.ts), which dies with its process.
 */
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { asServerId, type ClusterId, type ServerId } from '../proto/ids.js';
import { tClusterId, tServerId } from '../proto/schema.js';

const KIND = 'leasefs chunk server';
const FORMAT_VERSION = 1;
const IDENTITY = 'identity.json';
/** What may lie in a directory that counts as empty: what ext4 puts there, logs, a creation that crashed. */
const EMPTY = /^(lost\+found|.*\.log|\..*|identity\.json\.draft-\d+)$/;

const tKind = Type.Object({ kind: Type.Literal(KIND), formatVersion: Type.Integer({ minimum: 1 }) });
const tIdentity = Type.Object({
  kind: Type.Literal(KIND),
  formatVersion: Type.Literal(FORMAT_VERSION),
  serverId: tServerId,
  clusterId: Type.Union([tClusterId, Type.Null()]),
});
type Identity = Static<typeof tIdentity>;

export class DataDirectory {
  readonly path: string;
  #identity: Identity;

  private constructor(path: string, identity: Identity) {
    this.path = path;
    this.#identity = identity;
  }

  /**
   * Opens the directory at `path`, or makes it. **Throws** an Error for people when it is something else, or
   * of a newer format.
   */
  static open(path: string): DataDirectory {
    makeDirectory(path);
    const entries = readdirSync(path);
    if (!entries.includes(IDENTITY)) {
      const foreign = entries.find((entry) => !EMPTY.test(entry));
      if (foreign !== undefined)
        throw new Error(
          `${path} is not a chunk server's data directory and not empty (it contains ${foreign}); ` +
            'it was left as it is: name an empty or new directory',
        );
      createIdentity(path);
    }
    return new DataDirectory(path, readIdentity(path));
  }

  get serverId(): ServerId {
    return this.#identity.serverId;
  }

  /** The cluster that the chunks here belong to; null until the server has first registered. */
  get clusterId(): ClusterId | null {
    return this.#identity.clusterId;
  }

  /** Writes down, durably, which cluster this server belongs to. */
  join(clusterId: ClusterId): void {
    if (this.#identity.clusterId === clusterId) return;
    const identity = { ...this.#identity, clusterId };
    const draft = writeDraft(this.path, identity);
    renameSync(draft, join(this.path, IDENTITY));
    syncDirectory(this.path);
    this.#identity = identity;
  }
}

function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`cannot make the data directory ${path}: ${why}`, { cause: error });
  }
}

/** Two servers that start on one new directory agree on one identity: the second link fails. */
function createIdentity(path: string): void {
  const draft = writeDraft(path, {
    kind: KIND,
    formatVersion: FORMAT_VERSION,
    serverId: asServerId(randomUUID()),
    clusterId: null,
  });
  try {
    linkSync(draft, join(path, IDENTITY));
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  syncDirectory(path);
}

function writeDraft(path: string, identity: Identity): string {
  const draft = join(path, `${IDENTITY}.draft-${process.pid}`);
  writeFileSync(draft, `${JSON.stringify(identity, null, 2)}\n`, { flush: true });
  return draft;
}

function readIdentity(path: string): Identity {
  const file = join(path, IDENTITY);
  let found: unknown;
  try {
    found = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Error(`${file} cannot be read; the directory was left as it is`, { cause: error });
  }
  if (!Value.Check(tKind, found))
    throw new Error(`${path} is not a chunk server's data directory (see ${file}); it was left as it is`);
  if (found.formatVersion > FORMAT_VERSION)
    throw new Error(
      `${path} has format ${found.formatVersion}, newer than format ${FORMAT_VERSION} which this program ` +
        'knows; it was left as it is: use a newer leasefs',
    );
  if (!Value.Check(tIdentity, found)) throw new Error(`${file} is damaged; the directory was left as it is`);
  return found;
}

/** Makes names in `path` durable. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
