/**
 * Holds what programs are answered against what the server's store was like between the call and the answer.
 * Answers of which that is not so are violations, whoever gave them: a mount's kernel, the mount, the server.
 */
import type { Attr } from '../../src/proto/attr.js';
import type { Ino } from '../../src/proto/ids.js';
import {
  type Done,
  type History,
  type InodeState,
  type Moment,
  operationKey,
  SLOT_BYTES,
  slotsOf,
  type Window,
} from './history.js';

export class Violation extends Error {
  override name = 'Violation';
}

/** A value that a mount has written into a slot. */
interface Written {
  readonly value: string;
  /** -1: of a daemon that was killed. */
  generation: number;
  readonly fh: number;
  /** The write has returned: as the how manieth; undefined: it has not. */
  acknowledged: number | undefined;
  /** When a close behind it had returned: whoever asks later sees it, and a killed daemon does not lose it. */
  closedAt: number | undefined;
  /** Its mount lost its leases before the bytes were in the file: others need not see it. */
  isInDoubt: boolean;
  /** Cut off again, or given up: it need not show any more. */
  isVoid: boolean;
}

/** An operation that changes something, as a program asked for it. */
export interface Operation {
  readonly mount: string;
  readonly key: string;
  /** Mutations carried out before. */
  readonly since: number;
}

/** Which session a mount is in. */
export interface Generation {
  readonly generation: number;
}

/** Mutations that are looked at for whether their mount knows of them. */
const LOOKED_BACK = 200;
const NOTHING = '\0'.repeat(SLOT_BYTES);
const padded = (slot: string | undefined): string => (slot ?? '').padEnd(SLOT_BYTES, '\0');

const isSame = ({ mount, key }: Operation, done: Done): boolean => mount === done.mount && key === done.key;

const CLAIMED = new Set(['create', 'mkdir', 'link', 'unlink', 'rmdir', 'rename', 'setattr']);

export class Observer {
  readonly history: History;
  readonly #fail: (error: Violation) => void;
  /** Written by each mount, by mount, inode and slot; oldest first. */
  readonly #written = new Map<string, Map<Ino, Map<number, Written[]>>>();
  /** Writes that have returned. */
  #acknowledged = 0;
  readonly #unknown: Operation[] = [];
  readonly #underWay = new Set<Operation>();
  /** Opens under way that cut a file, by mount and inode. */
  readonly #cutting = new Map<string, number>();
  answers = 0;
  #tick = 0;

  constructor(history: History, fail: (error: Violation) => void) {
    this.history = history;
    this.#fail = fail;
  }

  get index(): number {
    return this.history.index;
  }

  /** Now, for a mount that is about to be asked. */
  moment(mount: string): Moment {
    const { done, index } = this.history;
    const unsettled: number[] = [];
    const underWay = [...this.#underWay];
    // What is older than this was answered long ago.
    for (let at = Math.max(done.length - LOOKED_BACK, 0); at < done.length; at++) {
      const one = done[at];
      if (one === undefined || one.mount !== mount || !one.ok) continue;
      const isUnderWay = underWay.some((operation) => isSame(operation, one));
      // Once a program was told something, be it EINTR, its mount says nothing of before any more.
      if (isUnderWay || (!one.isAnswered && !CLAIMED.has(one.method))) unsettled.push(one.index);
    }
    return { index, unsettled, tick: ++this.#tick, acknowledged: this.#acknowledged };
  }

  violated(text: string): void {
    this.#fail(new Violation(text));
  }

  // Names and attributes

  named(who: string, parent: Ino, name: string, ino: Ino | null, from: Moment): void {
    this.answers++;
    const window = { from, to: this.index };
    const possible = this.history.namesIn(parent, name, window);
    if (possible.includes(ino)) return;
    this.violated(
      `${who} says ${parent}/${name} is ${ino ?? 'nothing'}; it was ${possible.map((is) => is ?? 'nothing').join(', ')}`,
    );
  }

  /** A listing has no other names than `listed`: what was there all the time is among them. */
  listed(who: string, parent: Ino, listed: ReadonlySet<string>, from: Moment): void {
    const prefix = `${parent}/`;
    for (const key of this.history.names.keys()) {
      const name = key.slice(prefix.length);
      if (!key.startsWith(prefix) || listed.has(name)) continue;
      const states = this.history.namesIn(parent, name, { from, to: this.index });
      if (!states.includes(null)) this.violated(`${who} lists ${parent} without ${name}`);
    }
  }

  gone(who: string, ino: Ino, from: Moment): void {
    this.answers++;
    const states = this.history.statesIn(ino, { from, to: this.index });
    if (!states.some(({ row }) => row === undefined))
      this.violated(`${who} says inode ${ino} is gone; it is not`);
  }

  attributes(mount: string, who: string, attr: Attr, from: Moment): void {
    this.answers++;
    const { ino } = attr;
    const states = this.history.statesIn(ino, { from, to: this.index });
    // There may be two of one version: what was in doubt, and what others made instead.
    const sameVersion = states.filter(({ row }) => row?.version === attr.version);
    if (sameVersion.length === 0) {
      const versions = states.map(({ row }) => (row === undefined ? 'gone' : row.version));
      this.violated(`${who} gives inode ${ino} version ${attr.version}; it was ${versions.join(', ')}`);
      return;
    }
    this.#closed(mount, who, ino, from);
    const isPending = this.#mayHavePending(mount, ino, from);
    const wrongs = sameVersion.map((state) => this.#wrongIn(attr, state, isPending));
    const wrong = wrongs.includes(undefined) ? undefined : wrongs[0];
    if (wrong !== undefined) this.violated(`${who} gives inode ${ino} a wrong ${wrong}`);
  }

  /** As attributes, without what is pending. */
  version(who: string, { ino, version }: Attr, from: Moment): void {
    this.answers++;
    const states = this.history.statesIn(ino, { from, to: this.index });
    if (states.some(({ row }) => row?.version === version)) return;
    const versions = states.map(({ row }) => (row === undefined ? 'gone' : row.version));
    this.violated(`${who} has inode ${ino} version ${version}; it was ${versions.join(', ')}`);
  }

  #wrongIn(attr: Attr, { row }: InodeState, isPending: boolean): string | undefined {
    if (row === undefined) return 'existence';
    for (const field of ['mode', 'nlink', 'uid', 'gid'] as const)
      if (attr[field] !== row[field]) return `${field}: ${attr[field]}, not ${row[field]}`;
    if (isPending ? attr.size < row.size : attr.size !== row.size)
      return `size: ${attr.size}, not ${row.size}`;
    const [ours, theirs] = [JSON.stringify(attr.mtime), JSON.stringify(row.mtime)];
    return isPending || ours === theirs ? undefined : `mtime: ${ours}, not ${theirs}`;
  }

  // Bytes

  writing(mount: string, ino: Ino, slot: number, value: string, at: Generation & { fh: number }): Written {
    const inodes = this.#written.get(mount) ?? new Map<Ino, Map<number, Written[]>>();
    this.#written.set(mount, inodes);
    const slots = inodes.get(ino) ?? new Map<number, Written[]>();
    inodes.set(ino, slots);
    const { generation, fh } = at;
    const written: Written = {
      value,
      generation,
      fh,
      acknowledged: undefined,
      closedAt: undefined,
      isInDoubt: false,
      // What is written beside an open that cuts the file is perhaps cut too.
      isVoid: this.#cutting.has(`${mount} ${ino}`),
    };
    slots.set(slot, [...(slots.get(slot) ?? []), written]);
    return written;
  }

  /** The write has returned. */
  wrote(written: Written): void {
    written.acknowledged = ++this.#acknowledged;
  }

  /** Runs an open that cuts a file: what this mount has pending of it, or writes meanwhile, may be gone then. */
  async cutting<T>(mount: string, ino: Ino, open: () => Promise<T>): Promise<T> {
    const key = `${mount} ${ino}`;
    this.#cutting.set(key, (this.#cutting.get(key) ?? 0) + 1);
    this.discarded(mount, ino);
    const operation = this.begin(mount, 'open', { ino });
    try {
      return await open();
    } finally {
      this.end(operation);
      const left = (this.#cutting.get(key) ?? 1) - 1;
      if (left > 0) this.#cutting.set(key, left);
      else this.#cutting.delete(key);
    }
  }

  /** What this mount had pending of a file may be gone: it was cut, or could not be written back. */
  discarded(mount: string, ino: Ino): void {
    for (const writes of this.#written.get(mount)?.get(ino)?.values() ?? [])
      for (const written of writes) written.isVoid = true;
  }

  /** It is in the file at that moment, and its mount knows. */
  #isCommitted(value: string, by: Moment): boolean {
    const at = this.history.committedAt.get(value);
    return at !== undefined && at <= by.index && !by.unsettled.includes(at);
  }

  #mayHavePending(mount: string, ino: Ino, from: Moment): boolean {
    const slots = this.#written.get(mount)?.get(ino)?.values() ?? [];
    return [...slots].some((writes) => writes.some(({ value }) => !this.#isCommitted(value, from)));
  }

  content(mount: string, who: string, ino: Ino, content: string, from: Moment, at: Generation): void {
    this.answers++;
    const window = { from, to: this.index };
    const states = this.history.statesIn(ino, window);
    this.#closed(mount, who, ino, from);
    const count = Math.max(
      ...states.map((state) => slotsOf(state.content).length),
      slotsOf(content).length,
      0,
    );
    for (let slot = 0; slot < count; slot++) {
      const got = padded(slotsOf(content)[slot]);
      const possible = this.#possible(mount, ino, slot, states, window, at);
      if (!possible.has(got))
        this.violated(
          `${who} reads ${JSON.stringify(got)} in slot ${slot} of inode ${ino}; it was ${[...possible].map((value) => JSON.stringify(value)).join(', ')}`,
        );
    }
  }

  /** What a mount may read in a slot. */
  #possible(
    mount: string,
    ino: Ino,
    slot: number,
    states: readonly InodeState[],
    window: Window,
    at: Generation,
  ): Set<string> {
    const writes = this.#written.get(mount)?.get(ino)?.get(slot) ?? [];
    // Its own newest write that had returned and was not committed when the read began hides what was before.
    const newest = writes.findLastIndex(
      ({ acknowledged = Number.POSITIVE_INFINITY }) => acknowledged <= window.from.acknowledged,
    );
    const own = writes[newest];
    const hides =
      own !== undefined &&
      !own.isVoid &&
      // Others may have been there before it could be committed: then it is in lost+found.
      !own.isInDoubt &&
      own.generation === at.generation &&
      !this.#isCommitted(own.value, window.from);
    const committedAt = own === undefined ? undefined : this.history.committedAt.get(own.value);
    const possible = new Set<string>();
    for (const state of states)
      if (!hides || (committedAt !== undefined && state.index >= committedAt))
        possible.add(padded(slotsOf(state.content)[slot]));
    for (const [position, { value }] of writes.entries())
      if ((hides ? position >= newest : true) && !this.#isCommitted(value, window.from)) possible.add(value);
    // What was cut here and not said to the server yet, or given up with a session.
    if (writes.some(({ isVoid }) => isVoid)) possible.add(NOTHING);
    return possible;
  }

  /** Writes of this mount to a file, or through one handle, that have returned by now; for `stored`. */
  toStore(mount: string, ino: Ino, through?: number): Written[] {
    return [...(this.#written.get(mount)?.get(ino)?.values() ?? [])].flatMap(
      (writes) =>
        writes.findLast(({ acknowledged, fh }) => acknowledged !== undefined && (through ?? fh) === fh) ?? [],
    );
  }

  /** An fsync has returned without an error: the server has it. */
  stored(mount: string, who: string, ino: Ino, wanted: readonly Written[], at: Generation): void {
    if (this.history.inodes.get(ino)?.at(-1)?.row === undefined) return;
    for (const written of wanted) {
      if (written.isVoid || written.generation !== at.generation) continue;
      if (!this.#andSince(mount, ino, written).some(({ value }) => this.history.servedAt.has(value)))
        this.violated(`${who} has flushed ${written.value} of inode ${ino}; it is not in the file`);
    }
  }

  /** A close has returned without an error: it is in the file, or safe where it was written. */
  closed(wanted: readonly Written[]): void {
    for (const written of wanted) written.closedAt ??= ++this.#tick;
  }

  #andSince(mount: string, ino: Ino, written: Written): Written[] {
    const slots = [...(this.#written.get(mount)?.get(ino)?.values() ?? [])];
    const writes = slots.find((all) => all.includes(written)) ?? [];
    return writes.slice(writes.indexOf(written));
  }

  /** What other mounts had closed before is in the file. */
  #closed(mount: string, who: string, ino: Ino, from: Moment): void {
    for (const [other, inodes] of this.#written) {
      if (other === mount) continue;
      for (const writes of inodes.get(ino)?.values() ?? [])
        for (const { value } of writes.filter((written) => this.#isMissing(other, ino, written, from.tick)))
          this.violated(`${who} does not see ${value} in inode ${ino}, which ${other} had closed`);
    }
  }

  /** It was closed before and neither it nor what was written over it is in the file. */
  #isMissing(mount: string, ino: Ino, written: Written, before: number): boolean {
    const { closedAt, isVoid, isInDoubt } = written;
    if (closedAt === undefined || closedAt >= before || isVoid || isInDoubt) return false;
    return !this.#andSince(mount, ino, written).some(({ value }) => this.history.committedAt.has(value));
  }

  /** The server has ended the leases of a mount. */
  voided(mount: string): void {
    for (const inodes of this.#written.get(mount)?.values() ?? [])
      for (const writes of inodes.values()) for (const written of writes) written.isInDoubt = true;
  }

  /** Its daemon was killed: what was not closed is gone. */
  killed(mount: string): void {
    for (const slots of this.#written.get(mount)?.values() ?? [])
      for (const [slot, writes] of slots) {
        const left = writes.filter(
          ({ value, closedAt }) => closedAt !== undefined || this.history.committedAt.has(value),
        );
        for (const written of left) written.generation = -1;
        slots.set(slot, left);
      }
  }

  // Once, and not lost

  begin(mount: string, method: string, args: object): Operation {
    const operation = { mount, key: operationKey(method, args), since: this.history.done.length };
    this.#underWay.add(operation);
    return operation;
  }

  /** What it did to the kernel's memory is done. */
  end(operation: Operation): void {
    this.#underWay.delete(operation);
  }

  #claim({ mount, key, since }: Operation, ok: boolean): Done | undefined {
    const { done } = this.history;
    for (let at = since; at < done.length; at++) {
      const one = done[at];
      if (one === undefined || one.isClaimed || one.ok !== ok || one.mount !== mount) continue;
      if (one.key !== key) continue;
      one.isClaimed = true;
      return one;
    }
    return undefined;
  }

  succeeded(operation: Operation): void {
    if (this.#claim(operation, true) === undefined)
      this.violated(`${operation.mount}: ${operation.key} was acknowledged and not carried out`);
  }

  refused(operation: Operation, error: string): void {
    if (this.#claim(operation, false) === undefined)
      this.violated(`${operation.mount}: ${operation.key} fails with ${error}, which the server did not say`);
  }

  /** Nobody knows whether it was, or will be, carried out. */
  unknown(operation: Operation): void {
    this.#unknown.push(operation);
  }

  /** At the end: whatever was carried out was asked for, as often as it was asked for. */
  settle(): void {
    for (const operation of this.#unknown)
      if (this.#claim(operation, true) === undefined) this.#claim(operation, false);
    for (const { mount, method, key, ok, isClaimed } of this.history.done)
      if (ok && !isClaimed && CLAIMED.has(method))
        this.violated(`${mount}: ${key} was carried out once more than was asked for`);
    for (const [mount, inodes] of this.#written)
      for (const [ino, slots] of inodes)
        if (this.history.inodes.get(ino)?.at(-1)?.row !== undefined)
          for (const written of [...slots.values()].flat())
            if (this.#isMissing(mount, ino, written, this.#tick + 1))
              this.violated(`${mount} has closed ${written.value} of inode ${ino}; it is not in the file`);
  }
}
