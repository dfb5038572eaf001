/**
 * Makes leases of this mount exclusive where it is about to change what was there before, so that LocalOperations
 * can do it: asking for the rows takes no longer than having the server do it, and what follows takes nothing.
 * When more is changed in the same directory soon, what is in it is asked for too, twice as much each time. Some of it,
 * again twice as much each time, is recalled from whoever has looked at it: together, instead of one by one with every
 * change; the rest is given only if nobody has it.
 *
 * Changes of what is being asked for wait until there is an answer, which they would make worthless.
 */
import type { Clock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { Ino } from '../proto/ids.js';
import type { Taken } from '../proto/lease-methods.js';
import { limits } from '../proto/limits.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf } from '../proto/method.js';
import type { LeaseCache } from './lease-cache.js';
import type { LeasedRows } from './leased-rows.js';
import { type Subjects, subjectsOf } from './subjects.js';

const log = makeLog('client');

type Wanted = ArgsOf<MetaMethods['takeLeases']>;

/** Changes in a directory that were asked for, one after the other. */
interface Run {
  readonly atMs: number;
  /** What the last one was about. */
  readonly about: Ino | undefined;
  /** Of them about something else than the one before: what is changed again and again says nothing of the rest. */
  readonly length: number;
}

interface Refusal {
  /** Until when it is not asked for again in the same way. */
  readonly untilMs: number;
  /** Although leases of others would have been recalled. */
  readonly recall: boolean;
}

export interface LeaseTakerOptions {
  readonly take: (wanted: Wanted) => Promise<{ taken: readonly Taken[] }>;
  /** What is made in a directory needs a number. */
  readonly prepare: () => Promise<void>;
  readonly cache: LeaseCache;
  readonly rows: LeasedRows;
  /** Whether the journal has something of it. */
  readonly isDirty: (ino: Ino) => boolean;
  readonly clock: Clock;
  /** Whether leases can be trusted now, and anything is to be done here. */
  readonly isTrusted: () => boolean;
}

/** Half of what is asked for in a directory, if nobody has it, with the second change there. */
const FREE_AT_FIRST = 32;
/** Directories of which it is remembered what was asked for in them. */
const RUNS_MAX = 1024;
/** Inodes that were refused a short while ago. */
const REFUSED_MAX = 16_384;

export class LeaseTaker {
  readonly #options: LeaseTakerOptions;
  readonly #asked = new Map<Ino, Promise<void>>();
  /** By directory, oldest first. */
  readonly #runs = new Map<Ino, Run>();
  /** Oldest first. */
  readonly #refusals = new Map<Ino, Refusal>();

  constructor(options: LeaseTakerOptions) {
    this.#options = options;
  }

  /**
   * A change that could not be done here is about to go to the server. Ends when it may have become possible;
   * undefined: it does not.
   */
  prepare(args: Subjects): Promise<unknown> | undefined {
    const { rows, isTrusted } = this.#options;
    if (!isTrusted()) return undefined;
    const about = this.#about(args);
    const missing = about.filter((ino) => !rows.has(ino));
    if (missing.some((ino) => this.#mayAsk(ino, true))) {
      const runs = this.#directoriesOf(args).map((ino) => ({ ino, run: this.#goesOn(ino, about.at(-1)) }));
      const again = runs.filter(({ run }) => run > 0);
      const recalls = again.length > 0;
      const wanted = missing.filter((ino) => this.#mayAsk(ino, recalls));
      const within = (recall: boolean, atFirst: number): Ino[] =>
        again.flatMap(({ ino, run }) => this.#within(ino, { recall, most: atFirst * 2 ** run }));
      const recalled = new Set([...wanted, ...within(true, 2)]);
      const inos = [...new Set([...recalled, ...within(false, FREE_AT_FIRST)])];
      const recall = recalls ? Math.min(recalled.size, limits.takenPerMessage) : 0;
      if (wanted.length > 0) this.#ask({ inos: inos.slice(0, limits.takenPerMessage), recall });
    }
    return this.#underWay(about);
  }

  /** It could not be done here all the same: what is not in the journal would have been given. */
  inVain(args: Subjects): void {
    const { rows } = this.#options;
    for (const ino of this.#about(args))
      if (!rows.has(ino) && this.#mayAsk(ino, false)) this.#refused(ino, true);
  }

  /** What the arguments name, as far as that is known. */
  #about(args: Subjects): Ino[] {
    const { parent, name, newParent, newName } = args;
    const named = [this.#child(parent, name), this.#child(newParent, newName)];
    return [...subjectsOf(args), ...named.filter((ino) => ino !== undefined)];
  }

  #child(parent: Ino | undefined, name: Uint8Array | undefined): Ino | undefined {
    if (parent === undefined || name === undefined) return undefined;
    return this.#options.cache.known(parent, name) ?? undefined;
  }

  /** The directories in which something is changed. */
  #directoriesOf(args: Subjects): Ino[] {
    const { parent, newParent } = args;
    const named = [parent, newParent].filter((ino) => ino !== undefined);
    if (named.length > 0) return named;
    return [...new Set(subjectsOf(args).flatMap((ino) => this.#options.cache.foundIn(ino) ?? []))];
  }

  /** Something in it is asked for: how often it was in this run before. */
  #goesOn(directory: Ino, about: Ino | undefined): number {
    const atMs = this.#options.clock.monotonicMs();
    const before = this.#runs.get(directory);
    const goesOn = before !== undefined && atMs - before.atMs < limits.takeAgainMs;
    const length = goesOn ? before.length + (before.about === about ? 0 : 1) : 0;
    remember(this.#runs, { key: directory, value: { atMs, about, length }, most: RUNS_MAX });
    return length;
  }

  /** What is in a directory, as far as it is known, and the directory, which comes with its names. */
  #within(directory: Ino, { recall, most }: { recall: boolean; most: number }): Ino[] {
    const { cache, rows } = this.#options;
    const wanted: Ino[] = [];
    for (const child of cache.namesOf(directory)?.children.values() ?? []) {
      if (child === null || rows.has(child) || !this.#mayAsk(child, recall)) continue;
      wanted.push(child);
      if (wanted.length >= Math.min(most, limits.takenPerMessage)) break;
    }
    return rows.has(directory) || !this.#mayAsk(directory, recall) ? wanted : [directory, ...wanted];
  }

  #mayAsk(ino: Ino, recall: boolean): boolean {
    const { isDirty, clock } = this.#options;
    if (this.#asked.has(ino) || isDirty(ino)) return false;
    const refusal = this.#refusals.get(ino);
    if (refusal === undefined || clock.monotonicMs() >= refusal.untilMs) return true;
    return recall && !refusal.recall;
  }

  #ask(wanted: Required<Wanted>): void {
    for (const ino of wanted.inos) this.#options.rows.await(ino);
    const answered = this.#take(wanted).finally(() => {
      for (const ino of wanted.inos) this.#asked.delete(ino);
    });
    for (const ino of wanted.inos) this.#asked.set(ino, answered);
  }

  async #take(wanted: Required<Wanted>): Promise<void> {
    const { rows, take, prepare } = this.#options;
    const prepared = prepare();
    // Learned in the turn in which it comes.
    const taken = await take(wanted).then(
      (reply) => reply.taken,
      (error: unknown) => {
        // Nothing depends on it: the server goes on being asked for everything.
        log.debug('no exclusive leases were taken', { inodes: wanted.inos.length, error: String(error) });
        return [];
      },
    );
    const given = new Set(taken.map(({ attr }) => attr.ino));
    for (const each of taken) this.#taken(each);
    for (const [index, ino] of wanted.inos.entries()) {
      rows.notComing(ino);
      if (!given.has(ino)) this.#refused(ino, index < wanted.recall);
    }
    await prepared;
  }

  #taken(taken: Taken): void {
    const { cache, rows, isDirty } = this.#options;
    const { attr, entries } = taken;
    if (!cache.taken(taken) || isDirty(attr.ino) || !rows.adopt(taken)) return;
    if (entries !== undefined) cache.takenEntries(attr.ino, entries);
  }

  #refused(ino: Ino, recall: boolean): void {
    const value = { untilMs: this.#options.clock.monotonicMs() + limits.takeAgainMs, recall };
    remember(this.#refusals, { key: ino, value, most: REFUSED_MAX });
  }

  #underWay(about: readonly Ino[]): Promise<unknown> | undefined {
    if (this.#asked.size === 0) return undefined;
    const answers = about.flatMap((ino) => this.#asked.get(ino) ?? []);
    return answers.length === 0 ? undefined : Promise.all(answers);
  }
}

/** As the newest; the oldest go. */
function remember<Key, Value>(
  known: Map<Key, Value>,
  { key, value, most }: { key: Key; value: Value; most: number },
): void {
  known.delete(key);
  known.set(key, value);
  if (known.size <= most) return;
  for (const oldest of known.keys()) {
    known.delete(oldest);
    break;
  }
}
