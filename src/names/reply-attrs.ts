/** Where attributes are in the replies of the namespace's methods: leases are granted along with them. */

import type { Attr } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ReplyOf } from '../proto/method.js';
import type { NamespaceMethod } from './namespace.js';
import type { Outcome } from './operation.js';

type InodeState = Pick<Attr, 'ino' | 'version' | 'ctime'>;
type Places = { readonly [K in NamespaceMethod]?: (reply: ReplyOf<MetaMethods[K]>) => readonly Attr[] };

const itself = (attr: Attr): readonly Attr[] => [attr];
const within = ({ attr }: { attr: Attr }): readonly Attr[] => [attr];

const MAKERS: ReadonlySet<NamespaceMethod> = new Set(['create', 'mknod', 'mkdir', 'symlink']);

const PLACES: Places = {
  lookup: itself,
  getattr: itself,
  setattr: itself,
  create: within,
  mknod: itself,
  mkdir: itself,
  symlink: itself,
  link: itself,
  open: itself,
  fallocate: itself,
  copyRange: within,
  extents: within,
  readdir: ({ entries }) => entries.flatMap(({ attr }) => attr ?? []),
};

export function attrsOf<K extends NamespaceMethod>(
  method: K,
  reply: ReplyOf<MetaMethods[K]>,
): readonly Attr[] {
  const place: Places[K] = PLACES[method];
  return place?.(reply) ?? [];
}

/** Of inodes that an operation has changed, which state they have now: as far as the reply says it. */
export function changedOf<K extends NamespaceMethod>(
  method: K,
  reply: ReplyOf<MetaMethods[K]>,
): readonly InodeState[] {
  if (!isRemoval(method, reply)) return attrsOf(method, reply);
  return (reply.changed ?? []).flatMap(({ ino, state }) => (state === undefined ? [] : [{ ino, ...state }]));
}

type Removed = ReplyOf<MetaMethods['unlink']>;
const REMOVALS: ReadonlySet<NamespaceMethod> = new Set(['unlink', 'rmdir', 'rename']);
const isRemoval = (method: NamespaceMethod, _reply: unknown): _reply is Removed => REMOVALS.has(method);

/** The inode that an operation has made, unless it has extended attributes from the start. */
export function bornIn<K extends NamespaceMethod>(
  method: K,
  { reply, changes }: Outcome<ReplyOf<MetaMethods[K]>>,
): Ino | undefined {
  const [attr] = MAKERS.has(method) ? attrsOf(method, reply) : [];
  const isNew = attr?.version === 1 && changes.some((change) => 'put' in change && change.put === 'inode');
  const hasXattrs = changes.some((change) => 'put' in change && change.put === 'xattr');
  return isNew && !hasXattrs ? attr.ino : undefined;
}
