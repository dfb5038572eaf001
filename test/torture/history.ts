/**
 * What client programs did to a filesystem and what it answered: one record for each system call, with the
 * real time (CLOCK_MONOTONIC, nanoseconds: the same for all processes of a machine) in which it lay.
 */

export type Path = string;

/** A system call. `fd`: a client's own number for an open file, never used twice in one history. */
export type SystemCall =
  | {
      readonly call: 'open';
      readonly path: Path;
      readonly flags: 'r' | 'r+' | 'w' | 'wx' | 'a';
      readonly fd: number;
    }
  | { readonly call: 'pwrite'; readonly fd: number; readonly at: number; readonly data: string }
  | { readonly call: 'append'; readonly fd: number; readonly data: string }
  | { readonly call: 'read' | 'fstat'; readonly fd: number }
  | { readonly call: 'ftruncate'; readonly fd: number; readonly size: number }
  | { readonly call: 'fsync' | 'close'; readonly fd: number }
  | { readonly call: 'rename' | 'link'; readonly path: Path; readonly to: Path }
  | { readonly call: 'unlink' | 'stat'; readonly path: Path }
  | { readonly call: 'readdir'; readonly path: Path }
  /** A number in a file, raised by one under a lock; answers the new one. No part of the model. */
  | { readonly call: 'count'; readonly how: 'flock' | 'fcntl' };

/**
 * What a call answered. `stat`, `fstat`: [inode number, links, size]; `readdir`: sorted names; `read`: the content;
 * `count`: the number; null for the rest.
 */
export type Answer = { readonly error: string } | { readonly value: Value };
export type Value = null | string | number | readonly number[] | readonly string[];

export interface Op {
  /** Its place in the history's list of ops. */
  readonly id: number;
  readonly client: number;
  /** Index of the client's mount. */
  readonly mount: number;
  readonly system: SystemCall;
  readonly callNs: number;
  /** Undefined: it never returned. */
  readonly returnNs: number | undefined;
  /** Undefined: nobody knows whether it was carried out. */
  readonly answer: Answer | undefined;
}

/** From `atNs` on, what programs on a mount wrote and neither closed nor synced may get lost. */
export interface Harm {
  readonly mount: number;
  readonly atNs: number;
}

export interface History {
  readonly ops: readonly Op[];
  readonly harms: readonly Harm[];
}

/** A line of a client's log: a call that begins, or the end of the last one. */
export type LogLine =
  | { readonly callNs: number; readonly system: SystemCall }
  | { readonly returnNs: number; readonly answer: Answer };

/** Errors that say nothing of what was carried out. */
const UNKNOWN = new Set(['EIO', 'ESTALE', 'ETIMEDOUT', 'ECONNABORTED', 'EINTR']);
/** The mount's daemon was gone before it was asked (fuse_get_req()): nothing was carried out. */
const NOT_ASKED = 'ENOTCONN';

/**
 * The ops in a client's log, of which the last line may be cut. From `harmedAtNs` on, ops that nobody was asked for
 * are left out, and so are answers that say nothing.
 */
export function readLog(
  text: string,
  client: { client: number; mount: number },
  harmedAtNs: number,
): Omit<Op, 'id'>[] {
  const ops: Omit<Op, 'id'>[] = [];
  for (const line of text.split('\n').slice(0, -1)) {
    const entry = JSON.parse(line) as LogLine;
    if ('system' in entry) {
      ops.push({ ...client, ...entry, returnNs: undefined, answer: undefined });
      continue;
    }
    const op = ops.pop();
    if (op === undefined) throw new Error('a log begins with an answer');
    const { answer } = entry;
    const isHarmed = entry.returnNs >= harmedAtNs;
    if (isHarmed && 'error' in answer && answer.error === NOT_ASKED) continue;
    const isUnknown = isHarmed && 'error' in answer && UNKNOWN.has(answer.error);
    ops.push(isUnknown ? op : { ...op, ...entry });
  }
  return ops;
}

/** One history of the ops of all clients, in the order of their calls. */
export function historyOf(ops: readonly Omit<Op, 'id'>[], harms: readonly Harm[]): History {
  const sorted = [...ops].sort((a, b) => a.callNs - b.callNs);
  return { ops: sorted.map((op, id) => ({ ...op, id })), harms };
}

function callText(system: SystemCall): string {
  const { call, ...rest } = system;
  const args = Object.entries(rest).map(([key, value]) => (key === 'fd' ? `fd ${value}` : String(value)));
  return `${call}(${args.join(', ')})`;
}

function answerText(op: Op): string {
  const { answer } = op;
  if (answer === undefined) return 'unknown';
  if ('error' in answer) return answer.error;
  return answer.value === null ? 'ok' : JSON.stringify(answer.value);
}

/** For people: a line for each op, with the milliseconds of its call and return. */
export function describe(history: History): string {
  const startNs = history.ops[0]?.callNs ?? 0;
  const ms = (ns: number | undefined): string =>
    (ns === undefined ? '...' : ((ns - startNs) / 1e6).toFixed(3)).padStart(10);
  const lines = history.ops.map((op) => ({
    atNs: op.callNs,
    text: `${ms(op.callNs)} ${ms(op.returnNs)}  mount ${op.mount} client ${op.client}  #${op.id} ${callText(op.system)} = ${answerText(op)}`,
  }));
  for (const { mount, atNs } of history.harms)
    lines.push({ atNs, text: `${ms(atNs)}             mount ${mount} is harmed` });
  return lines
    .sort((a, b) => a.atNs - b.atNs)
    .map(({ text }) => text)
    .join('\n');
}
