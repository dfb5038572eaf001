/** A cluster of one machine for a measurement, through the executable as a user would start it. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const EXECUTABLE = fileURLToPath(new URL('../../src/cmd/leasefs.js', import.meta.url));

function leasefs(...args: readonly string[]): void {
  const { status, stderr } = spawnSync(process.execPath, [EXECUTABLE, ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`leasefs ${args[0]}: ${stderr}`);
}

export class LocalCluster {
  /** Where `leasefs up` has mounted it. */
  readonly base: string;
  readonly #scratch: string;
  readonly #data: string;
  readonly #driver: string;
  readonly #mounts: string[] = [];

  /** One metadata server, three chunk servers, two copies, and a mount. Everything lies in `scratch`. */
  constructor(scratch: string, { driver = 'kernel' }: { driver?: string } = {}) {
    [this.#scratch, this.#driver] = [scratch, driver];
    [this.base, this.#data] = [join(scratch, 'mnt'), join(scratch, 'data')];
    mkdirSync(this.base);
    leasefs('up', this.base, '--data', this.#data, '--detach', '--driver', driver);
  }

  /** Another mount, or one that was here before, with its cache directory of then; its path. */
  mount(name: string, ...more: readonly string[]): string {
    const cluster: unknown = JSON.parse(readFileSync(join(this.#data, 'cluster.json'), 'utf8'));
    const hasUrl = typeof cluster === 'object' && cluster !== null && 'metaUrl' in cluster;
    const path = join(this.#scratch, `mnt-${name}`);
    mkdirSync(path, { recursive: true });
    const cache = join(this.#scratch, `cache-${name}`);
    leasefs(
      'mount',
      hasUrl ? String(cluster.metaUrl) : '',
      path,
      '--cache',
      cache,
      '--driver',
      this.#driver,
      ...more,
    );
    this.#mounts.push(path);
    return path;
  }

  unmount(path: string): void {
    leasefs('umount', path);
    this.#mounts.splice(this.#mounts.indexOf(path), 1);
  }

  stop(): void {
    for (const path of this.#mounts) spawnSync(process.execPath, [EXECUTABLE, 'umount', '--force', path]);
    leasefs('down', '--data', this.#data);
  }
}
