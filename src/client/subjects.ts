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
