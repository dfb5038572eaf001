/**
 * The process that uses one mount in bench/recall.ts, told over IPC what to do there. What is timed is one
 * access as a program makes it, its path looked up included.
 */
import fs from 'node:fs';
import { join } from 'node:path';

export const ACCESSES = ['stat', 'chmod', 'rename', 'write'] as const;
export type Access = (typeof ACCESSES)[number];

export type Order =
  | { readonly do: 'make'; readonly directories: readonly string[] }
  /** Reads all there is in a directory, twice: it is remembered then. */
  | { readonly do: 'warm'; readonly directory: string }
  | { readonly do: Access; readonly directory: string };

export type Report = { readonly ms: number } | { readonly error: string };

const CONTENT = Buffer.alloc(4096, 0x5a);
/** Files made at once: they share a chunk and a sync. */
const AT_ONCE = 64;

const run: Record<Access, (directory: string) => void> = {
  stat: (directory) => fs.statSync(join(directory, 'file')),
  chmod: (directory) => fs.chmodSync(join(directory, 'file'), 0o600),
  rename: (directory) => fs.renameSync(join(directory, 'file'), join(directory, 'renamed')),
  write: (directory) => {
    const fd = fs.openSync(join(directory, 'file'), 'r+');
    fs.writeSync(fd, CONTENT);
    fs.closeSync(fd);
  },
};

async function make(directories: readonly string[]): Promise<void> {
  const left = [...directories];
  const lane = async (): Promise<void> => {
    for (let directory = left.pop(); directory !== undefined; directory = left.pop()) {
      await fs.promises.mkdir(directory, { recursive: true });
      await fs.promises.writeFile(join(directory, 'file'), CONTENT);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

function warm(directory: string): void {
  for (let times = 0; times < 2; times++)
    for (const name of fs.readdirSync(directory)) {
      fs.statSync(join(directory, name));
      fs.readFileSync(join(directory, name));
    }
}

async function carryOut(order: Order): Promise<void> {
  if (order.do === 'make') return await make(order.directories);
  if (order.do === 'warm') return warm(order.directory);
  run[order.do](order.directory);
}

process.on('message', async (order: Order) => {
  // The way to the file is known; the file itself is not.
  if (order.do !== 'make') fs.statSync(order.directory);
  const startMs = performance.now();
  let report: Report;
  try {
    await carryOut(order);
    report = { ms: performance.now() - startMs };
  } catch (error) {
    report = { error: String(error) };
  }
  process.send?.(report);
});
