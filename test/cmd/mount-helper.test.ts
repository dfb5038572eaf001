import t from 'tap';
import { defaultCacheDir } from '../../src/cmd/mount-cache.js';
import { parseHelperArgs } from '../../src/cmd/mount-helper.js';

t.test("mount(8)'s arguments are understood", async (t) => {
  t.same(parseHelperArgs(['ws://h:1', '/mnt', '-o', 'rw,noexec']), {
    source: 'ws://h:1',
    target: '/mnt',
    options: ['rw,noexec'],
    fake: false,
  });
  t.match(parseHelperArgs(['ws://h:1', '/mnt', '-sv', '-f', '-t', 'leasefs']), { fake: true, options: [] });
});

t.test('what is not understood is refused', async (t) => {
  for (const args of [
    [],
    ['a'],
    ['a', 'b', 'c'],
    ['a', 'b', '-o'],
    ['a', 'b', '-N', '/proc/1/ns/mnt'],
    ['a', 'b', '--x'],
  ])
    t.equal(parseHelperArgs(args), undefined, args.join(' '));
});

t.test('each mountpoint has a cache directory of its own, in its user’s place', async (t) => {
  const root = { asRoot: true, environment: {} };
  t.match(defaultCacheDir('/mnt/a', root), /^\/var\/cache\/leasefs\/a-[0-9a-f]{12}$/);
  t.not(defaultCacheDir('/mnt/a', root), defaultCacheDir('/srv/a', root));
  t.match(defaultCacheDir('/', root), /\/root-[0-9a-f]{12}$/);
  const user = { asRoot: false, environment: { XDG_CACHE_HOME: '/x/cache' } };
  t.match(defaultCacheDir('/home/u/m n', user), /^\/x\/cache\/leasefs\/m_n-[0-9a-f]{12}$/);
  t.match(
    defaultCacheDir('/m', { asRoot: false, environment: { XDG_CACHE_HOME: 'relative' } }),
    /\/\.cache\/leasefs\//,
  );
});
