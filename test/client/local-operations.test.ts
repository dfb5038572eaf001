/** What a mount does by itself outlives the memory that it was asked for in. */
import t from 'tap';
import { BYTES } from '../../src/client/local-operations.js';
import { JOURNALLED } from '../../src/proto/lease-methods.js';
import { metaMethods } from '../../src/proto/meta-methods.js';

/** Whether a value of this schema is, or holds, bytes. */
function hasBytes(schema: unknown): boolean {
  if (typeof schema !== 'object' || schema === null) return false;
  return Object.entries(schema).some(
    ([key, value]) => (key === 'type' && value === 'Uint8Array') || hasBytes(value),
  );
}

t.test('all arguments of journalled methods that are bytes are copied', async (t) => {
  const found = JOURNALLED.flatMap((method) =>
    Object.entries(metaMethods[method].args.properties)
      .filter(([, schema]) => hasBytes(schema))
      .map(([field]) => field),
  );
  t.strictSame([...new Set(found)].sort(), [...BYTES].sort());
});
