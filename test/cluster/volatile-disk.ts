/**
 * A disk that can lose its power, as a process: a filesystem in memory, mounted at argv's directory, that notes what
 * is written and what is synced. On the line `cut SEED` it is unmounted, and what may be left after a power loss is
 * put into that directory as ordinary files: of names and sizes what was done first, up to the last sync at least
 * (a journalling filesystem keeps their order); of a file's bytes all that was written before its last sync, and of
 * the rest any pages, chosen by the seed.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Prng } from '../../src/base/prng.js';
import { defaultTuning, mountKernelTuned } from '../../src/fuse/kernel-driver.js';
import { isDir } from '../../src/proto/attr.js';
import { type Ino, ROOT_INO } from '../../src/proto/ids.js';
import type { Request } from '../../src/vfs/operations.js';
import { ToyOperations } from '../fuse/toy-operations.js';

const PAGE_BYTES = 4096;
const OPTIONS = { later: false, attrTimeoutMs: 0, entryTimeoutMs: 0 };

const nobody: Request = { uid: 0, gid: 0, pid: 1, interrupted: false, onInterrupt: () => () => {} };

/** Without the toy's special files. */
function emptyDisk(): ToyOperations {
  const disk = new ToyOperations(OPTIONS);
  for (const name of ['wait', 'release']) disk.unlink(nobody, ROOT_INO, Buffer.from(name));
  return disk;
}

type Done =
  | { readonly kind: 'names'; readonly redo: (disk: ToyOperations) => unknown }
  | { readonly kind: 'bytes'; readonly ino: Ino; readonly offset: number; readonly bytes: Buffer }
  | { readonly kind: 'sync'; readonly ino: Ino };

/** What changes names or sizes. */
const NAMES = [
  'setattr',
  'mknod',
  'mkdir',
  'symlink',
  'link',
  'unlink',
  'rmdir',
  'rename',
  'create',
] as const;

function noting(disk: ToyOperations, done: Done[]): ToyOperations {
  for (const name of NAMES) {
    const original: (...args: never[]) => unknown = disk[name].bind(disk);
    const noted = (...args: unknown[]): unknown => {
      // A driver's memory is another request's later.
      const own = args.map((arg) => (arg instanceof Uint8Array ? Buffer.from(arg) : arg));
      const answer = original(...(own as never[]));
      done.push({ kind: 'names', redo: (other) => Reflect.apply(other[name], other, own) });
      return answer;
    };
    Object.defineProperty(disk, name, { value: noted });
  }
  const write = disk.write.bind(disk);
  disk.write = (request, ino, fh, offset, data, clear) => {
    done.push({ kind: 'bytes', ino, offset, bytes: Buffer.from(data) });
    return write(request, ino, fh, offset, data, clear);
  };
  const synced = (_request?: unknown, ino?: unknown): void =>
    void done.push({ kind: 'sync', ino: (ino ?? ROOT_INO) as Ino });
  Object.defineProperty(disk, 'fsync', { value: synced });
  Object.defineProperty(disk, 'fsyncdir', { value: synced });
  return disk;
}

/** The disk once it has power again. */
function afterPowerLoss(done: readonly Done[], prng: Prng): ToyOperations {
  const lastSync = done.findLastIndex(({ kind }) => kind === 'sync');
  const namesUpTo = prng.int(lastSync, done.length - 1);
  const syncedUpTo = new Map<Ino, number>();
  for (const [index, each] of done.entries()) if (each.kind === 'sync') syncedUpTo.set(each.ino, index);
  const disk = emptyDisk();
  const kept = prng.pick([0.5, 0.95, 0.999]);
  for (const [index, each] of done.entries()) {
    if (each.kind === 'names' && index <= namesUpTo) each.redo(disk);
    if (each.kind !== 'bytes') continue;
    const { ino, offset, bytes } = each;
    const isSynced = index < (syncedUpTo.get(ino) ?? -1);
    for (let at = 0; at < bytes.length; ) {
      const end = Math.min(bytes.length, at + PAGE_BYTES - ((offset + at) % PAGE_BYTES));
      if (isSynced || prng.next() < kept) put(disk, ino, offset + at, bytes.subarray(at, end));
      at = end;
    }
  }
  return disk;
}

function put(disk: ToyOperations, ino: Ino, offset: number, bytes: Buffer): void {
  try {
    disk.write(nobody, ino, 0, offset, bytes, false);
  } catch (error) {
    // Its file was made too late, or is removed.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESTALE')) throw error;
  }
}

async function copyOut(disk: ToyOperations, ino: Ino, path: string): Promise<void> {
  const names: { name: string; ino: Ino; isDirectory: boolean }[] = [];
  await disk.readdir(nobody, ino, 0, 2, false, ({ name, ino, kind }) => {
    names.push({ name: Buffer.from(name).toString('latin1'), ino, isDirectory: isDir(kind) });
    return true;
  });
  for (const { name, ino: child, isDirectory } of names) {
    const to = join(path, name);
    if (isDirectory) {
      mkdirSync(to, { recursive: true });
      await copyOut(disk, child, to);
    } else {
      const { attr } = await disk.getattr(nobody, child);
      const parts = await disk.read(nobody, child, 0, 0, attr.size);
      writeFileSync(to, Buffer.concat(parts instanceof Uint8Array ? [parts] : parts));
    }
  }
}

const mountpoint = process.argv[2] ?? '';
const done: Done[] = [];
const mounted = await mountKernelTuned(
  noting(emptyDisk(), done),
  {
    mountpoint,
    source: 'volatile',
    allowOther: process.geteuid?.() === 0,
    defaultPermissions: true,
    readOnly: false,
    kernelOptions: [],
    debug: false,
  },
  defaultTuning,
);
const lines = createInterface(process.stdin);
lines.on('close', () => mounted.unmount({ force: true }).finally(() => process.exit(0)));
lines.on('line', (line) => {
  const cut = async (): Promise<void> => {
    const noted = [...done];
    await mounted.unmount({ force: true });
    await copyOut(afterPowerLoss(noted, new Prng(Number(line.split(' ')[1]))), ROOT_INO, mountpoint);
    const lost = noted.length - 1 - noted.findLastIndex(({ kind }) => kind === 'sync');
    process.stdout.write(`cut ${noted.length} ${lost}\n`);
  };
  cut().catch((error: unknown) => process.stdout.write(`error ${String(error)}\n`));
});
process.stdout.write('ready\n');
