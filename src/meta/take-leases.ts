/** Exclusive leases on what is there already, with the rows that a mount needs to change it by itself. */

import type { Lease } from '../lease/lessor.js';
import type { InodeRow, RowAnswers, RowRead } from '../names/rows.js';
import { isDir } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import type { Taken } from '../proto/lease-methods.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import type { Connection } from './connection.js';
import type { MetaRequest } from './group-commit.js';
import type { MetaParts } from './service.js';
import type { Session } from './sessions.js';
import type { MetaStore } from './store.js';

type Args = ArgsOf<MetaMethods['takeLeases']>;
type Reply = ReplyOf<MetaMethods['takeLeases']>;

export function takeHandler(parts: MetaParts, connection: Connection): (args: Args) => Promise<Reply> {
  const { commit, sessions, leases } = parts;
  return async ({ inos, recall = 0 }) => {
    const granted = new Map<Ino, Lease>();
    const taking: MetaRequest<Taken[]> = {
      writes: false,
      durable: false,
      plan: () => {
        const session = sessions.live(connection);
        const recalled = inos.slice(0, recall).filter((ino) => !isOpenElsewhere(parts.store, session, ino));
        if (recalled.length > 0) leases.recall(session, recalled);
        const rows = takeAll(parts, session, inos, granted);
        return () => rows;
      },
    };
    const taken = await leases.settled(() => commit.submit(connection, taking));
    const still = leases.stillGranted(granted);
    return { taken: taken.filter(({ attr }) => still.has(attr.ino)) };
  };
}

function isOpenElsewhere(store: MetaStore, session: Session, ino: Ino): boolean {
  return store.answer({ read: 'isOpenByOthers', ino, session: session.id }) as boolean;
}

function takeAll(
  { store, leases }: MetaParts,
  session: Session,
  inos: readonly Ino[],
  granted: Map<Ino, Lease>,
): Taken[] {
  const taken: Taken[] = [];
  let entriesLeft: number = limits.takenEntries;
  for (const ino of new Set(inos)) {
    const rows = rowsOf(store, session, ino, entriesLeft);
    if (rows === undefined) continue;
    const grant = leases.take(session, ino);
    if (grant === undefined) continue;
    const { lease, was } = grant;
    granted.set(ino, lease);
    entriesLeft -= rows.entries?.length ?? 0;
    taken.push({
      ...rows,
      attr: { ...rows.attr, lease: lease.epoch },
      ...(was === undefined ? {} : { was }),
    });
  }
  return taken;
}

/** Undefined: it is gone, open elsewhere, or too much to say. */
function rowsOf(store: MetaStore, session: Session, ino: Ino, entriesLeft: number): Taken | undefined {
  const answer = <R extends RowRead>(read: R): RowAnswers[R['read']] =>
    store.answer(read) as RowAnswers[R['read']];
  const row: InodeRow | undefined = answer({ read: 'inode', ino });
  if (row === undefined || row.nlink === 0) return undefined;
  if (isOpenElsewhere(store, session, ino)) return undefined;
  const xattrs = answer({ read: 'xattrs', ino }).map(({ name, value }) => ({ name, value }));
  const xattrBytes = xattrs.reduce((sum, { name, value }) => sum + name.length + value.length, 0);
  if (xattrs.length > limits.takenXattrs || xattrBytes > limits.takenXattrBytes) return undefined;
  const everything = { from: 0, to: Number.MAX_SAFE_INTEGER };
  const extents = answer({ read: 'extents', ino, ...everything, limit: limits.takenExtents + 1 });
  if (extents.length > limits.takenExtents) return undefined;
  const { parent, target, ...attr } = row;
  const entries = isDir(row.mode) ? entriesOf(store, ino, entriesLeft) : undefined;
  return {
    attr,
    parent,
    target,
    extents: extents.map(({ ino: _ino, ...extent }) => extent),
    xattrs,
    isOpen: answer({ read: 'isOpen', ino }),
    ...(entries === undefined ? {} : { entries }),
  };
}

/** Undefined: more than `limit`. */
function entriesOf(store: MetaStore, parent: Ino, limit: number): Taken['entries'] {
  const rows = store.answer({
    read: 'dentries',
    parent,
    fromHash: 0,
    limit: limit + 1,
  }) as RowAnswers['dentries'];
  return rows.length > limit ? undefined : rows.map(({ name, ino }) => ({ name, ino }));
}
