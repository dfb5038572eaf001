/**
 * Bugs planted on purpose: does the checker find them? A copy of the compiled program is made in which one
 * exact piece of text is replaced. The program itself knows nothing of it.
 */
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectDir } from '../tidy/source-files.js';
import type { FaultKind } from './faults.js';

interface Plant {
  /** Below dist/src. */
  readonly file: string;
  readonly replace: string;
  readonly by: string;
  /** The fault that brings it to light; none unless given. */
  readonly fault?: FaultKind;
}

export const PLANTS = {
  /** A recall is obeyed by the daemon; its kernel goes on answering from what it remembers. */
  'skip-invalidation': {
    file: 'client/lease-holder.js',
    replace: 'await this.dependents?.forget(inodesOf(leases)).catch(notForgotten);',
    by: '',
  },
  /** A lease is given back before what it covered is forgotten. */
  'early-recall-ack': {
    file: 'client/lease-holder.js',
    replace: 'await new Promise((resolve) => setImmediate(resolve));',
    by: 'await this.#returns.send({ leases: [...leases] }); await new Promise((resolve) => setTimeout(resolve, 20));',
  },
  /** A reply is learned some time after it came, whatever was recalled meanwhile. */
  'late-learning': {
    file: 'client/lease-cache.js',
    replace: 'rule?.(this, args, reply);',
    by: 'setTimeout(() => rule?.(this, args, reply), 5);',
  },
  /** The server changes what others have leases for. */
  'no-recall': {
    file: 'meta/leases.js',
    replace: 'this.#lessor.inTheWay(session, access).length > 0',
    by: 'false',
  },
  /** A server that was just started changes what others may have leases for. */
  'skip-grace': {
    file: 'meta/leases.js',
    replace: 'return this.#unknown.size > (this.#unknown.has(session) ? 1 : 0);',
    by: 'return false;',
    fault: 'kill-meta-alone',
  },
  /** A mount that hears nothing of the server trusts its leases all the same. */
  'trust-for-ever': {
    file: 'client/metadata-link.js',
    replace: 'this.#leasesUntilMs - this.#clock.monotonicMs();',
    by: '3_600_000;',
    fault: 'freeze-link-long',
  },
  /** A file is read as it was when it was read before. */
  'old-extents': {
    file: 'vfs/file-state.js',
    replace: 'window.version < Math.max(version, this.#committedVersion)',
    by: 'false',
  },
} as const satisfies Record<string, Plant>;

export type PlantName = keyof typeof PLANTS;

export const isPlant = (name: string): name is PlantName => Object.hasOwn(PLANTS, name);

export function faultFor(name: PlantName): FaultKind | 'none' {
  const planted: Plant = PLANTS[name];
  return planted.fault ?? 'none';
}

/** Copies what is compiled into `directory`, with the bug in it; the path of the copy's `leasefs`. */
export function plant(name: PlantName, directory: string): string {
  cpSync(join(projectDir, 'dist/src'), join(directory, 'dist/src'), { recursive: true });
  cpSync(join(projectDir, 'package.json'), join(directory, 'package.json'));
  symlinkSync(join(projectDir, 'node_modules'), join(directory, 'node_modules'));
  const { file, replace, by } = PLANTS[name];
  const path = join(directory, 'dist/src', file);
  const parts = readFileSync(path, 'utf8').split(replace);
  if (parts.length !== 2) throw new Error(`${file} has this ${parts.length - 1} times: ${replace}`);
  writeFileSync(path, parts.join(by));
  return join(directory, 'dist/src/cmd/leasefs.js');
}
