/** The layers of src/ and what may import what: the picture in the README, kept true. */
import t from 'tap';
import { importSpecifiers, type SourceFile, sourceFiles } from './source-files.js';

/** Bottom first. A layer imports itself and what is below it. */
const LAYERS = [
  'base',
  'proto',
  'lease',
  'names',
  'rpc',
  'sqlite',
  'meta',
  'chunk',
  'client',
  'vfs',
  'fuse',
  'cmd',
];

/** These meet in proto and never import one another; cmd, above, wires them. */
const COLUMNS = [['meta'], ['chunk'], ['client', 'vfs', 'fuse']];

/** The one file that drivers know of the filesystem above them. */
const DRIVER_INTERFACE = 'src/vfs/operations.ts';

/** Packages with native code or a foreign protocol: each has one file that knows it. */
const CONFINED = ['better-sqlite3', 'koffi', 'fuse-native', 'ws', '@node-rs/crc32'];

const files = sourceFiles('src');
const byPath = new Map(files.map((file) => [file.path, file]));
const layerOf = (path: string): string => path.split('/')[1] ?? '';
const columnOf = (layer: string): string[] | undefined => COLUMNS.find((column) => column.includes(layer));

/** What is wrong with `file` importing `target`, or undefined. */
function objection(file: SourceFile, target: string): string | undefined {
  if (!target.startsWith('src/')) return `${file.path} imports ${target}, which is not in src/`;
  if (!byPath.has(target)) return `${file.path} imports ${target}, which does not exist`;
  const [from, to] = [layerOf(file.path), layerOf(target)];
  if (LAYERS.indexOf(to) > LAYERS.indexOf(from)) return `${file.path} imports upwards: ${target}`;
  const [fromColumn, toColumn] = [columnOf(from), columnOf(to)];
  if (fromColumn !== undefined && toColumn !== undefined && fromColumn !== toColumn)
    return `${file.path} imports from another column: ${target}`;
  if (from === 'fuse' && (to === 'client' || (to === 'vfs' && target !== DRIVER_INTERFACE)))
    return `${file.path} knows more of the filesystem than ${DRIVER_INTERFACE}: ${target}`;
  return undefined;
}

t.test('imports are found in every form, and not in comments', async (t) => {
  const text = [
    "import { a } from './a.js';",
    "import type { B } from './b.js';",
    'import {\n  c,\n  d,\n} from "x";',
    "import {\n  e,\n} from './e.js';",
    "import './side-effect.js';",
    "export { f } from './f.js';",
    "const g = await import('./g.js');",
    "// import { h } from './h.js';",
    "/* import { i } from './i.js'; */",
  ].join('\n');
  t.same(importSpecifiers(text), ['./a.js', './b.js', './e.js', './side-effect.js', './f.js', './g.js']);
});

t.test('every file belongs to a layer', async (t) => {
  t.ok(files.length > 0, 'there are files');
  t.same(
    files.map(({ path }) => path).filter((path) => !LAYERS.includes(layerOf(path))),
    [],
  );
});

t.test('imports point down, and never from one column to another', async (t) => {
  const objections = files.flatMap((file) => file.imports.map((target) => objection(file, target)));
  t.same(
    objections.filter((text) => text !== undefined),
    [],
  );
});

t.test('an import that points up or across is objected to', async (t) => {
  const make = (path: string): SourceFile => ({ path, text: '', imports: [], packages: [] });
  const [low, meta, fuse] = [make('src/base/x.ts'), make('src/meta/x.ts'), make('src/fuse/x.ts')];
  t.match(objection(low, 'src/proto/ids.ts'), /upwards/);
  t.match(objection(meta, 'src/nowhere/x.ts'), /does not exist/);
  t.match(objection(low, 'test/base/clock.test.ts'), /not in src/);
  t.equal(objection(meta, 'src/proto/ids.ts'), undefined);
  t.equal(objection(fuse, DRIVER_INTERFACE), undefined);
  const chunk = files.find(({ path }) => layerOf(path) === 'chunk');
  if (chunk !== undefined) t.match(objection(make('src/client/x.ts'), chunk.path), /another column/);
});

t.test('native modules and foreign protocols each appear in one file', async (t) => {
  for (const name of CONFINED) {
    const importers = files.filter(({ packages }) => packages.includes(name)).map(({ path }) => path);
    t.ok(importers.length <= 1, `${name} is imported by ${importers.join(', ') || 'nobody'}`);
  }
});

t.test('only cmd reads the command line', async (t) => {
  const readers = files.filter(
    ({ path, text, packages }) =>
      layerOf(path) !== 'cmd' && (text.includes('process.argv') || packages.includes('commander')),
  );
  // A program text for another process may name its own argv.
  const real = readers.filter(({ text }) => !/`[^`]*process\.argv[^`]*`/.test(text));
  t.same(
    real.map(({ path }) => path),
    [],
  );
});
