/**
 * Bugs that are planted to see whether simulations find them. Each breaks one rule of the leases' protocol, or
 * of exactly-once, or of the write path, from outside: the product's code stays as it is.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { Filesystem } from '../../src/client/filesystem.js';
import { type Hint, Hints } from '../../src/client/hints.js';
import { type DroppedLease, LeaseCache } from '../../src/client/lease-cache.js';
import { type LeaseDependents, LeaseHolder } from '../../src/client/lease-holder.js';
import { LeasedRows } from '../../src/client/leased-rows.js';
import { LocalOperations } from '../../src/client/local-operations.js';
import { MetadataLink } from '../../src/client/metadata-link.js';
import { Lessor } from '../../src/lease/lessor.js';
import type { RowChange } from '../../src/names/rows.js';
import type { Attr } from '../../src/proto/attr.js';
import type { Ino } from '../../src/proto/ids.js';
import type { MetaMethods } from '../../src/proto/meta-methods.js';
import type { ArgsOf } from '../../src/proto/method.js';
import type { Notifier } from '../../src/vfs/operations.js';
import type { Plant } from './cluster.js';

/** Replaces a member of a prototype; returns the way back. */
function replaced(prototype: object, name: string, descriptor: PropertyDescriptor): () => void {
  const original = Object.getOwnPropertyDescriptor(prototype, name);
  if (original === undefined) throw new Error(`there is no ${name} to be replaced`);
  Object.defineProperty(prototype, name, { configurable: true, ...descriptor });
  return () => {
    Object.defineProperty(prototype, name, original);
  };
}

function acknowledgingEarly(fs: Filesystem): void {
  const setter = Object.getOwnPropertyDescriptor(Filesystem.prototype, 'leaseDependents')?.set;
  Object.defineProperty(fs, 'leaseDependents', {
    set: (dependents: LeaseDependents) => {
      setter?.call(fs, {
        ...dependents,
        forget: async () => {},
        settle: async (leases: readonly DroppedLease[]) => {
          await fs.call('returnLeases', { leases: leases.map(({ ino, epoch }) => ({ ino, epoch })) });
          await dependents.forget(leases.map(({ ino }) => ino));
          await dependents.settle(leases);
        },
      });
    },
  });
}

/** Others are let in before what was closed here is in the files. */
function keepingToItself(fs: Filesystem): void {
  const setter = Object.getOwnPropertyDescriptor(Filesystem.prototype, 'leaseDependents')?.set;
  Object.defineProperty(fs, 'leaseDependents', {
    set: (dependents: LeaseDependents) => {
      setter?.call(fs, { ...dependents, writeBack: async () => {} });
    },
  });
}

/** Every fourth commit of bytes leaves them out. */
function dropping(): (changes: readonly RowChange[]) => readonly RowChange[] {
  let count = 0;
  return (changes) => {
    const isCommit = changes.some((change) => 'put' in change && change.put === 'extent');
    if (!isCommit || ++count % 4 !== 0) return changes;
    return changes.filter((change) => !('put' in change && change.put === 'extent'));
  };
}

const { call } = MetadataLink.prototype;

/** As if the server had said of all inodes that they are unchanged. */
async function believing(this: MetadataLink, ...asked: Parameters<typeof call>): Promise<unknown> {
  const [method, args] = asked;
  if (method !== 'revalidate') return await call.apply(this, asked);
  const unchanged: unknown[] = [];
  for (const [ino] of (args as ArgsOf<MetaMethods['revalidate']>).inodes) {
    const attr = await call.apply(this, ['getattr', { ino }]).catch(() => undefined);
    const { lease, atime } = (attr ?? {}) as Partial<Attr>;
    if (lease !== undefined) unchanged.push([ino, lease, atime]);
  }
  return { unchanged, unleased: [] };
}

/** As if names had been written down when attributes were not the ones that belong to them. */
function mixing(): (this: Hints, ino: Ino) => Hint | undefined {
  const { get } = Hints.prototype;
  return function (ino) {
    const hint = get.call(this, ino);
    return hint && { ...hint, names: hint.names.map(([name]) => [name, null]) };
  };
}

interface PlantedBug {
  /** One of these finds it. */
  readonly seeds: readonly number[];
  readonly plant: Plant;
}

const FIRST_SEEDS = Array.from({ length: 40 }, (_, index) => index + 1);

export const plantedBugs: Readonly<Record<string, PlantedBug>> = {
  "the kernel's names are not forgotten when a lease is recalled": {
    seeds: FIRST_SEEDS,
    plant: { notifier: (notifier: Notifier) => ({ ...notifier, incrementEpoch: async () => {} }) },
  },
  "the kernel's attributes are not forgotten when a lease is recalled": {
    seeds: FIRST_SEEDS,
    plant: { notifier: (notifier: Notifier) => ({ ...notifier, invalidateInode: async () => true }) },
  },
  'a recall is acknowledged before anything is forgotten': {
    seeds: FIRST_SEEDS,
    plant: { filesystem: acknowledgingEarly },
  },
  'leases are trusted for a minute, whatever the session': {
    seeds: FIRST_SEEDS,
    plant: {
      everywhere: () => replaced(MetadataLink.prototype, 'leasesTrustedMs', { get: () => 60_000 }),
    },
  },
  'the metadata server changes what others have leased': {
    seeds: FIRST_SEEDS,
    plant: { everywhere: () => replaced(Lessor.prototype, 'inTheWay', { value: () => [] }) },
  },
  'a mount does not forget the attributes that it has changed itself': {
    seeds: FIRST_SEEDS,
    plant: { everywhere: () => replaced(LeaseCache.prototype, 'changed', { value: () => {} }) },
  },
  'what a change that was given up may show on is remembered': {
    // It takes a signal while a mount that is frozen keeps the change waiting.
    seeds: [298, 897, 919],
    plant: { everywhere: () => replaced(LeaseHolder.prototype, 'doubt', { value: async () => {} }) },
  },
  'leases of a connection that is gone are kept': {
    seeds: FIRST_SEEDS,
    plant: { everywhere: () => replaced(LeaseCache.prototype, 'clear', { value: () => [] }) },
  },
  'the metadata server does not keep what it has answered': {
    seeds: FIRST_SEEDS,
    plant: {
      store: (store) => {
        store.forgetsReplies = true;
      },
    },
  },
  'what is written is acknowledged and does not get into the file': {
    seeds: FIRST_SEEDS,
    plant: {
      store: (store) => {
        store.altered = dropping();
      },
    },
  },
  'an exclusive lease is given up before the server has the journal': {
    seeds: FIRST_SEEDS,
    plant: { everywhere: () => replaced(LocalOperations.prototype, 'settle', { value: async () => {} }) },
  },
  'an exclusive lease is given up before what was closed is in the file': {
    seeds: FIRST_SEEDS,
    plant: { filesystem: keepingToItself },
  },
  'requests go ahead of the journal': {
    seeds: FIRST_SEEDS,
    plant: { everywhere: () => replaced(LocalOperations.prototype, 'mustWait', { value: () => false }) },
  },
  'what is known alone is kept when the server has changed it': {
    seeds: FIRST_SEEDS,
    plant: { everywhere: () => replaced(LeasedRows.prototype, 'drop', { value: () => {} }) },
  },
  'what is remembered from before is believed, whatever its version': {
    seeds: FIRST_SEEDS,
    plant: { everywhere: () => replaced(MetadataLink.prototype, 'call', { value: believing }) },
  },
  'names are remembered from before with attributes of another time': {
    seeds: FIRST_SEEDS,
    plant: { everywhere: () => replaced(Hints.prototype, 'get', { value: mixing() }) },
  },
  'the journal does not outlive the daemon': {
    seeds: FIRST_SEEDS,
    plant: {
      killed: (cacheDir) => {
        for (const suffix of ['', '-wal', '-shm'])
          rmSync(join(cacheDir, `journal.db${suffix}`), { force: true });
      },
    },
  },
};
