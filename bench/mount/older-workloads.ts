/**
 * Work in directories that were there before the mount was made: what a user finds who mounts and goes on with
 * a project. Every run has a tree of its own that this mount has not seen.
 */
import { mkdirSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
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
  writeFiles,
} from './place.js';

/** Every so many files of a tree differ between two branches. */
const CHECKOUT_EVERY = 2;

/** A repository at its first branch; its second one has other contents in every second file. */
function makeRepository(place: Place, count: number, directory: string): void {
  untar(place.local, count, directory);
  const git = (...args: readonly string[]): void => program('git', args, directory);
  git('init', '-q', '-b', 'one');
  git('add', '.');
  git('commit', '-qm', 'one');
  git('checkout', '-q', '-b', 'two');
  for (let index = 0; index < count; index += CHECKOUT_EVERY)
    writeFileSync(join(directory, `d${Math.floor(index / 50)}`, `f${index}.txt`), block);
  git('commit', '-qam', 'two');
  git('checkout', '-q', 'one');
}

/** `treeCount`: how many files the archive has that trees are unpacked from. */
export function olderWorkloads(treeCount: number): readonly Workload[] {
  const at = (name: string) => (place: Place, run: number) => join(place.again, `older-${name}-${run}`);
  const [created, renamed, unlinked] = [at('created'), at('renamed'), at('unlinked')];
  const [rewritten, removed, repository] = [at('rewritten'), at('removed'), at('repository')];
  return [
    {
      name: 'in an older directory: create 4 KiB files',
      unit: 'files',
      before: dropCaches,
      older: (place, run) => {
        mkdirSync(created(place, run));
        writeFileSync(join(created(place, run), 'there already'), block);
      },
      run: (place, run) => {
        writeFiles(created(place, run));
        return FILE_COUNT;
      },
    },
    {
      name: 'in an older directory: rename',
      unit: 'files',
      before: dropCaches,
      older: (place, run) => createFiles(renamed(place, run)),
      run: (place, run) => {
        const directory = renamed(place, run);
        for (const name of names) renameSync(join(directory, name), join(directory, `${name}.moved`));
        return FILE_COUNT;
      },
    },
    {
      name: 'in an older directory: unlink',
      unit: 'files',
      before: dropCaches,
      older: (place, run) => createFiles(unlinked(place, run)),
      run: (place, run) => {
        for (const name of names) unlinkSync(join(unlinked(place, run), name));
        return FILE_COUNT;
      },
    },
    {
      name: 'in an older directory: rewrite 4 KiB files',
      unit: 'files',
      before: dropCaches,
      older: (place, run) => createFiles(rewritten(place, run)),
      run: (place, run) => {
        writeFiles(rewritten(place, run));
        return FILE_COUNT;
      },
    },
    {
      name: `rm -rf of an older tree, ${treeCount} files`,
      unit: 'files',
      before: dropCaches,
      older: (place, run) => untar(place.local, treeCount, removed(place, run)),
      run: (place, run) => {
        program('rm', ['-rf', removed(place, run)], place.again);
        return treeCount;
      },
    },
    {
      name: `git checkout in an older tree, ${treeCount / CHECKOUT_EVERY} of ${treeCount} files`,
      unit: 'files',
      before: dropCaches,
      older: (place, run) => makeRepository(place, treeCount, repository(place, run)),
      run: (place, run) => {
        program('git', ['checkout', '-q', 'two'], repository(place, run));
        return treeCount / CHECKOUT_EVERY;
      },
    },
  ];
}
