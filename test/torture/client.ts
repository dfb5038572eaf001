/**
 * A client program: carries out plans on a mount with synchronous system calls, and writes each call's
 * beginning and end into a log outside the mount. It is told over IPC what to do and says when it has done it.
 */
import fs from 'node:fs';
import { dirname } from 'node:path';
import { LibcError } from '../posix/libc.js';
import { lockWhole } from './advisory-lock.js';
import type { Answer, LogLine, SystemCall, Value } from './history.js';
import { DIRECTORIES, type PlannedStep, type Step } from './plan.js';

/** What a client is asked for. */
export type Request =
  | { readonly do: 'set up'; readonly directory: string }
  | {
      readonly do: 'run';
      /** On its mount. */
      readonly directory: string;
      readonly logPath: string;
      readonly client: number;
      readonly steps: readonly PlannedStep[];
      /** When to begin: all clients at once. */
      readonly startNs: number;
    };

/** What it says when it has done it. */
export interface Reply {
  readonly failed?: string;
}

const READ_BYTES = 4096;
/** After an error that says that the mount is gone: it may come back. */
const GONE_PAUSE_MS = 40;
const GONE = new Set(['ENOTCONN', 'ECONNABORTED', 'ENXIO', 'EIO']);

const sleepCell = new Int32Array(new SharedArrayBuffer(4));
const sleep = (ms: number): void => void Atomics.wait(sleepCell, 0, 0, ms);
const nowNs = (): number => Number(process.hrtime.bigint());

class Client {
  readonly #directory: string;
  readonly #client: number;
  readonly #log: number;
  #nextFd = 0;
  #nextValue = 0;

  constructor(directory: string, client: number, logPath: string) {
    this.#directory = directory;
    this.#client = client;
    this.#log = fs.openSync(logPath, 'a');
  }

  end(): void {
    fs.closeSync(this.#log);
  }

  #say(line: LogLine): void {
    fs.writeSync(this.#log, `${JSON.stringify(line)}\n`);
  }

  /** Makes a recorded call. */
  #record(system: SystemCall, body: () => Value): Answer {
    this.#say({ callNs: nowNs(), system });
    let answer: Answer;
    try {
      answer = { value: body() };
    } catch (error) {
      answer = { error: this.#isMounted() ? codeOf(error) : 'ENOTCONN' };
    }
    const returnNs = nowNs();
    this.#say({ returnNs, answer });
    if ('error' in answer && GONE.has(answer.error)) sleep(GONE_PAUSE_MS);
    return answer;
  }

  /** Between a dead mount and the one that takes its place there is the directory beneath. */
  #isMounted(): boolean {
    const mountpoint = dirname(this.#directory);
    try {
      return fs.statSync(mountpoint).dev !== fs.statSync(dirname(mountpoint)).dev;
    } catch {
      // A dead mount cannot be looked at.
      return true;
    }
  }

  #path(path: string): string {
    return `${this.#directory}/${path}`;
  }

  #value(): string {
    return `<${this.#client}.${this.#nextValue++}>`;
  }

  step(step: Step): void {
    switch (step.do) {
      case 'make':
        this.#withFile(step.path, 'wx', () => {});
        break;
      case 'create':
        this.#write(step.path, 'wx', step.sync);
        break;
      case 'write':
        this.#write(step.path, 'r+', step.sync);
        break;
      case 'rewrite':
        this.#write(step.path, 'w', step.sync);
        break;
      case 'append':
        this.#append(step.path, step.sync);
        break;
      case 'read':
        this.#withFile(step.path, 'r', (fd, real) => {
          this.#record({ call: 'read', fd }, () => readAll(real));
        });
        break;
      case 'watch':
        this.#watch(step);
        break;
      case 'truncate':
        this.#withFile(step.path, 'r+', (fd, real) => {
          const { size } = step;
          this.#record({ call: 'ftruncate', fd, size }, () => fs.ftruncateSync(real, size) ?? null);
        });
        break;
      case 'count':
        this.#record({ call: 'count', how: step.how }, () => this.#count(step.how));
        break;
      default:
        this.#onName(step);
    }
  }

  #onName(
    step: Exclude<Step, { sync: boolean } | { do: 'make' | 'read' | 'watch' | 'truncate' | 'count' }>,
  ): void {
    const { path } = step;
    const real = this.#path(path);
    switch (step.do) {
      case 'stat':
        this.#record({ call: 'stat', path }, () => shown(fs.statSync(real)));
        return;
      case 'readdir':
        this.#record({ call: 'readdir', path }, () => fs.readdirSync(real).sort());
        return;
      case 'unlink':
        this.#record({ call: 'unlink', path }, () => fs.unlinkSync(real) ?? null);
        return;
      case 'rename':
      case 'link': {
        const { do: call, to } = step;
        const run = call === 'rename' ? fs.renameSync : fs.linkSync;
        this.#record({ call, path, to }, () => run(real, this.#path(to)) ?? null);
      }
    }
  }

  #withFile(
    path: string,
    flags: 'r' | 'r+' | 'w' | 'wx' | 'a',
    body: (fd: number, real: number) => void,
  ): void {
    const fd = this.#nextFd++;
    let real = -1;
    const opened = this.#record({ call: 'open', path, flags, fd }, () => {
      real = fs.openSync(this.#path(path), flags);
      return null;
    });
    if ('error' in opened) return;
    body(fd, real);
    this.#record({ call: 'close', fd }, () => fs.closeSync(real) ?? null);
  }

  #write(path: string, flags: 'r+' | 'w' | 'wx', sync: boolean): void {
    const data = this.#value();
    this.#withFile(path, flags, (fd, real) => {
      this.#record({ call: 'pwrite', fd, at: 0, data }, () => whole(fs.writeSync(real, data, 0), data));
      if (sync) this.#record({ call: 'fsync', fd }, () => fs.fsyncSync(real) ?? null);
    });
  }

  #watch({ path, times, pauseMs }: Step & { do: 'watch' }): void {
    this.#withFile(path, 'r', (fd, real) => {
      for (let count = 0; count < times; count++) {
        if (count > 0) sleep(pauseMs);
        if (count % 2 === 0) this.#record({ call: 'read', fd }, () => readAll(real));
        else this.#record({ call: 'fstat', fd }, () => shown(fs.fstatSync(real)));
      }
    });
  }

  #append(path: string, sync: boolean): void {
    const data = this.#value();
    this.#withFile(path, 'a', (fd, real) => {
      this.#record({ call: 'append', fd, data }, () => whole(fs.writeSync(real, data), data));
      if (sync) this.#record({ call: 'fsync', fd }, () => fs.fsyncSync(real) ?? null);
    });
  }

  #count(how: 'flock' | 'fcntl'): number {
    const fd = fs.openSync(this.#path('counter'), 'r+');
    try {
      lockWhole(fd, how);
      const number = Number(readAll(fd)) + 1;
      whole(fs.writeSync(fd, String(number), 0), String(number));
      return number;
    } finally {
      fs.closeSync(fd);
    }
  }
}

function readAll(fd: number): string {
  const buffer = Buffer.alloc(READ_BYTES);
  return buffer.toString('latin1', 0, fs.readSync(fd, buffer, 0, READ_BYTES, 0));
}

const shown = ({ ino, nlink, size }: fs.Stats): number[] => [ino, nlink, size];

function whole(written: number, data: string): null {
  if (written !== data.length) throw new Error('a short write');
  return null;
}

function codeOf(error: unknown): string {
  if (error instanceof LibcError) return error.code;
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return String(error);
}

function setUp(directory: string): void {
  fs.mkdirSync(directory);
  for (const name of DIRECTORIES) fs.mkdirSync(`${directory}/${name}`);
  fs.writeFileSync(`${directory}/counter`, '0');
  // What only this mount knows is gone with it.
  const fd = fs.openSync(directory, 'r');
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

function run(request: Request): void {
  if (request.do === 'set up') {
    setUp(request.directory);
    return;
  }
  const client = new Client(request.directory, request.client, request.logPath);
  const waitMs = (request.startNs - nowNs()) / 1e6;
  if (waitMs > 0) sleep(waitMs);
  for (const { step, pauseMs } of request.steps) {
    if (pauseMs > 0) sleep(pauseMs);
    client.step(step);
  }
  client.end();
}

process.on('message', (request: Request) => {
  let reply: Reply = {};
  try {
    run(request);
  } catch (error) {
    reply = { failed: String(error) };
  }
  process.send?.(reply);
});
process.on('disconnect', () => process.exit(0));
