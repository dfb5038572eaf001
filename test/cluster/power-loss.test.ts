/**
 * Machines that lose their power: what was synced is there afterwards, and of names and attributes nothing newer
 * without all that is older. The disk below is one that forgets (volatile-disk.ts).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { Cluster } from './cluster.js';
import { sh, start } from './on-mount.js';
import type { ScratchDirectory } from './scratch-directory.js';

const TIMEOUT_MS = 150_000;
t.setTimeout(2 * TIMEOUT_MS);
const DISK = fileURLToPath(new URL('./volatile-disk.js', import.meta.url));

class Disk {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stdout === null) throw new Error('the disk cannot be heard');
    this.#lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  }

  static async at(scratch: ScratchDirectory, directory: string): Promise<Disk> {
    const child = spawn(process.execPath, [DISK, directory], { stdio: ['pipe', 'pipe', 'inherit'] });
    if (child.pid !== undefined) scratch.addProcess(child.pid);
    const disk = new Disk(child);
    const said = await disk.#line();
    if (said !== 'ready') throw new Error(`the disk: ${said}`);
    return disk;
  }

  async #line(): Promise<string> {
    return String((await this.#lines.next()).value);
  }

  /** How much has happened since its last sync. */
  async cut(seed: number): Promise<number> {
    this.#child.stdin?.write(`cut ${seed}\n`);
    const [word, , lost] = (await this.#line()).split(' ');
    if (word !== 'cut') throw new Error(`the disk cannot be cut: ${word}`);
    return Number(lost);
  }
}

/** Makes files in turn in three directories and says so; now and then syncs one, and says that. */
const MAKE = `
const fs = require('node:fs');
for (const d of 'abc') fs.mkdirSync(d);
for (let n = 0; n < 2000; n++) {
  const path = 'abc'[n % 3] + '/' + n;
  fs.writeFileSync(path, 'content of ' + n);
  fs.chmodSync(path, 0o600);
  console.log('made ' + n);
  if (n % 70 === 69) {
    const fd = fs.openSync(path);
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    console.log('synced ' + n);
  }
}
`;
const SHOW = 'for f in a/* b/* c/*; do echo "$(basename $f) $(stat -c %a $f) $(cat $f)"; done';

/** Runs MAKE until it has got so far; the last numbers that were made and synced when `stop` had happened. */
async function made(path: string, until: number, stop: () => Promise<void>): Promise<[number, number]> {
  const program = start(process.execPath, ['-e', MAKE], { cwd: path, timeoutMs: 40_000 });
  await program.printed(`made ${until}\n`);
  await stop();
  program.signal('SIGKILL');
  const { stdout } = await program.outcome;
  const last = (word: string): number =>
    Math.max(...[...stdout.matchAll(new RegExp(`${word} (\\d+)`, 'g'))].map(([, n]) => Number(n)));
  return [last('made'), last('synced')];
}

/** Names and attributes are those up to some moment; bytes that were not synced may be missing from any file. */
function checkPrefix(t: Test, shown: string, last: number, synced: number): void {
  const lines = shown.trim().split('\n');
  const there = new Map(lines.map((line): [number, string] => [Number.parseInt(line, 10), line]));
  t.ok(there.size > synced, `${last} made, ${synced} synced, ${there.size} left`);
  for (let n = 0; n < there.size; n++) {
    const whole = `${n} 600 content of ${n}`;
    const possible = n <= synced ? [whole] : [whole, `${n} 600 `];
    // The newest may have been made, and its mode not changed yet.
    if (n === there.size - 1) possible.push(`${n} 644 content of ${n}`, `${n} 644 `);
    if (!possible.includes(there.get(n) ?? '')) t.fail(`of ${there.size}, ${n} is ${there.get(n)}`);
  }
}

t.test('power losses', { timeout: TIMEOUT_MS }, async (t) => {
  for (const seed of [1, 2]) {
    await t.test(`of a mount's machine, seed ${seed}`, { timeout: 60_000 }, async (t) => {
      const cluster = await Cluster.start(t, { name: 'power-mount' });
      const other = await cluster.mount();
      const disk = await Disk.at(cluster.scratch, cluster.scratch.directory('cache-2'));
      const mount = await cluster.mount();
      const [last, synced] = await made(mount.path, 150 + 40 * seed, () => mount.process.kill());
      t.comment(`${await disk.cut(seed)} writes and names were not synced`);
      await mount.process.start();
      checkPrefix(t, await sh(SHOW, { cwd: mount.path, timeoutMs: 20_000 }), last, synced);
      checkPrefix(t, await sh(SHOW, { cwd: other.path, timeoutMs: 20_000 }), last, synced);
    });

    await t.test(`of the metadata server's machine, seed ${seed}`, { timeout: 60_000 }, async (t) => {
      let disk: Disk | undefined;
      const cluster = await Cluster.start(t, {
        name: 'power-meta',
        prepare: async (scratch) => {
          disk = await Disk.at(scratch, scratch.directory('meta'));
        },
      });
      const mount = await cluster.mount();
      const [last, synced] = await made(mount.path, 150 + 40 * seed, async () => {
        await cluster.meta.kill();
        await mount.process.kill();
      });
      t.comment(`${await disk?.cut(seed)} writes and names were not synced`);
      await cluster.meta.start();
      await cluster.untilUp(3);
      const later = await cluster.mount();
      checkPrefix(t, await sh(SHOW, { cwd: later.path, timeoutMs: 40_000 }), last, synced);
    });
  }
});
