/** The part of the metadata store's contract that is about locks. */
import type { Test } from 'tap';
import type { HeldLock } from '../../src/lease/locks.js';
import { asIno, asLockOwner, asSessionId } from '../../src/proto/ids.js';
import { type StoreFactory, session } from './meta-store.js';

const A = asSessionId(2);
const B = asSessionId(3);

export function lockSuite(t: Test, factory: StoreFactory): void {
  t.test('locks are kept, replaced, deleted, taken back, and go with their session', async (t) => {
    const store = factory(t);
    const owner = asLockOwner('ffffffffffffffff');
    const lock: HeldLock = {
      ...{ session: A, owner, ino: asIno(9), space: 'fcntl', type: 'write', pid: 2 ** 32 - 1 },
      ...{ start: 0, end: Number.MAX_SAFE_INTEGER },
    };
    const flock: HeldLock = { ...lock, session: B, space: 'flock', type: 'read' };
    store.transaction(false, () => {
      for (const id of [A, B]) store.putSession(session(id));
      for (const row of [{ ...lock, end: 5 }, lock, flock]) store.putLock(row);
    });
    const bySession = (): HeldLock[] => store.locks().sort((a, b) => a.session - b.session);
    t.strictSame(bySession(), [lock, flock]);
    t.throws(() =>
      store.transaction(false, () => {
        store.deleteLock(lock);
        store.deleteLocks(B);
        throw new Error('no');
      }),
    );
    t.strictSame(bySession(), [lock, flock]);
    store.transaction(false, () => store.deleteLock({ ...lock, start: 1 }));
    t.equal(store.locks().length, 2, 'another start is another lock');
    store.transaction(false, () => {
      store.deleteLock(lock);
      store.deleteSession(B);
    });
    t.strictSame(store.locks(), []);
    store.checkInvariants();
  });
}
