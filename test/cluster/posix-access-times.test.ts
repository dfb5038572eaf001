/** The checks of access times on mounts that keep them; with the default options they run with the others. */
import t from 'tap';
import { mountedTables } from './mounted-table.js';

const areas = ['access-times', 'times'];

await mountedTables(
  t,
  ['relatime', 'strictatime', 'strictatime,nodiratime'].map((options) => ({
    name: `with ${options}`,
    mount: { options },
    withLarge: false,
    areas,
  })),
);
