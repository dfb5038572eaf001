/** What happened in a simulation: its last lines for people, and a number that all of it went into. */
const LINES_KEPT = 400;

interface Line {
  readonly atMs: number;
  readonly who: string;
  readonly what: string;
  readonly more: (() => string) | undefined;
}

const textOf = ({ atMs, who, what, more }: Line): string =>
  `${atMs.toFixed(3).padStart(11)} ${who.padEnd(8)} ${what}${more === undefined ? '' : ` ${more()}`}`;

export class Trace {
  readonly #nowMs: () => number;
  readonly #lines: Line[] = [];
  /** FNV-1a over every line, without what `more` tells. */
  hash = 0x811c9dc5;
  /** Set to see every line at once. */
  isLoud = false;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** `more`: for people, made only when somebody reads it. */
  note(who: string, what: string, more?: () => string): void {
    const line = { atMs: this.#nowMs(), who, what, more };
    this.#hash(line.atMs * 1000);
    for (let index = 0; index < what.length; index++) this.#hash(what.charCodeAt(index));
    if (this.isLoud) process.stderr.write(`${textOf(line)}\n`);
    this.#lines.push(line);
    if (this.#lines.length > 2 * LINES_KEPT) this.#lines.splice(0, LINES_KEPT);
  }

  #hash(value: number): void {
    this.hash = Math.imul(this.hash ^ (value | 0), 0x01000193) >>> 0;
  }

  /** The last lines, oldest first. */
  last(count = LINES_KEPT): string[] {
    return this.#lines.slice(-count).map(textOf);
  }
}
