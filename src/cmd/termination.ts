/**
 * The wish that this process ends: SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal is gone). The first is
 * handed to whoever waits for it, so that things are stopped in order; a second one means "now".
 */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class Termination {
  /** Resolves with the first signal. */
  readonly requested: Promise<NodeJS.Signals>;
  readonly #abort = new AbortController();

  /** From now on signals no longer end the process by themselves; `urge` is called for every one but the first. */
  constructor(urge: (signal: NodeJS.Signals) => void) {
    this.requested = new Promise((resolve) => {
      for (const signal of SIGNALS) {
        process.on(signal, () => {
          if (this.#abort.signal.aborted) urge(signal);
          this.#abort.abort();
          resolve(signal);
        });
      }
    });
  }

  /** Aborted by the first signal. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }
}
