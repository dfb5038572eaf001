/**
 * What could not be brought into the filesystem, because others have changed the same meanwhile: files in `lost+found`
 * in the cache directory, outside of the filesystem, and lines in the log. Whoever puts something here may forget it
 * elsewhere: it is on disk.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { makeLog } from '../base/log.js';
import type { RefusedEntry } from './journal.js';
import type { LeftWrite } from './kept-writes.js';

const log = makeLog('client');

export class LostAndFound {
  readonly #cacheDir: string;
  #count = 0;

  constructor(cacheDir: string) {
    this.#cacheDir = cacheDir;
  }

  /** Operations that were not carried out, one JSON object to a line. */
  refused(entries: readonly RefusedEntry[]): void {
    const lines = entries.map(({ entry, reason }) => {
      const { method, args, now, ino } = entry;
      return `${JSON.stringify({ reason, method, args, now, ...(ino === undefined ? {} : { ino }) }, readable)}\n`;
    });
    const path = this.#write('operations.jsonl', whole(lines.join('')));
    log.error(
      'changes made here were refused, because others have changed the same meanwhile; they are kept',
      {
        count: entries.length,
        path,
      },
    );
  }

  /** Bytes that were written to a file that is another one by now: at their offsets, and what they are beside them. */
  written({ ino, version, mtime, pieces }: LeftWrite, reason: string): void {
    const path = this.#write(`inode-${ino}`, pieces);
    const ranges = pieces.map(({ offset, bytes }) => [offset, offset + bytes.length]);
    const description = { reason, ino, version, mtime, written: ranges, bytes: basename(path) };
    this.#write(`inode-${ino}.json`, whole(`${JSON.stringify(description)}\n`));
    log.error('what was written to a file here could not be brought to it; it is kept', {
      ino,
      reason,
      path,
    });
  }

  #write(name: string, pieces: LeftWrite['pieces']): string {
    const directory = join(this.#cacheDir, 'lost+found');
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const stamp = new Date().toISOString().replaceAll(':', '');
    const path = join(directory, `${stamp}-${++this.#count}-${name}`);
    const fd = openSync(path, 'wx', 0o600);
    try {
      for (const { offset, bytes } of pieces)
        for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, offset + at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    syncDirectory(directory);
    return path;
  }
}

const whole = (text: string): LeftWrite['pieces'] => [{ offset: 0, bytes: Buffer.from(text) }];

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Names as text, other bytes as base64. */
function readable(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('type' in value) || !('data' in value)) return value;
  if (value.type !== 'Buffer' || !Array.isArray(value.data)) return value;
  const bytes = Buffer.from(value.data as number[]);
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : { base64: bytes.toString('base64') };
}
