/**
 * Every method of the metadata server that is namespace semantics, by name: what a server dispatches on, and
 * what a client with the needed leases may run itself.
 */
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';
import { accessed } from './accessed.js';
import { commit } from './commit.js';
import { copyRange } from './copy-range.js';
import { create, mkdir, mknod, symlink } from './create.js';
import { extents } from './extents.js';
import { fallocate } from './fallocate.js';
import { link } from './link.js';
import { getattr, lookup, readlink } from './lookup.js';
import { open, release } from './open.js';
import type { Operation, OperationContext } from './operation.js';
import { readdir } from './readdir.js';
import { rename } from './rename.js';
import { setattr } from './setattr.js';
import { tmpfile } from './tmpfile.js';
import { rmdir, unlink } from './unlink.js';
import { getxattr, listxattr, removexattr, setxattr } from './xattr.js';

export type NamespaceMethod =
  | 'lookup'
  | 'getattr'
  | 'setattr'
  | 'create'
  | 'mknod'
  | 'mkdir'
  | 'symlink'
  | 'link'
  | 'unlink'
  | 'rmdir'
  | 'rename'
  | 'readlink'
  | 'readdir'
  | 'open'
  | 'release'
  | 'accessed'
  | 'getxattr'
  | 'setxattr'
  | 'listxattr'
  | 'removexattr'
  | 'extents'
  | 'commit'
  | 'fallocate'
  | 'copyRange'
  | 'tmpfile';

export type Namespace = {
  readonly [K in NamespaceMethod]: (
    context: OperationContext,
    args: ArgsOf<MetaMethods[K]>,
  ) => Operation<ReplyOf<MetaMethods[K]>>;
};

export const namespace: Namespace = {
  lookup,
  getattr,
  setattr,
  create,
  mknod,
  mkdir,
  symlink,
  link,
  unlink,
  rmdir,
  rename,
  readlink,
  readdir,
  open,
  release,
  accessed,
  getxattr,
  setxattr,
  listxattr,
  removexattr,
  extents,
  commit,
  fallocate,
  copyRange,
  tmpfile,
};
