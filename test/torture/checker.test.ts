/** The checker itself: histories written by hand, legal and illegal ones. */
import t from 'tap';
import { check, checkCounts, unexpectedErrors } from './checker.js';
import {
  type Answer,
  describe,
  type History,
  historyOf,
  type Op,
  readLog,
  type SystemCall,
} from './history.js';
import { smaller } from './report.js';

type Line = readonly [
  client: number,
  times: readonly [callNs: number, returnNs: number | undefined],
  system: SystemCall,
  answer: Answer | undefined,
];

const ok: Answer = { value: null };
const fails = (error: string): Answer => ({ error });
const told = (value: NonNullable<Extract<Answer, { value: unknown }>['value']>): Answer => ({ value });

/** Each client has a mount of its own, but 9, which is another client of mount 0. */
function history(lines: readonly Line[], harms: History['harms'] = []): History {
  const ops = lines.map(([client, [callNs, returnNs], system, answer]) => ({
    ...{ client, mount: client % 9, system, callNs, returnNs, answer },
  }));
  return historyOf(ops, harms);
}

const make = (path: string, fd = 0): SystemCall => ({ call: 'open', path, flags: 'wx', fd });
const open = (path: string, fd: number, flags: 'r' | 'r+' | 'w' | 'a' = 'r'): SystemCall => ({
  ...{ call: 'open', path, flags, fd },
});
const write = (fd: number, data: string): SystemCall => ({ call: 'pwrite', fd, at: 0, data });
const read = (fd: number): SystemCall => ({ call: 'read', fd });
const close = (fd: number): SystemCall => ({ call: 'close', fd });
const stat = (path: string): SystemCall => ({ call: 'stat', path });
const unlink = (path: string): SystemCall => ({ call: 'unlink', path });
const rename = (path: string, to: string): SystemCall => ({ call: 'rename', path, to });
const link = (path: string, to: string): SystemCall => ({ call: 'link', path, to });
const readdir = (path: string): SystemCall => ({ call: 'readdir', path });

const made: Line = [0, [0, 10], make('d/a'), ok];
const written: readonly Line[] = [made, [0, [11, 12], write(0, 'one'), ok], [0, [13, 20], close(0), ok]];

const LEGAL: Record<string, History> = {
  'nothing at all': history([]),
  'what one client does alone': history([
    ...written,
    [0, [21, 22], stat('d/a'), told([7, 1, 3])],
    [0, [23, 24], link('d/a', 'd/b'), ok],
    [0, [25, 26], stat('d/b'), told([7, 2, 3])],
    [0, [27, 28], readdir('d'), told(['a', 'b'])],
    [0, [29, 30], unlink('d/a'), ok],
    [0, [31, 32], rename('d/b', 'd/c'), ok],
    [0, [33, 34], rename('d/b', 'd/c'), fails('ENOENT')],
  ]),
  'a look at the same time as a change, either way': history([
    made,
    [0, [20, 30], unlink('d/a'), ok],
    [1, [21, 29], stat('d/a'), told([7, 1, 0])],
    [2, [21, 29], stat('d/a'), fails('ENOENT')],
  ]),
  'a write that others do not see before it is closed': history([
    made,
    [0, [11, 12], write(0, 'one'), ok],
    [1, [13, 14], open('d/a', 1), ok],
    [1, [15, 16], read(1), told('')],
    [0, [17, 20], close(0), ok],
    [1, [21, 22], read(1), told('one')],
  ]),
  'a name that its own mount still shows while it is being removed, after another mount has seen it gone':
    history([
      made,
      [0, [20, 50], unlink('d/a'), ok],
      [1, [30, 31], readdir('d'), told([])],
      [9, [32, 33], stat('d/a'), told([7, 1, 0])],
    ]),
  'two renames of one file by two mounts, of which the kernel of one finds the other done': history([
    made,
    [0, [20, 40], rename('d/a', 'd/b'), ok],
    [1, [20, 40], rename('d/a', 'd/b'), ok],
  ]),
  'a call that never returned, and was carried out': history([
    made,
    [1, [20, undefined], unlink('d/a'), undefined],
    [0, [30, 31], stat('d/a'), told([7, 1, 0])],
    [0, [40, 41], stat('d/a'), fails('ENOENT')],
  ]),
  'a call that never returned, and was not carried out': history([
    made,
    [1, [20, undefined], unlink('d/a'), undefined],
    [0, [30, 31], stat('d/a'), told([7, 1, 0])],
  ]),
  'a write that is lost with its mount': history(
    [
      made,
      [0, [11, 12], write(0, 'one'), ok],
      [1, [30, 31], open('d/a', 1), ok],
      [0, [32, 33], open('d/a', 2), ok],
      [0, [34, 35], read(2), told('')],
    ],
    [{ mount: 0, atNs: 20 }],
  ),
  'appends of two mounts, in the order in which they were committed': history([
    made,
    [0, [11, 12], close(0), ok],
    [0, [20, 21], open('d/a', 1, 'a'), ok],
    [1, [20, 21], open('d/a', 1, 'a'), ok],
    [0, [22, 23], { call: 'append', fd: 1, data: 'one' }, ok],
    [1, [22, 23], { call: 'append', fd: 1, data: 'two' }, ok],
    [1, [24, 25], close(1), ok],
    [0, [26, 27], close(1), ok],
    [2, [28, 29], open('d/a', 1), ok],
    [2, [30, 31], read(1), told('twoone')],
  ]),
};

const ILLEGAL: Record<string, History> = {
  'a name is seen after it was removed': history([
    made,
    [0, [20, 30], unlink('d/a'), ok],
    [1, [31, 40], stat('d/a'), told([7, 1, 0])],
  ]),
  'a name that a third mount still shows after another has seen it gone': history([
    made,
    [0, [20, 50], unlink('d/a'), ok],
    [1, [30, 31], readdir('d'), told([])],
    [2, [32, 33], stat('d/a'), told([7, 1, 0])],
  ]),
  'a name that its own mount shows after it was removed': history([
    made,
    [0, [20, 50], unlink('d/a'), ok],
    [9, [51, 52], stat('d/a'), told([7, 1, 0])],
  ]),
  'a name is not seen after it was made': history([made, [1, [11, 12], stat('d/a'), fails('ENOENT')]]),
  'a listing shows what was not there yet': history([made, [1, [20, 21], readdir('d'), told(['a', 'b'])]]),
  'two exclusive creations of one name': history([made, [1, [5, 20], make('d/a'), ok]]),
  'two clients see two changes in different orders': history([
    [0, [0, 100], make('d/a'), ok],
    [1, [0, 100], make('d/b'), ok],
    [2, [10, 20], readdir('d'), told(['a'])],
    [3, [10, 20], readdir('d'), told(['b'])],
  ]),
  'old content after a close': history([
    ...written,
    [1, [21, 22], open('d/a', 1), ok],
    [1, [23, 24], read(1), told('')],
  ]),
  'old content after new': history([
    ...written,
    [0, [21, 22], open('d/a', 1, 'r+'), ok],
    [0, [23, 24], write(1, 'two'), ok],
    [1, [25, 26], open('d/a', 1), ok],
    [1, [27, 28], read(1), told('two')],
    [1, [29, 30], read(1), told('one')],
    [0, [31, 40], close(1), ok],
  ]),
  'a write that its own mount does not see': history([
    made,
    [0, [11, 12], write(0, 'one'), ok],
    [9, [13, 14], open('d/a', 1), ok],
    [9, [15, 16], read(1), told('')],
  ]),
  'a closed write is lost with its mount': history(
    [...written, [1, [31, 32], open('d/a', 1), ok], [1, [33, 34], read(1), told('')]],
    [{ mount: 0, atNs: 25 }],
  ),
  'an inode number of another file': history([
    made,
    [0, [11, 12], stat('d/a'), told([7, 1, 0])],
    [0, [13, 14], unlink('d/a'), ok],
    [0, [15, 16], make('d/b', 1), ok],
    [1, [17, 18], stat('d/b'), told([7, 1, 0])],
  ]),
  'a link count that never was': history([made, [1, [11, 12], stat('d/a'), told([7, 2, 0])]]),
  'a call that never returned is carried out and undone': history([
    made,
    [1, [20, undefined], unlink('d/a'), undefined],
    [0, [30, 31], stat('d/a'), fails('ENOENT')],
    [0, [40, 41], stat('d/a'), told([7, 1, 0])],
  ]),
};

for (const [name, legal] of Object.entries(LEGAL))
  t.test(`accepts ${name}`, async (t) => {
    t.equal(check(legal).verdict, 'legal', describe(legal));
  });

for (const [name, illegal] of Object.entries(ILLEGAL))
  t.test(`refuses: ${name}`, async (t) => {
    t.equal(check(illegal).verdict, 'anomaly', describe(illegal));
  });

t.test('a search that is cut short decides nothing', async (t) => {
  t.equal(check(history(written), 1).verdict, 'undecided');
});

t.test('a report leaves out what is not needed, and what is left is still refused', async (t) => {
  const looks: Line[] = [];
  for (let at = 0; at < 30; at++) looks.push([2, [100 + 2 * at, 101 + 2 * at], readdir('e'), told([])]);
  const long = history([
    made,
    ...looks,
    [0, [200, 210], unlink('d/a'), ok],
    [1, [211, 220], stat('d/a'), told([7, 1, 0])],
    [0, [230, 231], make('d/c', 5), ok],
  ]);
  const verdict = check(long);
  const refused = verdict.verdict === 'anomaly' ? long.ops[verdict.at] : undefined;
  t.equal(refused?.system.call, 'stat');
  if (refused === undefined) return;
  const small = smaller(long, refused);
  t.same(
    small.ops.map((op) => op.system.call),
    ['open', 'unlink', 'stat'],
  );
  t.equal(check(small).verdict, 'anomaly');
});

const count = (client: number, times: readonly [number, number], value: number): Line => [
  client,
  times,
  { call: 'count', how: 'flock' },
  told(value),
];

t.test('counting under a lock', async (t) => {
  const ops = (lines: readonly Line[]): readonly Op[] => history(lines).ops;
  t.equal(checkCounts(ops([count(0, [0, 10], 1), count(1, [5, 20], 2)])), undefined);
  t.equal(checkCounts(ops([count(0, [0, 10], 2), count(1, [5, 20], 1)])), undefined);
  t.match(checkCounts(ops([count(0, [0, 10], 1), count(1, [5, 20], 1)])), 'both counted 1');
  t.match(checkCounts(ops([count(0, [0, 10], 2), count(1, [15, 20], 1)])), 'counted 1 after');
});

t.test('errors that nothing explains', async (t) => {
  const { ops } = history([
    [0, [0, 1], stat('d/a'), fails('ENOENT')],
    [0, [2, 3], stat('d/a'), fails('EIO')],
    [0, [4, 5], close(0), fails('ENOENT')],
  ]);
  t.same(
    unexpectedErrors(ops).map((op) => op.id),
    [1, 2],
  );
});

t.test('a log whose end is missing', async (t) => {
  const call = (callNs: number, path: string): string => JSON.stringify({ callNs, system: stat(path) });
  const end = (returnNs: number, answer: Answer): string => JSON.stringify({ returnNs, answer });
  const lines = [
    call(1, 'd/a'),
    end(2, fails('EIO')),
    call(3, 'd/b'),
    end(4, fails('ENOTCONN')),
    call(5, 'd/c'),
  ];
  const text = `${lines.join('\n')}\n{"returnNs":6,"ans`;
  const who = { client: 1, mount: 0 };
  const healthy = readLog(text, who, Number.POSITIVE_INFINITY);
  t.same(
    healthy.map((op) => op.answer),
    [fails('EIO'), fails('ENOTCONN'), undefined],
  );
  t.same(
    readLog(text, who, 4).map((op) => op.answer),
    [fails('EIO'), undefined],
    'what came before the harm is taken at its word',
  );
  const harmed = readLog(text, who, 0);
  t.same(
    harmed.map((op) => [op.callNs, op.answer]),
    [
      [1, undefined],
      [5, undefined],
    ],
    'nobody knows of the first; the second was never begun',
  );
});
