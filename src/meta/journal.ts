/**
 * Carrying out what a mount has done by itself under exclusive leases: the same rules as for a request, with the
 * time and the inode numbers that the mount has used, in order, many in one transaction.
 *
 * Each entry names the versions of the inodes that it went by, and their times. As long as the leases were in force they are as
 * they were; what was done under leases that have ended meanwhile is carried out all the same where nobody has
 * changed those inodes, and refused where somebody has. A refused entry changes nothing; whatever went by what it
 * would have changed is refused as well, because versions differ from then on. A commit carries many files that have
 * nothing to do with one another: it is refused for those that others have changed.
 *
 * INVARIANT: an entry is carried out, or refused, once: its number is written in the same transaction. That it was
 * refused is said again when it is sent again, unless this server was restarted since.
 */
import { compareTimespec } from '../base/clock.js';
import { namespace } from '../names/namespace.js';
import { type Answer, runSync } from '../names/operation.js';
import { type InodeRow, inodeOfRead, type RowChange, type RowRead } from '../names/rows.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import type { Journalled, Removal } from '../proto/lease-methods.js';
import { type MetaMethods, metaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { ProtocolError } from '../proto/protocol-error.js';
import { checksOf, whatIsWrong } from '../rpc/method-checks.js';
import type { Connection } from './connection.js';
import { type Granted, inodesOf, LeasesInTheWay } from './leases.js';
import { contextOf } from './mutations.js';
import { removalOf } from './removed-push.js';
import { checkChunks, type MetaParts } from './service.js';
import type { Session } from './sessions.js';
import type { MetaStore } from './store.js';

type Args = ArgsOf<MetaMethods['journal']>;
type Entry = Args['entries'][number];
type Reply = ReplyOf<MetaMethods['journal']>;

/** What was come to; entries behind a conflict are left. */
interface Progress {
  readonly granted: Map<Ino, NonNullable<ReturnType<Granted['get']>>>;
  readonly refused: Reply['refused'];
  readonly removals: readonly Removal[];
  readonly inTheWay: LeasesInTheWay | undefined;
}

/** What an entry went by is not so. */
class Refusal extends Error {}

export function journalHandler(parts: MetaParts, connection: Connection): (args: Args) => Promise<Reply> {
  const { commit, sessions, leases, store } = parts;
  return async ({ first, entries, durable }) => {
    for (const entry of entries) checkShape(entry);
    const granted: Progress['granted'] = new Map();
    let refused: Reply['refused'] = [];
    await leases.settled(async () => {
      const progress = await commit.submit(connection, {
        writes: true,
        durable,
        plan: () => {
          const session = sessions.live(connection);
          const next = store.journalled(session.id) + 1;
          if (first > next)
            throw new ProtocolError(
              'badMessage',
              `entries ${next} to ${first - 1} of the journal are missing`,
            );
          return () => ({ ...carryOut(parts, session, entries.slice(next - first), next), session });
        },
        committed: ({ session, refused: more, removals }) => {
          // Whoever begins with this entry has the answers for those before.
          session.refused = [...session.refused.filter(({ number }) => number >= first), ...more];
          refused = session.refused;
          for (const removal of removals) parts.removed.note(session.id, removal);
        },
      });
      for (const [ino, lease] of progress.granted) granted.set(ino, lease);
      if (progress.inTheWay !== undefined) throw progress.inTheWay;
    });
    const still = leases.stillGranted(granted);
    return { leases: [...still].map(([ino, { epoch }]) => ({ ino, epoch })), refused };
  };
}

/** **Codes:** badMessage. */
function checkShape({ method, args }: Entry): void {
  const check = checksOf(metaMethods)[method].args;
  if (!check.Check(args))
    throw new ProtocolError('badMessage', `journalled ${method}: ${whatIsWrong(check, args)}`);
}

function carryOut(parts: MetaParts, session: Session, entries: readonly Entry[], first: number): Progress {
  const { store } = parts;
  const progress = { granted: new Map(), refused: [] as Reply['refused'], removals: [] as Removal[] };
  let number = first;
  try {
    for (const entry of entries) {
      try {
        const changed = changedMeanwhile(store, entry.saw);
        const [first] = changed;
        const inos = changed.map(({ ino }) => ino);
        const isSome = entry.method === 'commit' && changed.length < entry.saw.length;
        if (first !== undefined && !isSome) throw new Refusal(first.reason);
        apply(parts, session, first === undefined ? entry : without(entry, inos), progress);
        if (first !== undefined) progress.refused.push({ number, reason: first.reason, inos });
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        progress.refused.push({ number, reason: error.message });
      }
      number++;
    }
  } catch (error) {
    if (!(error instanceof LeasesInTheWay)) throw error;
    return { ...progress, inTheWay: error };
  } finally {
    if (number > first) store.setJournalled(session.id, number - 1);
  }
  return { ...progress, inTheWay: undefined };
}

/** What an entry went by that is not so any more. */
function changedMeanwhile(store: MetaStore, saw: Entry['saw']): { ino: Ino; reason: string }[] {
  return saw.flatMap(([ino, version, ctime]) => {
    const row = store.answer({ read: 'inode', ino }) as InodeRow | undefined;
    if (row?.version !== version)
      return [{ ino, reason: `inode ${ino} has version ${row?.version ?? 'none'} instead of ${version}` }];
    if (compareTimespec(row.ctime, ctime) === 0) return [];
    return [{ ino, reason: `inode ${ino} has another version ${version}` }];
  });
}

/** A commit but for these files; its shape was checked. */
function without(entry: Entry, inos: readonly Ino[]): Entry {
  const args = entry.args as ArgsOf<MetaMethods['commit']>;
  return { ...entry, args: { ...args, files: args.files.filter(({ ino }) => !inos.includes(ino)) } };
}

/** **Errors:** Refusal; LeasesInTheWay; the store's FsError. */
function apply(
  parts: MetaParts,
  session: Session,
  entry: Entry,
  { granted, removals }: { granted: Progress['granted']; removals: Removal[] },
): void {
  const { store, leases } = parts;
  const reads = new Set<Ino>();
  const changes = changesOf(parts, session, entry, reads);
  leases.checkKnown(session.id, { reads, writes: inodesOf(changes) });
  store.apply(changes);
  const removal = removalOf(entry.method, entry.args as object, changes);
  if (removal !== undefined) removals.push(removal);
  if (entry.ino === undefined || changes.every((change) => !('put' in change) || change.put !== 'inode'))
    return;
  const lease = leases.grantBorn(session.id, entry.ino);
  if (lease !== undefined) granted.set(entry.ino, lease);
}

/** **Errors:** Refusal, the operation's errors included; the store's FsError. */
function changesOf(parts: MetaParts, session: Session, entry: Entry, reads: Set<Ino>): readonly RowChange[] {
  let broken: unknown;
  try {
    const operation = operationOf(parts, session, entry);
    return runSync(operation, (read) => {
      const ino = inodeOfRead(read);
      if (ino !== undefined) reads.add(ino);
      try {
        return read.read === 'newIno' ? newIno(parts, session, entry) : parts.store.answer(read);
      } catch (error) {
        broken = error;
        throw error;
      }
    }).changes;
  } catch (error) {
    if (error instanceof FsError && error !== broken) throw new Refusal(error.message);
    throw error;
  }
}

function operationOf<K extends Journalled>(parts: MetaParts, session: Session, entry: Entry & { method: K }) {
  // Its shape was checked against the method's.
  const args = entry.args as ArgsOf<MetaMethods[K]>;
  if (entry.method === 'commit')
    checkChunks(parts.store, session, (args as ArgsOf<MetaMethods['commit']>).chunks);
  return namespace[entry.method](contextOf(session, entry.now), args);
}

function newIno({ store }: MetaParts, session: Session, { ino }: Entry): Answer {
  const read: RowRead | undefined = ino === undefined ? undefined : { read: 'inode', ino };
  const owner = ino === undefined ? undefined : store.inodeOwner(ino);
  const isFree = owner === session.id || (owner === undefined && (ino ?? 0) < store.nextId('inode'));
  if (ino === undefined || read === undefined || !isFree || store.answer(read) !== undefined)
    throw new Refusal(`inode number ${ino ?? 'none'} is not the session's to give out`);
  return ino;
}
