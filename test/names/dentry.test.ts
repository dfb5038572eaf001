import t from 'tap';
import { checkName, dentryCookie, hashName, isDots } from '../../src/names/dentry.js';
import { rootInode } from '../../src/names/inode.js';
import { MemoryRows } from '../../src/names/memory-rows.js';
import { namespace } from '../../src/names/namespace.js';
import { FsError } from '../../src/proto/errno.js';
import { asIno, asSessionId } from '../../src/proto/ids.js';
import { at, bytes, inWorld, newAt, root } from './world.js';

/** Two names that share their 48-bit hash, found by trying 30 million. */
const TWINS = ['6mgaa', '9llwc'] as const;

/** Puts entries of `hash` that is not their names' (so many real ones cannot be found). Breaks invariants. */
function crowd(rows: MemoryRows, hash: number, slots: readonly number[]): void {
  for (const slot of slots) {
    const row = { ...rootInode({ sec: 1, nsec: 0 }), ino: asIno(100 + slot), mode: 0o100644, nlink: 1 };
    const name = bytes(`crowd${20 - slot}`);
    rows.apply([
      { put: 'inode', row: { ...row, parent: null } },
      { put: 'dentry', row: { parent: root, hash, slot, name, ino: row.ino, kind: 0o100000 } },
    ]);
  }
}

t.test('the hash of a name is part of the stored format', async (t) => {
  t.equal(hashName(bytes('a')), 0xc160a78467c9);
  t.equal(hashName(bytes('package.json')), 0x42945f15c7ad);
  t.equal(hashName(Buffer.alloc(255, 0xff)), 0xd49bd8f4ad8d);
});

t.test('hashes fill 48 bits evenly and do not meet in a large directory', async (t) => {
  const seen = new Set<number>();
  const ones = new Array<number>(48).fill(0);
  const count = 50_000;
  for (let index = 0; index < count; index++) {
    const hash = hashName(bytes(`file${index}.txt`));
    if (!Number.isSafeInteger(hash) || hash < 0 || hash >= 2 ** 48) t.fail(`hash ${hash}`);
    seen.add(hash);
    for (let bit = 0; bit < 48; bit++) ones[bit] = (ones[bit] ?? 0) + (Math.floor(hash / 2 ** bit) % 2);
  }
  t.equal(seen.size, count);
  for (const [bit, set] of ones.entries()) {
    if (Math.abs(set / count - 0.5) > 0.02) t.fail(`bit ${bit} is set in ${set} of ${count}`);
  }
});

t.test('cookies are exact numbers above 15 and below 2^53', async (t) => {
  const row = { parent: asIno(1), name: bytes('x'), ino: asIno(2), kind: 0 };
  t.equal(dentryCookie({ ...row, hash: 0, slot: 0 }), 16);
  t.ok(dentryCookie({ ...row, hash: 2 ** 48 - 1, slot: 15 }) < Number.MAX_SAFE_INTEGER);
});

t.test('any bytes but NUL and slash make a name, up to 255 of them', async (t) => {
  const code = (name: Uint8Array): string => {
    try {
      checkName(name, 'test');
      return 'ok';
    } catch (error) {
      return error instanceof FsError ? error.code : String(error);
    }
  };
  t.equal(code(Buffer.from([0xff, 0xfe, 0x0a, 0x20])), 'ok');
  t.equal(code(Buffer.alloc(255, 0x61)), 'ok');
  t.equal(code(Buffer.alloc(256, 0x61)), 'ENAMETOOLONG');
  t.equal(code(bytes('')), 'EINVAL');
  t.equal(code(bytes('a/b')), 'EINVAL');
  t.equal(code(bytes('a\0b')), 'EINVAL');
  t.same(
    ['.', '..', '...', '.a', 'a'].map((name) => isDots(bytes(name))),
    [true, true, false, false, false],
  );
});

inWorld('names of one hash live side by side and keep their cookies', (t, world) => {
  t.equal(hashName(bytes(TWINS[0])), hashName(bytes(TWINS[1])));
  const [first, second] = TWINS.map((name) => world.file(root, name));
  t.equal(world.do('lookup', at(root, TWINS[0])).ino, first);
  t.equal(world.do('lookup', at(root, TWINS[1])).ino, second);
  const before = world.list(root, 1);
  t.same(
    before.map((entry) => entry.ino),
    [first, second],
  );
  const behindFirst = before[0]?.cookie ?? 0;
  world.do('unlink', at(root, TWINS[0]));
  const page = world.do('readdir', { ino: root, after: behindFirst, limit: 1, plus: false });
  t.same(
    page.entries.map((entry) => entry.ino),
    [second],
    'the second is not passed over',
  );
  t.equal(page.entries[0]?.cookie, before[1]?.cookie);
  world.file(root, TWINS[0]);
  t.equal(world.errno('mknod', { ...newAt(root, TWINS[1]), mode: 0o100644, rdev: 0 }), 'EEXIST');
  world.do('rename', { ...at(root, TWINS[0]), newParent: root, newName: bytes(TWINS[1]), mode: 'exchange' });
  world.do('rename', { ...at(root, TWINS[0]), newParent: root, newName: bytes(TWINS[1]), mode: 'replace' });
  t.same(world.names(root), [TWINS[1]]);
});

t.test('the seventeenth name of one hash finds no room, and a freed slot is used again', async (t) => {
  const rows = new MemoryRows({ sec: 1, nsec: 0 });
  const context = { now: { sec: 2, nsec: 0 }, session: asSessionId(1) };
  const hash = hashName(bytes('late'));
  crowd(rows, hash, [...Array(16).keys()]);
  const make = () => rows.run(namespace.mkdir(context, { ...newAt(root, 'late'), mode: 0o755 }));
  t.throws(make, { code: 'ENOSPC' });
  rows.apply([{ delete: 'dentry', parent: root, hash, name: bytes('crowd13') }]);
  make();
  t.equal(rows.dentries.get(root)?.find((row) => Buffer.from(row.name).toString() === 'late')?.slot, 7);
});

t.test('a page ends anywhere inside a group of one hash and goes on exactly there', async (t) => {
  const rows = new MemoryRows({ sec: 1, nsec: 0 });
  const context = { now: { sec: 2, nsec: 0 }, session: asSessionId(1) };
  crowd(rows, 5, [...Array(16).keys()]);
  for (const limit of [1, 2, 3, 15, 16, 17]) {
    const inos: number[] = [];
    for (let after = 0, end = false; !end; ) {
      const page = rows.run(namespace.readdir(context, { ino: root, after, limit, plus: false }));
      inos.push(...page.entries.map((entry) => entry.ino));
      after = page.entries.at(-1)?.cookie ?? 0;
      end = page.end;
    }
    t.same(
      inos,
      [...Array(16).keys()].map((slot) => 100 + slot),
      `pages of ${limit}`,
    );
  }
});
