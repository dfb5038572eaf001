/**
 * What a mount was asked and what it asked, counted: the requests of the kernel and the calls to servers, as a
 * mount with `-o debug` writes them into its log, by names such as `fuse lookup` and `rpc journal`.
 *
 * Heartbeats are left out: they come with time, not with what programs do.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export type Counts = Readonly<Record<string, number>>;

const LINE = /^\S+ debug (?:(fuse): (\w+)|(rpc): call \{"to":"[^"]*","method":"(\w+)").*$/;
/** What is not waited for (RELEASE, commits) follows what was. */
const SETTLED_MS = 1_500;

export class RequestLog {
  readonly #path: string;
  #offset = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Counts from here on, once what follows earlier work has followed. */
  async begin(settledMs: number = SETTLED_MS): Promise<void> {
    await sleep(settledMs);
    this.#read();
  }

  /** What came since it was asked last, once what follows later has followed. */
  async since(): Promise<Counts> {
    await sleep(SETTLED_MS);
    return count(this.#read());
  }

  #read(): string {
    const fd = openSync(this.#path, 'r');
    try {
      const bytes = Buffer.alloc(fstatSync(fd).size - this.#offset);
      const length = readSync(fd, bytes, 0, bytes.length, this.#offset);
      this.#offset += length;
      return bytes.toString('utf8', 0, length);
    } finally {
      closeSync(fd);
    }
  }
}

function count(text: string): Counts {
  const counts: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const [, fuse, opcode, rpc, method] = LINE.exec(line) ?? [];
    const name = fuse === undefined ? `${rpc} ${method}` : `${fuse} ${opcode}`;
    if ((fuse ?? rpc) === undefined || method === 'heartbeat') continue;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Of one side alone: the kernel's requests, or calls to servers. */
export const only = (side: 'fuse' | 'rpc', counts: Counts): Counts =>
  Object.fromEntries(Object.entries(counts).filter(([name]) => name.startsWith(`${side} `)));
