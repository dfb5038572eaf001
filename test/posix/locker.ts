/**
 * A process of its own that opens files and locks them as it is told, one command after another: what locks
 * are about is more than one process. It waits in the system call itself, so that signals and SIGKILL meet
 * it there.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';

const koffi = createRequire(import.meta.url).resolve('koffi');

const PROGRAM = `
const fs = require('node:fs'), os = require('node:os');
const koffi = require(${JSON.stringify(koffi)});
const libc = koffi.load('libc.so.6');
const fcntl = libc.func('int fcntl(int, int, void *)');
const flock = libc.func('int flock(int, int)');
const siginterrupt = libc.func('int siginterrupt(int, int)');
const dup = libc.func('int dup(int)');
process.on('SIGUSR2', () => {});
siginterrupt(os.constants.signals.SIGUSR2, 1);
const CMD = { getlk: 5, setlk: 6, setlkw: 7, ofdget: 36, ofd: 37, ofdw: 38 };
const TYPE = { read: 0, write: 1, unlock: 2 };
const FLOCK = { read: 1, write: 2, unlock: 8 };
const errno = () => Object.keys(os.constants.errno).find((name) => os.constants.errno[name] === koffi.errno());
const commands = {
  open: (path, flags) => fs.openSync(path, flags ?? 'r+'),
  close: (fd) => fs.closeSync(fd) ?? 'ok',
  dup: (fd) => dup(fd),
  read: (path) => fs.readFileSync(path, 'latin1'),
  pread: (fd) => { const b = Buffer.alloc(64); return b.toString('latin1', 0, fs.readSync(fd, b, 0, 64, 0)); },
  pwrite: (fd, text) => fs.writeSync(fd, text, 0),
  fsync: (fd) => fs.fsyncSync(fd) ?? 'ok',
  fcntl: (fd, cmd, type, start, length) => {
    const lock = Buffer.alloc(32);
    lock.writeInt16LE(TYPE[type], 0);
    lock.writeBigInt64LE(BigInt(start), 8);
    lock.writeBigInt64LE(BigInt(length), 16);
    if (fcntl(fd, CMD[cmd], lock) === -1) return errno();
    if (cmd !== 'getlk' && cmd !== 'ofdget') return 'ok';
    const found = Object.keys(TYPE).find((name) => TYPE[name] === lock.readInt16LE(0));
    if (found === 'unlock') return 'none';
    return [found, Number(lock.readBigInt64LE(8)), Number(lock.readBigInt64LE(16)), lock.readInt32LE(24)];
  },
  flock: (fd, type, wait) => (flock(fd, FLOCK[type] | (wait ? 0 : 4)) === -1 ? errno() : 'ok'),
  count: (path, how, times) => {
    for (let i = 0; i < times; i++) {
      const fd = fs.openSync(path, 'r+');
      const locked = how === 'flock' ? commands.flock(fd, 'write', true) : commands.fcntl(fd, 'setlkw', 'write', 0, 0);
      if (locked !== 'ok') return locked;
      const number = Number(commands.pread(fd)) + 1;
      fs.writeSync(fd, String(number), 0);
      if (i % 2 === 0) how === 'flock' ? commands.flock(fd, 'unlock') : commands.fcntl(fd, 'setlk', 'unlock', 0, 0);
      fs.closeSync(fd);
    }
    return 'ok';
  },
};
let rest = '';
process.stdin.setEncoding('utf8').on('data', (text) => {
  const lines = (rest + text).split('\\n');
  rest = lines.pop();
  for (const line of lines) {
    const [name, ...args] = JSON.parse(line);
    let answer;
    try { answer = commands[name](...args); } catch (error) { answer = error.code ?? String(error); }
    fs.writeSync(1, JSON.stringify(answer) + '\\n');
  }
}).on('end', () => process.exit(0));
fs.writeSync(1, '"ready"\\n');
`;

export type Answer = string | number | readonly (string | number)[];
type Kind = 'read' | 'write' | 'unlock';
type Command = 'getlk' | 'setlk' | 'setlkw' | 'ofd' | 'ofdw' | 'ofdget';

const ANSWER_MS = 20_000;

export class Locker {
  readonly #child: ChildProcess;
  readonly #answers: ((answer: Answer) => void)[] = [];
  #text = '';

  private constructor(dir: string) {
    const env = { ...process.env, NODE_OPTIONS: '' };
    const start = ['-c', 'cd "$0" && exec "$@"', dir, process.execPath, '-e', PROGRAM];
    this.#child = spawn('bash', start, { cwd: '/', env, stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#take(text));
    this.#child.stdin?.on('error', () => {});
  }

  /** Starts one whose working directory is `dir`; it ends with `end`. */
  static async start(dir: string): Promise<Locker> {
    const locker = new Locker(dir);
    await locker.#next();
    return locker;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  #take(text: string): void {
    const lines = (this.#text + text).split('\n');
    this.#text = lines.pop() ?? '';
    for (const line of lines) this.#answers.shift()?.(JSON.parse(line) as Answer);
  }

  #next(timeoutMs = ANSWER_MS): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
      this.#answers.push((answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
    });
  }

  ask(...command: unknown[]): Promise<Answer> {
    const answer = this.#next(command[0] === 'count' ? 100_000 : ANSWER_MS);
    this.#child.stdin?.write(`${JSON.stringify(command)}\n`);
    return answer;
  }

  async open(path: string, flags = 'r+'): Promise<number> {
    const fd = await this.ask('open', path, flags);
    if (typeof fd !== 'number') throw new Error(`open ${path}: ${String(fd)}`);
    return fd;
  }

  /** fcntl(2); the errno's name, `ok`, and for getlk `none` or [type, start, length, pid]. */
  fcntl(fd: number, command: Command, type: Kind, start = 0, length = 0): Promise<Answer> {
    return this.ask('fcntl', fd, command, type, start, length);
  }

  /** flock(2); the errno's name or `ok`. */
  flock(fd: number, type: Kind, wait = false): Promise<Answer> {
    return this.ask('flock', fd, type, wait);
  }

  /** A signal that ends a waiting call with EINTR (SIGUSR2), or the process. */
  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Resolves when the process is gone. */
  async kill(name: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill(name);
    await gone;
  }
}

/** Runs `body` with lockers in these directories, and ends them whatever comes of it. */
export async function withLockers(
  dirs: readonly string[],
  body: (...lockers: Locker[]) => Promise<void>,
): Promise<void> {
  const lockers = await Promise.all(dirs.map((dir) => Locker.start(dir)));
  try {
    await body(...lockers);
  } finally {
    for (const locker of lockers) await locker.kill();
  }
}

/** Whether a call is still waiting after a moment. */
export async function waits(call: Promise<Answer>, ms = 150): Promise<boolean> {
  const late = new Promise<'late'>((resolve) => setTimeout(() => resolve('late'), ms));
  return (await Promise.race([call.catch(() => 'failed'), late])) === 'late';
}
