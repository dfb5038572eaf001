/**
 * The numbers that the kernel knows handles by. A number is not used again while the mount lives.
 */
import { FsError } from '../proto/errno.js';

export class HandleTable<Handle> {
  readonly #handles = new Map<number, Handle>();
  readonly #kind: string;
  #next = 1;

  /** `kind`: what the handles are of, for messages. */
  constructor(kind: string) {
    this.#kind = kind;
  }

  get size(): number {
    return this.#handles.size;
  }

  add(handle: Handle): number {
    const fh = this.#next++;
    this.#handles.set(fh, handle);
    return fh;
  }

  /** **Errors:** EBADF when there is no such handle. */
  get(fh: number): Handle {
    const handle = this.#handles.get(fh);
    if (handle === undefined) throw new FsError('EBADF', this.#kind, { detail: `no handle ${fh}` });
    return handle;
  }

  values(): IterableIterator<Handle> {
    return this.#handles.values();
  }

  find(fh: number): Handle | undefined {
    return this.#handles.get(fh);
  }

  /** Takes it out; undefined when there is none. */
  remove(fh: number): Handle | undefined {
    const handle = this.#handles.get(fh);
    this.#handles.delete(fh);
    return handle;
  }
}
