/** The lessor's rules, alone and in every interleaving of a few clients' operations. */
import t from 'tap';
import { type LeaseMode, Lessor } from '../../src/lease/lessor.js';
import { asIno, asSessionId } from '../../src/proto/ids.js';
import { explore, LessorModel, type Planted, type Step } from './lessor-model.js';

const options = { backoffMs: 100, maxBackoffMs: 1000, maxPerSession: 3 };
const [a, b, c] = [asSessionId(1), asSessionId(2), asSessionId(3)];
const ino = asIno(9);
const reading = { reads: [ino], writes: [] };
const writing = { reads: [], writes: [ino] };

t.test('shared leases go together, an exclusive one is alone', (t) => {
  const lessor = new Lessor(options);
  t.match(lessor.grant(a, ino, 'shared', 0), { mode: 'shared', epoch: 1 });
  t.match(lessor.grant(b, ino, 'shared', 0), { mode: 'shared', epoch: 2 });
  t.equal(lessor.grant(c, ino, 'exclusive', 0), undefined);
  t.match(lessor.grant(a, ino, 'shared', 0), { epoch: 1 }, 'what is held already is not granted anew');
  t.same(lessor.inTheWay(c, reading), []);
  t.same(
    lessor.inTheWay(a, writing).map((lease) => lease.session),
    [b],
  );
  lessor.acknowledge(b, ino, 2, 'none');
  t.match(lessor.grant(a, ino, 'exclusive', 0), { mode: 'exclusive', epoch: 3 }, 'the only holder goes up');
  t.match(lessor.inTheWay(b, reading), [{ session: a, keep: 'shared' }]);
  t.match(lessor.inTheWay(b, writing), [{ session: a, keep: 'none' }]);
  t.same(lessor.inTheWay(a, writing), [], 'nobody is in his own way');
  lessor.checkInvariants();
  t.end();
});

t.test('who is parked is recalled for once, blocks new leases and is named when the way is free', (t) => {
  const lessor = new Lessor(options);
  lessor.grant(a, ino, 'shared', 0);
  lessor.grant(b, ino, 'shared', 0);
  const first = lessor.park(c, writing, 0);
  t.same(
    first.recalls.map(({ session, epoch, keep }) => [session, epoch, keep]),
    [
      [a, 1, 'none'],
      [b, 2, 'none'],
    ],
  );
  const second = lessor.park(c, writing, 0);
  t.same(second.recalls, [], 'they have been recalled');
  t.equal(lessor.grant(asSessionId(4), ino, 'shared', 5000), undefined);
  t.equal(lessor.grant(a, ino, 'shared', 5000), undefined, 'nor does one that is recalled count again');
  t.same(lessor.acknowledge(a, ino, 1, 'none'), []);
  t.same(lessor.acknowledge(b, ino, 2, 'none'), [first.ticket, second.ticket]);
  t.match(lessor.grant(c, ino, 'exclusive', 5000), { mode: 'exclusive' }, 'who waits himself is granted');
  lessor.unpark(first.ticket);
  lessor.unpark(second.ticket);
  lessor.checkInvariants();
  t.end();
});

t.test('a recall for less is followed by one for all; the weaker answer does not end it', (t) => {
  const lessor = new Lessor(options);
  lessor.grant(a, ino, 'exclusive', 0);
  const reader = lessor.park(b, reading, 0);
  t.match(reader.recalls, [{ session: a, keep: 'shared' }]);
  const writer = lessor.park(c, writing, 0);
  t.match(writer.recalls, [{ session: a, epoch: 1, keep: 'none' }]);
  t.same(lessor.acknowledge(a, ino, 1, 'shared'), [reader.ticket]);
  t.match(lessor.leaseOf(a, ino), { mode: 'shared', epoch: 1 });
  t.same(lessor.acknowledge(a, ino, 1, 'none'), [reader.ticket, writer.ticket]);
  lessor.checkInvariants();
  t.end();
});

t.test('answers for what is not held, or not any more, end nothing', (t) => {
  const lessor = new Lessor(options);
  lessor.grant(a, ino, 'shared', 0);
  t.equal(lessor.acknowledge(b, ino, 1, 'none'), undefined);
  t.equal(lessor.acknowledge(a, ino, 7, 'none'), undefined);
  t.equal(lessor.acknowledge(a, asIno(8), 1, 'none'), undefined);
  t.same(lessor.acknowledge(a, ino, 1, 'none'), []);
  t.equal(lessor.acknowledge(a, ino, 1, 'none'), undefined, 'twice');
  lessor.grant(a, ino, 'shared', 0);
  t.equal(lessor.acknowledge(a, ino, 1, 'none'), undefined, 'nor does an old answer end a new lease');
  t.match(lessor.leasesOf(a), [{ epoch: 2 }]);
  t.end();
});

t.test('the end of a session frees the way', (t) => {
  const lessor = new Lessor(options);
  lessor.grant(a, ino, 'exclusive', 0);
  const waiting = lessor.park(b, reading, 0);
  const own = lessor.park(a, { reads: [asIno(1)], writes: [asIno(2)] }, 0);
  t.same(lessor.endSession(a), [waiting.ticket]);
  t.same(lessor.leasesOf(a), []);
  lessor.unpark(own.ticket);
  lessor.unpark(waiting.ticket);
  lessor.tidy(10_000);
  lessor.checkInvariants();
  t.same(lessor.endSession(a), []);
  t.end();
});

t.test('what is recalled again and again goes without leases for longer and longer', (t) => {
  const lessor = new Lessor(options);
  let now = 0;
  const quiet: number[] = [];
  for (let round = 0; round < 6; round++) {
    const lease = lessor.grant(a, ino, 'shared', now);
    if (lease === undefined) throw new Error('no lease');
    const { ticket } = lessor.park(b, writing, now);
    lessor.acknowledge(a, ino, lease.epoch, 'none');
    lessor.unpark(ticket);
    const start = now;
    while (lessor.grant(a, ino, 'shared', now) === undefined) now += 10;
    quiet.push(now - start);
  }
  t.same(quiet, [100, 200, 400, 800, 1000, 1000]);
  const lease = lessor.leaseOf(a, ino);
  now += 10_000;
  const { ticket } = lessor.park(b, writing, now);
  lessor.acknowledge(a, ino, lease?.epoch ?? 0, 'none');
  lessor.unpark(ticket);
  t.equal(lessor.grant(a, ino, 'shared', now + 90), undefined);
  t.ok(lessor.grant(a, ino, 'shared', now + 100), 'when it has been calm it begins anew');
  t.end();
});

t.test('a session has no more leases than it may', (t) => {
  const lessor = new Lessor(options);
  for (const each of [1, 2, 3]) t.ok(lessor.grant(a, asIno(each), 'shared', 0));
  t.equal(lessor.grant(a, asIno(4), 'shared', 0), undefined);
  t.ok(lessor.grant(a, asIno(3), 'exclusive', 0), 'a stronger one in place of another is none more');
  t.ok(lessor.grant(b, asIno(4), 'shared', 0));
  t.end();
});

const read = (wants?: LeaseMode, ino = 1): Step => ({ kind: 'read', ino, ...(wants && { wants }) });
const write = (wants?: LeaseMode, ino = 1): Step => ({ kind: 'write', ino, ...(wants && { wants }) });
/** Without back-off, so that leases are granted as often as possible. */
const eager = { backoffMs: 0, maxBackoffMs: 0, maxPerSession: 9 };
const AT_MOST = 8_000;

const worlds: readonly [string, readonly (readonly Step[])[]][] = [
  ['readers that remember and a writer', [[read('shared'), read()], [write()]]],
  [
    'two that remember and write',
    [
      [read('shared'), write()],
      [read('shared'), write()],
    ],
  ],
  [
    'an exclusive writer and a reader',
    [
      [write('exclusive'), write(), read()],
      [read('shared'), read()],
    ],
  ],
  [
    'two exclusive writers',
    [
      [write('exclusive'), write()],
      [write('exclusive'), write()],
    ],
  ],
  ['three of all kinds', [[read('shared')], [write('exclusive')], [read('exclusive')]]],
  [
    'two inodes, crosswise',
    [
      [write('exclusive', 1), write('shared', 2)],
      [write('exclusive', 2), read('shared', 1)],
    ],
  ],
];

const run = (scripts: readonly (readonly Step[])[], planted?: Planted): number =>
  explore(() => new LessorModel(eager, scripts, planted), AT_MOST);

for (const [name, scripts] of worlds)
  t.test(`every interleaving: ${name}`, (t) => {
    const ways = run(scripts);
    t.ok(ways > 10, `${ways} ways`);
    t.end();
  });

t.test('the exploration finds a client that keeps what it gave up, and a server that does not ask', (t) => {
  const [, scripts] = worlds[1] ?? ['', []];
  t.throws(() => run(scripts, { keepsAfterAcknowledging: true }), /answers with the truth/);
  t.throws(() => run(scripts, { skipsRecall: true }), /answers with the truth/);
  t.end();
});

t.test('what nobody has a lease for is forgotten as others come', (t) => {
  const lessor = new Lessor(options);
  for (let each = 1; each <= 20_000; each++) {
    const lease = lessor.grant(a, asIno(each), 'shared', each);
    lessor.acknowledge(a, asIno(each), lease?.epoch ?? 0, 'none');
  }
  t.ok(lessor.inodeCount < 3000, `${lessor.inodeCount} inodes are known`);
  lessor.checkInvariants();
  t.end();
});

t.test('why a lease is not held: it ended, or was never this session’s', (t) => {
  const lessor = new Lessor(options, 100);
  lessor.grant(a, ino, 'shared', 0);
  lessor.grant(b, ino, 'shared', 0);
  lessor.acknowledge(a, ino, 100, 'none');
  t.equal(lessor.whyNotHeld(ino, 100), 'ended');
  t.equal(lessor.whyNotHeld(ino, 5), 'ended', 'from before this server');
  t.equal(lessor.whyNotHeld(ino, 101), 'foreign', 'it is b’s');
  t.equal(lessor.whyNotHeld(ino, 102), 'foreign', 'nobody was given it');
  t.end();
});
