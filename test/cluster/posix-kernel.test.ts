/** The whole table of POSIX checks on a mount by the user who runs the tests (as a rule root), kernel driver. */
import t from 'tap';
import { mountedTables } from './mounted-table.js';

await mountedTables(t, [{ name: 'on a mount of its own', mount: {}, withLarge: true }]);
