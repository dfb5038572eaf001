/**
 * Whether inodes are as a mount remembers them from before it had its leases: it gets leases on those that are,
 * and goes on from what it knows, instead of fetching it again. A version together with its time of change names
 * one state of an inode: its attributes but for the access time, and its entries or extents (names/).
 *
 * It waits for nobody: what another mount has to itself gets no lease, and is not said to be unchanged. Only
 * after a start it waits, as everything does, until leases of before are known.
 */
import { attrOf } from '../names/inode.js';
import type { InodeRow } from '../names/rows.js';
import { type Attr, isSameVersion } from '../proto/attr.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import type { CallContext } from '../rpc/peer.js';
import type { Connection } from './connection.js';
import type { MetaRequest } from './group-commit.js';
import type { MetaParts } from './service.js';
import type { MetaStore } from './store.js';

type Args = ArgsOf<MetaMethods['revalidate']>;
type Reply = ReplyOf<MetaMethods['revalidate']>;

const NOTHING = { reads: [], writes: [] };

export function revalidateHandler(
  { store, commit, sessions, leases }: MetaParts,
  connection: Connection,
): (args: Args, context: CallContext) => Promise<Reply> {
  return ({ inodes }, context) => {
    const request: MetaRequest<Reply> = {
      writes: false,
      durable: false,
      plan: () => {
        const session = sessions.live(connection);
        if (context.aborted) throw new ProtocolError('cancelled', 'revalidate');
        leases.check(session.id, NOTHING);
        const same = inodes.flatMap((seen) => attrIfSame(store, seen) ?? []);
        const granted = leases.grant(session, same);
        const unchanged = same.flatMap(({ ino, atime }): Reply['unchanged'] => {
          const lease = granted.get(ino);
          return lease === undefined ? [] : [[ino, lease.epoch, atime]];
        });
        const unleased = same.flatMap(({ ino }) => (granted.has(ino) ? [] : [ino]));
        return () => ({ unchanged, unleased });
      },
    };
    return leases.settled(() => commit.submit(connection, request));
  };
}

/** Undefined also for what has lost its last name: whether it is still there depends on who has it open. */
function attrIfSame(store: MetaStore, [ino, version, ctime]: Args['inodes'][number]): Attr | undefined {
  const row = store.answer({ read: 'inode', ino }) as InodeRow | undefined;
  if (row === undefined || row.nlink === 0) return undefined;
  return isSameVersion(row, { version, ctime }) ? attrOf(row) : undefined;
}
