import t from 'tap';
import { type DroppedLease, LeaseCache } from '../../src/client/lease-cache.js';
import { LeaseHolder, type LeaseReturns } from '../../src/client/lease-holder.js';
import type { Attr } from '../../src/proto/attr.js';
import { asIno, type Ino, ROOT_INO } from '../../src/proto/ids.js';

const zero = { sec: 0, nsec: 0 };
const attrOf = (ino: Ino, lease: number, version = 1): Attr => ({
  ...{ ino, lease, version, mode: 0o40755, nlink: 2, uid: 0, gid: 0, rdev: 0, size: 0, allocated: 0 },
  ...{ atime: zero, mtime: zero, ctime: zero, crtime: zero },
});

/** A promise, and the way to settle it. */
function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

const turns = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
};

/** A holder whose every step the test lets happen. */
function rig(maxLeases = 100) {
  const said: string[] = [];
  const steps = { forget: gate(), settle: gate(), send: gate(), sync: gate() };
  const named = (inodes: readonly Ino[]): string => inodes.join(' ');
  const cache = new LeaseCache({
    trustedMs: () => 5000,
    maxLeases,
    giveBack: (leases) => void holder.giveBack(leases),
  });
  const nothingDone = { settle: async () => {}, settleAll: async () => {}, clear: () => {} };
  const returns: LeaseReturns = {
    connection: () => 1,
    send: ({ leases }) => {
      said.push(`return ${leases.map(({ epoch }) => epoch).join(' ')}`);
      return steps.send.opened;
    },
    sync: () => {
      said.push('sync');
      return steps.sync.opened;
    },
  };
  const holder: LeaseHolder = new LeaseHolder(cache, returns, nothingDone);
  holder.dependents = {
    writeBack: async () => {},
    forget: async (inodes) => {
      said.push(`forget ${named(inodes)}`);
      await steps.forget.opened;
    },
    settle: async (leases: readonly DroppedLease[]) => {
      said.push(`settle ${named(leases.map(({ ino }) => ino))}`);
      await steps.settle.opened;
    },
  };
  return { cache, holder, said, steps };
}

const file = asIno(7);

t.test('while a change is in doubt nothing is answered from memory, and nothing learned', async (t) => {
  const { cache, holder, said, steps } = rig();
  const over = gate();
  cache.attr(attrOf(ROOT_INO, 1));
  t.ok(cache.answer('getattr', { ino: ROOT_INO }));
  let isTold = false;
  const told = holder.doubt(over.opened).then(() => {
    isTold = true;
  });
  t.equal(cache.answer('getattr', { ino: ROOT_INO }), undefined, 'from the very turn on');
  await turns();
  t.notOk(isTold, 'the caller is not told before the kernel has forgotten');
  steps.forget.open();
  await told;
  for (const step of [steps.settle, steps.send]) step.open();
  await turns();
  t.same(said, ['forget 1', 'settle 1', 'return 1']);
  cache.attr(attrOf(ROOT_INO, 2));
  t.equal(cache.heldForMs(ROOT_INO), 0, 'a new lease is of no use yet');
  over.open();
  await turns();
  cache.attr(attrOf(ROOT_INO, 2));
  t.equal(cache.heldForMs(ROOT_INO), 0, 'nor when it is over, before the server has read all that was sent');
  steps.sync.open();
  await turns();
  cache.attr(attrOf(ROOT_INO, 2, 2));
  t.equal(cache.answer('getattr', { ino: ROOT_INO })?.version, 2);
});

t.test('one doubt does not end with another', async (t) => {
  const { cache, holder, steps } = rig();
  for (const step of Object.values(steps)) step.open();
  const [first, second] = [gate(), gate()];
  await Promise.all([holder.doubt(first.opened), holder.doubt(second.opened)]);
  first.open();
  await turns();
  cache.attr(attrOf(file, 3));
  t.equal(cache.heldForMs(file), 0);
  second.open();
  await turns();
  cache.attr(attrOf(file, 3));
  t.ok(cache.heldForMs(file) > 0);
});

t.test('a recall of what is being given up is answered when that is forgotten and settled', async (t) => {
  const { cache, holder, said, steps } = rig();
  cache.attr(attrOf(file, 4));
  void holder.doubt(gate().opened);
  void holder.recalled([{ ino: file, epoch: 4 }]);
  await turns();
  t.same(said, ['forget 7', 'forget '], 'the kernel has not forgotten yet');
  steps.forget.open();
  await turns();
  t.notOk(
    said.some((line) => line.startsWith('return')),
    'nor is it settled',
  );
  steps.settle.open();
  await turns();
  t.equal(said.filter((line) => line === 'return 4').length, 2);
});

t.test('a lease on its way back is not learned again from a reply that was under way', async (t) => {
  const { cache, said, steps } = rig(16);
  for (const step of [steps.forget, steps.settle]) step.open();
  for (let number = 1; number <= 17; number++) cache.attr(attrOf(asIno(number), number));
  await turns();
  t.same(said.at(-1), 'return 1');
  cache.attr(attrOf(ROOT_INO, 1));
  t.equal(cache.heldForMs(ROOT_INO), 0);
  steps.send.open();
  await turns();
  cache.attr(attrOf(ROOT_INO, 18));
  t.ok(cache.heldForMs(ROOT_INO) > 0, 'the next one is');
});
