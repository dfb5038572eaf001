/**
 * Everything that can be seen of a directory tree, as lines that two filesystems must agree on: names, types,
 * modes, owners, link counts and which names are one file, sizes, contents, symlink targets, xattrs, device
 * numbers and times that were set. What cannot be seen for want of permission is a line as well.
 */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import {
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  calls,
  isDirectory,
  nameResult,
  nameStat,
  readDirectory,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  stat,
  z,
} from './system-calls.js';

/** Path and what is there; the paths sorted. */
export type Tree = ReadonlyMap<string, string>;

const TYPES = new Map([
  [S_IFREG, 8],
  [S_IFLNK, 10],
  [S_IFIFO, 1],
  [0o040_000, 4],
]);
const XATTR_ROOM = 65_536;
const READ_BYTES = 1 << 20;
const readBuffer = Buffer.alloc(READ_BYTES);
const xattrBuffer = Buffer.alloc(XATTR_ROOM);

class Walk {
  readonly lines = new Map<string, string>();
  /** The first path of each file that has more than one. */
  readonly #firsts = new Map<bigint, string>();

  /**
   * `name`: in the working directory, which goes down with the walk, because a mount that caches nothing is
   * asked for every part of a path again; `listedType`: what its directory says that it is.
   */
  visit(name: string, path: string, listedType: number | undefined): void {
    const found = stat(AT_FDCWD, name, AT_SYMLINK_NOFOLLOW);
    if (typeof found === 'string') {
      this.lines.set(path, found);
      return;
    }
    let line = nameStat(found);
    const type = found.mode & S_IFMT;
    if (listedType !== undefined && listedType !== TYPES.get(type)) line += ` listed as ${listedType}`;
    if (!isDirectory(found) && found.nlink > 1) {
      const first = this.#firsts.get(found.ino) ?? path;
      this.#firsts.set(found.ino, first);
      line += ` is ${first}`;
    }
    if (type === S_IFREG) line += ` content ${hashOf(name)}`;
    if (type === S_IFLNK) line += ` target ${targetOf(name)}`;
    this.lines.set(path, line + xattrsOf(name));
    if (isDirectory(found)) this.#list(name, path);
  }

  #list(name: string, path: string): void {
    const names = entriesOf(name);
    if (typeof names === 'string') {
      this.lines.set(`${path}/`, `not listed: ${names}`);
      return;
    }
    const entered = name === '.' ? 0 : calls.chdir(z(name));
    if (entered < 0) {
      this.lines.set(
        `${path}/`,
        `not entered: ${nameResult(entered)}, holds ${[...names.keys()].sort().join(' ')}`,
      );
      return;
    }
    for (const [child, listed] of [...names].sort(([a], [b]) => (a < b ? -1 : 1)))
      if (child !== '.' && child !== '..') this.visit(child, `${path}/${child}`, listed);
    // Nothing moves meanwhile: this is where it came from.
    const left = name === '.' ? 0 : calls.chdir(z('..'));
    if (left < 0) throw new Error(`cannot leave ${path}: ${nameResult(left)}`);
  }
}

/** What is in the working directory. */
export function readTree(): Tree {
  const walk = new Walk();
  walk.visit('.', '.', undefined);
  return walk.lines;
}

/** The paths at which two trees differ, each with both lines. */
export function compareTrees(reference: Tree, subject: Tree): string[] {
  const paths = [...new Set([...reference.keys(), ...subject.keys()])];
  return paths
    .filter((path) => reference.get(path) !== subject.get(path))
    .map(
      (path) =>
        `${JSON.stringify(path)}\n    reference ${reference.get(path) ?? 'is not there'}\n    subject   ${subject.get(path) ?? 'is not there'}`,
    );
}

function hashOf(path: string): string {
  const fd = calls.open(z(path), fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW, 0);
  if (fd < 0) return nameResult(fd);
  try {
    const hash = createHash('sha1');
    for (;;) {
      const length = calls.read(fd, readBuffer, READ_BYTES);
      if (length < 0) return nameResult(length);
      if (length === 0) return hash.digest('hex').slice(0, 16);
      hash.update(readBuffer.subarray(0, length));
    }
  } finally {
    calls.close(fd);
  }
}

function targetOf(path: string): string {
  const length = calls.readlink(z(path), readBuffer, 4096);
  return length < 0 ? nameResult(length) : JSON.stringify(readBuffer.toString('latin1', 0, length));
}

function entriesOf(path: string): Map<string, number> | string {
  const fd = calls.open(z(path), fs.constants.O_RDONLY | fs.constants.O_DIRECTORY, 0);
  if (fd < 0) return nameResult(fd);
  const entries = readDirectory(fd);
  calls.close(fd);
  return entries;
}

function xattrsOf(path: string): string {
  const length = calls.llistxattr(z(path), xattrBuffer, XATTR_ROOM);
  if (length < 0) return ` xattrs ${nameResult(length)}`;
  const names = xattrBuffer.toString('latin1', 0, length).split('\0').slice(0, -1);
  const ours = names.filter((name) => !name.startsWith('security.')).sort();
  return ours
    .map((name) => {
      const size = calls.lgetxattr(z(path), z(name), xattrBuffer, XATTR_ROOM);
      const value = size < 0 ? nameResult(size) : xattrBuffer.toString('hex', 0, size);
      return ` ${name}=${value}`;
    })
    .join('');
}
