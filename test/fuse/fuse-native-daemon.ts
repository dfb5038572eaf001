/**
 * Serves the toy filesystem at argv's mountpoint through the fuse-native driver until it is unmounted, as a
 * process of its own. Prints `ready`, `ended`, or `error REASON message`. Lines on standard input are
 * commands: `unmount`, `force`, `references` (how many references to inodes have not been given back), `syncs`.
 */
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { setLogLevel } from '../../src/base/log.js';
import { mountFuseNative } from '../../src/fuse/fuse-native-driver.js';
import { MountError } from '../../src/fuse/mount-error.js';
import type { Ino } from '../../src/proto/ids.js';
import type { Entry, OpenReply, Request } from '../../src/vfs/operations.js';
import { ToyOperations } from './toy-operations.js';

/** The toy, counting the references that it gave: an inode is let go when all of them have come back. */
class CountingToy extends ToyOperations {
  readonly #given = new Map<Ino, number>();

  /** Given and not yet given back, over all inodes. */
  get references(): number {
    return [...this.#given.values()].reduce((sum, count) => sum + count, 0);
  }

  #count(entry: Entry): Entry {
    const { ino } = entry.attr;
    this.#given.set(ino, (this.#given.get(ino) ?? 0) + 1);
    return entry;
  }

  override forget(ino: Ino, count: number): void {
    const left = (this.#given.get(ino) ?? 0) - count;
    if (left < 0) throw new Error(`inode ${ino} was forgotten more often than it was given`);
    this.#given.set(ino, left);
    if (left > 0) return;
    this.#given.delete(ino);
    super.forget(ino, count);
  }

  override async lookup(req: Request, parent: Ino, name: Uint8Array): Promise<Entry> {
    return this.#count(await super.lookup(req, parent, name));
  }

  override async mknod(
    req: Request,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    rdev: number,
  ): Promise<Entry> {
    return this.#count(await super.mknod(req, parent, name, mode, rdev));
  }

  override async mkdir(req: Request, parent: Ino, name: Uint8Array, mode: number): Promise<Entry> {
    return this.#count(await super.mkdir(req, parent, name, mode));
  }

  override async symlink(req: Request, parent: Ino, name: Uint8Array, target: Uint8Array): Promise<Entry> {
    return this.#count(await super.symlink(req, parent, name, target));
  }

  override async link(req: Request, ino: Ino, newParent: Ino, newName: Uint8Array): Promise<Entry> {
    return this.#count(await super.link(req, ino, newParent, newName));
  }

  override async create(
    req: Request,
    parent: Ino,
    name: Uint8Array,
    mode: number,
    flags: number,
  ): Promise<{ entry: Entry; open: OpenReply }> {
    const created = await super.create(req, parent, name, mode, flags);
    this.#count(created.entry);
    return created;
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    option: { type: 'string', multiple: true, short: 'o' },
    later: { type: 'boolean' },
    debug: { type: 'boolean' },
    source: { type: 'string' },
  },
});
if (values.debug === true) setLogLevel('debug');
const toy = new CountingToy({ later: values.later === true, attrTimeoutMs: 0, entryTimeoutMs: 0 });

const failed = (error: unknown): string =>
  `error ${error instanceof MountError ? error.reason : '-'} ${String(error)}\n`;

try {
  const mounted = await mountFuseNative(toy, {
    mountpoint: positionals[0] ?? '',
    source: values.source ?? 'toy',
    allowOther: process.geteuid?.() === 0,
    defaultPermissions: true,
    readOnly: false,
    kernelOptions: values.option ?? [],
    debug: values.debug === true,
  });
  process.on('SIGTERM', () => void mounted.unmount({ force: true }));
  createInterface(process.stdin).on('line', (command) => {
    const run = async (): Promise<string> => {
      if (command === 'references') return `references ${toy.references}`;
      if (command === 'syncs') return `syncs ${toy.syncs}`;
      await mounted.unmount({ force: command === 'force' });
      return 'unmounted';
    };
    run().then(
      (answer) => process.stdout.write(`${answer}\n`),
      (error: unknown) => process.stdout.write(failed(error)),
    );
  });
  process.stdout.write('ready\n');
  await mounted.ended;
  process.stdout.write('ended\n');
  process.exit(0);
} catch (error) {
  process.stdout.write(failed(error));
  process.exit(1);
}
