/** The inodes that calls of the metadata server are about. */
import type { Ino } from '../proto/ids.js';

/** What the arguments of methods are about. */
export interface Subjects {
  readonly [other: string]: unknown;
  readonly ino?: Ino;
  readonly parent?: Ino;
  readonly name?: Uint8Array;
  readonly newParent?: Ino;
  readonly newName?: Uint8Array;
  readonly truncate?: boolean;
  readonly newIno?: Ino;
  readonly target?: Uint8Array;
  readonly inos?: readonly Ino[];
  readonly files?: readonly { readonly ino: Ino }[];
}

export function subjectsOf({ ino, parent, newParent, newIno, inos = [], files = [] }: Subjects): Ino[] {
  const single = [ino, parent, newParent, newIno].filter((each) => each !== undefined);
  return [...single, ...inos, ...files.map((file) => file.ino)];
}

/** `subjectsOf(args).every(test)`, without making a list of them. */
export function everySubject(args: Subjects, test: (ino: Ino) => boolean): boolean {
  const { ino, parent, newParent, newIno, inos, files } = args;
  const passes = (each: Ino | undefined): boolean => each === undefined || test(each);
  if (!passes(ino) || !passes(parent) || !passes(newParent) || !passes(newIno)) return false;
  return (inos?.every(test) ?? true) && (files?.every((file) => test(file.ino)) ?? true);
}
