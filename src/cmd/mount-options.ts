/**
 * What `-o` may say: the usual mount options and leasefs's own, as one table from which both the parser and
 * the help text are made. Later options override earlier ones, as mount(8) has it. An option that is not in
 * the table is refused: a mistyped one must not be ignored.
 *
 * **Source:** mount(8), "Filesystem-independent mount options"; fuse(8).
 */
import { CommandError, UsageError } from './command-error.js';
import { parseSeconds, parseSize } from './option-values.js';

export type DriverName = 'kernel' | 'fuse-native';

export interface MountSettings {
  driver: DriverName;
  readOnly: boolean;
  allowOther: boolean;
  defaultPermissions: boolean;
  /** The mountpoint may hold files, which the mount then hides. */
  nonEmpty: boolean;
  debug: boolean;
  /** What `df` shows; the metadata server's URL unless given. */
  source: string | undefined;
  cacheDir: string | undefined;
  /** How long a call waits for servers that are away; undefined: the default. */
  timeoutMs: number | undefined;
  /** Bytes written but not yet stored, at most; undefined: the default. */
  dirtyBytes: number | undefined;
  /** Blocks of files on this machine's disk, at most; undefined: the default. */
  cacheBytes: number | undefined;
  /** Which reads move access times. The kernel only shows it. */
  accessTimes: 'noatime' | 'relatime' | 'strictatime';
  /** For the kernel, as mount(8) spells them; of two that exclude each other only the later. */
  readonly kernelOptions: Set<string>;
}

interface Flag {
  readonly help: string;
  /** Only root may set it. */
  readonly rootOnly?: true;
  readonly apply: (settings: MountSettings) => void;
}

interface Valued {
  readonly help: string;
  readonly value: string;
  readonly apply: (settings: MountSettings, value: string, name: string) => void;
}

/** A word for the kernel; it takes the place of those that it contradicts. */
function kernel(
  word: string,
  contradicts: readonly string[],
  help: string,
  extra?: { rootOnly: true },
): Flag {
  return {
    help,
    ...extra,
    apply: ({ kernelOptions }) => {
      for (const other of contradicts) kernelOptions.delete(other);
      kernelOptions.add(word);
    },
  };
}

/** What the mount does about access times; the kernel is told, for /proc/mounts to say it. */
function keepAccessTimes(settings: MountSettings, mode: MountSettings['accessTimes']): void {
  settings.kernelOptions.delete(settings.accessTimes);
  settings.kernelOptions.add(mode);
  settings.accessTimes = mode;
}

const accessTimes = (mode: MountSettings['accessTimes'], help: string): Flag => ({
  help,
  apply: (settings) => keepAccessTimes(settings, mode),
});

/** Back to the default, if `mode` was what is in force. */
const noAccessTimes = (mode: MountSettings['accessTimes']): Flag => ({
  help: `undoes ${mode}`,
  apply: (settings) => {
    if (settings.accessTimes === mode) keepAccessTimes(settings, 'noatime');
  },
});

const flags: Readonly<Record<string, Flag>> = {
  ro: {
    help: 'read-only',
    apply: (settings) => {
      settings.readOnly = true;
    },
  },
  rw: {
    help: 'readable and writable (default)',
    apply: (settings) => {
      settings.readOnly = false;
    },
  },
  nosuid: kernel('nosuid', ['suid'], 'set-user-ID bits of programs have no effect (default)'),
  suid: kernel('suid', ['nosuid'], 'set-user-ID bits have their effect (root only)', { rootOnly: true }),
  nodev: kernel('nodev', ['dev'], 'device files cannot be opened (default)'),
  dev: kernel('dev', ['nodev'], 'device files can be opened (root only)', { rootOnly: true }),
  noexec: kernel('noexec', ['exec'], 'programs cannot be run from it'),
  exec: kernel('exec', ['noexec'], 'programs can be run from it (default)'),
  noatime: accessTimes('noatime', 'reading does not move access times (default)'),
  relatime: accessTimes(
    'relatime',
    'reading moves an access time that is not newer than the last change, or a day old',
  ),
  strictatime: accessTimes(
    'strictatime',
    'every read that the kernel does not answer itself moves the access time',
  ),
  atime: accessTimes('relatime', 'the same as relatime'),
  norelatime: noAccessTimes('relatime'),
  nostrictatime: noAccessTimes('strictatime'),
  nodiratime: kernel('nodiratime', ['diratime'], 'listing directories does not change their access times'),
  diratime: kernel('diratime', ['nodiratime'], 'undoes nodiratime (default)'),
  sync: kernel('sync', ['async'], 'every write is durable before it returns'),
  async: kernel('async', ['sync'], 'writes are durable when fsync or close returns (default)'),
  dirsync: kernel('dirsync', [], 'changes of directories are durable before they return (root only)', {
    rootOnly: true,
  }),
  allow_other: {
    help: 'users other than the one who mounts may enter (default for root; an ordinary user needs user_allow_other in /etc/fuse.conf)',
    apply: (settings) => {
      settings.allowOther = true;
    },
  },
  noallow_other: {
    help: "only the user who mounts may enter (an ordinary user's default)",
    apply: (settings) => {
      settings.allowOther = false;
    },
  },
  default_permissions: {
    help: 'the kernel checks permissions by mode, owner and group (default)',
    apply: (settings) => {
      settings.defaultPermissions = true;
    },
  },
  nonempty: {
    help: 'mount even where files are, and hide them',
    apply: (settings) => {
      settings.nonEmpty = true;
    },
  },
  debug: {
    help: 'log every request',
    apply: (settings) => {
      settings.debug = true;
    },
  },
};

const valued: Readonly<Record<string, Valued>> = {
  timeout: {
    value: 'SECONDS',
    help: 'how long a call waits for servers that are away before it fails (default 30)',
    apply: (settings, value, name) => {
      settings.timeoutMs = parseSeconds(value, `-o ${name}`);
    },
  },
  dirty: {
    value: 'SIZE',
    help: 'written bytes that may wait to be stored; writers wait beyond (default 64M)',
    apply: (settings, value, name) => {
      settings.dirtyBytes = parseSize(value, `-o ${name}`);
    },
  },
  cache: {
    value: 'DIR',
    help: 'the same as --cache',
    apply: (settings, value) => {
      settings.cacheDir = value;
    },
  },
  cache_size: {
    value: 'SIZE',
    help: 'the same as --cache-size',
    apply: (settings, value, name) => {
      settings.cacheBytes = parseCacheSize(value, `-o ${name}`);
    },
  },
  driver: {
    value: 'kernel|fuse-native',
    help: 'the same as --driver',
    apply: (settings, value) => {
      settings.driver = parseDriver(value);
    },
  },
  fsname: {
    value: 'NAME',
    help: "what df and mount show as the source (default: the metadata server's URL)",
    apply: (settings, value) => {
      settings.source = value;
    },
  },
};

/** What fstab and mount(8) say to others than the filesystem. */
const IGNORED = new Set(
  'defaults auto noauto user nouser users nousers owner group _netdev nofail'.split(' '),
);
const IGNORED_PREFIXES = ['x-', 'X-', 'comment='];

export const parseCacheSize = (text: string, what: string): number =>
  text === '0' ? 0 : parseSize(text, what);

export function parseDriver(text: string): DriverName {
  if (text === 'kernel' || text === 'fuse-native') return text;
  throw new UsageError(`'${text}' is not a driver; there are kernel and fuse-native`);
}

/** Splits an -o list at its commas; `\,` is a comma and `\\` a backslash within an option. */
export function splitOptionList(list: string): string[] {
  const parts = list.match(/(?:\\.|[^,\\]|\\$)+/gs) ?? [];
  return parts.map((part) => part.replace(/\\(.)/gs, '$1').trim()).filter((part) => part !== '');
}

function applyOption(settings: MountSettings, option: string, asRoot: boolean): void {
  const equals = option.indexOf('=');
  const name = equals < 0 ? option : option.slice(0, equals);
  const flag = Object.hasOwn(flags, name) ? flags[name] : undefined;
  const withValue = Object.hasOwn(valued, name) ? valued[name] : undefined;
  if (flag !== undefined && equals < 0) {
    if (flag.rootOnly === true && !asRoot) throw new CommandError(`-o ${name} can be used by root only`);
    flag.apply(settings);
  } else if (withValue !== undefined && equals >= 0 && equals < option.length - 1) {
    withValue.apply(settings, option.slice(equals + 1), name);
  } else if (withValue !== undefined) {
    throw new UsageError(`-o ${name} needs a value: ${name}=${withValue.value}`);
  } else if (flag !== undefined) {
    throw new UsageError(`-o ${name} takes no value`);
  } else if (!IGNORED.has(name) && !IGNORED_PREFIXES.some((prefix) => option.startsWith(prefix))) {
    throw new UsageError(`unknown mount option '${option}'`);
  }
}

/**
 * The settings that follow from the -o lists, in order. `asRoot`: who mounts, for the defaults: root's mount
 * is open to all users with the kernel checking permissions, an ordinary user's is private.
 * **Errors:** UsageError for an unknown option or a bad value; CommandError for what only root may set.
 */
export function parseMountOptions(lists: readonly string[], options: { asRoot: boolean }): MountSettings {
  const settings: MountSettings = {
    driver: 'kernel',
    readOnly: false,
    allowOther: options.asRoot,
    defaultPermissions: true,
    nonEmpty: false,
    debug: false,
    source: undefined,
    cacheDir: undefined,
    timeoutMs: undefined,
    dirtyBytes: undefined,
    cacheBytes: undefined,
    accessTimes: 'noatime',
    kernelOptions: new Set(['nosuid', 'nodev', 'noatime']),
  };
  for (const option of lists.flatMap(splitOptionList)) applyOption(settings, option, options.asRoot);
  return settings;
}

/** The -o options for --help, one a line. */
export function mountOptionsHelp(): string {
  const rows = [
    ...Object.entries(valued).map(([name, option]) => [`${name}=${option.value}`, option.help] as const),
    ...Object.entries(flags).map(([name, option]) => [name, option.help] as const),
  ];
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  const lines = rows.map(([name, help]) => `  ${name.padEnd(width)}${help}`);
  return `\nMount options (-o, separated by commas; later ones override earlier ones):\n${lines.join('\n')}
  What fstab says to others (defaults, noauto, user, _netdev, nofail, x-..., ...) is passed over.\n`;
}
