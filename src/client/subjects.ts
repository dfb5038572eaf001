/** The inodes that calls of the metadata server are about. */
import type { TSchema } from '@sinclair/typebox';
import { present } from '../base/assert.js';
import type { Ino } from '../proto/ids.js';
import { metaMethods } from '../proto/meta-methods.js';

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

/** What the arguments of a method may hold, by its schema: looking for what is never there takes time, too. */
interface Fields {
  readonly inodes: readonly ('ino' | 'parent' | 'newParent' | 'newIno')[];
  readonly lists: boolean;
  readonly bytes: readonly string[];
}

const FIELDS: ReadonlyMap<string, Fields> = new Map(
  Object.entries(metaMethods).map(([method, { args }]) => {
    const properties: Record<string, TSchema> = args.properties;
    const has = (field: string): boolean => field in properties;
    return [
      method,
      {
        inodes: (['ino', 'parent', 'newParent', 'newIno'] as const).filter(has),
        lists: has('inos') || has('files'),
        bytes: Object.keys(properties).filter((field) => properties[field]?.type === 'Uint8Array'),
      },
    ];
  }),
);

const fieldsOf = (method: string): Fields => present(FIELDS.get(method), `${method} is a method`);

/** The arguments of a method that are names or values. */
export const bytesOf = (method: string): readonly string[] => fieldsOf(method).bytes;

/** `subjectsOf(args).every(test)`, without making a list of them. */
export function everySubject(method: string, args: Subjects, test: (ino: Ino) => boolean): boolean {
  const { inodes, lists } = fieldsOf(method);
  for (const field of inodes) {
    const ino = args[field];
    if (ino !== undefined && !test(ino)) return false;
  }
  if (!lists) return true;
  return (args.inos?.every(test) ?? true) && (args.files?.every((file) => test(file.ino)) ?? true);
}
