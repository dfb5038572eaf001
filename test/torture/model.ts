/**
 * The filesystem that histories are compared with: names, inodes, and what each mount was given to write and
 * has not committed. States are values: nothing changes one, so the search can go back to any of them.
 *
 * Data is as the README's Guarantees have it: what a program wrote is seen by its own mount at once and by the
 * others once it is committed, which it is when `close` or `fsync` has returned, at the latest.
 *
 * A change of names or attributes is promised to be seen everywhere once its call has returned. Before that the
 * mount that makes it may be the last to show it: its own change takes nothing back from its kernel.
 */

export type InodeId = number;

/** A write that a mount holds and has not committed. */
interface Pending {
  /** Whose it is: the client's fd. */
  readonly owner: string;
  readonly data: string;
  /** Where its own mount shows it. */
  readonly at: number;
  /** It gets its place at the end that the file has when it is committed. */
  readonly append: boolean;
}

interface Inode {
  /** As committed. */
  readonly content: string;
  /** By mount, oldest first. */
  readonly pending: ReadonlyMap<number, readonly Pending[]>;
  /** Its number, once a stat has told it. */
  readonly number: number | undefined;
}

/** What a mount may still show of a change of its own that is under way. */
interface Late {
  readonly mount: number;
  /** How it was before. */
  readonly before: State;
  readonly paths: ReadonlySet<string>;
  readonly inodes: ReadonlySet<InodeId>;
}

const EMPTY: Inode = { content: '', pending: new Map(), number: undefined };

export class State {
  /** Directories without files. */
  static empty(): State {
    return new State(new Map(), new Map(), new Map(), new Map());
  }

  /** Paths of files, in fixed directories. */
  readonly names: ReadonlyMap<string, InodeId>;
  readonly #inodes: ReadonlyMap<InodeId, Inode>;
  /** By client and fd. */
  readonly #open: ReadonlyMap<string, InodeId>;
  /** By the op that makes the change. */
  readonly #late: ReadonlyMap<number, Late>;
  #key: string | undefined;

  private constructor(
    names: ReadonlyMap<string, InodeId>,
    inodes: ReadonlyMap<InodeId, Inode>,
    open: ReadonlyMap<string, InodeId>,
    late: ReadonlyMap<number, Late>,
  ) {
    this.names = names;
    this.#inodes = inodes;
    this.#open = open;
    this.#late = late;
  }

  /** The same for states that cannot be told apart, and for no others. */
  get key(): string {
    if (this.#key !== undefined) return this.#key;
    const names = sorted(this.names).map(([path, id]) => `${path}=${id}`);
    const open = sorted(this.#open).map(([owner, id]) => `fd ${owner}=${id}`);
    const inodes = sorted(this.#inodes).map(([id, inode]) => `${id}:${textOf(inode)}`);
    const late = sorted(this.#late).map(([op, { before, paths, inodes }]) => {
      const were = [...paths].map((path) => `${path}=${before.names.get(path)}`);
      return `late ${op} ${were.join(' ')} ${[...inodes].map((id) => before.#shown(id)).join(' ')}`;
    });
    this.#key = `${names.join(' ')} | ${open.join(' ')} | ${inodes.join(' ')} | ${late.join(' ')}`;
    return this.#key;
  }

  #shown(id: InodeId): string {
    const inode = this.#inodes.get(id);
    return inode === undefined ? '' : `${id}:${this.links(id)} ${textOf(inode)}`;
  }

  // What is late

  /** `op`, on `mount`, has changed `before` to this. Its mount is told when the op returns, at the latest. */
  changedBy(op: number, mount: number, before: State): State {
    const paths = new Set(
      [...before.names.keys(), ...this.names.keys()].filter(
        (path) => before.names.get(path) !== this.names.get(path),
      ),
    );
    const touched = [...paths].flatMap((path) => before.names.get(path) ?? []);
    const cut = [...before.#inodes.keys()].filter(
      (id) => before.#inodes.get(id)?.content !== this.#inodes.get(id)?.content,
    );
    const inodes = new Set([...touched, ...cut, ...[...paths].flatMap((path) => this.names.get(path) ?? [])]);
    if (paths.size === 0 && inodes.size === 0) return this;
    const late = with_(this.#late, op, { mount, before, paths, inodes });
    return new State(this.names, this.#inodes, this.#open, late);
  }

  returned(op: number): State {
    if (!this.#late.has(op)) return this;
    return new State(this.names, this.#inodes, this.#open, without(this.#late, op));
  }

  /** What a program on `mount` may find at a path. */
  found(path: string, mount: number): Set<InodeId | undefined> {
    const all = new Set([this.inodeAt(path)]);
    for (const late of this.#late.values())
      if (late.mount === mount && late.paths.has(path)) all.add(late.before.inodeAt(path));
    return all;
  }

  /** As what a program on `mount` may see an inode: as it is, first. */
  views(id: InodeId, mount: number): State[] {
    const late = [...this.#late.values()].filter(
      (late) => late.mount === mount && late.inodes.has(id) && late.before.#inodes.has(id),
    );
    return [this, ...late.map(({ before }) => before)];
  }

  inodeAt(path: string): InodeId | undefined {
    return this.names.get(path);
  }

  openInode(owner: string): InodeId | undefined {
    return this.#open.get(owner);
  }

  links(id: InodeId): number {
    let count = 0;
    for (const named of this.names.values()) if (named === id) count++;
    return count;
  }

  numberOf(id: InodeId): number | undefined {
    return this.#inode(id).number;
  }

  /** Inode numbers are never reused. */
  isNumberTaken(number: number): boolean {
    return [...this.#inodes.values()].some((inode) => inode.number === number);
  }

  committed(id: InodeId): string {
    return this.#inode(id).content;
  }

  pendingOf(id: InodeId, mount: number): readonly Pending[] {
    return this.#inode(id).pending.get(mount) ?? [];
  }

  /** What a program on `mount` reads. */
  content(id: InodeId, mount: number): string {
    let content = this.committed(id);
    for (const { at, data } of this.pendingOf(id, mount)) content = overlay(content, at, data);
    return content;
  }

  /** Mounts with something to commit, and the inodes it belongs to. */
  uncommitted(): { mount: number; id: InodeId }[] {
    const found: { mount: number; id: InodeId }[] = [];
    for (const [id, { pending }] of this.#inodes)
      for (const mount of pending.keys()) found.push({ mount, id });
    return found;
  }

  #inode(id: InodeId): Inode {
    const inode = this.#inodes.get(id);
    if (inode === undefined) throw new Error(`there is no inode ${id}`);
    return inode;
  }

  // Changes

  named(path: string, id: InodeId): State {
    return new State(with_(this.names, path, id), this.#inodes, this.#open, this.#late);
  }

  unnamed(path: string): State {
    return new State(without(this.names, path), this.#inodes, this.#open, this.#late);
  }

  created(path: string, id: InodeId): State {
    return new State(with_(this.names, path, id), with_(this.#inodes, id, EMPTY), this.#open, this.#late);
  }

  opened(owner: string, id: InodeId): State {
    return new State(this.names, this.#inodes, with_(this.#open, owner, id), this.#late);
  }

  closed(owner: string): State {
    return new State(this.names, this.#inodes, without(this.#open, owner), this.#late);
  }

  numbered(id: InodeId, number: number): State {
    return this.#changed(id, { ...this.#inode(id), number });
  }

  #changed(id: InodeId, inode: Inode): State {
    return new State(this.names, with_(this.#inodes, id, inode), this.#open, this.#late);
  }

  #withPending(id: InodeId, mount: number, content: string, queue: readonly Pending[]): State {
    const { pending, number } = this.#inode(id);
    const changed = queue.length === 0 ? without(pending, mount) : with_(pending, mount, queue);
    return this.#changed(id, { content, pending: changed, number });
  }

  written(id: InodeId, mount: number, write: Pending): State {
    return this.#withPending(id, mount, this.committed(id), [...this.pendingOf(id, mount), write]);
  }

  /** The mount commits its oldest write of the inode. */
  commitOldest(id: InodeId, mount: number): State {
    const [oldest, ...rest] = this.pendingOf(id, mount);
    if (oldest === undefined) return this;
    const content = this.committed(id);
    const at = oldest.append ? content.length : oldest.at;
    return this.#withPending(id, mount, overlay(content, at, oldest.data), rest);
  }

  /** The mount loses what it has not committed of the inode. */
  lost(id: InodeId, mount: number): State {
    return this.#withPending(id, mount, this.committed(id), []);
  }

  /** A program on `mount` cuts or extends the file: what the mount holds of it is cut as well. */
  truncated(id: InodeId, mount: number, size: number): State {
    const content = this.committed(id).slice(0, size).padEnd(size, '\0');
    const cut = this.pendingOf(id, mount)
      .map((write) => ({ ...write, data: write.data.slice(0, Math.max(size - write.at, 0)) }))
      .filter(({ data }) => data.length > 0);
    return this.#withPending(id, mount, content, cut);
  }
}

const texts = new WeakMap<Inode, string>();

/** An inode's number, content, and writes of each mount that are not committed. */
function textOf(inode: Inode): string {
  const known = texts.get(inode);
  if (known !== undefined) return known;
  const pending = sorted(inode.pending).map(
    ([mount, queue]) =>
      ` mount ${mount}${queue.map(({ owner, data, at, append }) => ` ${owner}@${append ? 'end ' : ''}${at}${JSON.stringify(data)}`).join('')}`,
  );
  const text = `${inode.number ?? '?'} ${JSON.stringify(inode.content)}${pending.join('')}`;
  texts.set(inode, text);
  return text;
}

function overlay(content: string, at: number, data: string): string {
  return content.slice(0, at).padEnd(at, '\0') + data + content.slice(at + data.length);
}

function with_<K, V>(map: ReadonlyMap<K, V>, key: K, value: V): ReadonlyMap<K, V> {
  return new Map(map).set(key, value);
}

function without<K, V>(map: ReadonlyMap<K, V>, key: K): ReadonlyMap<K, V> {
  const copy = new Map(map);
  copy.delete(key);
  return copy;
}

function sorted<K extends string | number, V>(map: ReadonlyMap<K, V>): [K, V][] {
  return [...map].sort(([a], [b]) => (a < b ? -1 : 1));
}
