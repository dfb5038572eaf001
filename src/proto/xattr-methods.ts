/**
 * Extended attributes over the wire. Names and values are bytes; namespaces are checked by the kernel and vfs,
 * the values of ACLs by the server.
 */
import { Type } from '@sinclair/typebox';
import { method } from './method.js';
import { tIno, tNothing, tXattrName, tXattrValue } from './schema.js';

export const xattrMethods = {
  getxattr: method('read', {
    args: Type.Object({ ino: tIno, name: tXattrName }),
    reply: Type.Object({ value: tXattrValue }),
    errnos: ['ENOENT', 'ENODATA'],
  }),
  /** `clearSetgid`: an access ACL takes the setgid bit (FUSE_SETXATTR_ACL_KILL_SGID). */
  setxattr: method('mutation', {
    args: Type.Object({
      ino: tIno,
      name: tXattrName,
      value: tXattrValue,
      mode: Type.Union([Type.Literal('any'), Type.Literal('create'), Type.Literal('replace')]),
      clearSetgid: Type.Optional(Type.Boolean()),
    }),
    reply: tNothing,
    errnos: ['ENOENT', 'EEXIST', 'ENODATA', 'ENOSPC', 'EINVAL', 'EACCES', 'EOPNOTSUPP'],
  }),
  listxattr: method('read', {
    args: Type.Object({ ino: tIno }),
    reply: Type.Object({ names: Type.Array(tXattrName) }),
    errnos: ['ENOENT'],
  }),
  removexattr: method('mutation', {
    args: Type.Object({ ino: tIno, name: tXattrName }),
    reply: tNothing,
    errnos: ['ENOENT', 'ENODATA'],
  }),
};
