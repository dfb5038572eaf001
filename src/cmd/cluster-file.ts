/**
 * `DIR/cluster.json`: what `leasefs up` has running on DIR, for people, `down`, `status` and the next `up`.
 * It is replaced in one step and survives a crash of everything; what it says of processes is checked against
 * /proc before anybody believes it.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Static, Type } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { CommandError, lineOf, systemCode } from './command-error.js';

const tProcess = Type.Object({
  role: Type.Union([Type.Literal('up'), Type.Literal('meta'), Type.Literal('chunk'), Type.Literal('mount')]),
  pid: Type.Integer({ minimum: 1 }),
  /** Tells this process from a later one with the same pid (process-identity.ts). */
  start: Type.String(),
  url: Type.Optional(Type.String()),
});

const tClusterFile = Type.Object({
  metaUrl: Type.String(),
  mountpoint: Type.String(),
  /** Those that run, in the order in which they were started; empty when all was stopped. */
  processes: Type.Array(tProcess, { maxItems: 4096 }),
  /** Ports to use again: the metadata server's, then those of chunk-1, chunk-2, ... 0: none yet. */
  ports: Type.Array(Type.Integer({ minimum: 0, maximum: 65_535 }), { maxItems: 4096 }),
});

export type ClusterProcess = Static<typeof tProcess>;
export type ClusterFile = Static<typeof tClusterFile>;

export const CLUSTER_FILE_NAME = 'cluster.json';

/** The file of `dir`, or undefined when there is none. Errors: CommandError when it is not one. */
export function readClusterFile(dir: string): ClusterFile | undefined {
  const path = join(dir, CLUSTER_FILE_NAME);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new CommandError(`${path} cannot be read (${lineOf(error)})`);
  }
  if (!Value.Check(tClusterFile, value))
    throw new CommandError(
      `${path} is not a leasefs cluster file; remove it if the directory is the right one`,
    );
  return value;
}

/** Replaces the file of `dir`; after a crash either the old or the new one is there, complete. */
export function writeClusterFile(dir: string, file: ClusterFile): void {
  const path = join(dir, CLUSTER_FILE_NAME);
  const temporary = `${path}.new`;
  const descriptor = openSync(temporary, 'w', 0o644);
  try {
    writeFileSync(descriptor, `${JSON.stringify(file, null, 2)}\n`);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(temporary, path);
}
