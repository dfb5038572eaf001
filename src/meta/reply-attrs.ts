/** Where attributes are in the replies of the namespace's methods: leases are granted along with them. */
import type { NamespaceMethod } from '../names/namespace.js';
import type { Attr } from '../proto/attr.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ReplyOf } from '../proto/method.js';

type Places = { readonly [K in NamespaceMethod]?: (reply: ReplyOf<MetaMethods[K]>) => readonly Attr[] };

const itself = (attr: Attr): readonly Attr[] => [attr];
const within = ({ attr }: { attr: Attr }): readonly Attr[] => [attr];

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
