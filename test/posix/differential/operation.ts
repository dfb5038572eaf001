/** What the fuzzer does to both filesystems: the type of an operation, and the arguments it is made of. */
import type { Prng } from '../../../src/base/prng.js';
import { type Outcome, type Side, SLOTS } from './side.js';
import { nameResult } from './system-calls.js';

/** One operation with all its arguments: the same on both sides, and meaningful after any others. */
export interface Operation {
  /** The system call's name. */
  readonly call: string;
  /** For people: the call with its arguments. */
  readonly text: string;
  /** The directory it is made in: that of a slot, or where everything begins. */
  readonly at?: number | undefined;
  /** What it may change, in the working directory. */
  readonly paths: readonly string[];
  /** The descriptor it may change. */
  readonly slot?: number | undefined;
  /** Whether attributes before and after it are compared. */
  readonly observed?: boolean | undefined;
  run(side: Side): Outcome;
}

/**
 * What a driver, or the host's filesystem, may not have. `removed`: anything with directories, FIFOs and O_PATH
 * descriptors that are open and have no name any more. `devices`: needs root, and a mount with `-o dev`.
 */
export const EXTRAS = ['fallocate', 'seek-hole', 'copy-file-range', 'removed', 'acl', 'devices'] as const;
export type Extra = (typeof EXTRAS)[number];

export const told = (result: number): Outcome => ({ text: nameResult(result) });

/**
 * The only absolute path, also of symlinks: both sides would share what is there, and it is the host's. Nothing
 * can come to be under a file; `/`, or a name in it, would be changed when root runs this.
 */
const NOWHERE = '/dev/null/nowhere';

const COMMON_NAMES = ['a', 'b', 'c', 'd', 'e'];
const ODD_NAMES = ['n'.repeat(255), '\xff\n\x01 \xe2\x82\xac', '-', 'n'.repeat(256)];
const SIZES = [0, 1, 511, 512, 4095, 4096, 4097, 65_535, 65_536, 131_072, 131_073, 300 * 1024];
const OFFSETS = [0, 0, 0, 1, 100, 4095, 4096, 8191, 65_536, 131_071, 262_144, 1_048_577];
const MODES = [0o644, 0o600, 0o755, 0o777, 0o700, 0o400, 0o000, 0o200, 0o111, 0o4755, 0o2755, 0o2777, 0o1777];

/** What written bytes are taken from. */
const NOISE_BYTES = 1 << 20;
const noise = Buffer.allocUnsafe(NOISE_BYTES);
for (let index = 0, state = 1; index < NOISE_BYTES; index++) {
  state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
  noise[index] = state >>> 23;
}
export const bytesFrom = (start: number, length: number): Buffer => noise.subarray(start, start + length);

/** Random arguments. */
export class Arguments {
  readonly prng: Prng;

  constructor(prng: Prng) {
    this.prng = prng;
  }

  chance(probability: number): boolean {
    return this.prng.next() < probability;
  }

  slot(): number {
    return this.prng.int(0, SLOTS - 1);
  }

  name(): string {
    if (this.chance(0.03)) return this.prng.pick(ODD_NAMES);
    return this.prng.pick(COMMON_NAMES);
  }

  /** Mostly one to three names, now and then something that is hard to look up. */
  path(): string {
    if (this.chance(0.01)) return this.prng.pick(['', '.', './.', '..', 'a/'.repeat(2100), NOWHERE]);
    const depth = this.prng.pick([1, 1, 1, 2, 2, 3]);
    const parts = Array.from({ length: depth }, () => this.name());
    if (this.chance(0.05)) parts[this.prng.int(0, depth - 1)] = '.';
    // At most two: see side.ts.
    if (this.chance(0.04)) parts.splice(this.prng.int(0, depth), 0, '..');
    if (this.chance(0.01)) parts.push('..');
    return parts.join(this.chance(0.02) ? '//' : '/') + (this.chance(0.06) ? '/' : '');
  }

  /** At most one `..`: see side.ts. */
  linkTarget(): string {
    const names = Array.from({ length: this.prng.int(1, 2) }, () => this.prng.pick(COMMON_NAMES));
    const target = names.join('/');
    if (this.chance(0.03))
      return this.prng.pick(['', 'x'.repeat(4095), 'x'.repeat(4096), NOWHERE, '.', '..']);
    if (this.chance(0.1)) return `${target}/`;
    return this.chance(0.15) ? `../${target}` : target;
  }

  size(): number {
    if (this.chance(0.5)) return this.prng.int(0, 9000);
    return Math.max(0, Math.min(300 * 1024, this.prng.pick(SIZES)));
  }

  offset(): number {
    if (this.chance(0.01)) return this.prng.pick([-1, -4096]);
    return this.prng.pick(OFFSETS) + (this.chance(0.4) ? this.prng.int(0, 5000) : 0);
  }

  mode(): number {
    return this.prng.pick(MODES);
  }

  /** A user's or group's id, or -1: leave it. */
  owner(): number {
    return this.prng.pick([0xffff_ffff, 0xffff_ffff, 0, 1000, 1000, 1001]);
  }

  noiseStart(): number {
    return this.prng.int(0, NOISE_BYTES / 2);
  }
}

export const quoted = (path: string): string =>
  path.length > 100 ? `'${path.slice(0, 3)}...' (${path.length} bytes)` : JSON.stringify(path);

export const octal = (mode: number): string => `0${mode.toString(8)}`;
