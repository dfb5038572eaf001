/** What a mount has answered and not brought to the server yet, when daemons and sessions come and go. */
import t, { type Test } from 'tap';
import { setLogLevel } from '../../src/base/log.js';
import {
  Journal,
  type JournalEntry,
  type JournalReply,
  recoverJournal,
  SessionLostError,
} from '../../src/client/journal.js';
import { openMountDatabase } from '../../src/client/mount-database.js';
import { FsError } from '../../src/proto/errno.js';
import { asIno, asSessionId, ROOT_INO } from '../../src/proto/ids.js';
import { limits } from '../../src/proto/limits.js';
import { ManualClock } from '../rpc/manual-clock.js';

setLogLevel('none');

const FIRST = asSessionId(7);
const SECOND = asSessionId(8);

const entry = (name: string): JournalEntry => ({
  method: 'unlink',
  args: { parent: ROOT_INO, name: Buffer.from(name) },
  now: { sec: 1, nsec: 0 },
  saw: [],
});

const nameOf = ({ args }: JournalEntry): string => String((args as { name: Buffer }).name);

interface Sent {
  readonly first: number;
  readonly names: string[];
  readonly answer: (refused?: readonly number[]) => void;
  readonly fail: (error: FsError) => void;
}

/** A journal, and what it sends. */
function rig(t: Test) {
  const db = openMountDatabase(t.testdir());
  t.teardown(() => db.close());
  const sent: Sent[] = [];
  const refused: string[] = [];
  const clock = new ManualClock();
  const make = (): Journal =>
    new Journal({
      clock,
      db,
      send: ({ first, entries }) =>
        new Promise<JournalReply>((resolve, reject) => {
          const answer = (numbers: readonly number[] = []): void =>
            resolve({ leases: [], refused: numbers.map((number) => ({ number, reason: 'no' })) });
          sent.push({ first, names: entries.map(nameOf), answer, fail: reject });
        }),
      onAnswered: () => {},
      onRefused: (entries) => refused.push(...entries.map((each) => nameOf(each.entry))),
    });
  return { db, sent, refused, clock, make };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('what was on its way when its session was lost is sent once, under the next one', async (t) => {
  const { sent, refused, make } = rig(t);
  const journal = make();
  journal.begin(FIRST);
  journal.append(entry('a'), [asIno(2)]);
  const [flushed, asked] = [journal.flush(), journal.flush()];
  await settled();
  t.match(sent, [{ first: 1, names: ['a'] }]);
  journal.sessionLost();
  sent[0]?.fail(new FsError('EIO', 'journal', { detail: 'the session was lost' }));
  journal.append(entry('b'), [asIno(3)]);
  await settled();
  t.equal(sent.length, 1, 'there is no session');
  journal.begin(SECOND);
  for (const waiting of [flushed, asked])
    t.ok(
      (await waiting.catch((error: unknown) => error)) instanceof SessionLostError,
      'whoever waits asks again',
    );
  const again = journal.flush();
  await settled();
  t.match(sent[1], { first: 1, names: ['a', 'b'] });
  sent[1]?.answer([1]);
  await again;
  t.strictSame(refused, ['a']);
  t.equal(journal.size, 0);
  journal.close();
});

t.test('what comes while a message is on its way waits for more, unless somebody waits for it', async (t) => {
  const { sent, clock, make } = rig(t);
  const journal = make();
  journal.begin(FIRST);
  const append = (name: string): void => journal.append(entry(name), [asIno(2)]);
  append('a');
  await clock.advance(limits.journalDelayMs);
  append('b');
  sent[0]?.answer();
  await settled();
  append('c');
  await settled();
  t.match(sent, [{ names: ['a'] }], 'the answer alone sends nothing');
  await clock.advance(limits.journalDelayMs);
  t.match(sent[1], { first: 2, names: ['b', 'c'] });
  append('d');
  const flushed = journal.flush();
  sent[1]?.answer();
  await settled();
  t.match(sent[2], { first: 4, names: ['d'] });
  sent[2]?.answer();
  await flushed;
  t.equal(journal.size, 0);
  journal.close();
});

t.test('what comes while a message is on its way for long is sent after it', async (t) => {
  const { sent, clock, make } = rig(t);
  const journal = make();
  journal.begin(FIRST);
  journal.append(entry('a'), [asIno(2)]);
  await clock.advance(limits.journalDelayMs);
  journal.append(entry('b'), [asIno(2)]);
  await clock.advance(2 * limits.journalDelayMs);
  sent[0]?.answer();
  await settled();
  await clock.advance(limits.journalDelayMs);
  t.match(sent[1], { first: 2, names: ['b'] });
  sent[1]?.answer();
  await settled();
  t.equal(journal.size, 0);
  journal.close();
});

t.test(
  'what the server has refused of a killed daemon’s journal is tried under the next session',
  async (t) => {
    const { db, sent, make } = rig(t);
    const killed = make();
    killed.begin(FIRST);
    const count = limits.journalEntriesPerMessage + 2;
    for (let number = 1; number <= count; number++) killed.append(entry(`${number}`), [asIno(number + 1)]);
    killed.close();
    const asked: { first: number; count: number }[] = [];
    const recover = (isAnswered: (first: number) => boolean): Promise<boolean> =>
      recoverJournal(db, {
        session: FIRST,
        send: async ({ first, entries }) => {
          asked.push({ first, count: entries.length });
          if (!isAnswered(first)) throw new FsError('ENOSPC', 'journal');
          // As the server does, it answers for what it had refused before, too.
          return { leases: [], refused: [2, count].map((number) => ({ number, reason: 'no' })) };
        },
      });
    const rest = { first: limits.journalEntriesPerMessage + 1, count: 2 };
    await t.rejects(
      recover((first) => first === 1),
      { code: 'ENOSPC' },
    );
    t.strictSame(asked.splice(0), [{ first: 1, count: limits.journalEntriesPerMessage }, rest]);
    t.ok(await recover(() => true), 'the daemon after that');
    t.strictSame(asked.splice(0), [rest], 'with the numbers that they had');
    t.ok(await recover(() => true));
    t.strictSame(asked, [], 'nothing is left for this session');
    sent.length = 0;
    const next = make();
    next.begin(SECOND);
    await settled();
    t.match(sent, [{ first: 1, names: ['2', `${count}`] }], 'in order');
    next.close();
  },
);
