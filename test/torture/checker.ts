/**
 * Whether a history is linearizable: whether every call may have taken effect, step by step, at moments
 * between its call and its return, so that the model would have given all the answers that were given.
 *
 * The search goes through the history in real time. When a call returns and has not been carried out yet, it
 * is, or others that are under way are before it, in every order that the answers allow (just-in-time
 * linearization after Wing and Gong, and Lowe, "Testing for linearizability", 2017). Situations that were
 * left without success are remembered, so that none is searched twice.
 *
 * It checks what programs see. It does not check times, modes, or that anything is durable.
 */
import type { History, Op } from './history.js';
import { State } from './model.js';
import { movesOf, type Progress } from './specification.js';

export type Verdict =
  | { readonly verdict: 'legal' | 'undecided'; readonly steps: number }
  /** `at`: the op whose answer nothing explains; `states`: what the model may have been before it. */
  | {
      readonly verdict: 'anomaly';
      readonly steps: number;
      readonly at: number;
      readonly states: readonly string[];
    };

export const SEARCH_STEPS = 300_000;
/** However many steps that is. */
const SEARCH_MS = 20_000;
const STATES_KEPT = 3;

/**
 * INVARIANT: a step that changes nothing is taken where it is of use only: before a change that comes before
 * the next return, and of several before one change the earlier call's first; all other orders lead to the
 * same.
 */
interface Situation {
  readonly state: State;
  /** Of the calls under way, in the order of their calls. */
  readonly progress: ReadonlyMap<number, Progress>;
  /** Calls that have come further since the last change without changing anything, up to this one. */
  readonly looked: number;
  /** One of them is not the call that has to return next. */
  readonly othersLooked: boolean;
}

const NOBODY_LOOKED = { looked: -1, othersLooked: false };

type Event =
  | { readonly atNs: number; readonly kind: 'call' | 'return'; readonly op: Op }
  | { readonly atNs: number; readonly kind: 'harm'; readonly mount: number };

const RANK = { call: 0, harm: 1, return: 2 };

function eventsOf(history: History): Event[] {
  const events: Event[] = [];
  for (const op of history.ops) {
    events.push({ atNs: op.callNs, kind: 'call', op });
    if (op.returnNs !== undefined) events.push({ atNs: op.returnNs, kind: 'return', op });
  }
  for (const { mount, atNs } of history.harms) events.push({ atNs, kind: 'harm', mount });
  // What happens in the same nanosecond is taken to overlap.
  return events.sort((a, b) => a.atNs - b.atNs || RANK[a.kind] - RANK[b.kind]);
}

class Search {
  readonly #history: History;
  readonly #events: readonly Event[];
  readonly #maxSteps: number;
  readonly #seen = new Set<string>();
  /** By event: mounts that may have lost something before it. */
  readonly #harmed: readonly ReadonlySet<number>[];
  readonly #endMs = performance.now() + SEARCH_MS;
  steps = 0;
  deepest = -1;
  states: string[] = [];

  constructor(history: History, maxSteps: number) {
    this.#history = history;
    this.#maxSteps = maxSteps;
    this.#events = eventsOf(history);
    const harmed = new Set<number>();
    this.#harmed = this.#events.map(
      (event) => new Set(event.kind === 'harm' ? harmed.add(event.mount) : harmed),
    );
  }

  get isOver(): boolean {
    return this.steps >= this.#maxSteps || performance.now() >= this.#endMs;
  }

  opAt(index: number): number {
    const event = this.#events[index];
    return event === undefined || event.kind === 'harm' ? -1 : event.op.id;
  }

  /** Whether there is a way from `situation`, before event `index`, to the end. */
  isLegalFrom(index: number, situation: Situation): boolean {
    let { state, progress } = situation;
    for (let at = index; ; at++) {
      const event = this.#events[at];
      if (event === undefined) return true;
      if (event.kind === 'harm') continue;
      const { op } = event;
      if (event.kind === 'call') progress = new Map(progress).set(op.id, 'begun');
      else if (progress.get(op.id) === 'done') {
        const rest = new Map(progress);
        rest.delete(op.id);
        progress = rest;
        state = state.returned(op.id);
      } else return this.#canReturn(at, op, at === index ? situation : { state, progress, ...NOBODY_LOOKED });
    }
  }

  #canReturn(index: number, op: Op, situation: Situation): boolean {
    const { state, progress, looked, othersLooked } = situation;
    const key = `${index} ${looked} ${othersLooked} ${JSON.stringify([...progress])} ${state.key}`;
    if (this.#seen.has(key) || this.isOver) return false;
    this.#seen.add(key);
    this.steps++;
    this.#note(index, state);
    for (const next of this.#after(index, op, situation)) if (this.isLegalFrom(index, next)) return true;
    return false;
  }

  #note(index: number, state: State): void {
    if (index > this.deepest) {
      this.deepest = index;
      this.states = [];
    }
    if (index === this.deepest && this.states.length < STATES_KEPT) this.states.push(state.key);
  }

  /** Every situation one step later; first those in which `wanted` has come further. */
  *#after(index: number, wanted: Op, situation: Situation): Generator<Situation> {
    const { state, progress } = situation;
    const ids = [wanted.id, ...[...progress.keys()].filter((id) => id !== wanted.id)];
    for (const id of ids) {
      const op = this.#history.ops[id];
      const sofar = progress.get(id);
      if (op === undefined || sofar === undefined || sofar === 'done') continue;
      for (const move of movesOf(state, op, sofar)) {
        const isChange = move.state !== state;
        const after = isChange ? move.state.changedBy(id, op.mount, state) : state;
        const next = { state: after, progress: new Map(progress).set(id, move.progress) };
        if (isChange) yield { ...next, ...NOBODY_LOOKED };
        else if (id >= situation.looked) {
          const othersLooked = situation.othersLooked || op !== wanted;
          const isReturning = op === wanted && move.progress === 'done';
          if (!isReturning || !othersLooked) yield { ...next, looked: id, othersLooked };
        }
      }
    }
    for (const { mount, id } of state.uncommitted()) {
      yield { state: state.commitOldest(id, mount), progress, ...NOBODY_LOOKED };
      if (this.#harmed[index]?.has(mount) === true)
        yield { state: state.lost(id, mount), progress, ...NOBODY_LOOKED };
    }
  }
}

/** Checks a history against the model, in at most `maxSteps` steps of the search. */
export function check(history: History, maxSteps = SEARCH_STEPS): Verdict {
  const search = new Search(history, maxSteps);
  const isLegal = search.isLegalFrom(0, { state: State.empty(), progress: new Map(), ...NOBODY_LOOKED });
  const { steps } = search;
  if (isLegal) return { verdict: 'legal', steps };
  if (search.isOver) return { verdict: 'undecided', steps };
  return { verdict: 'anomaly', steps, at: search.opAt(search.deepest), states: search.states };
}

/**
 * What is wrong with counting under a lock, or undefined: every number is given once, and a count that began
 * after another had ended gives a higher one.
 */
export function checkCounts(ops: readonly Op[]): string | undefined {
  const counts = ops.flatMap((op) => {
    const { answer, returnNs } = op;
    if (op.system.call !== 'count' || answer === undefined || !('value' in answer)) return [];
    return returnNs === undefined ? [] : [{ op, value: Number(answer.value), returnNs }];
  });
  for (const a of counts)
    for (const b of counts) {
      if (a === b) continue;
      if (a.value === b.value) return `#${a.op.id} and #${b.op.id} both counted ${a.value}`;
      if (a.returnNs < b.op.callNs && a.value > b.value)
        return `#${b.op.id} counted ${b.value} after #${a.op.id} had counted ${a.value}`;
    }
  return undefined;
}

/** Errors that no op may give: it was refused though nothing stood in its way. */
export function unexpectedErrors(ops: readonly Op[]): Op[] {
  return ops.filter(({ answer, system }) => {
    if (answer === undefined || !('error' in answer)) return false;
    return EXPECTED[system.call]?.includes(answer.error) !== true;
  });
}

const EXPECTED: Record<string, readonly string[]> = {
  open: ['ENOENT', 'EEXIST', 'ESTALE'],
  rename: ['ENOENT'],
  link: ['ENOENT', 'EEXIST'],
  unlink: ['ENOENT'],
  stat: ['ENOENT', 'ESTALE'],
};
