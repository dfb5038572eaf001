/**
 * Damage to a closed disk store, byte by byte and behind its back, as a disk does it.
 */
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Paths of the files that hold chunk `id`, large chunks only. */
export function chunkFilesOf(path: string, id: number): string[] {
  const root = join(path, 'files');
  return readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.includes(`/${id}-`))
    .map((name) => join(root, name));
}

/** Flips one bit of byte `offset` of chunk `id`, whose bytes are `bytes`, in its file or in the database. */
export function damageOnDisk(path: string, id: number, bytes: Buffer, offset: number): void {
  const [file] = chunkFilesOf(path, id);
  if (file !== undefined) {
    flip(file, offset);
    return;
  }
  const database = join(path, 'chunks.db');
  const content = readFileSync(database);
  for (const [before, after] of [
    [12, 1],
    [0, 12],
  ] as const) {
    const start = Math.max(0, offset - before);
    const at = content.indexOf(bytes.subarray(start, offset + after));
    if (at < 0) continue;
    flip(database, at + offset - start);
    return;
  }
  throw new Error(`byte ${offset} of chunk ${id} was not found in ${database}`);
}

function flip(path: string, at: number): void {
  const byte = readFileSync(path)[at];
  if (byte === undefined) throw new RangeError(`${path} has no byte ${at}`);
  const fd = openSync(path, 'r+');
  try {
    writeSync(fd, Buffer.of(byte ^ 1), 0, 1, at);
  } finally {
    closeSync(fd);
  }
}
