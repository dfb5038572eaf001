import { readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { OpenFiles } from '../../src/chunk/open-files.js';
import { scratch } from './scratch.js';

/** Descriptors of this process that point into `directory`. */
function descriptorsIn(directory: string): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(`${directory}/`) ? [target.slice(directory.length + 1)] : [];
    } catch {
      return []; // The descriptor of the listing itself.
    }
  });
}

function filesIn(directory: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const path = join(directory, `f${index}`);
    writeFileSync(path, `content ${index}`);
    return path;
  });
}

t.test('files stay open, the least recently used one goes first', async (t) => {
  const directory = scratch(t);
  const [f0 = '', f1 = '', f2 = ''] = filesIn(directory, 3);
  const files = new OpenFiles(2);
  const read = (path: string) => files.use(path, async (file) => String(await file.readFile()));
  t.equal(await files.use(f0, async (file) => (await file.stat()).size), 9);
  await files.use(f1, async (file) => file.stat());
  await files.use(f0, async (file) => file.stat());
  t.equal(await read(f2), 'content 2');
  t.equal(files.size, 2);
  await files.use(f2, async (file) => file.stat());
  t.same(descriptorsIn(directory).sort(), ['f0', 'f2']);
  await files.close();
  t.same(descriptorsIn(directory), [], 'close closes all');
});

t.test('a file that is forgotten while it is read is closed when its last reader is done', async (t) => {
  const directory = scratch(t);
  const [path = ''] = filesIn(directory, 1);
  const files = new OpenFiles(2);
  let go: () => void = () => undefined;
  const waits = new Promise<void>((resolve) => {
    go = resolve;
  });
  const reading = files.use(path, async (file) => {
    await waits;
    return (await file.read(Buffer.alloc(7), 0, 7, 0)).bytesRead;
  });
  await files.use(path, async () => undefined);
  files.forget(path);
  rmSync(path);
  t.equal(descriptorsIn(directory).length, 1, 'its reader goes on');
  go();
  t.equal(await reading, 7);
  await files.close();
  t.same(descriptorsIn(directory), []);
  await t.rejects(
    files.use(path, async () => undefined),
    { code: 'ENOENT' },
  );
  t.equal(files.size, 0, 'a file that could not be opened is not kept');
});

t.test('concurrent readers share one descriptor', async (t) => {
  const directory = scratch(t);
  const [path = ''] = filesIn(directory, 1);
  const files = new OpenFiles(2);
  await Promise.all(Array.from({ length: 20 }, () => files.use(path, async (file) => file.stat())));
  t.same(descriptorsIn(directory), ['f0']);
  await files.close();
});
