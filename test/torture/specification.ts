/**
 * What each system call may do to the model: small programs of atomic steps. A call on a path is not one step
 * on any filesystem: the kernel looks names up first and acts on the inodes that it found, and other mounts
 * may come between. The steps are those of the kernel (fs/namei.c, fs/fuse/dir.c, file.c), each of which a
 * mount carries out at one moment.
 *
 * A step answers everything that may come of it. Where the recorded answer is known, what contradicts it is
 * left out.
 */
import type { Answer, Op, SystemCall, Value } from './history.js';
import type { InodeId, State } from './model.js';

/** How far a call has come: a word for the step, and what was found. */
export type Progress = readonly (string | number)[] | 'begun' | 'done';

export interface Move {
  readonly state: State;
  readonly progress: Progress;
}

/** The moves of an op that has begun and is not done. */
export function movesOf(state: State, op: Op, progress: Progress): Move[] {
  const { system } = op;
  switch (system.call) {
    case 'open':
      if (system.flags === 'wx') return createExclusive(state, op, system);
      return system.flags === 'r' || system.flags === 'r+'
        ? openFound(state, op, system, progress)
        : openCreating(state, op, system, progress);
    case 'pwrite':
      return withFile(state, op, system.fd, (id) => {
        const write = { owner: ownerOf(op, system.fd), data: system.data, at: system.at, append: false };
        return done(op, state.written(id, op.mount, write));
      });
    case 'append':
      return withFile(state, op, system.fd, (id) => append(state, op, { ...system, id }, progress));
    case 'read':
      return withFile(state, op, system.fd, (id) => read(state, op, id, progress));
    case 'fstat':
      return withFile(state, op, system.fd, (id) => attributes(state, op, id));
    case 'ftruncate':
      return withFile(state, op, system.fd, (id) => {
        // Appends are given their place first.
        if (state.pendingOf(id, op.mount).some((write) => write.append)) return [];
        return done(op, state.truncated(id, op.mount, system.size));
      });
    case 'fsync':
    case 'close':
      return withFile(state, op, system.fd, (id) => {
        const owner = ownerOf(op, system.fd);
        if (state.pendingOf(id, op.mount).some((write) => write.owner === owner)) return [];
        return done(op, system.call === 'close' ? state.closed(owner) : state);
      });
    case 'rename':
      return rename(state, op, system, progress);
    case 'link':
      return link(state, op, system, progress);
    case 'unlink':
      return onFound(state, op, system.path, (id) =>
        id === undefined || state.inodeAt(system.path) === undefined
          ? failed(op, state, 'ENOENT')
          : done(op, state.unnamed(system.path)),
      );
    case 'stat':
      return stat(state, op, system.path, progress);
    case 'readdir': {
      const inside = [...state.names.keys()].filter((path) => path.startsWith(`${system.path}/`));
      return done(op, state, inside.map((path) => path.slice(system.path.length + 1)).sort());
    }
    case 'count':
      return [{ state, progress: 'done' }];
  }
}

const ownerOf = (op: Op, fd: number): string => `${op.client}:${fd}`;

function fits({ answer }: Op, told: Answer): boolean {
  if (answer === undefined) return true;
  if ('error' in answer) return 'error' in told && told.error === answer.error;
  return 'value' in told && isSame(answer.value, told.value);
}

function isSame(a: Value, b: Value): boolean {
  if (!Array.isArray(a) || !Array.isArray(b)) return a === b;
  return a.length === b.length && a.every((item, index) => item === b[index]);
}

function done(op: Op, state: State, value: Value = null): Move[] {
  return fits(op, { value }) ? [{ state, progress: 'done' }] : [];
}

function failed(op: Op, state: State, error: string): Move[] {
  return fits(op, { error }) ? [{ state, progress: 'done' }] : [];
}

/** A call on a descriptor; one whose open is not known to have happened may do nothing. */
function withFile(state: State, op: Op, fd: number, body: (id: InodeId) => Move[]): Move[] {
  const id = state.openInode(ownerOf(op, fd));
  return id === undefined ? [] : body(id);
}

/** For each inode that the kernel may find at a path. */
function onFound(state: State, op: Op, path: string, body: (found: InodeId | undefined) => Move[]): Move[] {
  return [...state.found(path, op.mount)].flatMap(body);
}

/** `open` with O_CREAT and O_EXCL. */
function createExclusive(state: State, op: Op, { path, fd }: { path: string; fd: number }): Move[] {
  return onFound(state, op, path, (found) => {
    if (found !== undefined || state.inodeAt(path) !== undefined) return failed(op, state, 'EEXIST');
    return done(op, state.created(path, op.id).opened(ownerOf(op, fd), op.id));
  });
}

type Open = SystemCall & { call: 'open' };

/**
 * `open` with O_CREAT: where the kernel finds no such name it has one made, or opened if it is there by then;
 * else it opens the inode that it found.
 */
function openCreating(state: State, op: Op, system: Open, progress: Progress): Move[] {
  const { path, fd } = system;
  const found = state.inodeAt(path);
  if (isFound(progress)) return openFound(state, op, system, progress);
  if (found === undefined) return done(op, state.created(path, op.id).opened(ownerOf(op, fd), op.id));
  const cut = system.flags === 'w' ? state.truncated(found, op.mount, 0) : state;
  return [...done(op, cut.opened(ownerOf(op, fd), found)), ...openFound(state, op, system, progress)];
}

function openFound(state: State, op: Op, system: Open, progress: Progress): Move[] {
  const { path, fd, flags } = system;
  return onInode(state, op, path, progress, (id) => {
    const cut = flags === 'w' ? state.truncated(id, op.mount, 0) : state;
    return done(op, cut.opened(ownerOf(op, fd), id));
  });
}

const isFound = (progress: Progress): boolean => Array.isArray(progress) && progress[0] === 'found';

/** The steps of a call that looks a path up and asks something of the inode; twice when that is gone. */
function onInode(
  state: State,
  op: Op,
  path: string,
  progress: Progress,
  body: (id: InodeId) => Move[],
): Move[] {
  const [word, id, tries] = typeof progress === 'string' ? ['again', -1, 0] : progress;
  if (word === 'again') {
    return onFound(state, op, path, (found) =>
      found === undefined ? failed(op, state, 'ENOENT') : [{ state, progress: ['found', found, tries ?? 0] }],
    );
  }
  if (typeof id !== 'number' || typeof tries !== 'number') throw new Error('no inode was found');
  const moves = body(id);
  if (state.links(id) > 0) return moves;
  // Without a name it lives as long as somebody has it open, which others cannot know.
  return tries > 0
    ? [...moves, ...failed(op, state, 'ESTALE')]
    : [...moves, { state, progress: ['again', -1, 1] }];
}

/** The size is asked for, then the bytes are taken: the mount shows them behind that size. */
function append(
  state: State,
  op: Op,
  { id, fd, data }: { id: InodeId; fd: number; data: string },
  progress: Progress,
): Move[] {
  const size = typeof progress === 'string' ? undefined : progress[1];
  if (typeof size !== 'number') return [{ state, progress: ['size', state.content(id, op.mount).length] }];
  const pendingEnd = state
    .pendingOf(id, op.mount)
    .reduce((end, write) => Math.max(end, write.at + write.data.length), 0);
  const write = { owner: ownerOf(op, fd), data, at: Math.max(size, pendingEnd), append: true };
  return done(op, state.written(id, op.mount, write));
}

/**
 * The kernel asks for the size first, then for the bytes. It gives no more than that size; where the file has
 * been cut meanwhile it gives what there is, or zeros up to that size (fuse_short_read(): the page is zeroed,
 * and the size stays when something else has told it since).
 */
function read(state: State, op: Op, id: InodeId, progress: Progress): Move[] {
  const size = typeof progress === 'string' ? undefined : progress[1];
  return state.views(id, op.mount).flatMap((view) => {
    const content = view.content(id, op.mount);
    if (typeof size !== 'number')
      return [...done(op, state, content), { state, progress: ['size', content.length] }];
    const padded = content.length < size ? done(op, state, content.padEnd(size, '\0')) : [];
    return [...done(op, state, content.slice(0, size)), ...padded];
  });
}

function rename(
  state: State,
  op: Op,
  { path, to }: { path: string; to: string },
  progress: Progress,
): Move[] {
  if (typeof progress === 'string') {
    return onFound(state, op, path, (source) =>
      source === undefined ? failed(op, state, 'ENOENT') : [{ state, progress: ['source', source] }],
    );
  }
  const [word, source] = progress;
  // vfs_rename() does nothing when both names are found to be of one inode.
  if (word === 'source')
    return onFound(state, op, to, (target) =>
      target === source ? done(op, state) : [{ state, progress: ['both', 0] }],
    );
  const moved = state.inodeAt(path);
  if (moved === undefined) return failed(op, state, 'ENOENT');
  return done(op, state.inodeAt(to) === moved ? state : state.unnamed(path).named(to, moved));
}

function link(state: State, op: Op, { path, to }: { path: string; to: string }, progress: Progress): Move[] {
  if (typeof progress === 'string') {
    return onFound(state, op, path, (source) =>
      source === undefined ? failed(op, state, 'ENOENT') : [{ state, progress: ['source', source] }],
    );
  }
  const source = progress[1];
  if (typeof source !== 'number') throw new Error('no inode was found');
  const moves: Move[] = [];
  if ([...state.found(to, op.mount)].some((found) => found !== undefined))
    moves.push(...failed(op, state, 'EEXIST'));
  if (state.links(source) === 0) moves.push(...failed(op, state, 'ENOENT'));
  else if (state.inodeAt(to) === undefined) moves.push(...done(op, state.named(to, source)));
  return moves;
}

function stat(state: State, op: Op, path: string, progress: Progress): Move[] {
  return onInode(state, op, path, progress, (id) => attributes(state, op, id));
}

/** An inode's number is whatever is told first, and not another inode's. */
function attributes(state: State, op: Op, id: InodeId): Move[] {
  const told = op.answer !== undefined && 'value' in op.answer ? op.answer.value : undefined;
  const number = Array.isArray(told) && typeof told[0] === 'number' ? told[0] : -1;
  const known = state.numberOf(id);
  return state.views(id, op.mount).flatMap((view) => {
    const value = [known ?? number, view.links(id), view.content(id, op.mount).length];
    if (op.answer === undefined || known !== undefined) return done(op, state, value);
    return state.isNumberTaken(number) ? [] : done(op, state.numbered(id, number), value);
  });
}
