/** The project's own files as the tidy tests see them: read from disk, with their imports. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface SourceFile {
  /** Relative to the project, for example `src/base/assert.ts`. */
  readonly path: string;
  readonly text: string;
  /** Project files it imports (static, dynamic and type imports), as paths of the same kind. */
  readonly imports: readonly string[];
  /** Other packages it imports, by package name. */
  readonly packages: readonly string[];
}

function findProject(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!readdirSync(dir).includes('package.json')) {
    if (dir === '/') throw new Error('the project directory cannot be found');
    dir = dirname(dir);
  }
  return dir;
}

export const projectDir = findProject();

const IMPORT = /(?:\bfrom\s*|\bimport\s*\(\s*|\bimport\s+)'([^']+)'/g;

/** The specifiers that TypeScript source `text` imports or re-exports from. */
export function importSpecifiers(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  return [...code.matchAll(IMPORT)].map((match) => match[1] ?? '');
}

function packageName(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

function makeSourceFile(path: string, text: string): SourceFile {
  const specifiers = importSpecifiers(text);
  const isOwn = (specifier: string): boolean => specifier.startsWith('.');
  return {
    path,
    text,
    imports: specifiers
      .filter(isOwn)
      .map((specifier) => normalize(join(dirname(path), specifier)).replace(/\.js$/, '.ts')),
    packages: specifiers
      .filter((specifier) => !isOwn(specifier) && !specifier.startsWith('node:'))
      .map(packageName),
  };
}

/** Paths of all files below `dir` (relative to the project), or none when it does not exist. */
function walk(dir: string): string[] {
  try {
    return readdirSync(join(projectDir, dir), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(projectDir.length + 1))
      .sort();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return [];
    throw error;
  }
}

/** Every TypeScript file below `src`, `test` or `bench`. */
export function sourceFiles(dir: 'src' | 'test' | 'bench'): SourceFile[] {
  return walk(dir)
    .filter((path) => path.endsWith('.ts'))
    .map((path) => makeSourceFile(path, readFileSync(resolve(projectDir, path), 'utf8')));
}

/** Every file that belongs to the project and is text: sources, pages, and what stands at its top. */
export function textFiles(): { path: string; text: string }[] {
  const top = readdirSync(projectDir, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name);
  const below = ['src', 'test', 'bench', 'native-notes', 'examples', '.ci'].flatMap(walk);
  return [...top, ...below]
    .map((path) => ({ path, text: readFileSync(resolve(projectDir, path), 'utf8') }))
    .filter(({ text }) => !text.includes('\0'));
}
