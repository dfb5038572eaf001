/** flock(2) and fcntl(2) locks between processes in one directory. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Check, Checks } from '../check.js';
import { type Locker, waits, withLockers } from '../locker.js';

/** A check with processes that have the file `f` open, each as descriptor `fds[i]`. */
function withFile(count: number, body: (lockers: Locker[], fds: number[]) => Promise<void>): Check {
  return async (dir) => {
    writeFileSync(join(dir, 'f'), '0');
    await withLockers(
      Array.from({ length: count }, () => dir),
      async (...lockers) => {
        await body(lockers, await Promise.all(lockers.map((locker) => locker.open('f'))));
      },
    );
  };
}

/** As `withFile` with two processes. */
function withTwo(body: (a: Locker, x: number, b: Locker, y: number) => Promise<void>): Check {
  return withFile(2, async ([a, b], [x, y]) => {
    assert.ok(a !== undefined && b !== undefined && x !== undefined && y !== undefined);
    await body(a, x, b, y);
  });
}

const withThree = (body: (all: [Locker, number][]) => Promise<void>): Check =>
  withFile(3, (lockers, fds) => body(lockers.map((locker, index) => [locker, fds[index] ?? -1])));

/** Every byte's lock from 0 to 9 as another process sees it: r, w or a dot. */
async function map(locker: Locker, fd: number): Promise<string> {
  let text = '';
  for (let at = 0; at < 10; at++) {
    const found = await locker.fcntl(fd, 'getlk', 'write', at, 1);
    text += found === 'none' ? '.' : String(found).charAt(0);
  }
  return text;
}

export const lockChecks: Checks = {
  'fcntl: writers exclude one another and readers, readers do not': withTwo(async (a, x, b, y) => {
    assert.equal(await a.fcntl(x, 'setlk', 'write', 0, 10), 'ok');
    assert.equal(await b.fcntl(y, 'setlk', 'write', 5, 10), 'EAGAIN');
    assert.equal(await b.fcntl(y, 'setlk', 'read', 9, 1), 'EAGAIN');
    assert.equal(await b.fcntl(y, 'setlk', 'write', 10, 5), 'ok');
    assert.equal(await a.fcntl(x, 'setlk', 'unlock', 0, 10), 'ok');
    assert.equal(await b.fcntl(y, 'setlk', 'read', 0, 5), 'ok');
    assert.equal(await a.fcntl(x, 'setlk', 'read', 0, 5), 'ok');
    assert.equal(await a.fcntl(x, 'setlk', 'write', 4, 1), 'EAGAIN');
  }),
  'fcntl: ranges are split, joined, upgraded and downgraded': withTwo(async (a, x, b, y) => {
    await a.fcntl(x, 'setlk', 'write', 0, 10);
    assert.equal(await map(b, y), 'wwwwwwwwww');
    await a.fcntl(x, 'setlk', 'unlock', 3, 2);
    assert.equal(await map(b, y), 'www..wwwww');
    await a.fcntl(x, 'setlk', 'read', 7, 2);
    assert.equal(await map(b, y), 'www..wwrrw');
    await a.fcntl(x, 'setlk', 'write', 2, 6);
    assert.equal(await map(b, y), 'wwwwwwwwrw');
    assert.deepEqual(await b.fcntl(y, 'getlk', 'read', 0, 0), ['write', 0, 8, a.pid]);
    assert.deepEqual(await b.fcntl(y, 'getlk', 'write', 8, 1), ['read', 8, 1, a.pid]);
    await a.fcntl(x, 'setlk', 'unlock', 0, 0);
    assert.equal(await b.fcntl(y, 'getlk', 'write', 0, 0), 'none');
  }),
  'fcntl: a lock without an end reaches whatever comes': withTwo(async (a, x, b, y) => {
    await a.fcntl(x, 'setlk', 'write', 100, 0);
    assert.equal(await b.fcntl(y, 'setlk', 'read', 2 ** 40, 1), 'EAGAIN');
    assert.equal(await b.fcntl(y, 'setlk', 'write', 0, 100), 'ok');
    assert.deepEqual(await b.fcntl(y, 'getlk', 'read', 50, 1000), ['write', 100, 0, a.pid]);
  }),
  "fcntl: one's own locks are never in the way": withTwo(async (a, x) => {
    const other = await a.open('f');
    await a.fcntl(x, 'setlk', 'write', 0, 0);
    assert.equal(await a.fcntl(other, 'getlk', 'write', 0, 0), 'none');
    assert.equal(await a.fcntl(other, 'setlk', 'write', 0, 0), 'ok');
  }),
  'fcntl: closing any descriptor of the file lets go of all locks': withTwo(async (a, x, b, y) => {
    const other = await a.open('f', 'r');
    await a.fcntl(x, 'setlk', 'write', 0, 0);
    assert.equal(await b.fcntl(y, 'setlk', 'write', 0, 0), 'EAGAIN');
    await a.ask('close', other);
    assert.equal(await b.fcntl(y, 'setlk', 'write', 0, 0), 'ok');
  }),
  'fcntl: a waiter gets the lock when it is free, in its turn': withThree(async ([a, b, c]) => {
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await a[0].fcntl(a[1], 'setlk', 'write', 0, 0);
    const second = b[0].fcntl(b[1], 'setlkw', 'write', 0, 0);
    assert.ok(await waits(second), 'it waits');
    const third = c[0].fcntl(c[1], 'setlkw', 'write', 0, 0);
    assert.ok(await waits(third), 'it waits as well');
    await a[0].fcntl(a[1], 'setlk', 'unlock', 0, 0);
    assert.equal(await second, 'ok');
    assert.ok(await waits(third), 'one at a time');
    await b[0].ask('close', b[1]);
    assert.equal(await third, 'ok');
  }),
  'fcntl: readers that wait for a writer come in together': withThree(async ([a, b, c]) => {
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await a[0].fcntl(a[1], 'setlk', 'write', 0, 0);
    const readers = [b, c].map(([locker, fd]) => locker.fcntl(fd, 'setlkw', 'read', 0, 0));
    for (const reader of readers) assert.ok(await waits(reader));
    await a[0].fcntl(a[1], 'setlk', 'read', 0, 0);
    assert.deepEqual(await Promise.all(readers), ['ok', 'ok']);
  }),
  'fcntl: a circle of waiters is EDEADLK, and breaks up': withThree(async ([a, b, c]) => {
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    for (const [index, [locker, fd]] of [a, b, c].entries())
      assert.equal(await locker.fcntl(fd, 'setlk', 'write', index, 1), 'ok');
    const first = a[0].fcntl(a[1], 'setlkw', 'write', 1, 1);
    assert.ok(await waits(first));
    const second = b[0].fcntl(b[1], 'setlkw', 'write', 2, 1);
    assert.ok(await waits(second));
    assert.equal(await c[0].fcntl(c[1], 'setlkw', 'write', 0, 1), 'EDEADLK');
    assert.equal(await c[0].fcntl(c[1], 'setlk', 'unlock', 2, 1), 'ok');
    assert.equal(await second, 'ok');
    await b[0].fcntl(b[1], 'setlk', 'unlock', 0, 0);
    assert.equal(await first, 'ok');
  }),
  'fcntl: two readers that want to write: the second is told EDEADLK': withTwo(async (a, x, b, y) => {
    await a.fcntl(x, 'setlk', 'read', 0, 1);
    await b.fcntl(y, 'setlk', 'read', 0, 1);
    const first = a.fcntl(x, 'setlkw', 'write', 0, 1);
    assert.ok(await waits(first));
    assert.equal(await b.fcntl(y, 'setlkw', 'write', 0, 1), 'EDEADLK');
    await b.fcntl(y, 'setlk', 'unlock', 0, 1);
    assert.equal(await first, 'ok');
  }),
  'fcntl: a signal ends a wait with EINTR and leaves no lock': withTwo(async (a, x, b, y) => {
    await a.fcntl(x, 'setlk', 'write', 0, 0);
    const waiting = b.fcntl(y, 'setlkw', 'write', 0, 0);
    assert.ok(await waits(waiting));
    b.signal('SIGUSR2');
    assert.equal(await waiting, 'EINTR');
    await a.fcntl(x, 'setlk', 'unlock', 0, 0);
    assert.equal(await a.fcntl(x, 'getlk', 'write', 0, 0), 'none');
  }),
  'fcntl: an interrupted wait is no part of a circle': withTwo(async (a, x, b, y) => {
    await a.fcntl(x, 'setlk', 'write', 0, 1);
    await b.fcntl(y, 'setlk', 'write', 1, 1);
    const waiting = b.fcntl(y, 'setlkw', 'write', 0, 1);
    assert.ok(await waits(waiting));
    b.signal('SIGUSR2');
    assert.equal(await waiting, 'EINTR');
    const other = a.fcntl(x, 'setlkw', 'write', 1, 1);
    assert.ok(await waits(other), 'it waits');
    await b.fcntl(y, 'setlk', 'unlock', 1, 1);
    assert.equal(await other, 'ok');
  }),
  'fcntl: a process that is killed lets go, of locks and of its place': withThree(async ([a, b, c]) => {
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await a[0].fcntl(a[1], 'setlk', 'write', 0, 0);
    const waiting = b[0].fcntl(b[1], 'setlkw', 'write', 0, 0);
    assert.ok(await waits(waiting));
    waiting.catch(() => {});
    const last = c[0].fcntl(c[1], 'setlkw', 'write', 0, 0);
    assert.ok(await waits(last));
    const killing = performance.now();
    await b[0].kill();
    assert.ok(performance.now() - killing < 1000, 'a waiter dies at once');
    await a[0].kill();
    assert.equal(await last, 'ok');
  }),
  'fcntl: OFD locks belong to the description, not the process': withTwo(async (a, x, b, y) => {
    const second = await a.open('f');
    const third = await a.open('f');
    assert.equal(await a.fcntl(x, 'ofd', 'write', 0, 10), 'ok');
    assert.equal(await a.fcntl(second, 'ofd', 'write', 5, 10), 'EAGAIN');
    assert.equal(await b.fcntl(y, 'setlk', 'read', 0, 1), 'EAGAIN');
    const copy = await a.ask('dup', x);
    await a.ask('close', third);
    await a.ask('close', x);
    assert.equal(await b.fcntl(y, 'setlk', 'read', 0, 1), 'EAGAIN', 'a copy of the descriptor keeps it');
    const waiting = b.fcntl(y, 'setlkw', 'write', 0, 0);
    assert.ok(await waits(waiting));
    await a.ask('close', copy);
    assert.equal(await waiting, 'ok');
  }),
  'fcntl and flock do not know each other': withTwo(async (a, x, b, y) => {
    assert.equal(await a.fcntl(x, 'setlk', 'write', 0, 0), 'ok');
    assert.equal(await b.flock(y, 'write'), 'ok');
    assert.equal(await b.fcntl(y, 'setlk', 'write', 0, 0), 'EAGAIN');
    assert.equal(await a.flock(x, 'read'), 'EAGAIN');
  }),
  'flock: writers exclude one another and readers, readers do not': withTwo(async (a, x, b, y) => {
    assert.equal(await a.flock(x, 'read'), 'ok');
    assert.equal(await b.flock(y, 'read'), 'ok');
    assert.equal(await b.flock(y, 'unlock'), 'ok');
    assert.equal(await a.flock(x, 'write'), 'ok');
    assert.equal(await b.flock(y, 'read'), 'EAGAIN');
    const again = await a.open('f');
    assert.equal(await a.flock(again, 'read'), 'EAGAIN', 'another description of the same process');
  }),
  'flock: a refused conversion has lost the lock': withTwo(async (a, x, b, y) => {
    await a.flock(x, 'read');
    await b.flock(y, 'read');
    assert.equal(await a.flock(x, 'write'), 'EAGAIN');
    assert.equal(await b.flock(y, 'write'), 'ok');
  }),
  'flock: two readers that want to write get it one after the other': withTwo(async (a, x, b, y) => {
    await a.flock(x, 'read');
    await b.flock(y, 'read');
    const first = a.flock(x, 'write', true);
    assert.ok(await waits(first));
    assert.equal(await b.flock(y, 'write', true), 'ok');
    await b.flock(y, 'unlock');
    assert.equal(await first, 'ok');
  }),
  'flock: the last close of a description lets go': withTwo(async (a, x, b, y) => {
    await a.flock(x, 'write');
    const copy = await a.ask('dup', x);
    await a.ask('close', x);
    assert.equal(await b.flock(y, 'write'), 'EAGAIN');
    await a.ask('close', copy);
    assert.equal(await b.flock(y, 'write'), 'ok');
  }),
  'flock: waiting, EINTR, and a killed holder': withTwo(async (a, x, b, y) => {
    await a.flock(x, 'write');
    const waiting = b.flock(y, 'write', true);
    assert.ok(await waits(waiting));
    b.signal('SIGUSR2');
    assert.equal(await waiting, 'EINTR');
    const again = b.flock(y, 'write', true);
    assert.ok(await waits(again));
    await a.kill();
    assert.equal(await again, 'ok');
  }),
  'a counter under locks misses nothing': withFile(4, async (lockers) => {
    for (const how of ['flock', 'fcntl']) {
      assert.equal(await lockers[0]?.ask('pwrite', await lockers[0].open('f'), '0     '), 6);
      const done = await Promise.all(lockers.map((locker) => locker.ask('count', 'f', how, 25)));
      assert.deepEqual(done, ['ok', 'ok', 'ok', 'ok']);
      assert.equal(Number(await lockers[0]?.ask('read', 'f')), 100);
    }
  }),
};
