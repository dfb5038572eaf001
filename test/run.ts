/**
 * Runs the compiled test files and counts what they report: `node dist/test/run.js [part of a path]...`.
 *
 * Each `test/**\/*.test.ts` is run as a process of its own, two at a time, its TAP read by tap's own parser.
 * A file fails when a test point fails, and as well when it cannot be found compiled, crashes, is killed,
 * runs too long or reports no test at all; each of these counts as one failure. What a file wrote is kept in
 * `.tap/output/`; what failed is printed, and named again at the end, a line each. The last line is `N passed, N failed`, counted in test points.
 *
 * INVARIANT: the exit status is 0 only when at least one point passed and nothing failed.
 *
 * It is not tap's own runner because that one loads TypeScript's compiler API into every test process, which
 * TypeScript 7 no longer has, and can leave it out only by rebuilding tap inside node_modules.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Parser, type Result } from 'tap-parser';

const JOBS = 3;
const FILE_TIMEOUT_MS = Number(process.env.TEST_TIMEOUT_SECONDS ?? 420) * 1000;
/** After the polite signal a file has this long to say what it was waiting for. */
const KILL_AFTER_MS = 5_000;
const STDERR_TAIL_BYTES = 16 * 1024;
const SUMMARY_LINE_CHARS = 240;

const compiledDir = resolve(fileURLToPath(import.meta.url), '..');
const projectDir = resolve(compiledDir, '../..');

interface FileOutcome {
  passed: number;
  skipped: number;
  /** One text per failure, ready to print. */
  readonly failures: string[];
  elapsedMs: number;
  stderrTail: string;
}

/** Paths of the test sources under `test/` that contain one of `wanted` (all when none is given), sorted. */
function findTests(wanted: readonly string[]): string[] {
  return readdirSync(join(projectDir, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.test.ts'))
    .filter((path) => wanted.length === 0 || wanted.some((part) => `test/${path}`.includes(part)))
    .sort();
}

/** A failed test point as a person wants to read it: its full name, then tap's diagnostics. */
function describePoint(point: Result): string {
  const lines = [point.fullname];
  for (const [key, value] of Object.entries(point.diag ?? {})) {
    const text = typeof value === 'string' ? value : JSON.stringify(value, null, 2);
    lines.push(
      `${key}:`,
      ...(text ?? '')
        .trimEnd()
        .split('\n')
        .map((line) => `  ${line}`),
    );
  }
  return lines.join('\n    ');
}

function countPoints(outcome: FileOutcome): Parser {
  const parser = new Parser();
  parser.on('pass', () => {
    outcome.passed += 1;
  });
  parser.on('fail', (point: Result) => outcome.failures.push(describePoint(point)));
  for (const kind of ['skip', 'todo'] as const) {
    parser.on(kind, (point: Result) => {
      outcome.skipped += 1;
      console.log(`  ${kind}: ${point.fullname} (${point[kind]})`);
    });
  }
  parser.on('bailout', (reason: string) => outcome.failures.push(`bailed out: ${reason}`));
  return parser;
}

/** Signals the whole process group, so that what a test started goes with it. */
function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

function runFile(path: string): Promise<FileOutcome> {
  const outcome: FileOutcome = { passed: 0, skipped: 0, failures: [], elapsedMs: 0, stderrTail: '' };
  const compiled = join(compiledDir, path.replace(/\.ts$/, '.js'));
  if (!existsSync(compiled)) {
    outcome.failures.push(`not compiled: ${compiled} is missing`);
    return Promise.resolve(outcome);
  }
  const startedMs = performance.now();
  const child = spawn(process.execPath, ['--enable-source-maps', compiled], {
    cwd: projectDir,
    env: { ...process.env, TAP: '1', TAP_TIMEOUT: String(FILE_TIMEOUT_MS / 1000) },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  running.add(child);
  const parser = countPoints(outcome);
  const log = createWriteStream(join(projectDir, '.tap/output', `${path.replaceAll('/', '-')}.log`));
  child.stdout.pipe(parser);
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    outcome.stderrTail = (outcome.stderrTail + text).slice(-STDERR_TAIL_BYTES);
  });
  return new Promise((done) => {
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      signalGroup(child, 'SIGTERM');
      setTimeout(() => signalGroup(child, 'SIGKILL'), KILL_AFTER_MS).unref();
    }, FILE_TIMEOUT_MS);
    child.on('error', (error) => outcome.failures.push(`could not be started: ${error.message}`));
    child.on('exit', () => {
      // What the file left running would hold its output open for ever.
      if (child.pid !== undefined) signalGroup(child, 'SIGKILL');
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      log.end();
      if (timedOut) outcome.failures.push(`ran longer than ${FILE_TIMEOUT_MS / 1000} s and was stopped`);
      else if (signal !== null) outcome.failures.push(`was killed by ${signal}`);
      else if (code !== 0 && outcome.failures.length === 0) outcome.failures.push(`exit status ${code}`);
      else if (!parser.ok && outcome.failures.length === 0) outcome.failures.push('its TAP is not complete');
      if (outcome.passed + outcome.skipped + outcome.failures.length === 0)
        outcome.failures.push('ran no test');
      outcome.elapsedMs = performance.now() - startedMs;
      done(outcome);
    });
  });
}

function report(path: string, outcome: FileOutcome): void {
  const seconds = (outcome.elapsedMs / 1000).toFixed(1);
  const skipped = outcome.skipped === 0 ? '' : `, ${outcome.skipped} skipped`;
  const failed = outcome.failures.length === 0 ? '' : `, ${outcome.failures.length} FAILED`;
  console.log(
    `${failed === '' ? 'ok    ' : 'NOT OK'} test/${path} (${outcome.passed} passed${skipped}${failed}, ${seconds} s)`,
  );
  for (const failure of outcome.failures) console.log(`    ${failure}\n`);
  if (failed !== '' && outcome.stderrTail !== '')
    console.log(`  standard error of test/${path}:\n${outcome.stderrTail.trimEnd().replace(/^/gm, '  | ')}`);
}

function printTotal(): void {
  for (const line of failedLines) console.log(line);
  if (total.skipped > 0) console.log(`${total.skipped} skipped`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
}

const running = new Set<ChildProcess>();
const total = { passed: 0, failed: 0, skipped: 0 };
/** What has failed, a line each: the end of a long output is what is kept of it. */
const failedLines: string[] = [];
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    for (const child of running) signalGroup(child, 'SIGKILL');
    console.log(`stopped by ${signal} before the end`);
    total.failed += 1;
    printTotal();
    process.exit(1);
  });
}

mkdirSync(join(projectDir, '.tap/output'), { recursive: true });
const tests = findTests(process.argv.slice(2));
let nextIndex = 0;

async function worker(): Promise<void> {
  for (let path = tests[nextIndex++]; path !== undefined; path = tests[nextIndex++]) {
    const outcome = await runFile(path);
    report(path, outcome);
    for (const failure of outcome.failures)
      failedLines.push(`FAILED test/${path}: ${failure.split('\n', 1)[0]}`.slice(0, SUMMARY_LINE_CHARS));
    total.passed += outcome.passed;
    total.failed += outcome.failures.length;
    total.skipped += outcome.skipped;
  }
}

await Promise.all(Array.from({ length: JOBS }, worker));
if (tests.length === 0) console.log(`${basename(process.argv[1] ?? 'run')}: no test file matches`);
console.log(
  `\n${tests.length} test files, full output in ${relative(process.cwd(), join(projectDir, '.tap/output'))}/`,
);
printTotal();
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
