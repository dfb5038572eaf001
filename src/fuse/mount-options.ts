/**
 * Mount options as users write them (`noexec`, `ro`, ...) into what mount(2) takes: flags, and for FUSE a
 * string of data. Pure.
 *
 * Defaults are `nosuid,nodev`; `suid` and `dev` take them back. Options that only tell mount(8) or an fstab
 * reader something (`defaults`, `auto`, `_netdev`, `x-...`) are passed over.
 *
 * **Source:** mount(2), mount(8) "FILESYSTEM-INDEPENDENT MOUNT OPTIONS"; fs/fuse/inode.c fuse_fs_parameters.
 */
import { limits } from '../proto/limits.js';
import type { MountOptions } from '../vfs/operations.js';
import { MountError } from './mount-error.js';

const MS = {
  RDONLY: 1 << 0,
  NOSUID: 1 << 1,
  NODEV: 1 << 2,
  NOEXEC: 1 << 3,
  SYNCHRONOUS: 1 << 4,
  DIRSYNC: 1 << 7,
  NOSYMFOLLOW: 1 << 8,
  NOATIME: 1 << 10,
  NODIRATIME: 1 << 11,
  RELATIME: 1 << 21,
  STRICTATIME: 1 << 24,
  LAZYTIME: 1 << 25,
} as const;

/** What an option does to the flags. */
const FLAG_OPTIONS: Readonly<Record<string, { readonly set?: number; readonly clear?: number }>> = {
  ro: { set: MS.RDONLY },
  rw: { clear: MS.RDONLY },
  nosuid: { set: MS.NOSUID },
  suid: { clear: MS.NOSUID },
  nodev: { set: MS.NODEV },
  dev: { clear: MS.NODEV },
  noexec: { set: MS.NOEXEC },
  exec: { clear: MS.NOEXEC },
  sync: { set: MS.SYNCHRONOUS },
  async: { clear: MS.SYNCHRONOUS },
  dirsync: { set: MS.DIRSYNC },
  nosymfollow: { set: MS.NOSYMFOLLOW },
  noatime: { set: MS.NOATIME },
  atime: { clear: MS.NOATIME },
  nodiratime: { set: MS.NODIRATIME },
  diratime: { clear: MS.NODIRATIME },
  relatime: { set: MS.RELATIME },
  norelatime: { clear: MS.RELATIME },
  strictatime: { set: MS.STRICTATIME },
  lazytime: { set: MS.LAZYTIME },
};

const PASSED_OVER = new Set([
  'defaults',
  'auto',
  'noauto',
  'user',
  'nouser',
  'users',
  'nofail',
  '_netdev',
  'nonempty',
]);

/** Every kernel option that `-o` may name, for `--help` and for telling ours from unknown ones. */
export const kernelOptionNames: readonly string[] = [...Object.keys(FLAG_OPTIONS), ...PASSED_OVER];

/** The name under which the kernel lists the mount: `fuse.leasefs`. */
export const SUBTYPE = 'leasefs';

/** Whether a mount over a directory with something in it was asked for. */
export const allowsNonEmpty = (options: MountOptions): boolean => options.kernelOptions.includes('nonempty');

function effective(options: MountOptions): { flags: number; words: string[] } {
  let flags = MS.NOSUID | MS.NODEV | (options.readOnly ? MS.RDONLY : 0);
  const words: string[] = [];
  for (const word of options.kernelOptions) {
    if (PASSED_OVER.has(word) || word.startsWith('x-')) continue;
    const change = Object.hasOwn(FLAG_OPTIONS, word) ? FLAG_OPTIONS[word] : undefined;
    if (change === undefined) throw new MountError('badOption', `unknown mount option: ${word}`);
    flags = (flags | (change.set ?? 0)) & ~(change.clear ?? 0);
    words.push(word);
  }
  return { flags: flags >>> 0, words };
}

function fuseWords(options: MountOptions): string[] {
  return [
    ...(options.allowOther ? ['allow_other'] : []),
    ...(options.defaultPermissions ? ['default_permissions'] : []),
    `max_read=${limits.fuseIoBytes}`,
  ];
}

/** Flags and data for mount(2), the device being open as `fd`. **Errors:** MountError badOption. */
export function mountArguments(
  options: MountOptions,
  device: { fd: number; uid: number; gid: number },
): { flags: number; data: string } {
  const identity = [`fd=${device.fd}`, 'rootmode=40000', `user_id=${device.uid}`, `group_id=${device.gid}`];
  return { flags: effective(options).flags, data: [...identity, ...fuseWords(options)].join(',') };
}

/** The vfs keeps these whatever the kernel says, and fusermount3 3.14 refuses them. */
const NOT_FOR_FUSERMOUNT = ['relatime', 'strictatime'];

/** The `-o` argument for fusermount3, which adds fd, rootmode, user_id and group_id itself. */
export function fusermountOption(options: MountOptions): string {
  const words = effective(options).words.filter((word) => !NOT_FOR_FUSERMOUNT.includes(word));
  const source = options.source.replaceAll('\\', '\\\\').replaceAll(',', '\\,');
  const readOnly = options.readOnly && !words.includes('ro') ? ['ro'] : [];
  return [...readOnly, ...words, ...fuseWords(options), `subtype=${SUBTYPE}`, `fsname=${source}`].join(',');
}
