/**
 * Other processes for checks: programs, pieces of JavaScript as another user, and several at once. All of
 * them are killed when their time is up, which makes the check fail.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type * as nodeFs from 'node:fs';
import type { UserIds } from './check.js';

const TIMEOUT_MS = 90_000;

export interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Options {
  readonly user?: UserIds | undefined;
}

/** Runs a program in `dir` to its end, killed after TIMEOUT_MS. Throws when it cannot be started. */
export async function run(dir: string, argv: readonly string[], options: Options = {}): Promise<Finished> {
  const child = start(dir, argv, options);
  child.stdin?.end();
  return await finish(child, argv.join(' '));
}

/** Runs a program that has to succeed; gives its standard output. */
export async function succeed(dir: string, argv: readonly string[], options: Options = {}): Promise<string> {
  const { status, stdout, stderr } = await run(dir, argv, options);
  if (status !== 0) throw new Error(`${argv.join(' ').slice(0, 200)} ended with ${status}: ${stderr}`);
  return stdout;
}

/** What a piece of JavaScript in another process has at hand. It can refer to nothing else. */
export interface Inside<Arg> {
  readonly fs: typeof nodeFs;
  /** The errno that an action fails with, or `ok`. */
  readonly attempt: (action: () => unknown) => string;
  readonly arg: Arg;
}

export type Body<Arg, Result> = (inside: Inside<Arg>) => Result;

/** Runs `body` in a process of its own whose working directory is `dir`. Arguments and result are JSON. */
export async function inside<Arg, Result>(
  dir: string,
  arg: Arg,
  body: Body<Arg, Result>,
  options: Options = {},
): Promise<Result> {
  const [result] = await together(dir, [arg], body, options);
  return result as Result;
}

/** Runs `body` in one process for each argument; all begin at once. */
export async function together<Arg, Result>(
  dir: string,
  args: readonly Arg[],
  body: Body<Arg, Result>,
  options: Options = {},
): Promise<Result[]> {
  const children = args.map((arg) => start(dir, [process.execPath, '-e', program(body, arg)], options));
  const finished = children.map((child) => finish(child, String(body).slice(0, 80)));
  await Promise.race([Promise.all(finished), Promise.all(children.map(ready))]);
  for (const child of children) child.stdin?.end();
  return (await Promise.all(finished)).map(({ status, stdout, stderr }) => {
    if (status !== 0) throw new Error(`process ended with ${status}: ${stderr}`);
    return JSON.parse(stdout.slice(stdout.indexOf('\n') + 1)) as Result;
  });
}

/** Says it is ready, waits for the end of its standard input, and then runs `body`. */
function program<Arg, Result>(body: Body<Arg, Result>, arg: Arg): string {
  return `
    const fs = require('node:fs');
    const attempt = (action) => {
      try { action(); return 'ok'; } catch (error) { if (!error.code) throw error; return error.code; }
    };
    process.stdout.write('ready\\n');
    fs.readFileSync(0);
    const result = (${String(body)})({ fs, attempt, arg: ${JSON.stringify(arg)} });
    Promise.resolve(result).then((value) => process.stdout.write(JSON.stringify(value ?? null)));
  `;
}

function start(dir: string, argv: readonly string[], options: Options): ChildProcess {
  const [file, ...rest] = argv;
  if (file === undefined) throw new RangeError('no program');
  const env = { ...process.env, LC_ALL: 'C', NODE_OPTIONS: '' };
  return spawn(file, rest, {
    cwd: dir,
    env,
    timeout: TIMEOUT_MS,
    killSignal: 'SIGKILL',
    ...(options.user === undefined ? {} : { uid: options.user.uid, gid: options.user.gid }),
  });
}

async function ready(child: ChildProcess): Promise<void> {
  if (child.stdout !== null) await once(child.stdout, 'data');
}

async function finish(child: ChildProcess, what: string): Promise<Finished> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on('data', (data: Buffer) => out.push(data));
  child.stderr?.on('data', (data: Buffer) => err.push(data));
  const [status, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (signal !== null) throw new Error(`killed by ${signal}: ${what}`);
  return { status, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
}
