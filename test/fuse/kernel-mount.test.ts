/** The kernel driver under a real kernel: the toy filesystem used by real programs. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, statSync } from 'node:fs';
import t from 'tap';
import { mountAt } from '../../src/fuse/mount-table.js';
import { isRoot, newMountpoint, shell, sleep, ToyMount, USER_ID } from './toy-mount.js';

t.setTimeout(120_000);

const usable = existsSync('/dev/fuse') ? false : 'no /dev/fuse on this machine';
t.equal(usable !== false && process.env.CI !== undefined, false, 'CI has /dev/fuse');

/** Runs `body` on a mount started with `args`, and removes it whatever happens. */
async function onMount(
  args: readonly string[],
  body: (mount: ToyMount) => Promise<void>,
  options: { uid?: number } = {},
): Promise<void> {
  const { mount, answer } = await ToyMount.start(args, options);
  try {
    if (answer !== 'ready') throw new Error(`${answer} ${mount.log}`);
    await body(mount);
  } finally {
    await mount.remove();
  }
}

/** Every operation, by programs. Each line fails the script when it does not do what it should. */
const EVERYTHING = `
set -e
mkdir -m 750 dir; test "$(stat -c %a:%F dir)" = "750:directory"
echo hello > dir/file; test "$(cat dir/file)" = hello
echo more >> dir/file; test "$(wc -c < dir/file)" = 11
truncate -s 3 dir/file; test "$(cat dir/file)" = hel
truncate -s 5000 dir/file; test "$(stat -c %s dir/file)" = 5000
chmod 4711 dir/file; test "$(stat -c %a dir/file)" = 4711
touch -d '2001-02-03 04:05:06.123456789Z' dir/file
test "$(stat -c %Y dir/file)" = 981173106; stat -c %y dir/file | grep -q 123456789
touch -d '1969-12-31 23:59:55Z' dir/file; test "$(stat -c %Y dir/file)" = -5
test "$(stat -c %W dir/file)" -gt 1600000000
ln -s ../target/of/link dir/link; test "$(readlink dir/link)" = ../target/of/link
ln dir/file hard; test "$(stat -c %h hard)" = 2; test "$(stat -c %i hard)" = "$(stat -c %i dir/file)"
mv hard moved; test ! -e hard; test -e moved
echo old > other; mv moved other; test "$(stat -c %s other)" = 5000
echo keep > kept; mv -n other kept; test "$(cat kept)" = keep; test -e other
mkfifo pipe; test -p pipe
rm pipe kept dir/link; rm -f dir/file other
rmdir dir; test ! -e dir
mkdir full; touch full/x; ! rmdir full 2>/dev/null; rm -r full
test "$(stat -f -c %l .)" = 255; df . > /dev/null
touch attrs; setfattr -n user.one -v value attrs; setfattr -n user.two -v "" attrs
test "$(getfattr --only-values -n user.one attrs)" = value
test "$(getfattr -d attrs | grep -c user)" = 2
setfattr -x user.one attrs; ! getfattr -n user.one attrs 2>/dev/null; rm attrs
dd if=/dev/zero of=synced bs=4k count=3 conv=fsync 2>/dev/null; dd if=/dev/zero of=synced bs=4k count=1 oflag=sync conv=notrunc 2>/dev/null
sync synced; sync -f .; rm synced
dd if=/dev/urandom of=/dev/stdout bs=1k count=3000 2>/dev/null > big; cp big copy; cmp big copy; rm big copy
(umask 077; touch private; test "$(stat -c %a private)" = 600; rm private)
test "$(ls -A | sort | tr '\\n' ' ')" = "release wait "
`;

const KINDS: readonly (readonly [string, readonly string[]])[] = [
  ['answers at once', []],
  ['answers by promise', ['--later']],
  ['without polling', ['--spin', '0']],
  ['read parked in the thread pool', ['--loop', 'parked', '--later']],
  ['with long timeouts', ['--timeout', '60000']],
];

for (const [name, args] of KINDS) {
  t.test(`every operation works for real programs: ${name}`, { skip: usable }, async (t) => {
    await onMount(args, async (mount) => {
      const end = await shell(`set -x\n${EVERYTHING}`, { cwd: mount.directory });
      t.equal(end.code, 0, end.stderr.split('\n').slice(-4).join('\n'));
      t.equal(await mount.command('unmount'), 'unmounted');
      t.equal(await mount.line(), 'ended');
      await mount.exited();
      t.equal(mount.daemon.exitCode, 0);
      t.equal(mount.log, '', 'nothing went to the log');
    });
  });
}

t.test(
  'root mounts for everybody, shown as fuse.leasefs, nosuid and nodev',
  { skip: usable || (isRoot ? false : 'needs root') },
  async (t) => {
    await onMount(['--source', 'the source, with a comma'], async (mount) => {
      const entry = mountAt(mount.directory);
      t.equal(entry?.type, 'fuse.leasefs');
      t.equal(entry?.source, 'the source, with a comma');
      const options = await shell(`grep ' ${mount.directory} ' /proc/self/mountinfo`);
      t.match(options.stdout, /nosuid,nodev/);
      t.match(options.stdout, /allow_other/);
      const ahead = await shell(`cat /sys/class/bdi/${entry?.device}/read_ahead_kb`);
      t.equal(ahead.stdout.trim(), '1024');
      const end = await shell('touch mine && stat -c %u:%g mine && chmod 600 mine', {
        cwd: mount.directory,
        uid: USER_ID,
      });
      t.equal(end.stdout.trim(), `${USER_ID}:${USER_ID}`);
      t.equal(
        (await shell('cat mine', { cwd: mount.directory, uid: USER_ID + 1 })).code,
        1,
        'modes are checked',
      );
    });
  },
);

t.test('an ordinary user mounts through fusermount3, for that user alone', { skip: usable }, async (t) => {
  await onMount(
    ['--source', 'user,source'],
    async (mount) => {
      t.equal(mountAt(mount.directory)?.source, 'user,source');
      t.equal(mountAt(mount.directory)?.type, 'fuse.leasefs');
      const end = await shell(`set -x\n${EVERYTHING}`, { cwd: mount.directory, uid: USER_ID });
      t.equal(end.code, 0, end.stderr.split('\n').slice(-4).join('\n'));
      if (isRoot) t.throws(() => statSync(mount.directory), { code: 'EACCES' });
      t.equal(await mount.command('unmount'), 'unmounted');
      t.equal(await mount.line(), 'ended');
    },
    { uid: USER_ID },
  );
});

t.test(
  'allow_other without permission in /etc/fuse.conf is refused with the reason',
  { skip: usable },
  async (t) => {
    const conf = await shell('grep -q "^user_allow_other" /etc/fuse.conf');
    if (conf.code === 0) return t.comment('user_allow_other is set on this machine');
    const { mount, answer } = await ToyMount.start(['--allowOther'], { uid: USER_ID });
    t.match(answer, /^error notAllowed .*user_allow_other/);
    await mount.remove();
  },
);

t.test('Ctrl-C ends a read that waits, and a write, and the mount goes on', { skip: usable }, async (t) => {
  await onMount([], async (mount) => {
    for (const [signal, script] of [
      ['SIGINT', 'exec cat wait'],
      ['SIGTERM', 'exec dd if=/dev/zero of=wait bs=4k count=1 conv=notrunc'],
      ['SIGKILL', 'exec cat wait'],
    ] as const) {
      const child = spawn('sh', ['-c', script], { cwd: mount.directory, stdio: 'ignore' });
      await sleep(300);
      t.equal(child.exitCode, null, 'it waits');
      const since = Date.now();
      const ended = new Promise<NodeJS.Signals | null>((resolve) =>
        child.once('exit', (_code, name) => resolve(name)),
      );
      child.kill(signal);
      t.equal(await Promise.race([ended, sleep(5000)]), signal);
      t.ok(Date.now() - since < 1000, `${signal} took ${Date.now() - since} ms`);
    }
    t.equal((await shell('echo x > after && cat after', { cwd: mount.directory })).stdout, 'x\n');
  });
});

t.test(
  'a write whose operation takes its time keeps its data while other requests come',
  { skip: usable },
  async (t) => {
    await onMount([], async (mount) => {
      const script =
        'head -c 300000 /dev/urandom > /tmp/toy-$$; dd if=/tmp/toy-$$ of=wait bs=300000 count=1 conv=notrunc 2>/dev/null & sleep 0.3; head -c 3000000 /dev/zero > noise; cat release; wait; cmp -n 300000 /tmp/toy-$$ copy 2>/dev/null; rm /tmp/toy-$$; stat -c %s wait';
      const end = await shell(script, { cwd: mount.directory });
      t.equal(end.stdout.trim(), '300000');
    });
  },
);

t.test('large reads and writes arrive whole: buffered, direct, synchronous', { skip: usable }, async (t) => {
  await onMount(['--later'], async (mount) => {
    const source = '/tmp/toy-large-$$';
    const end = await shell(
      `set -e; head -c 33554444 /dev/urandom > ${source}
       dd if=${source} of=a bs=1M 2>/dev/null; cmp ${source} a
       dd if=${source} of=b bs=4M oflag=direct 2>/dev/null; dd if=b bs=4M iflag=direct 2>/dev/null | cmp ${source} -
       dd if=${source} of=c bs=777777 2>/dev/null; cmp ${source} c
       dd if=c bs=12345 2>/dev/null | cmp ${source} -
       rm ${source}`,
      { cwd: mount.directory, timeoutMs: 60_000 },
    );
    t.equal(end.code, 0, end.stderr);
  });
});

t.test(
  'a directory of 10,000 entries is listed whole, with and without attributes',
  { skip: usable },
  async (t) => {
    const cases: [number, string[]][] = [
      [10_000, []],
      [2_000, ['--later', '--timeout', '1000']],
    ];
    for (const [count, args] of cases) {
      await onMount(args, async (mount) => {
        const end = await shell(
          `mkdir many && cd many && seq -f "entry-with-a-longer-name-%05g" ${count} | xargs touch
         ls -U | sort -u | wc -l && ls -l | wc -l && find . | wc -l && rm -r ../many && ls ..`,
          { cwd: mount.directory, timeoutMs: 60_000 },
        );
        t.same(end.stdout.trim().split('\n'), [count, count + 1, count + 1, 'release', 'wait']);
      });
    }
  },
);

t.test('names of any bytes work', { skip: usable }, async (t) => {
  await onMount([], async (mount) => {
    const bytes = Buffer.from(
      Array.from({ length: 255 }, (_, index) => index + 1).filter((byte) => byte !== 0x2f),
    );
    const path = Buffer.concat([Buffer.from(`${mount.directory}/`), bytes]);
    closeSync(openSync(path, 'w'));
    const names = readdirSync(Buffer.from(mount.directory), { encoding: 'buffer' });
    t.ok(names.some((name) => Buffer.compare(name, bytes) === 0));
    t.throws(() => openSync(`${mount.directory}/${'x'.repeat(256)}`, 'w'), { code: 'ENAMETOOLONG' });
  });
});

t.test('many clients at once get their own answers', { skip: usable }, async (t) => {
  for (const args of [[], ['--later']]) {
    await onMount(args, async (mount) => {
      const script = (client: number): string =>
        `set -e; mkdir c${client}; cd c${client}; for i in $(seq 60); do echo ${client}-$i > f$i; test "$(cat f$i)" = ${client}-$i; mv f$i g$i; done; test $(ls | wc -l) = 60; rm -r ../c${client}`;
      const ends = await Promise.all(
        Array.from({ length: 8 }, (_, client) =>
          shell(script(client), { cwd: mount.directory, timeoutMs: 60_000 }),
        ),
      );
      for (const end of ends) t.equal(end.code, 0, end.stderr);
    });
  }
});

t.test('an idle daemon uses no CPU, also right after dense traffic', { skip: usable }, async (t) => {
  await onMount([], async (mount) => {
    await shell('for i in $(seq 200); do echo > x; done', { cwd: mount.directory });
    await sleep(200);
    const before = mount.cpuSeconds();
    await sleep(1500);
    t.ok(mount.cpuSeconds() - before <= 0.03, `${mount.cpuSeconds() - before} s in 1.5 s`);
  });
});

t.test(
  'notifications are taken by the kernel, whether it knew the inode or not',
  { skip: usable },
  async (t) => {
    await onMount(['--timeout', '60000'], async (mount) => {
      const made = await shell('echo x > file; cat file; stat -c %i file', { cwd: mount.directory });
      const ino = made.stdout.trim().split('\n')[1] ?? '';
      t.equal(await mount.command(`inval ${ino}`), 'invalidated');
      t.equal(await mount.command('inval 123456789'), 'invalidated');
      t.equal(await mount.command('entry 1 file'), 'invalidated');
      t.equal(await mount.command('entry 1 unheard-of'), 'invalidated');
      t.equal(await mount.command('delete 1 unheard-of 5'), 'invalidated');
      t.match(await mount.command('epoch'), /invalidated|ENOSYS/);
      t.equal((await shell('cat file', { cwd: mount.directory })).stdout, 'x\n');
    });
  },
);

t.test(
  'what the kernel forgets is passed on',
  { skip: usable || (isRoot ? false : 'needs root to drop caches') },
  async (t) => {
    await onMount(['--timeout', '60000'], async (mount) => {
      await shell('mkdir d; for i in $(seq 50); do echo > d/$i; done; ls -l d; rm -r d', {
        cwd: mount.directory,
      });
      const answer = await mount.command('forgotten');
      t.ok(Number(answer.split(' ')[1]) >= 50, answer);
    });
  },
);

t.test(
  'a mount handed over as a descriptor is served',
  { skip: usable || (isRoot ? false : 'needs root') },
  async (t) => {
    const directory = newMountpoint();
    const fd = openSync('/dev/fuse', 'r+');
    const mounted = spawn(
      'mount',
      ['-i', '-t', 'fuse', '-o', 'fd=3,rootmode=40000,user_id=0,group_id=0,allow_other', 'handed', directory],
      { stdio: ['ignore', 'ignore', 'inherit', fd] },
    );
    t.equal(await new Promise((resolve) => mounted.once('exit', resolve)), 0);
    const { mount, answer } = await ToyMount.start([], { directory, mountpoint: '/dev/fd/3', inherit: fd });
    closeSync(fd);
    try {
      t.equal(answer, 'ready');
      t.equal((await shell('echo x > y; cat y', { cwd: directory })).stdout, 'x\n');
    } finally {
      await mount.remove();
    }
  },
);
