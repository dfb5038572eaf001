import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import { LOCK_END } from '../../src/lease/lock-ranges.js';
import { type LockOutcome, type LockRequest, LockTable, type LockWait } from '../../src/lease/locks.js';
import { asIno, asLockOwner, asSessionId } from '../../src/proto/ids.js';

/** Owner `a1`: the owner a within session 1. */
function request(who: string, type: LockRequest['type'], more: Partial<LockRequest> = {}): LockRequest {
  return {
    session: asSessionId(Number(who.slice(1))),
    owner: asLockOwner(who.charCodeAt(0).toString(16).padStart(16, '0')),
    ino: asIno(5),
    space: 'fcntl',
    start: 0,
    end: LOCK_END,
    pid: 7,
    type,
    ...more,
  };
}

class World {
  readonly table = new LockTable();
  readonly turns: number[] = [];

  ask(asked: LockRequest, wait?: number): LockOutcome {
    const plan = this.table.plan(asked, wait);
    if (plan.outcome !== 'deadlock') this.#took(this.table.carryOut(plan));
    this.table.checkInvariants();
    return plan.outcome;
  }

  cancel(session: number, wait: number): void {
    this.#took(this.table.cancel(asSessionId(session), wait));
    this.table.checkInvariants();
  }

  end(session: number): void {
    this.#took(this.table.endSession(asSessionId(session)));
    this.table.checkInvariants();
  }

  #took(turns: readonly LockWait[]): void {
    this.turns.push(...turns.map(({ wait }) => wait));
  }
}

const byte = (at: number): Partial<LockRequest> => ({ start: at, end: at });

t.test('whose turn it is has the range reserved until he asks, cancels or is gone', async (t) => {
  const world = new World();
  t.equal(world.ask(request('a1', 'write')), 'granted');
  t.equal(world.ask(request('b2', 'write'), 21), 'waiting');
  t.equal(world.ask(request('c3', 'write'), 31), 'waiting');
  t.same(world.turns, []);
  world.ask(request('a1', 'unlock'));
  t.same(world.turns, [21]);
  t.equal(world.ask(request('a1', 'write')), 'conflict', 'it is not his turn');
  t.equal(world.table.blocker(request('a1', 'read'))?.session, 2);
  world.cancel(2, 21);
  t.same(world.turns, [21, 31]);
  t.equal(world.ask(request('c3', 'write'), 31), 'granted');
  t.equal(world.ask(request('b2', 'write'), 22), 'waiting');
  world.end(3);
  t.same(world.turns, [21, 31, 22]);
  world.end(2);
  t.same(world.table.held(), []);
});

t.test('readers that wait come in together, and who conflicts with nothing does not wait', async (t) => {
  const world = new World();
  world.ask(request('a1', 'write', byte(0)));
  t.equal(world.ask(request('b2', 'read', { start: 0, end: 9 }), 1), 'waiting');
  t.equal(world.ask(request('c3', 'read', { start: 0, end: 5 }), 2), 'waiting');
  t.equal(world.ask(request('d4', 'read', byte(5)), 3), 'granted');
  world.ask(request('a1', 'unlock', byte(0)));
  t.same(world.turns, [1, 2]);
});

t.test('a wait that would never end is refused, one that would is not', async (t) => {
  const world = new World();
  for (const [index, who] of ['a1', 'b2', 'c3'].entries()) world.ask(request(who, 'write', byte(index)));
  t.equal(world.ask(request('a1', 'write', byte(1)), 1), 'waiting');
  t.equal(world.ask(request('b2', 'write', byte(2)), 1), 'waiting');
  t.equal(world.ask(request('d4', 'write', byte(0)), 1), 'waiting', 'behind the others, in no circle');
  t.equal(world.ask(request('c3', 'write', byte(0)), 1), 'deadlock');
  t.equal(world.ask(request('c3', 'write', { ...byte(0), ino: asIno(6) })), 'granted');
  world.cancel(2, 1);
  t.equal(world.ask(request('c3', 'write', byte(0)), 1), 'waiting');
});

t.test('circles of flock, and over both spaces, are left alone', async (t) => {
  const world = new World();
  const other = { ino: asIno(6) };
  const flock = { space: 'flock' } as const;
  world.ask(request('a1', 'write', flock));
  world.ask(request('b2', 'write', { ...flock, ...other }));
  t.equal(world.ask(request('a1', 'write', { ...flock, ...other }), 1), 'waiting');
  t.equal(world.ask(request('b2', 'write', flock), 1), 'waiting');
  t.equal(world.ask(request('b2', 'write')), 'granted', 'fcntl knows nothing of it');
});

t.test('a flock conversion that has to wait, or is refused, has lost the lock', async (t) => {
  const world = new World();
  const flock = { space: 'flock' } as const;
  world.ask(request('a1', 'read', flock));
  world.ask(request('b2', 'read', flock));
  t.equal(world.ask(request('a1', 'write', flock)), 'conflict');
  t.equal(world.table.held().length, 1);
  t.equal(world.ask(request('b2', 'write', flock)), 'granted');
  t.equal(world.ask(request('b2', 'write', flock)), 'granted', 'again');
});

t.test('random requests of many owners do what a byte by byte model does', async (t) => {
  const SEED = 20_260_102;
  const random = new Prng(SEED);
  const owners = ['a1', 'b1', 'a2', 'c3'];
  const types = ['read', 'write', 'unlock'] as const;
  for (let round = 0; round < 100; round++) {
    const world = new World();
    const bytes = owners.map((): string[] => Array(12).fill('.'));
    for (let step = 0; step < 60; step++) {
      const who = random.int(0, owners.length - 1);
      const start = random.int(0, 11);
      const end = random.int(start, 11);
      const type = types[random.int(0, 2)] ?? 'unlock';
      const free = bytes.every((of, other) =>
        of
          .slice(start, end + 1)
          .every(
            (held) => other === who || type === 'unlock' || held === '.' || (held === 'r' && type === 'read'),
          ),
      );
      const outcome = world.ask(request(owners[who] ?? '', type, { start, end }));
      if (outcome !== (free ? 'granted' : 'conflict'))
        t.fail(`seed ${SEED}, round ${round}, step ${step}: ${outcome}`);
      if (free) bytes[who]?.fill(type === 'unlock' ? '.' : type.charAt(0), start, end + 1);
    }
    const shown = owners.map((who): string => {
      const of: string[] = Array(12).fill('.');
      for (const lock of world.table.held())
        if (lock.session === Number(who.slice(1)) && lock.owner.endsWith(who.charCodeAt(0).toString(16)))
          of.fill(lock.type.charAt(0), lock.start, lock.end + 1);
      return of.join('');
    });
    t.same(
      shown,
      bytes.map((of) => of.join('')),
      `round ${round}`,
    );
  }
});
