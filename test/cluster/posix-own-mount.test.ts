/**
 * The table of POSIX checks as an ordinary user on a mount of his own, made through fusermount3: the areas that
 * posix-shared-mount.test.ts does not run as one.
 */
import t from 'tap';
import { mountedTables } from './mounted-table.js';
import { ORDINARY } from './on-mount.js';

const AREAS = [
  ...['names', 'data', 'directories', 'mapping', 'open-unlinked', 'permissions', 'races', 'ranges', 'rename'],
  ...['size-limits', 'unnamed', 'access-times'],
];

if (process.geteuid?.() === 0)
  await mountedTables(t, [
    {
      name: 'an ordinary user on a mount of his own',
      mount: { user: ORDINARY },
      user: ORDINARY,
      withLarge: false,
      areas: AREAS,
    },
  ]);
else t.pass('an ordinary user', { skip: 'posix-kernel.test.ts runs as one already' });
