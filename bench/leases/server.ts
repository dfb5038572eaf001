/**
 * The metadata server's process in bench/leases.ts: fills a new filesystem, serves it as `leasefs meta` does,
 * and says over IPC what it takes. The filesystem: directories `own-N` and one `shared`, full of empty files.
 */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { systemClock } from '../../src/base/clock.js';
import { setLogLevel } from '../../src/base/log.js';
import { startMetaServer } from '../../src/meta/server.js';
import { FIRST_SESSION } from '../../src/meta/sessions.js';
import { openSqliteStore, type SqliteStore } from '../../src/meta/sqlite-store.js';
import { hashName } from '../../src/names/dentry.js';
import { rootInode } from '../../src/names/inode.js';
import type { RowChange } from '../../src/names/rows.js';
import { S_IFDIR, S_IFREG } from '../../src/proto/attr.js';
import { asClusterId, asIno, type Ino, ROOT_INO } from '../../src/proto/ids.js';

export type Order = 'figures' | 'watch' | 'delay';

/** `figures`: after a garbage collection. */
export interface Figures {
  readonly rssBytes: number;
  readonly heapBytes: number;
  /** Of all threads, since the process began. */
  readonly cpuMs: number;
}

export type Report = { readonly url: string } | Figures | { readonly longestDelayMs: number };

const DELAY_RESOLUTION_MS = 1;

const { values } = parseArgs({
  options: {
    data: { type: 'string', default: '' },
    owners: { type: 'string', default: '0' },
    own: { type: 'string', default: '0' },
    shared: { type: 'string', default: '0' },
  },
});

function fill(): void {
  const createdAt = systemClock.now();
  const format = {
    ...{ clusterId: asClusterId(randomUUID()), replicas: 1, groups: 16, createdAt },
    ...{ firstInode: ROOT_INO + 1, firstSession: FIRST_SESSION },
  };
  const store = openSqliteStore(join(values.data, 'meta.db'), format, [
    { put: 'inode', row: rootInode(createdAt) },
  ]);
  for (let owner = 0; owner < Number(values.owners); owner++)
    fillDirectory(store, `own-${owner}`, Number(values.own));
  fillDirectory(store, 'shared', Number(values.shared));
  fillDirectory(store, 'free', Number(values.shared));
  store.close();
}

function fillDirectory(store: SqliteStore, name: string, count: number): void {
  store.transaction(false, () => {
    const directory = asIno(store.allocate('inode', 1));
    store.apply(node(ROOT_INO, name, directory, S_IFDIR));
    for (let index = 0; index < count; index++)
      store.apply(node(directory, `file-${index}`, asIno(store.allocate('inode', 1)), S_IFREG));
  });
}

function node(parent: Ino, text: string, ino: Ino, kind: number): RowChange[] {
  const isDirectory = kind === S_IFDIR;
  const row = {
    ...rootInode(systemClock.now()),
    ...{ ino, mode: kind | 0o755, nlink: isDirectory ? 2 : 1, parent: isDirectory ? parent : null },
    size: 0,
  };
  const name = Buffer.from(text);
  return [
    { put: 'inode', row },
    { put: 'dentry', row: { parent, hash: hashName(name), slot: 0, name, ino, kind } },
  ];
}

function figures(): Figures {
  // Twice: what the first one finds dead in old generations goes with the second.
  for (let times = 0; times < 2; times++) globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  return { rssBytes: rss, heapBytes: heapUsed, cpuMs: (user + system) / 1000 };
}

// Warnings of a measurement under load are its figures.
setLogLevel('error');
fill();
const server = await startMetaServer({ dataDir: values.data, host: '127.0.0.1', port: 0, replicas: 1 });
const delay = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
const say = (report: Report): void => void process.send?.(report);

process.on('message', (order: Order) => {
  if (order === 'figures') say(figures());
  else if (order === 'watch') {
    delay.reset();
    delay.enable();
  } else {
    delay.disable();
    say({ longestDelayMs: Math.max(0, delay.max / 1e6 - DELAY_RESOLUTION_MS) });
  }
});
process.once('disconnect', () => process.exit());
say({ url: server.url });
