import { join } from 'node:path';
import Sqlite from 'better-sqlite3';
import t from 'tap';
import { setLogLevel } from '../../src/base/log.js';
import { CacheDatabase } from '../../src/client/cache-database.js';
import { type Hint, Hints } from '../../src/client/hints.js';
import { asClusterId, asIno, type Ino } from '../../src/proto/ids.js';
import { CLUSTER, directory, directoryHint, fileHint } from './remembered.js';

setLogLevel('none');

t.test('what is put is there again, names of any bytes too', async (t) => {
  const dir = t.testdir();
  const cache = CacheDatabase.open(dir, CLUSTER);
  const odd = Buffer.from([0xff, 0x01, 0xc3, 0x28, 0x80]).toString('latin1');
  const listing: Hint = {
    attr: directory(9, 3),
    names: [
      [odd, asIno(4)],
      ['gone', null],
    ],
    isComplete: true,
    xattrs: { values: [['user.x', null]], names: ['user.y', odd] },
    content: {
      kind: 'listing',
      parent: asIno(1),
      entries: [{ name: Buffer.from([0xff, 0x02]), ino: asIno(5), kind: 0o100000, cookie: 2 ** 52 + 1 }],
    },
  };
  const link: Hint = {
    ...fileHint(8),
    content: { kind: 'target', target: Buffer.from([0xfe, 0x2f, 0x61]) },
  };
  new Hints(cache).put([listing, link, fileHint(7, 2 ** 40)]);
  cache.close();
  const again = CacheDatabase.open(dir, CLUSTER);
  const hints = new Hints(again);
  t.strictSame(hints.get(asIno(9)), listing);
  t.strictSame(hints.get(asIno(8)), link);
  t.strictSame(hints.get(asIno(7)), fileHint(7, 2 ** 40));
  t.strictSame(hints.inodes().sort(), [7, 8, 9]);
  hints.forget([asIno(8), asIno(1000)]);
  t.equal(hints.get(asIno(8)), undefined);
  again.close();
});

t.test('the newest are kept, as many bytes as there may be', async (t) => {
  const cache = CacheDatabase.open(t.testdir(), CLUSTER);
  const hints = new Hints(cache, 400_000);
  for (let number = 1; number <= 3000; number++) hints.put([fileHint(number)]);
  t.ok(hints.bytes <= 400_000);
  t.equal(hints.get(asIno(1)), undefined);
  t.ok(hints.get(asIno(3000)));
  const { bytes } = hints;
  hints.put([fileHint(3000), fileHint(2999)]);
  t.equal(hints.bytes, bytes, 'the same again takes no room');
  hints.put([fileHint(3000, 2)]);
  hints.forget([asIno(3000)]);
  const counted = new Hints(cache, 400_000);
  t.equal(hints.bytes, counted.bytes, 'bytes are counted right');
  new Hints(cache, 0).put([fileHint(1)]);
  t.strictSame(hints.inodes(), [], 'no bytes: none');
  cache.close();
});

t.test('a record that the disk has damaged is dropped', async (t) => {
  const dir = t.testdir();
  const cache = CacheDatabase.open(dir, CLUSTER);
  new Hints(cache).put([directoryHint(2, [3, 4]), fileHint(3)]);
  cache.close();
  const raw = new Sqlite(join(dir, 'cache.db'));
  const record = raw.prepare('SELECT record FROM hints WHERE ino = 2').pluck().get();
  if (!Buffer.isBuffer(record)) throw new Error('no record');
  record[record.indexOf('n3') + 1] = '5'.charCodeAt(0);
  raw.prepare('UPDATE hints SET record = ? WHERE ino = 2').run(record);
  raw.close();
  const again = CacheDatabase.open(dir, CLUSTER);
  const hints = new Hints(again);
  t.equal(hints.get(asIno(2)), undefined);
  t.ok(hints.get(asIno(3)));
  t.strictSame(hints.inodes(), [3]);
  again.close();
});

t.test('another filesystem has none of them; nor has a database that is closed', async (t) => {
  const dir = t.testdir();
  const cache = CacheDatabase.open(dir, CLUSTER);
  const hints = new Hints(cache);
  hints.put([fileHint(3)]);
  cache.close();
  hints.put([fileHint(4)]);
  t.equal(hints.get(asIno(3)), undefined);
  t.strictSame(hints.inodes(), []);
  const other = CacheDatabase.open(dir, asClusterId('22222222-2222-4333-8444-555555555555'));
  t.strictSame(new Hints(other).inodes(), [] satisfies Ino[]);
  other.close();
});
