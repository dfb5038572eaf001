/** The table of POSIX checks as an ordinary user on a mount of his own, made through fusermount3. */
import t from 'tap';
import { mountedTables } from './mounted-table.js';
import { ORDINARY } from './on-mount.js';

if (process.geteuid?.() === 0)
  await mountedTables(t, [
    {
      name: 'an ordinary user on a mount of his own',
      mount: { user: ORDINARY },
      user: ORDINARY,
      withLarge: false,
    },
  ]);
else t.pass('an ordinary user', { skip: 'posix-kernel.test.ts runs as one already' });
