/**
 * Checks of the POSIX table as an ordinary user on root's mount: those that the caller's identity matters to.
 * All of them run as root there; the other areas run as an ordinary user on a mount of his own.
 */
import t from 'tap';
import { mountedTables } from './mounted-table.js';
import { ORDINARY } from './on-mount.js';

if (process.geteuid?.() === 0)
  await mountedTables(t, [
    {
      name: "an ordinary user on root's mount",
      mount: {},
      user: ORDINARY,
      withLarge: false,
      areas: ['permissions', 'attributes', 'acl', 'xattrs', 'special', 'times', 'locks', 'links', 'removed'],
    },
  ]);
else t.pass("an ordinary user on root's mount", { skip: 'a mount for everybody is made by root' });
