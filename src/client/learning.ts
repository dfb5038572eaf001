/** What the memories of a mount (LeaseCache, Contents, Xattrs) make of replies. */
import { type Attr, isSameVersion } from '../proto/attr.js';
import type { Ino } from '../proto/ids.js';
import type { MetaMethods } from '../proto/meta-methods.js';
import type { ArgsOf, ReplyOf } from '../proto/method.js';

type Method = keyof MetaMethods & string;

/** What a memory learns from the replies of which methods; `more`: what it goes by beside them. */
export type LearnRules<Memory, More extends readonly unknown[] = []> = {
  readonly [K in Method]?: (
    memory: Memory,
    args: ArgsOf<MetaMethods[K]>,
    reply: ReplyOf<MetaMethods[K]>,
    ...more: More
  ) => void;
};

/** What a memory by version has to know of the others. */
export interface Present {
  /** The attributes that an inode has now, as long as that is certain. */
  readonly attrOf: (ino: Ino) => Attr | undefined;
  /** No change of this mount is on its way. */
  readonly isQuiet: () => boolean;
  /** More is known of it. */
  readonly onLearned: (ino: Ino) => void;
}

/**
 * The state that an inode had from the moment when it was `seen`, as a call began, until now that its reply has come;
 * undefined: that is not certain, and what the reply says is of no known version.
 */
export function unchangedSince(
  { attrOf, isQuiet }: Present,
  ino: Ino,
  seen: Attr | undefined,
): Attr | undefined {
  const now = seen !== undefined && isQuiet() ? attrOf(ino) : undefined;
  return seen !== undefined && now !== undefined && isSameVersion(seen, now) ? now : undefined;
}
