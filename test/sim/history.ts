/**
 * What the filesystem was like at every moment (logical.ts): the states of each inode and of each name, in
 * the order in which operations were carried out, and which request of which mount did it. A moment is an
 * index that rises with every operation that changes something; what an answer says must have been so at some
 * index between the call and the answer.
 */
import { Unpackr } from 'msgpackr/pack';
import type { Timespec } from '../../src/base/clock.js';
import { hashName } from '../../src/names/dentry.js';
import type { Answer } from '../../src/names/operation.js';
import type { DentryRow, InodeRow, RowChange, RowRead } from '../../src/names/rows.js';
import { asIno, type ChunkId, type Ino, ROOT_INO, type SessionId } from '../../src/proto/ids.js';
import type { MetaMethods } from '../../src/proto/meta-methods.js';
import type { ArgsOf } from '../../src/proto/method.js';
import type { Frame, RequestFrame } from '../../src/rpc/frame.js';
import type { SimEnd } from './network.js';

/** Files are written in slots of this many bytes, each write with a value that is never used again. */
export const SLOT_BYTES = 8;
/** Contents are looked at up to here. */
export const FILE_BYTES = 8 * SLOT_BYTES;

export interface InodeState {
  readonly index: number;
  /** Undefined: there is no such inode. */
  readonly row: InodeRow | undefined;
  /** Of a file, in latin1. */
  readonly content: string;
}

export interface NameState {
  readonly index: number;
  readonly ino: Ino | null;
}

/**
 * When a mount was asked. What it has changed itself and was not told about yet it need not know: until the
 * answer comes, its kernel says what was before.
 */
export interface Moment {
  readonly index: number;
  readonly unsettled: readonly number[];
  /** Tells what comes first where nothing changes between. */
  readonly tick: number;
  /** Writes of all mounts that had returned. */
  readonly acknowledged: number;
}

/** From the call to the answer. */
export interface Window {
  readonly from: Moment;
  readonly to: number;
}

/** A mutation that was carried out, or refused for good. */
export interface Done {
  readonly mount: string;
  readonly method: string;
  /** operationKey of it. */
  readonly key: string;
  readonly ok: boolean;
  /** When it was carried out; -1: it changed nothing. */
  readonly index: number;
  /** The operation that asked for it was told. */
  isClaimed: boolean;
  /** Its answer has reached the mount, or its session is over. */
  isAnswered: boolean;
}

/** An operation that a mount has done by itself, as it is brought to the server. */
export interface JournalledEntry {
  readonly number: number;
  readonly now: Timespec;
  readonly saw: readonly (readonly [Ino, number, Timespec])[];
  /** It passes over files that are gone, or that others have changed. */
  readonly isCommit: boolean;
}

interface Asked {
  readonly mount: string;
  readonly method: string;
  readonly args: unknown;
  done: Done | undefined;
}

interface Spoken {
  readonly opening: Set<number>;
  session: number | undefined;
  /** Mutations under way, by call. */
  readonly calls: Map<number, string>;
}

const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });
export const nameKey = (parent: Ino, name: string): string => `${parent}/${name}`;
export const keyParts = (key: string): [parent: Ino, name: string] => {
  const at = key.indexOf('/');
  return [asIno(Number(key.slice(0, at))), key.slice(at + 1)];
};

export class History {
  index = 0;
  readonly inodes = new Map<Ino, InodeState[]>();
  readonly names = new Map<string, NameState[]>();
  readonly done: Done[] = [];
  /** When each slot's value became part of its file. */
  readonly committedAt = new Map<string, number>();
  /** What mounts asked for, by session and sequence number. */
  readonly #requests = new Map<string, Asked>();
  readonly #spoken = new WeakMap<object, Spoken>();
  /** Something was carried out and its answer not kept yet. */
  #isFresh = false;
  readonly #sessionOf = new Map<string, number>();
  readonly #mountOf = new Map<number, string>();
  /** Sessions that their mount has closed. */
  readonly closed = new Set<number>();
  /** By session and number. */
  readonly #journals = new Map<number, Map<number, JournalledEntry>>();
  /** When each slot's value became part of its file at the server. */
  readonly servedAt = new Map<string, number>();
  /** Every chunk that was ever stored. */
  readonly chunks = new Map<ChunkId, Buffer>();

  start(read: (read: RowRead) => Answer): void {
    this.#note(ROOT_INO, read);
  }

  // What is carried out

  applied(changes: readonly RowChange[], read: (read: RowRead) => Answer): void {
    if (changes.length === 0) return;
    this.index++;
    this.#isFresh = true;
    this.#noteAll(changes, read, (parent, name, ino) => this.#named(parent, name, ino));
  }

  /** These changes never were. */
  reverted(changes: readonly RowChange[], read: (read: RowRead) => Answer): void {
    this.index++;
    this.#noteAll(changes, read, (parent, name) => {
      const row = read({ read: 'dentry', parent, hash: hashName(name), name }) as DentryRow | undefined;
      this.#named(parent, name, row?.ino ?? null);
    });
  }

  #noteAll(
    changes: readonly RowChange[],
    read: (read: RowRead) => Answer,
    named: (parent: Ino, name: Uint8Array, ino: Ino | null) => void,
  ): void {
    const inodes = new Set<Ino>();
    for (const change of changes) {
      if ('adjust' in change) continue;
      if ('put' in change) {
        if (change.put === 'dentry') named(change.row.parent, change.row.name, change.row.ino);
        else if (change.put === 'inode' || change.put === 'extent') inodes.add(change.row.ino);
      } else if (change.delete === 'dentry') named(change.parent, change.name, null);
      else if (change.delete === 'inode' || change.delete === 'extent') inodes.add(change.ino);
    }
    for (const ino of inodes) this.#note(ino, read);
  }

  /** The server has made what a mount has done part of its rows. */
  served(changes: readonly RowChange[], read: (read: RowRead) => Answer): void {
    for (const change of changes) {
      if (!('put' in change) || change.put !== 'extent') continue;
      const row = read({ read: 'inode', ino: change.row.ino }) as InodeRow | undefined;
      if (row === undefined) continue;
      for (const value of slotsOf(this.#contentOf(row, read)))
        if (!this.servedAt.has(value)) this.servedAt.set(value, this.index);
    }
  }

  #named(parent: Ino, name: Uint8Array, ino: Ino | null): void {
    const key = nameKey(parent, Buffer.from(name).toString('latin1'));
    const states = this.names.get(key) ?? [];
    this.names.set(key, states);
    if (states.at(-1)?.index === this.index) states.pop();
    states.push({ index: this.index, ino });
  }

  #note(ino: Ino, read: (read: RowRead) => Answer): void {
    const row = read({ read: 'inode', ino }) as InodeRow | undefined;
    const content = row === undefined ? '' : this.#contentOf(row, read);
    const states = this.inodes.get(ino) ?? [];
    this.inodes.set(ino, states);
    if (states.at(-1)?.index === this.index) states.pop();
    states.push({ index: this.index, row, content });
    for (const value of slotsOf(content))
      if (!this.committedAt.has(value)) this.committedAt.set(value, this.index);
  }

  #contentOf(row: InodeRow, read: (read: RowRead) => Answer): string {
    const bytes = Buffer.alloc(Math.min(row.size, FILE_BYTES));
    const extents = read({ read: 'extents', ino: row.ino, from: 0, to: FILE_BYTES, limit: 1000 });
    if (Array.isArray(extents))
      for (const extent of extents) {
        if (!('chunk' in extent) || !('chunkOffset' in extent)) continue;
        const { chunk, chunkOffset, offset, length } = extent;
        this.chunks.get(chunk)?.copy(bytes, offset, chunkOffset, chunkOffset + length);
      }
    return bytes.toString('latin1');
  }

  /** The answer to a mutation was kept. */
  answered(session: SessionId, sequence: number, reply: Uint8Array): void {
    const request = this.#requests.get(`${session}:${sequence}`);
    if (request === undefined) return;
    const row: unknown = unpackr.unpack(reply);
    const ok = Array.isArray(row) && row.length === 2;
    const { mount, method, args } = request;
    request.done = this.#carriedOut(mount, method, args, { ok, isAnswered: false });
  }

  /** A mount has done it by itself. */
  doneBy(mount: string, method: string, args: unknown, { ok }: { ok: boolean }): void {
    this.#carriedOut(mount, method, args, { ok, isAnswered: true });
  }

  #carriedOut(
    mount: string,
    method: string,
    args: unknown,
    { ok, isAnswered }: { ok: boolean; isAnswered: boolean },
  ): Done {
    const index = this.#isFresh ? this.index : -1;
    this.#isFresh = false;
    const key = operationKey(method, args);
    const done = { mount, method, key, ok, index, isClaimed: false, isAnswered };
    this.done.push(done);
    return done;
  }

  // What is asked for

  sniff(frame: Frame, from: SimEnd, to: SimEnd): void {
    const { connection } = from;
    const spoken = this.#spoken.get(connection) ?? {
      opening: new Set(),
      session: undefined,
      calls: new Map(),
    };
    this.#spoken.set(connection, spoken);
    if (frame.kind === 'request') this.#asked(spoken, frame, from.node.name);
    // Both sides count their calls from 1: only answers to the mount are meant.
    if ((frame.kind !== 'reply' && frame.kind !== 'error') || to.node.name === 'meta') return;
    if (frame.kind === 'reply' && spoken.opening.delete(frame.id))
      this.#opened(spoken, to.node.name, frame.result);
    const request = this.#requests.get(spoken.calls.get(frame.id) ?? '');
    if (request?.done !== undefined && to.node.name === request.mount) request.done.isAnswered = true;
  }

  #asked(spoken: Spoken, { id, method, args, sequence }: RequestFrame, mount: string): void {
    if (method === 'openSession') spoken.opening.add(id);
    if (method === 'closeSession' && spoken.session !== undefined) this.closed.add(spoken.session);
    if (method === 'journal' && spoken.session !== undefined) this.#journalled(spoken.session, args);
    if (sequence === undefined || spoken.session === undefined) return;
    const key = `${spoken.session}:${sequence}`;
    spoken.calls.set(id, key);
    if (!this.#requests.has(key)) this.#requests.set(key, { mount, method, args, done: undefined });
  }

  #journalled(session: number, args: unknown): void {
    const { first, entries } = args as ArgsOf<MetaMethods['journal']>;
    const journal = this.#journals.get(session) ?? new Map<number, JournalledEntry>();
    this.#journals.set(session, journal);
    for (const [at, { method, now, saw }] of entries.entries())
      journal.set(first + at, { number: first + at, now, saw, isCommit: method === 'commit' });
  }

  /** What has come of a session's journal, from this number on. */
  journalFrom(session: SessionId, first: number): JournalledEntry[] {
    const entries: JournalledEntry[] = [];
    const journal = this.#journals.get(session);
    for (let number = first; ; number++) {
      const entry = journal?.get(number);
      if (entry === undefined) return entries;
      entries.push(entry);
    }
  }

  mountOf(session: SessionId): string {
    return this.#mountOf.get(session) ?? `session ${session}`;
  }

  #opened(spoken: Spoken, mount: string, reply: unknown): void {
    spoken.session = sessionIn(reply);
    if (spoken.session === undefined || !mount.startsWith('mount')) return;
    this.#mountOf.set(spoken.session, mount);
    const before = this.#sessionOf.get(mount);
    this.#sessionOf.set(mount, spoken.session);
    if (before === undefined || before === spoken.session) return;
    for (const done of this.done) if (done.mount === mount) done.isAnswered = true;
  }

  // Looking back

  statesIn(ino: Ino, window: Window): InodeState[] {
    return within(this.inodes.get(ino) ?? [], window, { index: -1, row: undefined, content: '' });
  }

  namesIn(parent: Ino, name: string, window: Window): (Ino | null)[] {
    const states = this.names.get(nameKey(parent, name)) ?? [];
    return within(states, window, { index: -1, ino: null }).map(({ ino }) => ino);
  }
}

/** The states that were current at some index of the window; `first`: before all of them. */
function within<T extends { readonly index: number }>(states: readonly T[], window: Window, first: T): T[] {
  const { from, to } = window;
  const all = [first, ...states];
  return all.filter((state, at) => {
    if (state.index > to) return false;
    const later = all.slice(at + 1).filter(({ index }) => index <= from.index);
    return later.every(({ index }) => from.unsettled.includes(index));
  });
}

function sessionIn(result: unknown): number | undefined {
  if (typeof result !== 'object' || result === null || !('session' in result)) return undefined;
  return typeof result.session === 'number' ? result.session : undefined;
}

/** What is in the slots of a content; the last may be cut. */
export function slotsOf(content: string): string[] {
  const slots: string[] = [];
  for (let at = 0; at < content.length; at += SLOT_BYTES) slots.push(content.slice(at, at + SLOT_BYTES));
  return slots;
}

/** The fields that tell one operation from another. */
export function operationKey(method: string, args: unknown): string {
  const fields = typeof args === 'object' && args !== null ? new Map(Object.entries(args)) : new Map();
  const set: unknown = fields.get('set');
  const parts = ['ino', 'parent', 'name', 'newParent', 'newName', 'mode'].map((field) => {
    const value: unknown = fields.get(field);
    return value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : String(value ?? '');
  });
  return [method, ...parts, set === undefined ? '' : JSON.stringify(set)].join(' ');
}
