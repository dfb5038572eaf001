/** What happened in a simulation: its last lines for people, and a number that all of it went into. */
const LINES_KEPT = 400;

export class Trace {
  readonly #nowMs: () => number;
  readonly #lines: string[] = [];
  /** FNV-1a over every line. */
  hash = 0x811c9dc5;
  /** Set to see every line at once. */
  isLoud = false;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  note(who: string, what: string): void {
    const line = `${this.#nowMs().toFixed(3).padStart(11)} ${who.padEnd(8)} ${what}`;
    for (let index = 0; index < line.length; index++)
      this.hash = Math.imul(this.hash ^ line.charCodeAt(index), 0x01000193) >>> 0;
    if (this.isLoud) process.stderr.write(`${line}\n`);
    this.#lines.push(line);
    if (this.#lines.length > 2 * LINES_KEPT) this.#lines.splice(0, LINES_KEPT);
  }

  /** The last lines, oldest first. */
  last(count = LINES_KEPT): string[] {
    return this.#lines.slice(-count);
  }
}
