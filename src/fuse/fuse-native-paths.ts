/**
 * Paths as libfuse 2 hands them over, walked to inodes. Nothing is remembered between two calls: a name may
 * lead elsewhere the next moment, and there is no way to be told.
 *
 * Invariant: every reference that a lookup gave is given back (`forget`) or handed to the caller.
 *
 * It does not: know names that are not valid UTF-8. The C side hands names over decoded, with U+FFFD for
 * whatever is not UTF-8; a path with that character in it may mean several names and is refused.
 */
import { FsError } from '../proto/errno.js';
import { type Ino, ROOT_INO } from '../proto/ids.js';
import type { Operations, Request } from '../vfs/operations.js';

const REPLACEMENT = '\ufffd';

/** A path or name that does not say which bytes it stands for. Linux's EILSEQ is not in the protocol's table. */
export class UnknownBytes extends Error {
  override name = 'UnknownBytes';
  /** EILSEQ, "Invalid or incomplete multibyte or wide character". */
  readonly errno = 84;
}

/** The bytes of a decoded name or target. **Errors:** UnknownBytes. */
export function toBytes(text: string): Buffer {
  if (text.includes(REPLACEMENT)) throw new UnknownBytes(`not valid UTF-8: ${text}`);
  return Buffer.from(text, 'utf8');
}

/** The text of a target. **Errors:** UnknownBytes when decoding would change it. */
export function toText(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('utf8');
  if (text.includes(REPLACEMENT)) throw new UnknownBytes('target is not valid UTF-8');
  return text;
}

const namesOf = (path: string): string[] => path.split('/').filter((name) => name !== '');

/** The last name of a path; empty for the root. */
export const lastName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
export const directoryOf = (path: string): string => path.slice(0, path.lastIndexOf('/'));

export class PathWalker {
  readonly #operations: Operations;
  readonly #req: Request;

  constructor(operations: Operations, req: Request) {
    this.#operations = operations;
    this.#req = req;
  }

  /**
   * The inode at `path`, with a reference to give back (the root has none). **Errors:** those of lookup;
   * UnknownBytes.
   */
  async take(path: string): Promise<Ino> {
    let ino: Ino = ROOT_INO;
    for (const name of namesOf(path)) {
      const parent = ino;
      try {
        ino = (await this.#operations.lookup(this.#req, parent, toBytes(name))).attr.ino;
      } finally {
        this.giveBack(parent);
      }
    }
    return ino;
  }

  giveBack(ino: Ino, count = 1): void {
    if (ino !== ROOT_INO && count > 0) this.#operations.forget(ino, count);
  }

  /** Runs `body` with the inode at `path`. */
  async at<T>(path: string, body: (ino: Ino) => T | Promise<T>): Promise<T> {
    const ino = await this.take(path);
    try {
      return await body(ino);
    } finally {
      this.giveBack(ino);
    }
  }

  /** Runs `body` with the directory that `path` lies in and its last name. **Errors:** EBUSY for the root. */
  async inside<T>(path: string, body: (parent: Ino, name: Buffer) => T | Promise<T>): Promise<T> {
    const name = lastName(path);
    if (name === '') throw new FsError('EBUSY', 'walk', { detail: 'the root of the mount' });
    return await this.at(directoryOf(path), (parent) => body(parent, toBytes(name)));
  }
}
