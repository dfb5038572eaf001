/** Every opcode's golden request leads to the right operation, and its result to the golden reply. */
import t from 'tap';
import { Opcode } from '../../src/fuse/abi.js';
import { decodeHeader, decodeSupplementaryGroup } from '../../src/fuse/decode.js';
import { handlers } from '../../src/fuse/handlers.js';
import { encodeDelete, encodeIncEpoch, encodeInvalEntry, encodeInvalInode } from '../../src/fuse/notify.js';
import { FsError } from '../../src/proto/errno.js';
import { asIno } from '../../src/proto/ids.js';
import { conversation } from './conversation.js';
import { goldenFrames } from './golden-frames.js';
import { goldenAttr, type Recorded } from './recording-operations.js';

const golden = goldenFrames();
const WHO = '1000/100/4321';
const goldenLock = { space: 'fcntl', owner: 'adde0000000000ff', start: 0, end: 2 ** 53 - 1, pid: 4321 };

const HERE = { ino: 5, fh: 77, offset: 0x1ffffffff000 };
const THERE = { ino: 6, fh: 78, offset: 0x1ffffffff000 };
const ACL = Buffer.from(
  '02000000' + '01000700ffffffff' + '04000500ffffffff' + '20000000ffffffff',
  'hex',
).toString('latin1');

/** What the operations see of each golden request. */
const EXPECTED: Readonly<Record<string, readonly Recorded[]>> = {
  lookup: [['lookup', WHO, 5, 'name']],
  forget: [['forget', 5, 3]],
  batch_forget: [
    ['forget', 6, 1],
    ['forget', 2 ** 53 - 1, 9],
  ],
  getattr: [['getattr', WHO, 5, 77]],
  statx: [['getattr', WHO, 5, undefined]],
  setattr: [
    [
      'setattr',
      WHO,
      5,
      77,
      {
        mode: 0o100600,
        uid: 7,
        gid: 8,
        size: 2 ** 53 - 1,
        atime: goldenAttr.atime,
        mtime: goldenAttr.mtime,
        ctime: goldenAttr.ctime,
        clearPrivileges: true,
      },
    ],
  ],
  access: [['access', WHO, 5, 5]],
  readlink: [['readlink', WHO, 5]],
  symlink: [['symlink', WHO, 5, 'name', 'to/there']],
  mknod: [['mknod', WHO, 5, 'name', 0o060644, 0x12345, 0o022]],
  mkdir: [['mkdir', WHO, 5, 'nam', 0o755, 0o022]],
  unlink: [['unlink', WHO, 5, 'name']],
  rmdir: [['rmdir', WHO, 5, 'name']],
  rename: [['rename', WHO, 5, 'old', 6, 'new', 'replace', false]],
  rename2: [['rename', WHO, 5, 'old', 6, 'new', 'exchange', false]],
  link: [['link', WHO, 9, 5, 'name']],
  open: [['open', WHO, 5, 0x8002]],
  create: [['create', WHO, 5, 'name', 0o100640, 0x80c2, 0o022]],
  read: [['read', WHO, 5, 77, 0x1ffffffff000, 4096]],
  write: [['write', WHO, 5, 77, 0x1ffffffff000, 'bytes', true, false]],
  statfs: [['statfs', WHO, 1]],
  release: [['release', 5, 77, undefined]],
  release_flock: [['release', 5, 77, 'adde000000000000']],
  releasedir: [['releasedir', 5, 77]],
  flush: [['flush', WHO, 5, 77, 'adde000000000000']],
  fsync: [['fsync', WHO, 5, 77, true]],
  fsyncdir: [['fsyncdir', WHO, 5, 77, false]],
  opendir: [['opendir', WHO, 5, 0x18000]],
  readdir: [['readdir', WHO, 5, 77, 0, false, 'take']],
  readdirplus: [['readdir', WHO, 5, 77, 0, true, 'take']],
  syncfs: [['syncfs', WHO]],
  getxattr: [['getxattr', WHO, 5, 'user.x']],
  getxattr_size: [['getxattr', WHO, 5, 'user.x']],
  getxattr_erange: [['getxattr', WHO, 5, 'user.x']],
  setxattr: [['setxattr', WHO, 5, 'user.x', 'value', 'create', false]],
  setxattr_acl: [['setxattr', WHO, 5, 'system.posix_acl_access', ACL, 'any', true]],
  listxattr: [['listxattr', WHO, 5]],
  removexattr: [['removexattr', WHO, 5, 'user.x']],
  tmpfile: [['tmpfile', WHO, 5, 0o100640, 0o20600002, 0o022]],
  fallocate: [['fallocate', WHO, HERE, 4096, { zero: false, keepSize: false }]],
  fallocate_punch: [['fallocate', WHO, HERE, 4096, { zero: true, keepSize: true }]],
  lseek: [['lseek', WHO, { ino: 5, fh: 77, offset: 4097 }, 'hole']],
  copy_file_range: [['copyFileRange', WHO, { ino: 5, fh: 77, offset: 4097 }, THERE, 0x2000]],
  copy_file_range_64: [['copyFileRange', WHO, { ino: 5, fh: 77, offset: 4097 }, THERE, 0x100002000]],
  init: [],
  interrupt: [],
  destroy: [],
  getlk: [['getlk', WHO, 5, 77, { ...goldenLock, type: 'read', start: 5, end: 9 }]],
  setlk: [['setlk', WHO, 5, 77, { ...goldenLock, type: 'write' }, false]],
  setlkw: [['setlk', WHO, 5, 77, { ...goldenLock, space: 'flock', type: 'unlock' }, true]],
};

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('each golden request calls its operation and gets its golden reply', (t) => {
  t.same([...golden.request.keys()].sort(), Object.keys(EXPECTED).sort());
  for (const [name, calls] of Object.entries(EXPECTED)) {
    const { recorder, replies, broken, send } = conversation({ begun: name !== 'init' });
    send(name);
    t.same(recorder.calls, calls, `${name}: the operation`);
    const expected = golden.reply.get(name);
    t.same(
      replies.map((reply) => reply.toString('hex')),
      expected === undefined ? [] : [expected.toString('hex')],
      `${name}: the reply`,
    );
    t.same(broken, []);
  }
  t.end();
});

t.test('each golden request is answered the same when its operation promises', async (t) => {
  for (const [name, calls] of Object.entries(EXPECTED)) {
    const [method] = calls[0] ?? [];
    if (method === undefined || method === 'forget' || name.startsWith('readdir')) continue;
    const { recorder, replies, send, session } = conversation({ begun: true });
    const direct = conversation({ begun: true });
    recorder.answer(method as 'lookup', async () => {
      const operation: unknown = Reflect.get(direct.recorder.operations, method);
      return typeof operation === 'function' ? operation() : undefined;
    });
    t.same(send(name), [], `${name}: nothing is sent before the promise settles`);
    t.equal(session.outstanding, 1);
    await turn();
    t.same(replies[0]?.toString('hex'), golden.reply.get(name)?.toString('hex'), name);
    t.equal(session.outstanding, 0);
  }
});

t.test('what is known to be missing is answered without its operation', async (t) => {
  for (const [name, question, errno] of [
    ['lookup', 'lacksName', 2],
    ['getxattr', 'lacksXattr', 61],
  ] as const) {
    const { recorder, send, session } = conversation({ begun: true });
    recorder.answer(question, () => true);
    const [reply] = send(name);
    t.equal(reply?.readInt32LE(4), -errno, name);
    t.equal(reply?.length, 16);
    t.same(recorder.calls, []);
    t.equal(session.outstanding, 0);
  }
});

t.test('every opcode with a handler has a golden request', (t) => {
  const seen = new Set([...golden.request.values()].map((frame) => frame.readUInt32LE(4)));
  for (const opcode of handlers.keys()) t.ok(seen.has(opcode), `opcode ${opcode}`);
  t.end();
});

t.test('opcodes without a handler are answered ENOSYS', (t) => {
  for (const opcode of [Opcode.IOCTL, Opcode.POLL, Opcode.BMAP, 4000]) {
    const { session, replies } = conversation({ begun: true });
    const frame = golden.request.get('readlink') ?? Buffer.alloc(40);
    frame.writeUInt32LE(opcode, 4);
    session.serve(frame);
    t.equal(replies[0]?.readInt32LE(4), -38);
    frame.writeUInt32LE(Opcode.READLINK, 4);
  }
  t.end();
});

t.test('an errno of an operation goes to the kernel as it is, anything else as EIO', async (t) => {
  const outcomes: [() => never, number][] = [
    [
      () => {
        throw new FsError('ENOTEMPTY', 'rmdir');
      },
      -39,
    ],
    [
      () => {
        throw new FsError('ETIMEDOUT', 'rmdir');
      },
      -110,
    ],
    [
      () => {
        throw new TypeError('a fault, thrown by a test on purpose');
      },
      -5,
    ],
  ];
  for (const [fail, errno] of outcomes) {
    const { recorder, replies, send } = conversation({ begun: true });
    recorder.answer('rmdir', fail);
    send('rmdir');
    t.equal(replies[0]?.readInt32LE(4), errno);
    recorder.answer('rmdir', async () => fail());
    send('rmdir');
    await turn();
    t.equal(replies[1]?.readInt32LE(4), errno);
  }
});

t.test('an interrupt reaches the request it names, once, and only while it is under way', async (t) => {
  const { recorder, session, replies } = conversation({ begun: true });
  let finish: (value: Buffer) => void = () => {};
  recorder.answer(
    'readlink',
    () =>
      new Promise<Buffer>((resolve) => {
        finish = resolve;
      }),
  );
  session.serve(golden.request.get('readlink') ?? Buffer.alloc(0));
  let heard = 0;
  recorder.requests[0]?.onInterrupt(() => {
    heard += 1;
  });
  const stop = recorder.requests[0]?.onInterrupt(() =>
    t.fail('a listener that was taken back is not called'),
  );
  stop?.();
  const interrupt = golden.request.get('interrupt') ?? Buffer.alloc(0);
  interrupt.writeBigUInt64LE(0x1234n, 40);
  session.serve(interrupt);
  session.serve(interrupt);
  t.equal(heard, 1);
  t.equal(recorder.requests[0]?.interrupted, true);
  recorder.requests[0]?.onInterrupt(() => {
    heard += 1;
  });
  t.equal(heard, 2, 'a listener that comes too late is called at once');
  t.same(replies, [], 'the interrupt itself is not answered');
  finish(Buffer.from('x'));
  await turn();
  t.equal(replies.length, 1);
  session.serve(interrupt);
  t.equal(replies[1]?.readInt32LE(4), -11, 'afterwards it is answered EAGAIN');
});

t.test('numbers above 2^53 - 1 are refused with an errno that fits', (t) => {
  const cases: [string, number, number][] = [
    ['write', 48, -27],
    ['readdir', 48, -22],
    ['setattr', 56, -27],
    ['getattr', 48, -5],
    ['fallocate', 48, -27],
    ['fallocate', 56, -27],
    ['lseek', 48, -6],
    ['copy_file_range', 48, -22],
    ['copy_file_range', 72, -27],
  ];
  for (const [name, at, errno] of cases) {
    const { session, replies, recorder } = conversation({ begun: true });
    const frame = Buffer.from(golden.request.get(name) ?? Buffer.alloc(0));
    frame.writeBigUInt64LE(0x7fffffffffffffffn, at);
    session.serve(frame);
    t.equal(replies[0]?.readInt32LE(4), errno, name);
    t.same(recorder.calls, []);
  }
  t.end();
});

t.test('a read at an offset above 2^53 - 1 is one behind every file’s end', (t) => {
  const { session, recorder } = conversation({ begun: true });
  const frame = Buffer.from(golden.request.get('read') ?? Buffer.alloc(0));
  frame.writeBigUInt64LE(2n ** 62n, 48);
  session.serve(frame);
  t.same(recorder.calls, [['read', WHO, 5, 77, Number.MAX_SAFE_INTEGER, 4096]]);
  t.end();
});

t.test('a request number above 2^53 - 1 is answered with the very same number', (t) => {
  const { session, replies } = conversation({ begun: true });
  const frame = Buffer.from(golden.request.get('access') ?? Buffer.alloc(0));
  frame.writeBigUInt64LE(0xfedcba9876543210n, 8);
  session.serve(frame);
  t.equal(replies[0]?.readBigUInt64LE(8), 0xfedcba9876543210n);
  t.end();
});

t.test('a header that lies about its length ends the conversation', (t) => {
  const { session, broken, replies } = conversation({ begun: true });
  const frame = Buffer.from(golden.request.get('access') ?? Buffer.alloc(0));
  frame.writeUInt32LE(frame.length + 1, 0);
  session.serve(frame);
  t.equal(broken.length, 1);
  t.same(replies, []);
  t.end();
});

t.test('nothing but INIT is served before INIT', (t) => {
  const { recorder, replies, send } = conversation({ begun: false });
  send('lookup');
  t.equal(replies[0]?.readInt32LE(4), -71);
  t.same(recorder.calls, []);
  t.end();
});

t.test('a kernel with a newer major version is told ours, one that is too old is refused', (t) => {
  const newer = conversation({ begun: false });
  const init = Buffer.from(golden.request.get('init') ?? Buffer.alloc(0));
  init.writeUInt32LE(8, 40);
  newer.session.serve(init);
  t.equal(newer.replies[0]?.readUInt32LE(16), 7);
  t.same(newer.broken, []);
  const old = conversation({ begun: false });
  init.writeUInt32LE(7, 40);
  init.writeUInt32LE(27, 44);
  old.session.serve(init);
  t.equal(old.replies[0]?.readInt32LE(4), -71);
  t.match(old.broken[0]?.message, /7\.27.*7\.28/);
  t.end();
});

t.test('an older kernel gets its own minor version and only what it offered', (t) => {
  const { session, replies } = conversation({ begun: false });
  const init = Buffer.from(golden.request.get('init') ?? Buffer.alloc(0)).subarray(0, 56);
  init.writeUInt32LE(56, 0);
  init.writeUInt32LE(31, 44);
  init.writeUInt32LE(1 << 5, 52);
  session.serve(init);
  t.equal(replies[0]?.readUInt32LE(20), 31);
  t.equal(replies[0]?.readUInt32LE(28), 1 << 5);
  t.equal(replies[0]?.readUInt32LE(48), 0);
  for (const [name, at] of [
    ['open', 24],
    ['create', 152],
  ] as const) {
    session.serve(golden.request.get(name) ?? Buffer.alloc(0));
    t.equal(
      replies.at(-1)?.readUInt32LE(at),
      2,
      `${name} keeps to the page cache, which alone can be mapped there`,
    );
  }
  t.end();
});

t.test('an open that truncates clears setuid and setgid when the kernel leaves it to us', (t) => {
  const { session, recorder } = conversation({ begun: true });
  const open = { fh: 77, keepCache: true, directIo: true };
  const entry = { attr: { ...goldenAttr, mode: 0o104755 }, entryTimeoutMs: 0, attrTimeoutMs: 0 };
  recorder.answer('create', () => ({ entry, open }));
  for (const name of ['open', 'create']) {
    const frame = Buffer.from(golden.request.get(name) ?? Buffer.alloc(0));
    frame.writeUInt32LE(1, name === 'open' ? 44 : 52);
    session.serve(frame);
  }
  t.same(recorder.calls[1], ['setattr', WHO, 5, 77, { clearPrivileges: true }]);
  t.same(recorder.calls[3], ['setattr', WHO, goldenAttr.ino, 77, { clearPrivileges: true }]);
  t.end();
});

t.test('when that fails the handle is let go and the caller gets the error', async (t) => {
  const { session, recorder, replies } = conversation({ begun: true });
  recorder.answer('setattr', () => {
    throw new FsError('EROFS', 'setattr');
  });
  const frame = Buffer.from(golden.request.get('open') ?? Buffer.alloc(0));
  frame.writeUInt32LE(1, 44);
  session.serve(frame);
  await turn();
  t.same(recorder.calls[2], ['release', 5, 77]);
  t.equal(replies[0]?.readInt32LE(4), -30);
});

t.test('rename takes NOREPLACE and WHITEOUT and refuses what excludes another or is unknown', (t) => {
  for (const [flags, expected] of [
    [1, ['noreplace', false]],
    [4, ['replace', true]],
    [5, ['noreplace', true]],
    [3, undefined],
    [6, undefined],
    [8, undefined],
  ] as const) {
    const { session, recorder, replies } = conversation({ begun: true });
    const frame = Buffer.from(golden.request.get('rename2') ?? Buffer.alloc(0));
    frame.writeUInt32LE(flags, 48);
    session.serve(frame);
    if (expected === undefined) t.equal(replies[0]?.readInt32LE(4), -22);
    else t.same(recorder.calls[0]?.slice(6), expected);
  }
  t.end();
});

t.test('names: 255 bytes and any byte but NUL and slash pass, 256 are ENAMETOOLONG', (t) => {
  const withName = (name: Buffer): Buffer => {
    const frame = Buffer.concat([
      golden.request.get('lookup')?.subarray(0, 40) ?? Buffer.alloc(0),
      name,
      Buffer.alloc(1),
    ]);
    frame.writeUInt32LE(frame.length, 0);
    return frame;
  };
  const every = Buffer.from(
    Array.from({ length: 255 }, (_, index) => index + 1).filter((byte) => byte !== 0x2f),
  );
  const fine = conversation({ begun: true });
  fine.session.serve(withName(every));
  fine.session.serve(withName(Buffer.alloc(255, 'x')));
  t.same(fine.recorder.calls[0]?.[3], every.toString('latin1'));
  t.equal(fine.replies[1]?.readInt32LE(4), 0);
  const bad = conversation({ begun: true });
  bad.session.serve(withName(Buffer.alloc(256, 'x')));
  bad.session.serve(withName(Buffer.from('a/b')));
  bad.session.serve(withName(Buffer.alloc(0)));
  t.same(
    bad.replies.map((reply) => reply.readInt32LE(4)),
    [-36, -5, -5],
  );
  t.end();
});

t.test('a read that was answered with too much becomes EIO', (t) => {
  const { recorder, replies, send } = conversation({ begun: true });
  recorder.answer('read', () => Buffer.alloc(4097));
  send('read');
  t.equal(replies[0]?.readInt32LE(4), -5);
  t.end();
});

t.test('directory entries stop where the reply is full, and none is cut', (t) => {
  const { session, replies, recorder } = conversation({ begun: true });
  const frame = Buffer.from(golden.request.get('readdir') ?? Buffer.alloc(0));
  frame.writeUInt32LE(63, 56);
  session.serve(frame);
  t.equal(recorder.calls.length, 1);
  t.equal(replies[0]?.length, 16 + 32, 'the first entry only');
  t.end();
});

t.test('the supplementary group that a creating request carries is found', (t) => {
  const frame = golden.request.get('mkdir') ?? Buffer.alloc(0);
  const header = decodeHeader(frame);
  t.ok(header);
  if (header !== undefined) t.equal(decodeSupplementaryGroup(frame, header, 'mkdir'), 555);
  t.end();
});

t.test('notifications have their golden frames', (t) => {
  const ino = asIno(5);
  const made: [string, Buffer][] = [
    ['inval_inode', encodeInvalInode(ino, -1, 0)],
    ['inval_entry', encodeInvalEntry(ino, Buffer.from('name'))],
    ['delete', encodeDelete(ino, asIno(6), Buffer.from('name'))],
    ['inc_epoch', encodeIncEpoch()],
  ];
  for (const [name, frame] of made)
    t.equal(frame.toString('hex'), golden.notify.get(name)?.toString('hex'), name);
  t.end();
});
