/**
 * What an earlier daemon of this mount has answered and left behind when it was killed, or a session that was lost:
 * brought to the servers before anything else is answered. What others have changed meanwhile is not overwritten: it goes as files into
 * `lost+found` in the cache directory, outside the filesystem, and into the log.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeLog } from '../base/log.js';
import type { Attr } from '../proto/attr.js';
import { FsError } from '../proto/errno.js';
import type { Ino } from '../proto/ids.js';
import type { ChunkWriter } from './chunk-writer.js';
import type { RefusedEntry } from './journal.js';
import type { KeptWrites, LeftWrite } from './kept-writes.js';
import { PendingFile } from './pending-file.js';

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
    const path = this.#write('operations.jsonl', Buffer.from(lines.join('')));
    log.error(
      'changes made here were refused, because others have changed the same meanwhile; they are kept',
      {
        count: entries.length,
        path,
      },
    );
  }

  /** Bytes that were written to a file that is another one by now. */
  written({ ino, pieces }: LeftWrite, why: string): void {
    const size = Math.max(0, ...pieces.map(({ offset, bytes }) => offset + bytes.length));
    const content = Buffer.alloc(size);
    for (const { offset, bytes } of pieces) bytes.copy(content, offset);
    const path = this.#write(`inode-${ino}`, content);
    log.error('what was written to a file here could not be brought to it; it is kept', { ino, why, path });
  }

  #write(name: string, bytes: Uint8Array): string {
    const directory = join(this.#cacheDir, 'lost+found');
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const stamp = new Date().toISOString().replaceAll(':', '');
    const path = join(directory, `${stamp}-${++this.#count}-${name}`);
    writeFileSync(path, bytes, { mode: 0o600, flag: 'wx' });
    return path;
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

/** Writes what a killed daemon or a lost session has left of closed files. Never fails; what cannot be written stays for the next mount. */
export async function recoverWrites(over: {
  readonly kept: KeptWrites;
  readonly writer: ChunkWriter;
  readonly lost: LostAndFound;
  readonly getattr: (ino: Ino) => Promise<Attr>;
}): Promise<void> {
  const { kept, lost } = over;
  const left = kept.leftovers();
  if (left.length === 0) return;
  log.warn('bytes of closed files were left behind, and are written now', { files: left.length });
  for (const write of left) {
    try {
      const why = await recoverWrite(over, write);
      if (why !== undefined) lost.written(write, why);
      kept.forget(write);
    } catch (error) {
      log.error('bytes that were left behind cannot be written now: the next mount tries again', {
        ino: write.ino,
        error: String(error),
      });
    }
  }
}

/** Answers why it was not written, if others were there before. */
async function recoverWrite(
  { writer, getattr }: Parameters<typeof recoverWrites>[0],
  { ino, version, mtime, clearPrivileges, pieces }: LeftWrite,
): Promise<string | undefined> {
  let attr: Attr;
  try {
    attr = await getattr(ino);
  } catch (error) {
    if (error instanceof FsError && error.code === 'ENOENT') return 'the file is gone';
    throw error;
  }
  if (attr.version !== version) return `it was changed since (version ${attr.version}, not ${version})`;
  const file = new PendingFile(ino);
  for (const { offset, bytes } of pieces)
    await writer.write(file, bytes, () => offset, { append: false, clearPrivileges });
  file.mtime = mtime;
  await writer.flush(file, { durable: true });
  return undefined;
}
