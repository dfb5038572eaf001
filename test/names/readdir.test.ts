import { asIno } from '../../src/proto/ids.js';
import { at, bytes, inWorld, root } from './world.js';

inWorld('pages of any size give every entry once, in rising cookies', (t, world) => {
  const dir = world.mkdir(root, 'd');
  const names = Array.from({ length: 50 }, (_, index) => `f${index}`);
  for (const name of names) world.file(dir, name);
  for (const limit of [1, 7, 49, 50, 51, 1024]) {
    const entries = world.list(dir, limit);
    t.same(entries.map((entry) => Buffer.from(entry.name).toString()).sort(), [...names].sort());
    const cookies = entries.map((entry) => entry.cookie);
    t.same(
      cookies,
      [...new Set(cookies)].sort((a, b) => a - b),
    );
  }
  const first = world.do('readdir', { ino: dir, after: 0, limit: 50, plus: true });
  t.ok(first.end, 'a page that takes the last entry says so');
  t.equal(first.parent, root);
  const plus = first.entries[0];
  t.same(plus?.attr, world.attr(plus?.ino ?? root));
  t.same(world.do('readdir', { ino: dir, after: 2 ** 53 - 1, limit: 5, plus: false }).entries, []);
});

inWorld('entries that stay are seen exactly once while others come and go', (t, world) => {
  const dir = world.mkdir(root, 'd');
  for (let index = 0; index < 40; index++) world.file(dir, `stay${index}`);
  for (let index = 0; index < 40; index++) world.file(dir, `go${index}`);
  const seen = new Map<string, number>();
  for (let after = 0, end = false, step = 0; !end; step++) {
    const page = world.do('readdir', { ino: dir, after, limit: 3, plus: false });
    for (const entry of page.entries) {
      const name = Buffer.from(entry.name).toString();
      seen.set(name, (seen.get(name) ?? 0) + 1);
    }
    after = page.entries.at(-1)?.cookie ?? after;
    end = page.end;
    if (step < 40) world.do('unlink', at(dir, `go${step}`));
    world.file(dir, `new${step}`);
  }
  for (let index = 0; index < 40; index++) t.equal(seen.get(`stay${index}`), 1, `stay${index}`);
  t.ok([...seen.values()].every((times) => times === 1));
});

inWorld('only directories are listed', (t, world) => {
  const read = { after: 0, limit: 1, plus: false };
  t.equal(world.errno('readdir', { ino: world.file(root, 'f'), ...read }), 'ENOTDIR');
  t.equal(world.errno('readdir', { ino: asIno(99), ...read }), 'ENOENT');
  t.equal(world.errno('lookup', { parent: world.file(root, 'g'), name: bytes('x') }), 'ENOTDIR');
  t.equal(world.errno('lookup', { parent: root, name: bytes('x'.repeat(256)) }), 'ENAMETOOLONG');
  t.equal(world.errno('lookup', { parent: root, name: bytes('a/b') }), 'EINVAL');
});
