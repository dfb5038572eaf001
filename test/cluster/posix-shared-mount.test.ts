/** The table of POSIX checks as an ordinary user on root's mount. */
import t from 'tap';
import { mountedTables } from './mounted-table.js';
import { ORDINARY } from './on-mount.js';

if (process.geteuid?.() === 0)
  await mountedTables(t, [
    { name: "an ordinary user on root's mount", mount: {}, user: ORDINARY, withLarge: false },
  ]);
else t.pass("an ordinary user on root's mount", { skip: 'a mount for everybody is made by root' });
