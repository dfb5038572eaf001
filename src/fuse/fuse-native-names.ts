/**
 * What libfuse asks about names and directories, answered with the inode-based operations.
 *
 * **Source:** libfuse 2.9.9 lib/fuse.c hide_node, fuse_lib_rename; native-notes/fuse-native.md, "Open files
 * without a name".
 */
import type { Ino } from '../proto/ids.js';
import type { NativeHandlers, NativePayload } from './fuse-native-binding.js';
import { type NativeContext, self } from './fuse-native-context.js';
import { NativeFiles } from './fuse-native-files.js';
import { directoryOf, toBytes } from './fuse-native-paths.js';
import { toEntryStat } from './fuse-native-stat.js';

/** The names and types of a directory, as the C side takes them. */
type Listing = NativePayload<'readdir'>;

export class NativeNames {
  readonly #context: NativeContext;

  constructor(context: NativeContext) {
    this.#context = context;
  }

  handlers(): Pick<
    NativeHandlers,
    'readdir' | 'fsyncdir' | 'mknod' | 'mkdir' | 'symlink' | 'link' | 'unlink' | 'rmdir' | 'rename'
  > {
    const { operations } = this.#context;
    return {
      readdir: this.#context.handler(
        'readdir',
        () => [[], []],
        async (_call, path) => ({
          result: 0,
          payload: await this.#context.walker.at(path, (ino) => this.#list(ino)),
        }),
      ),
      fsyncdir: this.#context.plain('fsyncdir', (path, dataOnly) =>
        this.#context.walker.at(path, async (ino) => {
          const { fh } = await operations.opendir(self, ino, 0);
          try {
            await operations.fsyncdir(self, ino, fh, dataOnly !== 0);
          } finally {
            await operations.releasedir(ino, fh);
          }
        }),
      ),
      mknod: this.#context.plain('mknod', (path, mode, rdev) =>
        this.#make(path, (parent, name) => operations.mknod(self, parent, name, mode, rdev)),
      ),
      mkdir: this.#context.plain('mkdir', (path, mode) =>
        this.#make(path, (parent, name) => operations.mkdir(self, parent, name, mode & 0o7777)),
      ),
      symlink: this.#context.plain('symlink', (target, path) =>
        this.#make(path, (parent, name) => operations.symlink(self, parent, name, toBytes(target))),
      ),
      link: this.#context.plain('link', (path, destination) =>
        this.#context.at(path, (ino) =>
          this.#make(destination, (parent, name) => operations.link(self, ino, parent, name)),
        ),
      ),
      unlink: this.#context.plain('unlink', async (path) => {
        if (this.#context.files.unhide(path)) return;
        await this.#context.walker.inside(path, (parent, name) => operations.unlink(self, parent, name));
      }),
      rmdir: this.#context.plain('rmdir', (path) =>
        this.#context.walker.inside(path, (parent, name) => operations.rmdir(self, parent, name)),
      ),
      rename: this.#context.plain('rename', (path, destination) => this.#rename(path, destination)),
    };
  }

  /** Runs a creating operation; the reference that it gives is not kept. */
  async #make(
    path: string,
    create: (parent: Ino, name: Buffer) => { attr: { ino: Ino } } | PromiseLike<{ attr: { ino: Ino } }>,
  ): Promise<void> {
    const entry = await this.#context.walker.inside(path, async (parent, name) => await create(parent, name));
    this.#context.walker.giveBack(entry.attr.ino);
  }

  async #list(ino: Ino): Promise<Listing> {
    const listing: Listing = [[], []];
    const { fh } = await this.#context.operations.opendir(self, ino, 0);
    try {
      let offset = 0;
      let countBefore = -1;
      while (listing[0].length > countBefore) {
        countBefore = listing[0].length;
        await this.#context.operations.readdir(self, ino, fh, offset, false, (entry) => {
          // Bytes that are not UTF-8 are shown as U+FFFD: seen, though they cannot be opened through here.
          listing[0].push(Buffer.from(entry.name).toString('utf8'));
          listing[1].push(toEntryStat(entry));
          offset = entry.nextOffset;
          return true;
        });
      }
    } finally {
      await this.#context.operations.releasedir(ino, fh);
    }
    return listing;
  }

  async #rename(path: string, destination: string): Promise<void> {
    if (NativeFiles.looksHidden(destination) && (await this.#hide(path, destination))) return;
    await this.#context.walker.inside(path, (parent, name) =>
      this.#context.walker.inside(destination, (newParent, newName) =>
        this.#context.operations.rename(self, parent, name, newParent, newName, 'replace'),
      ),
    );
  }

  /** Takes the name of an open file away that libfuse wants to hide; false when that is not what it wants. */
  async #hide(path: string, destination: string): Promise<boolean> {
    if (directoryOf(path) !== directoryOf(destination)) return false;
    return await this.#context.at(path, async (ino) => {
      if (!this.#context.files.isOpen(ino)) return false;
      await this.#context.walker.inside(path, (parent, name) =>
        this.#context.operations.unlink(self, parent, name),
      );
      this.#context.files.hide(destination, ino);
      return true;
    });
  }
}
