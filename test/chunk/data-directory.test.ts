import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { DataDirectory } from '../../src/chunk/data-directory.js';
import { asClusterId } from '../../src/proto/ids.js';
import { scratch } from './scratch.js';

const CLUSTER = asClusterId('11111111-2222-3333-4444-555555555555');

t.test('a missing directory is made, with an identity that stays', async (t) => {
  const path = join(scratch(t), 'deep', 'down');
  const first = DataDirectory.open(path);
  t.equal(first.clusterId, null);
  first.join(CLUSTER);
  first.join(CLUSTER);
  const again = DataDirectory.open(path);
  t.equal(again.serverId, first.serverId);
  t.equal(again.clusterId, CLUSTER);
  t.same(readdirSync(path), ['identity.json'], 'nothing else is left there');
});

t.test(
  'the root of an ext4 disk, logs and the draft of a creation that crashed count as empty',
  async (t) => {
    const path = scratch(t);
    mkdirSync(join(path, 'lost+found'));
    writeFileSync(join(path, 'chunk.log'), 'said');
    writeFileSync(join(path, 'identity.json.draft-77'), '{"kin');
    t.doesNotThrow(() => DataDirectory.open(path));
  },
);

t.test('a directory with other things in it is refused and left as it was', async (t) => {
  const path = scratch(t);
  writeFileSync(join(path, 'thesis.tex'), 'work of years');
  t.throws(() => DataDirectory.open(path), { message: new RegExp(`${path} is not .*thesis.tex`) });
  t.same(readdirSync(path), ['thesis.tex']);
});

t.test(
  'an identity of another kind, a newer format, or a damaged one is refused and left as it was',
  async (t) => {
    const good = { kind: 'leasefs chunk server', formatVersion: 1, serverId: CLUSTER, clusterId: null };
    const cases: [string, RegExp][] = [
      [JSON.stringify({ ...good, kind: 'leasefs metadata server' }), /is not a chunk server's/],
      [JSON.stringify({ ...good, formatVersion: 2, more: [] }), /newer than format 1/],
      [JSON.stringify({ ...good, serverId: 'me' }), /damaged/],
      ['{"kind":', /cannot be read/],
      ['', /cannot be read/],
    ];
    for (const [content, message] of cases) {
      const path = scratch(t);
      writeFileSync(join(path, 'identity.json'), content);
      t.throws(() => DataDirectory.open(path), { message });
      t.equal(readFileSync(join(path, 'identity.json'), 'utf8'), content);
      t.same(readdirSync(path), ['identity.json']);
    }
  },
);

t.test('a path that is a file is refused', async (t) => {
  const path = join(scratch(t), 'file');
  writeFileSync(path, '');
  t.throws(() => DataDirectory.open(path), { message: new RegExp(path) });
  t.ok(existsSync(path));
});
