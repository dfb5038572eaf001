/**
 * How fast the kernel driver alone is: the toy filesystem in memory under each way of waiting for requests,
 * one client process. Prints a table; native-notes/fuse-kernel.md keeps the results and what follows.
 *
 * Run: `node dist/bench/fuse-driver.js [--seconds N] [--rounds N]`. Needs root or fusermount3, and two idle
 * cores to mean anything; each figure is the best of the rounds. `one core`: daemon and client confined to core 0 by taskset.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, fsyncSync, mkdtempSync, openSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const SELF = fileURLToPath(import.meta.url);
const DAEMON = fileURLToPath(new URL('../test/fuse/toy-daemon.js', import.meta.url));
const MIB = 1024 * 1024;
const FILE_MIB = 64;

const MODES: readonly (readonly [string, readonly string[]])[] = [
  ['fs.read parked in the pool', ['--loop', 'parked']],
  ['libuv watch, no polling', ['--loop', 'watched', '--spin', '0']],
  ['libuv watch, polls 50 µs', ['--loop', 'watched', '--spin', '50']],
  ['the same, answers by promise', ['--loop', 'watched', '--spin', '50', '--later']],
];

const METRICS = ['failed lookups/s', '4 KiB writes/s', '1 MiB writes MiB/s', '1 MiB reads MiB/s'];

/** Calls `step` for `ms` milliseconds; steps per second. */
function rate(ms: number, step: () => void): number {
  const start = performance.now();
  let count = 0;
  while (performance.now() - start < ms) {
    for (let index = 0; index < 16; index++) step();
    count += 16;
  }
  return (count * 1000) / (performance.now() - start);
}

/** The client's part, in its own process: figures as JSON on standard output. */
function client(directory: string, ms: number): void {
  const missing = join(directory, 'missing');
  const lookups = rate(ms, () => statSync(missing, { throwIfNoEntry: false }));
  const file = join(directory, `file-${process.pid}`);
  const fd = openSync(file, 'w+');
  const small = Buffer.alloc(4096, 1);
  let at = 0;
  const smallWrites = rate(ms, () => {
    writeSync(fd, small, 0, small.length, at);
    at = (at + small.length) % (8 * MIB);
  });
  const large = Buffer.alloc(MIB, 2);
  const largeWrites = rate(ms, () => {
    writeSync(fd, large, 0, MIB, at);
    at = (at + MIB) % (FILE_MIB * MIB);
  });
  for (let offset = 0; offset < FILE_MIB; offset++) writeSync(fd, large, 0, MIB, offset * MIB);
  fsyncSync(fd);
  closeSync(fd);
  const reads = rate(ms, () => {
    const handle = openSync(file, 'r');
    for (let offset = 0; offset < FILE_MIB; offset++) readSync(handle, large, 0, MIB, offset * MIB);
    closeSync(handle);
  });
  process.stdout.write(JSON.stringify([lookups, smallWrites, largeWrites, reads * FILE_MIB]));
}

function started(daemon: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    daemon.stdout?.once('data', (data: Buffer) => {
      if (data.toString().startsWith('ready')) resolve();
      else reject(new Error(data.toString()));
    });
    daemon.once('exit', () => reject(new Error('the daemon ended')));
  });
}

async function measure(mode: readonly string[], pinned: boolean, ms: number): Promise<number[]> {
  const directory = mkdtempSync(join(tmpdir(), 'fuse-bench-'));
  const pin = pinned ? ['taskset', '-c', '0'] : ['env'];
  const run = (args: readonly string[]): [string, string[]] => [pin[0] ?? 'env', [...pin.slice(1), ...args]];
  const [command, args] = run([process.execPath, DAEMON, directory, '--timeout', '1000', ...mode]);
  const daemon = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    await started(daemon);
    const [clientCommand, clientArgs] = run([
      process.execPath,
      SELF,
      '--client',
      directory,
      '--ms',
      String(ms),
    ]);
    const child = spawn(clientCommand, clientArgs, { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (data: Buffer) => {
      text += data.toString();
    });
    await new Promise((resolve) => child.once('close', resolve));
    const figures: unknown = JSON.parse(text);
    if (!Array.isArray(figures)) throw new Error('the client gave no figures');
    return figures.map(Number);
  } finally {
    const ended = new Promise((resolve) => daemon.once('close', resolve));
    daemon.stdin?.write('force\n');
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 5000).unref())]);
    daemon.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The best of several runs: whatever else the machine does only makes a run slower. */
const best = (figures: number[]): number => Math.max(0, ...figures);

const { values } = parseArgs({
  options: {
    client: { type: 'string' },
    ms: { type: 'string' },
    seconds: { type: 'string' },
    rounds: { type: 'string' },
  },
});
if (values.client !== undefined) {
  client(values.client, Number(values.ms));
} else {
  const rounds = Number(values.rounds ?? 3);
  const ms = Number(values.seconds ?? 1) * 1000;
  process.stdout.write(`| | ${METRICS.join(' | ')} |\n|---|${METRICS.map(() => '---|').join('')}\n`);
  const cases = [false, true].flatMap((pinned) => MODES.map(([name, mode]) => ({ name, mode, pinned })));
  const runs = cases.map((): number[][] => []);
  // Round by round over all cases, so that a busy moment of the machine does not fall on one of them alone.
  for (let round = 0; round < rounds; round++) {
    for (const [index, { mode, pinned }] of cases.entries())
      runs[index]?.push(await measure(mode, pinned, ms));
  }
  for (const [index, { name, pinned }] of cases.entries()) {
    const figures = METRICS.map((_metric, at) => best((runs[index] ?? []).map((run) => run[at] ?? 0)));
    const cells = figures.map((value) => Math.round(value).toLocaleString('en'));
    process.stdout.write(`| ${name}${pinned ? ', one core' : ''} | ${cells.join(' | ')} |\n`);
  }
}
