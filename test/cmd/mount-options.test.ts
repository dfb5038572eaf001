import t from 'tap';
import { CommandError, UsageError } from '../../src/cmd/command-error.js';
import { mountOptionsHelp, parseMountOptions, splitOptionList } from '../../src/cmd/mount-options.js';
import { mountArguments } from '../../src/fuse/mount-options.js';

const asRoot = { asRoot: true };
const asUser = { asRoot: false };
const words = (lists: string[]): string[] => [...parseMountOptions(lists, asRoot).kernelOptions];

t.test(
  'root mounts for everybody, an ordinary user for himself, the kernel checking permissions',
  async (t) => {
    t.match(parseMountOptions([], asRoot), { allowOther: true, defaultPermissions: true, readOnly: false });
    t.match(parseMountOptions([], asUser), { allowOther: false, defaultPermissions: true });
    t.equal(parseMountOptions(['allow_other'], asUser).allowOther, true);
    t.equal(parseMountOptions(['noallow_other'], asRoot).allowOther, false);
  },
);

t.test('set-user-ID programs and devices are off unless root asks', async (t) => {
  t.same(words([]), ['nosuid', 'nodev', 'noatime']);
  t.same(words(['suid,dev']), ['noatime', 'suid', 'dev']);
  t.same(words(['suid', 'nosuid']), ['nodev', 'noatime', 'nosuid']);
  t.throws(() => parseMountOptions(['dev'], asUser), CommandError);
  t.throws(() => parseMountOptions(['suid'], asUser), CommandError);
});

t.test('later options override earlier ones', async (t) => {
  t.equal(parseMountOptions(['ro', 'rw'], asRoot).readOnly, false);
  t.equal(parseMountOptions(['rw,ro'], asRoot).readOnly, true);
  t.ok(words(['exec,noexec']).includes('noexec'));
  t.notOk(words(['noexec', 'exec']).includes('noexec'));
  t.equal(parseMountOptions(['timeout=1,timeout=2'], asRoot).timeoutMs, 2000);
});

t.test('access times are not kept unless asked for, and the kernel is told what is in force', async (t) => {
  const cases = {
    '': 'noatime',
    relatime: 'relatime',
    atime: 'relatime',
    strictatime: 'strictatime',
    'relatime,strictatime': 'strictatime',
    'strictatime,noatime': 'noatime',
    'relatime,norelatime': 'noatime',
    'strictatime,norelatime': 'strictatime',
    'strictatime,nostrictatime': 'noatime',
  };
  for (const [list, mode] of Object.entries(cases)) {
    const { accessTimes, kernelOptions } = parseMountOptions([list], asRoot);
    t.equal(accessTimes, mode, list);
    t.same([...kernelOptions], ['nosuid', 'nodev', mode], list);
  }
});

t.test('options with a value are read', async (t) => {
  const settings = parseMountOptions(
    ['timeout=2.5,dirty=128M', 'cache=/var/x,driver=fuse-native,fsname=my\\,name'],
    asRoot,
  );
  t.match(settings, {
    timeoutMs: 2500,
    dirtyBytes: 128 * 1024 ** 2,
    cacheDir: '/var/x',
    driver: 'fuse-native',
    source: 'my,name',
  });
});

t.test('an option that is not known, lacks its value or has one too many is refused', async (t) => {
  for (const list of [
    'bogus',
    'ro=1',
    'timeout',
    'timeout=',
    'timeout=x',
    'driver=nfs',
    'dirty=-1',
    'toString',
    '=x',
  ])
    t.throws(() => parseMountOptions([list], asRoot), UsageError, list);
});

t.test("fstab's words to others are passed over", async (t) => {
  const settings = parseMountOptions(
    ['defaults,noauto,user,_netdev,nofail,x-systemd.automount,comment=a'],
    asRoot,
  );
  t.same([...settings.kernelOptions], ['nosuid', 'nodev', 'noatime']);
});

t.test('lists are split at commas that are not escaped', async (t) => {
  t.same(splitOptionList('a,b=c\\,d, e ,,f\\\\'), ['a', 'b=c,d', 'e', 'f\\']);
  t.same(splitOptionList(''), []);
  t.same(splitOptionList(','), []);
});

t.test('every option in the help is accepted, and every word for the kernel is one it takes', async (t) => {
  const names = [...mountOptionsHelp().matchAll(/^ {2}([a-z_]+)(=\S+)? {2}/gm)];
  t.ok(names.length > 20, 'the help lists the options');
  const values: Record<string, string> = {
    timeout: '1',
    dirty: '64M',
    cache: '/c',
    cache_size: '2G',
    driver: 'kernel',
    fsname: 'n',
  };
  for (const [, name = '', value] of names) {
    const option = value === undefined ? name : `${name}=${values[name]}`;
    const { kernelOptions } = parseMountOptions([option], asRoot);
    t.doesNotThrow(
      () =>
        mountArguments(
          {
            mountpoint: '/m',
            source: 's',
            allowOther: true,
            defaultPermissions: true,
            readOnly: false,
            kernelOptions: [...kernelOptions],
            debug: false,
          },
          { fd: 3, uid: 0, gid: 0 },
        ),
      option,
    );
  }
});

t.test('the size of the cache on disk may be 0', async (t) => {
  t.equal(parseMountOptions([], asUser).cacheBytes, undefined);
  t.equal(parseMountOptions(['cache_size=2G'], asUser).cacheBytes, 2 * 1024 ** 3);
  t.equal(parseMountOptions(['cache_size=2G,cache_size=0'], asUser).cacheBytes, 0);
  for (const bad of ['-1', '0.1', 'much'])
    t.throws(() => parseMountOptions([`cache_size=${bad}`], asUser), UsageError);
});
