/** What a mount does by itself outlives the memory in which it was asked for: names and values are copied. */
import t from 'tap';
import { bytesOf } from '../../src/client/subjects.js';
import { JOURNALLED } from '../../src/proto/lease-methods.js';
import { metaMethods } from '../../src/proto/meta-methods.js';

/** Whether a value of this schema is, or holds, bytes. */
function hasBytes(schema: unknown): boolean {
  if (typeof schema !== 'object' || schema === null) return false;
  return Object.entries(schema).some(
    ([key, value]) => (key === 'type' && value === 'Uint8Array') || hasBytes(value),
  );
}

t.test('all arguments of journalled methods that are bytes are found', async (t) => {
  for (const method of JOURNALLED) {
    const fields = Object.entries(metaMethods[method].args.properties);
    const found = fields.filter(([, schema]) => hasBytes(schema)).map(([field]) => field);
    t.strictSame(bytesOf(method), found, method);
  }
  t.strictSame(bytesOf('rename'), ['name', 'newName']);
});
