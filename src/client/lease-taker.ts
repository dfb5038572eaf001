/**
 * Makes leases of this mount exclusive where it is about to change what was there before, so that LocalOperations
 * can do it: asking for the rows takes no longer than having the server do it, and what follows takes nothing.
 * When more is changed in the same directory soon, what is in it is asked for too, many at a time.
 *
 * Changes of what is being asked for wait until there is an answer, which they would make worthless.
 */
import type { Clock } from '../base/clock.js';
import { makeLog } from '../base/log.js';
import type { Ino } from '../proto/ids.js';
import type { Taken } from '../proto/lease-methods.js';
import { limits } from '../proto/limits.js';
import type { LeaseCache } from './lease-cache.js';
import type { LeasedRows } from './leased-rows.js';
import { type Subjects, subjectsOf } from './subjects.js';

const log = makeLog('client');

export interface LeaseTakerOptions {
  readonly take: (inos: Ino[]) => Promise<{ taken: readonly Taken[] }>;
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

/** Directories of which it is remembered when something in them was asked for. */
const ASKED_IN_MAX = 1024;
/** Inodes that were refused a short while ago. */
const REFUSED_MAX = 16_384;

export class LeaseTaker {
  readonly #options: LeaseTakerOptions;
  readonly #asked = new Map<Ino, Promise<void>>();
  /** When something in a directory was last asked for; oldest first. */
  readonly #askedInMs = new Map<Ino, number>();
  /** Until when it is not asked again; oldest first. */
  readonly #refusedUntilMs = new Map<Ino, number>();

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
    const wanted = about.filter((ino) => !rows.has(ino) && this.#mayAsk(ino));
    if (wanted.length > 0) {
      const more = this.#directoriesOf(args).filter((ino) => this.#isAgain(ino));
      const within = more.flatMap((ino) => this.#within(ino));
      this.#ask([...new Set([...wanted, ...within])].slice(0, limits.takenPerMessage));
    }
    return this.#underWay(about);
  }

  /** It could not be done here all the same: what is not in the journal would have been given. */
  inVain(args: Subjects): void {
    const { rows, isDirty } = this.#options;
    for (const ino of this.#about(args)) if (!rows.has(ino) && !isDirty(ino)) this.#refused(ino);
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

  /** Whether something in it was asked for a short while ago, too. */
  #isAgain(directory: Ino): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    const beforeMs = this.#askedInMs.get(directory);
    remember(this.#askedInMs, { key: directory, value: nowMs, most: ASKED_IN_MAX });
    return beforeMs !== undefined && nowMs - beforeMs < limits.takeAgainMs;
  }

  /** What is in a directory, as far as it is known. */
  #within(directory: Ino): Ino[] {
    const { cache, rows } = this.#options;
    const wanted: Ino[] = [];
    for (const child of cache.namesOf(directory)?.children.values() ?? []) {
      if (child === null || rows.has(child) || !this.#mayAsk(child)) continue;
      wanted.push(child);
      if (wanted.length >= limits.takenPerMessage) break;
    }
    return wanted;
  }

  #mayAsk(ino: Ino): boolean {
    const { isDirty, clock } = this.#options;
    if (this.#asked.has(ino) || isDirty(ino)) return false;
    const untilMs = this.#refusedUntilMs.get(ino);
    return untilMs === undefined || clock.monotonicMs() >= untilMs;
  }

  #ask(wanted: readonly Ino[]): void {
    for (const ino of wanted) this.#options.rows.await(ino);
    const answered = this.#take(wanted).finally(() => {
      for (const ino of wanted) this.#asked.delete(ino);
    });
    for (const ino of wanted) this.#asked.set(ino, answered);
  }

  async #take(wanted: readonly Ino[]): Promise<void> {
    const { rows, take, prepare } = this.#options;
    const prepared = prepare();
    // Learned in the turn in which it comes.
    const taken = await take([...wanted]).then(
      (reply) => reply.taken,
      (error: unknown) => {
        // Nothing depends on it: the server goes on being asked for everything.
        log.debug('no exclusive leases were taken', { inodes: wanted.length, error: String(error) });
        return [];
      },
    );
    const given = new Set(taken.map(({ attr }) => attr.ino));
    for (const each of taken) this.#taken(each);
    for (const ino of wanted) {
      rows.notComing(ino);
      if (!given.has(ino)) this.#refused(ino);
    }
    await prepared;
  }

  #taken(taken: Taken): void {
    const { cache, rows, isDirty } = this.#options;
    const { attr, entries } = taken;
    if (!cache.taken(taken) || isDirty(attr.ino) || !rows.adopt(taken)) return;
    if (entries !== undefined) cache.takenEntries(attr.ino, entries);
  }

  #refused(ino: Ino): void {
    const value = this.#options.clock.monotonicMs() + limits.takeAgainMs;
    remember(this.#refusedUntilMs, { key: ino, value, most: REFUSED_MAX });
  }

  #underWay(about: readonly Ino[]): Promise<unknown> | undefined {
    if (this.#asked.size === 0) return undefined;
    const answers = about.flatMap((ino) => this.#asked.get(ino) ?? []);
    return answers.length === 0 ? undefined : Promise.all(answers);
  }
}

/** As the newest; the oldest go. */
function remember<Key>(
  known: Map<Key, number>,
  { key, value, most }: { key: Key; value: number; most: number },
): void {
  known.delete(key);
  known.set(key, value);
  if (known.size <= most) return;
  for (const oldest of known.keys()) {
    known.delete(oldest);
    break;
  }
}
