/** Names, sizes and contents of the project's files. */
import { basename, dirname } from 'node:path';
import t from 'tap';
import { projectDir, type SourceFile, sourceFiles, textFiles } from './source-files.js';

const MAX_LINES = 500;
const VAGUE_NAMES = /(^|-)(utils?|helpers?|manager|common|misc)(-|\.)/;
const KEBAB_CASE = /^[a-z0-9]+(-[a-z0-9]+)*(\.test)?(\.d)?\.ts$/;

const source = sourceFiles('src');
const all = [...source, ...sourceFiles('test'), ...sourceFiles('bench')];

/** What is run or stands for something that only tests have: everything else must be reached from these. */
const ENTRY_POINTS = ['src/cmd/leasefs.ts', 'src/cmd/mount-leasefs.ts'];
const FOR_TESTS = /\/memory-[^/]+\.ts$/;

interface LockedPackage {
  readonly dependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
}

const paths = (files: readonly { path: string }[]): string[] => files.map(({ path }) => path);

t.test('files are named for one thing, in kebab-case', async (t) => {
  t.same(paths(all.filter(({ path }) => !KEBAB_CASE.test(basename(path)))), []);
  // mount.leasefs is a helper program in mount(8)'s own words.
  const vague = source.filter(({ path }) => VAGUE_NAMES.test(basename(path)));
  t.same(
    paths(vague).filter((path) => path !== 'src/cmd/mount-helper.ts'),
    [],
  );
});

t.test(`no file is longer than ${MAX_LINES} lines`, async (t) => {
  const lineCount = ({ text }: SourceFile): number => text.split('\n').length - 1;
  t.same(
    all.filter((file) => lineCount(file) > MAX_LINES).map((file) => `${file.path}: ${lineCount(file)}`),
    [],
  );
});

t.test('every source file says first what it is', async (t) => {
  t.same(paths(source.filter(({ text }) => !/^(#![^\n]*\n)?\/\*\*/.test(text))), []);
});

t.test('there are no default exports and no barrels', async (t) => {
  t.same(paths(source.filter(({ text }) => /^export default\b/m.test(text))), []);
  const barrels = source.filter(({ text }) => {
    const code = text.replace(/\/\*[\s\S]*?\*\//g, '').trim();
    return code.replace(/^export [^;]*? from '[^']+';$/gm, '').trim() === '';
  });
  t.same(paths(barrels), []);
});

t.test('no check of the compiler or linter is silenced', async (t) => {
  // Written in two parts, so that this file does not contain them.
  const silencers = ['@ts-' + 'ignore', '@ts-' + 'nocheck', '@ts-' + 'expect-error', 'as unknown' + ' as '];
  t.same(paths(all.filter(({ text }) => silencers.some((word) => text.includes(word)))), []);
  const unexplained = all.filter(({ text }) => /biome-ignore [\w/]+:\s*$/m.test(text));
  t.same(paths(unexplained), []);
});

t.test('every module is reached from an entry point', async (t) => {
  const byPath = new Map(source.map((file) => [file.path, file]));
  const reached = new Set<string>();
  const waiting = [...ENTRY_POINTS, ...paths(source).filter((path) => FOR_TESTS.test(path))];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (reached.has(path)) continue;
    reached.add(path);
    waiting.push(...(byPath.get(path)?.imports ?? []));
  }
  t.same(
    paths(source).filter((path) => !reached.has(path)),
    [],
  );
});

t.test('nothing in the project names the place where it was made', async (t) => {
  const files = textFiles();
  const parent = dirname(projectDir);
  const isOrdinary = ['/', '/tmp', '/home', '/root', '/srv', '/opt', '/usr/src', '/var/tmp'].includes(parent);
  const traces = [`${projectDir}/`, ...(isOrdinary ? [] : [`${parent}/`])].filter(
    (trace) => trace.length > 4,
  );
  t.same(paths(files.filter(({ text }) => traces.some((trace) => text.includes(trace)))), []);
});

t.test('packages come from wherever npm is told to take them', async (t) => {
  for (const { path, text } of textFiles()) {
    if (path === 'package-lock.json') t.notMatch(text, /"resolved"/, 'the lock file names no host');
    if (path === '.npmrc') t.notMatch(text, /registry *=|_auth/, '.npmrc names no host');
    if (path === 'package.json') t.notMatch(text, /"(\^|~|\*|latest)/, 'versions are exact');
  }
});

t.test('the lock file knows every package that another names, so that npm ci takes it', async (t) => {
  const text = textFiles().find(({ path }) => path === 'package-lock.json')?.text ?? '';
  const { packages } = JSON.parse(text) as { packages: Record<string, LockedPackage> };
  const known = (name: string, from: string): boolean =>
    Object.hasOwn(packages, `node_modules/${name}`) ||
    Object.hasOwn(packages, `${from}/node_modules/${name}`);
  const missing = Object.entries(packages).flatMap(([path, { dependencies, optionalDependencies }]) =>
    Object.keys({ ...dependencies, ...optionalDependencies }).filter((name) => !known(name, path)),
  );
  t.same(missing, []);
});
