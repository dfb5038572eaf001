/**
 * The invariants of the metadata database as queries, each of which must find nothing. They read every row:
 * for tests and for checking a filesystem, not for a server at work.
 */
import { assert, present } from '../base/assert.js';
import type { Database } from '../sqlite/database.js';
import type { Counters } from './store.js';

/** What must not be found, and the query that looks for it. `hit` names the row in the message. */
const QUERIES: readonly (readonly [string, string])[] = [
  [
    'a name leads to an inode that is there and of its kind',
    `SELECT d.parent || '/' || hex(d.name) AS hit FROM dentries d LEFT JOIN inodes i ON i.ino = d.ino
      WHERE i.ino IS NULL OR i.nlink = 0 OR (i.mode & 61440) <> d.kind`,
  ],
  [
    'a name is in a directory that is there',
    `SELECT d.parent AS hit FROM dentries d LEFT JOIN inodes i ON i.ino = d.parent
      WHERE i.ino IS NULL OR (i.mode & 61440) <> 16384 OR i.nlink = 0`,
  ],
  [
    'two names of one directory and hash differ in their slot',
    'SELECT parent AS hit FROM dentries GROUP BY parent, hash, slot HAVING count(*) > 1',
  ],
  [
    'the links of what is no directory are its names',
    `SELECT i.ino AS hit FROM inodes i LEFT JOIN (SELECT ino, count(*) AS n FROM dentries GROUP BY ino) d
      ON d.ino = i.ino WHERE (i.mode & 61440) <> 16384 AND i.nlink <> ifnull(d.n, 0)`,
  ],
  [
    'the links of a directory are two and one for each directory in it',
    `SELECT i.ino AS hit FROM inodes i LEFT JOIN
      (SELECT parent, count(*) AS n FROM dentries WHERE kind = 16384 GROUP BY parent) d ON d.parent = i.ino
      WHERE (i.mode & 61440) = 16384 AND i.nlink <> 0 AND i.nlink <> 2 + ifnull(d.n, 0)`,
  ],
  [
    'a directory has one name, in the directory that it calls its parent',
    `SELECT i.ino AS hit FROM inodes i WHERE (i.mode & 61440) = 16384 AND i.nlink <> 0 AND i.ino <> 1 AND
      (SELECT count(*) FROM dentries d WHERE d.parent = i.parent AND d.ino = i.ino) <> 1`,
  ],
  [
    'an inode without a name is open or to be reaped',
    `SELECT ino AS hit FROM inodes WHERE nlink = 0 AND NOT EXISTS (SELECT 1 FROM opens o WHERE o.ino = inodes.ino)
      AND NOT EXISTS (SELECT 1 FROM reapable r WHERE r.ino = inodes.ino)`,
  ],
  [
    'what is to be reaped is an inode without a name that nobody has open',
    `SELECT r.ino AS hit FROM reapable r LEFT JOIN inodes i ON i.ino = r.ino
      WHERE i.ino IS NULL OR i.nlink <> 0 OR EXISTS (SELECT 1 FROM opens o WHERE o.ino = r.ino)`,
  ],
  [
    'what is open is there, for a session that is there',
    `SELECT o.ino AS hit FROM opens o LEFT JOIN inodes i ON i.ino = o.ino LEFT JOIN sessions s ON s.id = o.session
      WHERE i.ino IS NULL OR s.id IS NULL`,
  ],
  [
    'an xattr belongs to an inode',
    'SELECT x.ino AS hit FROM xattrs x LEFT JOIN inodes i ON i.ino = x.ino WHERE i.ino IS NULL',
  ],
  [
    'allocated is the sum of the extents',
    `SELECT i.ino AS hit FROM inodes i LEFT JOIN (SELECT ino, sum(length) AS n FROM extents GROUP BY ino) e
      ON e.ino = i.ino WHERE i.allocated <> ifnull(e.n, 0)`,
  ],
  [
    'extents do not overlap',
    `SELECT ino AS hit FROM (SELECT ino, offset + length AS end,
      lead(offset) OVER (PARTITION BY ino ORDER BY offset) AS next FROM extents) WHERE next < end`,
  ],
  [
    'an extent lies in a file and in a chunk',
    `SELECT e.ino AS hit FROM extents e LEFT JOIN chunks c ON c.id = e.chunk LEFT JOIN inodes i ON i.ino = e.ino
      WHERE c.id IS NULL OR i.ino IS NULL OR e.chunk_offset + e.length > c.length`,
  ],
  [
    'the usage of a chunk is what extents reference',
    `SELECT c.id AS hit FROM chunks c LEFT JOIN (SELECT chunk, sum(length) AS n FROM extents GROUP BY chunk) e
      ON e.chunk = c.id WHERE c.used <> ifnull(e.n, 0)`,
  ],
  [
    'a chunk was given out, and is not retired',
    `SELECT id AS hit FROM chunks WHERE id >= (SELECT next_chunk FROM filesystem)
      OR EXISTS (SELECT 1 FROM retired WHERE chunk = id)`,
  ],
  [
    'an inode was given out',
    'SELECT ino AS hit FROM inodes WHERE ino >= (SELECT next_inode FROM filesystem)',
  ],
  [
    'ranges do not overlap and belong to sessions',
    `SELECT first AS hit FROM (SELECT first, last, session, lead(first) OVER (ORDER BY first) AS next FROM ranges)
      WHERE next <= last OR session NOT IN (SELECT id FROM sessions)`,
  ],
  [
    'a kept reply belongs to a session',
    `SELECT r.session AS hit FROM replies r LEFT JOIN sessions s ON s.id = r.session WHERE s.id IS NULL`,
  ],
  [
    'a lock belongs to a session',
    'SELECT ino AS hit FROM locks WHERE session NOT IN (SELECT id FROM sessions)',
  ],
  ['a task belongs to a server', 'SELECT id AS hit FROM tasks WHERE server NOT IN (SELECT id FROM servers)'],
];

/** Throws InvariantError with the first that is broken. */
export function checkSqliteInvariants(db: Database, counters: Counters): void {
  for (const [what, sql] of QUERIES) {
    const found = db.prepare<{ hit: unknown }>(sql).get();
    assert(found === undefined, `${what} (not so: ${String(found?.hit)})`);
  }
  const counted = db
    .prepare<Counters>(
      `SELECT (SELECT count(*) FROM inodes) AS inodes, (SELECT count(*) FROM inodes WHERE nlink = 0) AS orphans,
        (SELECT count(*) FROM chunks) AS chunks, (SELECT ifnull(sum(used), 0) FROM chunks) AS referencedBytes,
        (SELECT ifnull(sum(length), 0) FROM chunks) AS chunkBytes`,
    )
    .get();
  const [is, shouldBe] = [
    JSON.stringify(sorted(counters)),
    JSON.stringify(sorted(present(counted, 'totals'))),
  ];
  assert(is === shouldBe, `totals ${is} are what rows say: ${shouldBe}`);
}

function sorted(counters: Counters): [string, number][] {
  return Object.entries(counters).sort(([a], [b]) => (a < b ? -1 : 1));
}
