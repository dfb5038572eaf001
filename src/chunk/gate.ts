/** Lets a bounded number of tasks run at once; the others wait in order. */
export class Gate {
  readonly #width: number;
  #running = 0;
  /** INVARIANT: empty while fewer than #width run. Its length is bounded by who calls (putBacklogBytes). */
  readonly #waiting: (() => void)[] = [];

  constructor(width: number) {
    this.#width = width;
  }

  async run<T>(body: () => Promise<T>): Promise<T> {
    if (this.#running < this.#width) this.#running++;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await body();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}
