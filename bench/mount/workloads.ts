/**
 * What is measured on a directory: everyday work in small pieces. Each workload is timed by itself; what it
 * needs beforehand is made outside the clock.
 *
 * `base` is the directory under test; `other` is the same place seen by a mount that has read and written
 * nothing yet (the same directory where there is none), for first readings. Caches of this machine's kernel
 * are dropped before those as well, where we are root.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { olderWorkloads } from './older-workloads.js';
import {
  block,
  createFiles,
  dropCaches,
  FILE_COUNT,
  names,
  type Place,
  program,
  untar,
  type Workload,
} from './place.js';

const MIB = 1024 * 1024;
const TREE_COUNT = 3000;
const GIT_COUNT = 1000;
const LARGE_MIB = 128;
const RANDOM_COUNT = 1000;
const SYNC_COUNT = 40;
const piece = Buffer.alloc(MIB, 0xa5);

/** An archive of `count` small files in directories of 50; made once. */
export function makeArchive(local: string, count: number): string {
  const tree = join(local, `tree-${count}`);
  for (let index = 0; index < count; index++) {
    const directory = join(tree, `d${Math.floor(index / 50)}`);
    if (index % 50 === 0) mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `f${index}.txt`), `${index}\n`.repeat(1 + ((index * 37) % 600)));
  }
  const archive = join(local, `tree-${count}.tar`);
  program('tar', ['-cf', archive, '-C', tree, '.'], local);
  return archive;
}

export const archives = { tree: TREE_COUNT, git: GIT_COUNT } as const;

const unpack = (place: Place, count: number, directory: string): void =>
  untar(place.local, count, join(place.base, directory));

function readWhole(path: string): number {
  const fd = openSync(path, 'r');
  let total = 0;
  for (;;) {
    const count = readSync(fd, piece, 0, MIB, null);
    if (count === 0) break;
    total += count;
  }
  closeSync(fd);
  return total / MIB;
}

/** Offsets of 4 KiB blocks of the large file, the same for everybody. */
function* offsets(count: number, seed: number): Generator<number> {
  let state = seed + 1;
  for (let index = 0; index < count; index++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield (state % (LARGE_MIB * 256)) * block.length;
  }
}

function atRandom(
  place: Place,
  run: number,
  count: number,
  act: (fd: number, offset: number) => void,
): number {
  const fd = openSync(join(place.base, 'large'), 'r+');
  for (const offset of offsets(count, run)) act(fd, offset);
  closeSync(fd);
  return count;
}

const files = (place: Place): string => join(place.base, 'files');
const filesFresh = (place: Place): string => join(place.other, 'files');

const statAll = (directory: string): number => {
  for (const name of names) statSync(join(directory, name));
  return names.length;
};

const readAll = (directory: string): number => {
  for (const name of names) readFileSync(join(directory, name));
  return names.length;
};

export const workloads: readonly Workload[] = [
  {
    name: 'create 4 KiB files',
    unit: 'files',
    run: (place, run) => {
      createFiles(join(place.base, `created-${run}`));
      return FILE_COUNT;
    },
  },
  {
    name: 'stat, first',
    unit: 'files',
    prepare: (place) => createFiles(files(place)),
    before: dropCaches,
    run: (place) => statAll(filesFresh(place)),
  },
  {
    name: 'stat, warm',
    unit: 'files',
    before: (place) => statAll(files(place)),
    run: (place) => statAll(files(place)),
  },
  {
    name: 'scandir + stat',
    unit: 'files',
    run: (place) => {
      for (const name of readdirSync(files(place))) statSync(join(files(place), name));
      return FILE_COUNT;
    },
  },
  {
    name: 'open + read + close, first',
    unit: 'files',
    before: dropCaches,
    run: (place) => readAll(filesFresh(place)),
  },
  {
    name: 'open + read + close, warm',
    unit: 'files',
    before: (place) => readAll(files(place)),
    run: (place) => readAll(files(place)),
  },
  {
    name: 'rename',
    unit: 'files',
    before: (place, run) => createFiles(join(place.base, `renamed-${run}`)),
    run: (place, run) => {
      const directory = join(place.base, `renamed-${run}`);
      for (const name of names) renameSync(join(directory, name), join(directory, `${name}.moved`));
      return FILE_COUNT;
    },
  },
  {
    name: 'rename, where another mount has read',
    unit: 'files',
    prepare: (place) => {
      if (!existsSync(files(place))) createFiles(files(place));
    },
    before: (place) => {
      for (const name of readdirSync(filesFresh(place))) statSync(join(filesFresh(place), name));
    },
    run: (place, run) => {
      const [from, to] = run % 2 === 0 ? ['', '.moved'] : ['.moved', ''];
      for (const name of names) renameSync(join(files(place), name + from), join(files(place), name + to));
      return FILE_COUNT;
    },
  },
  {
    name: 'unlink',
    unit: 'files',
    before: (place, run) => {
      const directory = join(place.base, `created-${run}`);
      rmSync(directory, { recursive: true, force: true });
      createFiles(directory);
    },
    run: (place, run) => {
      for (const name of names) unlinkSync(join(place.base, `created-${run}`, name));
      return FILE_COUNT;
    },
  },
  {
    name: `untar ${TREE_COUNT} files`,
    unit: 'files',
    before: dropCaches,
    run: (place, run) => {
      unpack(place, TREE_COUNT, `tree-${run}`);
      return TREE_COUNT;
    },
  },
  {
    name: 'rm -rf of them',
    unit: 'files',
    before: (place, run) => {
      if (!existsSync(join(place.base, `tree-${run}`))) unpack(place, TREE_COUNT, `tree-${run}`);
    },
    run: (place, run) => {
      program('rm', ['-rf', `tree-${run}`], place.base);
      return TREE_COUNT;
    },
  },
  {
    name: 'sequential write + fsync',
    unit: 'MiB',
    before: (place) => rmSync(join(place.base, 'large'), { force: true }),
    run: (place) => {
      const fd = openSync(join(place.base, 'large'), 'w');
      for (let index = 0; index < LARGE_MIB; index++) writeSync(fd, piece);
      fsyncSync(fd);
      closeSync(fd);
      return LARGE_MIB;
    },
  },
  {
    name: 'sequential read, first',
    unit: 'MiB',
    before: dropCaches,
    run: (place) => readWhole(join(place.other, 'large')),
  },
  {
    name: 'sequential read, warm',
    unit: 'MiB',
    before: (place) => readWhole(join(place.base, 'large')),
    run: (place) => readWhole(join(place.base, 'large')),
  },
  {
    name: 'random 4 KiB read',
    unit: 'ops',
    before: dropCaches,
    run: (place, run) =>
      atRandom(place, run, RANDOM_COUNT, (fd, offset) => readSync(fd, block, 0, block.length, offset)),
  },
  {
    name: 'random 4 KiB write',
    unit: 'ops',
    run: (place, run) =>
      atRandom(place, run, RANDOM_COUNT, (fd, offset) => writeSync(fd, block, 0, block.length, offset)),
  },
  {
    name: 'random 4 KiB write + fsync',
    unit: 'ops',
    run: (place, run) =>
      atRandom(place, run, SYNC_COUNT, (fd, offset) => {
        writeSync(fd, block, 0, block.length, offset);
        fsyncSync(fd);
      }),
  },
  {
    name: `git add + commit + status, ${GIT_COUNT} files`,
    unit: 'files',
    before: (place, run) => unpack(place, GIT_COUNT, `git-${run}`),
    run: (place, run) => {
      const directory = join(place.base, `git-${run}`);
      program('git', ['init', '-q'], directory);
      program('git', ['add', '.'], directory);
      program('git', ['commit', '-qm', 'all'], directory);
      program('git', ['status', '--porcelain'], directory);
      return GIT_COUNT;
    },
  },
  ...olderWorkloads(GIT_COUNT),
];
