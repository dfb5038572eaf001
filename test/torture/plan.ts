/** What the clients of a history are to do, from a seed: on few names, so that they meet. */
import type { Prng } from '../../src/base/prng.js';

/** One thing to do, of one system call or of several on one file. */
export type Step =
  | { readonly do: 'create' | 'write' | 'rewrite' | 'append'; readonly path: string; readonly sync: boolean }
  | { readonly do: 'make' | 'read' | 'unlink' | 'stat' | 'readdir'; readonly path: string }
  /** Opens it and looks at it so often. */
  | { readonly do: 'watch'; readonly path: string; readonly times: number; readonly pauseMs: number }
  | { readonly do: 'truncate'; readonly path: string; readonly size: number }
  | { readonly do: 'rename' | 'link'; readonly path: string; readonly to: string }
  | { readonly do: 'count'; readonly how: 'flock' | 'fcntl' };

export interface PlannedStep {
  readonly step: Step;
  /** Before it. */
  readonly pauseMs: number;
}

export const DIRECTORIES = ['d0', 'd1'] as const;
const NAMES = ['a', 'b', 'c'];

type Make = (prng: Prng, path: () => string) => Step;
const onPath =
  (what: 'make' | 'read' | 'unlink' | 'stat'): Make =>
  (_, path) => ({ do: what, path: path() });
const writing =
  (what: 'create' | 'write' | 'rewrite' | 'append'): Make =>
  (prng, path) => ({ do: what, path: path(), sync: prng.next() < 0.2 });
const between =
  (what: 'rename' | 'link'): Make =>
  (_, path) => {
    const from = path();
    let to = path();
    while (to === from) to = path();
    return { do: what, path: from, to };
  };

/** A kind of step, and how often it comes. */
type Mix = readonly (readonly [weight: number, make: Make])[];

const NAME_STEPS: Mix = [
  [10, onPath('make')],
  [9, onPath('unlink')],
  [22, onPath('stat')],
  [10, between('rename')],
  [6, between('link')],
  [8, (prng) => ({ do: 'readdir', path: prng.pick(DIRECTORIES) })],
];
const DATA_STEPS: Mix = [
  [8, writing('create')],
  [8, writing('write')],
  [5, writing('rewrite')],
  [5, writing('append')],
  [5, (prng, path) => ({ do: 'truncate', path: path(), size: prng.int(0, 12) })],
  [18, onPath('read')],
  [4, (prng, path) => ({ do: 'watch', path: path(), times: prng.int(2, 4), pauseMs: prng.int(0, 10) })],
  [8, onPath('stat')],
];

/** So that every history has something of its own. */
function pickMix(prng: Prng, how: 'flock' | 'fcntl'): Mix {
  const count: Mix = prng.next() < 0.3 ? [[4, () => ({ do: 'count', how })]] : [];
  const mixes = [NAME_STEPS, DATA_STEPS, [...NAME_STEPS, ...DATA_STEPS]];
  return [...prng.pick(mixes), ...count];
}

function pickStep(prng: Prng, mix: Mix, path: () => string): Step {
  let left = prng.next() * mix.reduce((sum, [weight]) => sum + weight, 0);
  for (const [weight, make] of mix) {
    left -= weight;
    if (left < 0) return make(prng, path);
  }
  throw new Error('the weights are wrong');
}

export interface PlanOptions {
  readonly clients: number;
  /** Of each client. */
  readonly steps: number;
  /** About how long they are to take, if it matters. */
  readonly lastMs: number;
  /** Clients that make a file and then look at it only, so that they may do without any server. */
  readonly lookers: readonly number[];
  /** With lookers, the others begin after this. */
  readonly quietMs: number;
}

const LOOKS_AT_ONCE = 5;

/** A plan for each client. */
export function planOf(prng: Prng, options: PlanOptions): PlannedStep[][] {
  const { clients, steps, lookers } = options;
  const how = prng.pick(['flock', 'fcntl'] as const);
  const mix = pickMix(prng, how);
  const paths = DIRECTORIES.flatMap((directory) => NAMES.map((name) => `${directory}/${name}`));
  const isLookedAt = lookers.length > 0;
  const some = paths.filter(() => prng.next() < (isLookedAt ? 0.3 : 0.7));
  const names = some.length < 2 ? paths.slice(0, isLookedAt ? 2 : paths.length) : some;
  const path = (): string => prng.pick(names);
  const shown = path();
  const longestPauseMs = (2 * options.lastMs) / steps;
  return Array.from({ length: clients }, (_, client) => {
    const isLooking = lookers.includes(client);
    let again: Step | undefined;
    return Array.from({ length: steps }, (_, index) => {
      const pauseMs = prng.next() * (longestPauseMs > 0 ? longestPauseMs : prng.pick([0, 0, 1, 5]));
      if (isLooking) {
        const step: Step = { do: index === 0 ? 'make' : 'stat', path: shown };
        return { step, pauseMs: index < LOOKS_AT_ONCE ? 0 : pauseMs };
      }
      const step = again !== undefined && prng.next() < 0.4 ? again : pickStep(prng, mix, path);
      // What has been looked at is looked at again: it may be remembered by then.
      again = step.do === 'stat' || step.do === 'read' ? step : undefined;
      return { step, pauseMs: isLookedAt && index === 0 ? options.quietMs : pauseMs };
    });
  });
}
