/**
 * What is mounted where, from /proc/self/mountinfo: never by asking a mount itself, which may be dead,
 * silent, or served by this very process.
 *
 * **Source:** proc_pid_mountinfo(5); native-notes/mount.md.
 */
import { lstatSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';

export interface MountEntry {
  readonly mountpoint: string;
  /** st_dev of what is mounted, as `major:minor`; for FUSE the minor is the connection's number. */
  readonly device: string;
  /** For example `ext4`, `fuse.leasefs`. */
  readonly type: string;
  readonly source: string;
}

/** Undoes the table's octal escapes (`\040` for a space). Names are taken as UTF-8. */
function unescapeField(field: string): string {
  if (!field.includes('\\')) return field;
  const bytes = Buffer.from(field, 'utf8').toString('latin1');
  const plain = bytes.replace(/\\([0-7]{3})/g, (_all, octal: string) =>
    String.fromCharCode(parseInt(octal, 8)),
  );
  return Buffer.from(plain, 'latin1').toString('utf8');
}

/** The entries of a mountinfo text, in its order; lines of another shape are passed over. */
export function parseMountinfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [before, after] = line.split(' - ');
    const fields = before?.split(' ') ?? [];
    const [type, source] = after?.split(' ') ?? [];
    const [device, mountpoint] = [fields[2], fields[4]];
    if (device === undefined || mountpoint === undefined || type === undefined) continue;
    entries.push({
      mountpoint: unescapeField(mountpoint),
      device,
      type,
      source: unescapeField(source ?? ''),
    });
  }
  return entries;
}

function mountTable(): MountEntry[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** A mount of the filesystem with this `major:minor`, if there is one. */
export function mountOfDevice(device: string): MountEntry | undefined {
  return mountTable().find((entry) => entry.device === device);
}

/** The topmost mount at exactly `mountpoint` (an absolute path without symlinks), if there is one. */
export function mountAt(mountpoint: string): MountEntry | undefined {
  return mountTable().findLast((entry) => entry.mountpoint === mountpoint);
}

const MAX_LINKS = 40;

/**
 * The absolute path without symlinks that the mount table has for `path`, found without touching `path`
 * itself when something is mounted there (readlink on a mount's root asks no daemon). A path whose parent
 * does not exist is returned as it is.
 */
export function resolveMountpoint(path: string): string {
  let current = resolve(path);
  for (let links = 0; links < MAX_LINKS; links++) {
    if (current === '/') return current;
    const candidate = join(realpathOr(dirname(current)), basename(current));
    if (mountAt(candidate) !== undefined) return candidate;
    const target = linkTarget(candidate);
    if (target === undefined) return candidate;
    current = isAbsolute(target) ? target : join(dirname(candidate), target);
  }
  return current;
}

function realpathOr(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** Where the symlink `path` leads; undefined when it is none or is not there. */
function linkTarget(path: string): string | undefined {
  try {
    return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined;
  } catch {
    return undefined;
  }
}
