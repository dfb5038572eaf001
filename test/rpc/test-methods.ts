/**
 * A small method table and its handlers, for tests of the rpc layer.
 */
import { Type } from '@sinclair/typebox';
import { InvariantError } from '../../src/base/assert.js';
import { FsError } from '../../src/proto/errno.js';
import { method } from '../../src/proto/method.js';
import { ProtocolError } from '../../src/proto/protocol-error.js';
import { tName, tNothing } from '../../src/proto/schema.js';
import { type CallContext, type Handlers, WithBulk } from '../../src/rpc/peer.js';

const tBytes = Type.Object({ bytes: Type.Integer({ minimum: 0 }) });

export const testMethods = {
  add: method('read', {
    args: Type.Object({ a: Type.Integer(), b: Type.Integer() }),
    reply: Type.Object({ sum: Type.Integer() }),
  }),
  /** Says what it was given, and how it was sent. */
  echo: method('mutation', {
    args: Type.Object({ name: tName, note: Type.Optional(Type.String()) }),
    reply: Type.Object({
      name: tName,
      sequence: Type.Union([Type.Integer(), Type.Null()]),
      finishedBelow: Type.Union([Type.Integer(), Type.Null()]),
      hasNote: Type.Boolean(),
    }),
  }),
  upload: method('control', { args: tNothing, reply: tBytes, bulk: 'request' }),
  download: method('read', { args: tBytes, reply: tNothing, bulk: 'reply' }),
  /** Fails in the way it is told. */
  fail: method('read', {
    args: Type.Object({ how: Type.String(), later: Type.Boolean() }),
    reply: tNothing,
    errnos: ['ENOENT', 'EIO'],
  }),
  /** Answers with something else than it promised. */
  lie: method('read', { args: tNothing, reply: Type.Object({ truth: Type.Integer() }) }),
  /** Does not answer. */
  never: method('read', { args: tNothing, reply: tNothing }),
} as const;

export type TestMethods = typeof testMethods;

function thrown(how: string): unknown {
  switch (how) {
    case 'fs':
      return new FsError('ENOENT', 'lookup', { detail: 'no such entry' });
    case 'fs without detail':
      return new FsError('EISDIR', 'open');
    case 'protocol':
      return new ProtocolError('staleMap', 'epoch 3 is gone');
    case 'invariant':
      return new InvariantError('invariant broken: on purpose');
    case 'text':
      return 'just text';
    default:
      return new TypeError(`unexpected ${how}`);
  }
}

/** Handlers that do what the table says; `seen` gets the context of every call of `never`. */
export function testHandlers(seen: CallContext[] = []): Handlers<TestMethods> {
  return {
    add: ({ a, b }) => ({ sum: a + b }),
    echo: ({ name, note }, { sequence, finishedBelow }) => ({
      name,
      sequence: sequence ?? null,
      finishedBelow: finishedBelow ?? null,
      hasNote: note !== undefined,
    }),
    upload: (_args, { bulk }) => ({ bytes: bulk.length }),
    download: async ({ bytes }) => new WithBulk({}, [Buffer.alloc(bytes, 1), Buffer.alloc(bytes, 2)]),
    fail: ({ how, later }) => {
      if (later) return Promise.reject(thrown(how));
      throw thrown(how);
    },
    lie: () => JSON.parse('{"truth":"none"}'),
    never: (_args, context) => {
      seen.push(context);
      return new Promise(() => {});
    },
  };
}
