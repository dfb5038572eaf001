import { TypeCompiler } from '@sinclair/typebox/compiler';
import t from 'tap';
import { chunkMethods } from '../../src/proto/chunk-methods.js';
import { Errno } from '../../src/proto/errno.js';
import { asChunkId, asIno, asServerId } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { metaCallbacks, metaMethods } from '../../src/proto/meta-methods.js';
import type { MethodTable } from '../../src/proto/method.js';

const tables: Record<string, MethodTable> = { metaMethods, metaCallbacks, chunkMethods };

t.test('every method has shapes that compile, and errnos that exist', async (t) => {
  for (const [table, methods] of Object.entries(tables)) {
    for (const [name, method] of Object.entries(methods)) {
      t.ok(TypeCompiler.Compile(method.args), `${table}.${name} arguments`);
      t.ok(TypeCompiler.Compile(method.reply), `${table}.${name} reply`);
      for (const errno of method.errnos) t.ok(Errno[errno], `${table}.${name} ${errno}`);
    }
  }
});

t.test('arguments out of bounds do not pass', async (t) => {
  const lookup = TypeCompiler.Compile(metaMethods.lookup.args);
  const name = Buffer.from('a');
  t.ok(lookup.Check({ parent: 1, name }));
  for (const parent of [0, -1, 1.5, 2 ** 53, Number.NaN, '1', null, undefined]) {
    t.notOk(lookup.Check({ parent, name }), `parent ${String(parent)}`);
  }
  for (const bad of ['a', '', Buffer.alloc(0), Buffer.alloc(limits.nameBytes + 1), [97], null]) {
    t.notOk(lookup.Check({ parent: 1, name: bad }), `name ${String(bad).slice(0, 8)}`);
  }
  const commit = TypeCompiler.Compile(metaMethods.commit.args);
  const extent = { offset: 0, length: 1, chunk: 1, chunkOffset: 0 };
  const file = { ino: 2, extents: [extent], minSize: 1, mtime: { sec: 0, nsec: 0 }, clearPrivileges: false };
  t.ok(commit.Check({ chunks: [], files: [file], durable: false }));
  for (const bad of [
    { length: 0 },
    { length: limits.chunkBytes + 1 },
    { chunkOffset: limits.chunkBytes },
    { offset: -1 },
  ]) {
    const files = [{ ...file, extents: [{ ...extent, ...bad }] }];
    t.notOk(commit.Check({ chunks: [], files, durable: false }), JSON.stringify(bad));
  }
});

t.test('identifiers are checked where they are made', async (t) => {
  t.equal(asIno(1), 1);
  t.throws(() => asIno(0), RangeError);
  t.throws(() => asChunkId(2 ** 53), RangeError);
  t.throws(() => asServerId('../etc'), RangeError);
});
