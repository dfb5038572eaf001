import t from 'tap';
import { GroupCommit } from '../../src/chunk/group-commit.js';
import { limits } from '../../src/proto/limits.js';

/** A stand-in for a database: what was applied in each committed transaction. */
class Recorder {
  readonly transactions: string[][] = [];
  open: string[] = [];
  failWhenOver = Number.POSITIVE_INFINITY;

  readonly run = (body: () => void): void => {
    this.open = [];
    body();
    if (this.open.length > this.failWhenOver) throw new Error('does not fit');
    this.transactions.push(this.open);
  };
}

t.test('changes of one turn share a transaction, in order', async (t) => {
  const database = new Recorder();
  const group = new GroupCommit(database.run);
  await Promise.all(['a', 'b', 'c'].map((name) => group.run(1, () => database.open.push(name))));
  t.same(database.transactions, [['a', 'b', 'c']]);
  await group.run(1, () => database.open.push('d'));
  t.same(database.transactions[1], ['d']);
  t.equal(group.commits, 2);
});

t.test('one that fails takes no other down with it, and the order stays', async (t) => {
  const database = new Recorder();
  const group = new GroupCommit(database.run);
  const results = await Promise.allSettled(
    ['a', 'bad', 'c'].map((name) =>
      group.run(1, () => {
        if (name === 'bad') throw new Error('bad');
        database.open.push(name);
      }),
    ),
  );
  t.same(
    results.map((result) => result.status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
  t.same(database.transactions, [['a'], ['c']]);
});

t.test('a transaction that fails as a whole is taken apart', async (t) => {
  const database = new Recorder();
  database.failWhenOver = 1;
  const group = new GroupCommit(database.run);
  await Promise.all(['a', 'b'].map((name) => group.run(1, () => database.open.push(name))));
  t.same(database.transactions, [['a'], ['b']]);
});

t.test('a transaction is bounded in bytes and in changes', async (t) => {
  const database = new Recorder();
  const group = new GroupCommit(database.run);
  const third = Math.floor(limits.storeCommitBytes / 3);
  await Promise.all(
    Array.from({ length: 7 }, (_, index) => group.run(third, () => database.open.push(`${index}`))),
  );
  t.same(
    database.transactions.map((transaction) => transaction.length),
    [3, 3, 1],
  );
  await group.run(limits.storeCommitBytes + 1, () => database.open.push('large'));
  t.same(database.transactions.at(-1), ['large'], 'one that is larger goes alone');
  await Promise.all(
    Array.from({ length: limits.storeCommitChanges + 1 }, () => group.run(0, () => database.open.push('x'))),
  );
  t.same(
    database.transactions.slice(-2).map((transaction) => transaction.length),
    [limits.storeCommitChanges, 1],
  );
});
