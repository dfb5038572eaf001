import { constants } from 'node:os';
import t from 'tap';
import { Errno, type ErrnoName, errnoName, FsError } from '../../src/proto/errno.js';
import { isProtocolCode, ProtocolError, protocolCodes } from '../../src/proto/protocol-error.js';

t.test('the numbers are those of the Linux that runs this', async (t) => {
  const host: Record<string, number> = constants.errno;
  for (const [name, number] of Object.entries(Errno)) {
    if (host[name] !== undefined) t.equal(number, host[name], name);
    t.equal(errnoName(number), name, `${number} has its name back`);
  }
});

t.test('an FsError says what was attempted and keeps its cause', async (t) => {
  const cause = new Error('the disk');
  const error = new FsError('EIO', 'read', { cause, detail: 'chunk 7' });
  t.equal(error.errno, 5);
  t.equal(error.message, 'read: EIO (chunk 7)');
  t.equal(error.cause, cause);
});

t.test('every protocol code ends in an errno that the kernel knows', async (t) => {
  for (const [code, rule] of Object.entries(protocolCodes)) {
    t.ok(isProtocolCode(code));
    t.ok(Errno[rule.finalErrno as ErrnoName] > 0, `${code} ends in ${rule.finalErrno}`);
  }
  t.notOk(isProtocolCode('toString'), 'inherited names are no codes');
  const error = new ProtocolError('serverFull', 'no room').toFsError('write');
  t.equal(error.code, 'ENOSPC');
  t.type(error.cause, ProtocolError);
});
