/**
 * What the filesystem is for those who use it: the metadata server's rows with all that mounts have done by
 * themselves under exclusive leases and the server has not carried out yet. The History follows these rows.
 *
 * What a mount does by itself has to be what the rules make of these rows, and what the server makes of its
 * journal the very same. When the server ends a mount's leases without its word (`voided`), what that mount has
 * not brought there is in doubt: for everybody else it never was, so the rows go back to the server's; what the
 * server carries out of it later is a change of that later moment, and what it refuses is lost.
 *
 * INVARIANT: `rows` are `#server` with `#own` applied, but for what is in doubt.
 */
import { compareTimespec } from '../../src/base/clock.js';
import type { OwnChange, OwnObserver, OwnOperation } from '../../src/client/local-operations.js';
import { MemoryRows } from '../../src/names/memory-rows.js';
import { namespace } from '../../src/names/namespace.js';
import { type Answer, type Operation, type Outcome, runSync } from '../../src/names/operation.js';
import type { RowChange, RowRead } from '../../src/names/rows.js';
import type { FsError } from '../../src/proto/errno.js';
import type { Ino, SessionId } from '../../src/proto/ids.js';
import type { History, JournalledEntry } from './history.js';
import { isErrno } from './kernel-base.js';

interface Own {
  readonly mount: string;
  /** The time that the mount gave to it, which it gives to nothing else. */
  readonly key: string;
  readonly changes: readonly RowChange[];
  readonly text: string;
  readonly inodes: ReadonlySet<Ino>;
  readonly saw: OwnChange['saw'];
  isInDoubt: boolean;
}

const keyOf = ({ sec, nsec }: { sec: number; nsec: number }): string => `${sec}.${nsec}`;

export class Logical {
  rows: MemoryRows;
  readonly #server: MemoryRows;
  readonly #history: History;
  readonly #violated: (text: string) => void;
  /** Done by mounts and not carried out by the server, oldest first. */
  #own: Own[] = [];
  /** Changes that mounts have made by themselves. */
  ownCount = 0;
  /** Of those, what was in doubt at some time, and what of that was refused. */
  doubtCount = 0;
  refusedCount = 0;

  constructor(
    createdAt: ConstructorParameters<typeof MemoryRows>[0],
    history: History,
    violated: (text: string) => void,
  ) {
    this.#server = new MemoryRows(createdAt);
    this.rows = new MemoryRows(createdAt);
    this.#history = history;
    this.#violated = violated;
  }

  readonly #read = (read: RowRead): Answer => this.rows.answer(read);

  // What mounts do by themselves

  observerOf(mount: string): OwnObserver {
    return {
      changed: (change) => this.#changed(mount, change),
      refused: (operation, error) => this.#refusedHere(mount, operation, error),
    };
  }

  #changed(mount: string, change: OwnChange): void {
    const { method, args, now, saw, born, changes } = change;
    for (const [ino, { version, ctime }] of saw) {
      const is = this.rows.inodes.get(ino);
      if (is?.version !== version || compareTimespec(is.ctime, ctime) !== 0)
        this.#violated(`${mount} goes by version ${version} of inode ${ino}; it is ${is?.version ?? 'gone'}`);
    }
    const text = textOf(changes);
    const right = textOf(this.#outcome(change, born).changes);
    if (text !== right)
      this.#violated(`${mount}: ${method} makes ${text} of what is there; it should be ${right}`);
    this.ownCount++;
    if (changes.length > 0) {
      this.rows.apply(changes);
      const inodes = touched(changes);
      this.#own.push({ mount, key: keyOf(now), changes, text, inodes, saw, isInDoubt: false });
    }
    this.#history.applied(changes, this.#read);
    this.#history.doneBy(mount, method, args, { ok: true });
  }

  #refusedHere(mount: string, operation: OwnOperation, error: FsError): void {
    try {
      this.#outcome(operation, undefined);
      this.#violated(`${mount}: ${operation.method} fails with ${error.code} here; it should not`);
    } catch (right) {
      if (!isErrno(right, error.code)) throw right;
    }
    this.#history.doneBy(mount, operation.method, operation.args, { ok: false });
  }

  /** What the rules make of the rows. */
  #outcome({ method, args, now, session }: OwnOperation, born: Ino | undefined): Outcome<unknown> {
    // As in LocalOperations: the mount has checked them.
    const rules = namespace[method] as (context: object, args: unknown) => Operation<unknown>;
    return runSync(rules({ now, session }, args), (read) => {
      if (read.read === 'newIno') return born;
      return this.rows.answer(read);
    });
  }

  // What the server does

  /** At a request, or in the course of its own work. */
  direct(changes: readonly RowChange[]): void {
    const inodes = touched(changes);
    for (const own of this.#own) {
      if (own.isInDoubt) continue;
      for (const ino of own.inodes)
        if (inodes.has(ino))
          this.#violated(`the server changes inode ${ino}, which ${own.mount} has changed by itself`);
    }
    this.#server.apply(changes);
    this.rows.apply(changes);
    this.#history.applied(changes, this.#read);
    this.#served(changes);
  }

  #served(changes: readonly RowChange[]): void {
    this.#history.served(changes, (read) => this.#server.answer(read));
  }

  carriedOut(
    session: SessionId,
    { number, now, isCommit }: JournalledEntry,
    changes: readonly RowChange[],
  ): void {
    const mount = this.#history.mountOf(session);
    const what = `entry ${number} of the journal of ${mount}`;
    const own = this.#own.find((each) => each.mount === mount && each.key === keyOf(now));
    const shown = touched(changes);
    for (const [ino, { ctime }] of own?.saw ?? []) {
      if (isCommit && !shown.has(ino)) continue;
      const row = this.#server.inodes.get(ino);
      if (row === undefined || compareTimespec(row.ctime, ctime) !== 0)
        this.#violated(`${what} is carried out on an inode ${ino} that others have changed`);
    }
    this.#server.apply(changes);
    if (own === undefined) {
      // Opens are said again to the next session.
      if (shown.size > 0) this.#violated(`${what} is carried out twice`);
      return;
    }
    if (own.isInDoubt) {
      this.rows.apply(changes);
      this.#history.applied(changes, this.#read);
    } else {
      const first = this.#own.find((each) => each.mount === mount && !each.isInDoubt);
      if (first !== own) this.#violated(`${what} is carried out before what came before it`);
      const text = textOf(changes);
      if (text !== own.text) this.#violated(`the server makes ${text} of ${what}; the mount ${own.text}`);
    }
    this.#own = this.#own.filter((each) => each !== own);
    this.#served(changes);
  }

  refused(session: SessionId, { number, now }: JournalledEntry): void {
    const mount = this.#history.mountOf(session);
    const own = this.#own.find((each) => each.mount === mount && each.key === keyOf(now));
    if (own === undefined) return;
    this.refusedCount++;
    if (!own.isInDoubt)
      this.#violated(`entry ${number} of the journal of ${mount} is refused although its leases held`);
  }

  /** A session's leases have ended without its word. */
  voided(session: SessionId): void {
    const mount = this.#history.mountOf(session);
    const doubted = this.#own.filter((own) => own.mount === mount && !own.isInDoubt);
    if (doubted.length === 0) return;
    this.doubtCount += doubted.length;
    for (const own of doubted) own.isInDoubt = true;
    this.rows = copyOf(this.#server);
    for (const own of this.#own) if (!own.isInDoubt) this.rows.apply(own.changes);
    const changes = doubted.flatMap((own) => own.changes);
    this.#history.reverted(changes, this.#read);
  }

  /** It has done something that the server does not know. */
  isAhead(mount: string): boolean {
    return this.#own.some((own) => own.mount === mount && !own.isInDoubt);
  }

  /** At the end: nothing is under way. */
  checkSettled(): void {
    const left = this.#own.filter((own) => !own.isInDoubt);
    for (const { mount, text } of left) this.#violated(`${mount} has not brought ${text} to the server`);
    const [ours, servers] = [summary(this.rows), summary(this.#server)];
    if (ours !== servers) this.#violated(`the server has ${servers}; it should have ${ours}`);
    this.rows.checkInvariants();
    this.#server.checkInvariants();
  }
}

function copyOf(from: MemoryRows): MemoryRows {
  const to = new MemoryRows({ sec: 0, nsec: 0 });
  for (const [ino, row] of from.inodes) to.inodes.set(ino, row);
  for (const [ino, rows] of from.dentries) to.dentries.set(ino, [...rows]);
  for (const [ino, rows] of from.extents) to.extents.set(ino, [...rows]);
  for (const [id, row] of from.chunks) to.chunks.set(id, row);
  for (const [ino, rows] of from.xattrs) to.xattrs.set(ino, [...rows]);
  for (const [ino, sessions] of from.opens) to.opens.set(ino, new Set(sessions));
  for (const ino of from.reapable) to.reapable.add(ino);
  for (const id of from.garbage) to.garbage.add(id);
  return to;
}

function summary({ inodes, dentries, extents }: MemoryRows): string {
  const rows = (map: ReadonlyMap<Ino, unknown>): unknown[] => [...map].sort(([a], [b]) => a - b);
  return stable([rows(inodes), rows(dentries), rows(extents)]);
}

/** The inodes that changes show on; who has one open does not. */
function touched(changes: readonly RowChange[]): Set<Ino> {
  const inodes = new Set<Ino>();
  for (const change of changes) {
    if ('adjust' in change) continue;
    if ('put' in change) {
      if (change.put === 'dentry') inodes.add(change.row.parent);
      else if (change.put === 'inode' || change.put === 'extent' || change.put === 'xattr')
        inodes.add(change.row.ino);
    } else if (change.delete === 'dentry') inodes.add(change.parent);
    else if (change.delete !== 'open') inodes.add(change.ino);
  }
  return inodes;
}

const textOf = (changes: readonly RowChange[]): string => stable(changes);

/** The same for the same rows, whatever the order of their fields and the class of their bytes. */
function stable(value: unknown): string {
  if (value instanceof Uint8Array) return `"${Buffer.from(value).toString('latin1')}"`;
  if (Array.isArray(value)) return `[${value.map(stable).join()}]`;
  if (typeof value !== 'object' || value === null) return String(value);
  const fields = Object.entries(value).filter(([, inner]) => inner !== undefined);
  fields.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([name, inner]) => `${name}:${stable(inner)}`).join()}}`;
}
