/** What is wrong with a mountpoint is said before mounting, in one line; dead mounts are found and cleared. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmdirSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { MountError } from '../../src/fuse/mount-error.js';
import { mountAt, parseMountinfo, resolveMountpoint } from '../../src/fuse/mount-table.js';
import { probeMount } from '../../src/fuse/mountpoint.js';
import { clearDeadMount, unmountPath } from '../../src/fuse/unmount.js';
import { newMountpoint, shell, sleep, ToyMount } from './toy-mount.js';

t.setTimeout(120_000);

const usable = existsSync('/dev/fuse') ? false : 'no /dev/fuse on this machine';

async function refused(directory: string, args: readonly string[] = []): Promise<string> {
  const parent = newMountpoint();
  const { mount, answer } = await ToyMount.start(args, { directory: parent, mountpoint: directory });
  await mount.remove();
  return answer;
}

t.test('the mount table is read with its escapes', (t) => {
  const text = [
    '36 35 98:0 /mnt1 /mnt/with\\040space\\011tab rw,noatime master:1 shared:2 - ext4 /dev/root rw',
    '37 35 0:41 / /mnt/\u00fc rw - fuse.leasefs ws://a\\040b:1 rw,user_id=0',
    'nonsense',
    '',
  ].join('\n');
  t.same(parseMountinfo(text), [
    { mountpoint: '/mnt/with space\ttab', device: '98:0', type: 'ext4', source: '/dev/root' },
    { mountpoint: '/mnt/\u00fc', device: '0:41', type: 'fuse.leasefs', source: 'ws://a b:1' },
  ]);
  t.equal(mountAt('/proc')?.type, 'proc');
  t.end();
});

t.test('a mountpoint is found through symlinks, its own and its parents\u2019', (t) => {
  const base = newMountpoint();
  mkdirSync(join(base, 'real'));
  symlinkSync('real', join(base, 'link'));
  symlinkSync('link', join(base, 'link2'));
  t.equal(resolveMountpoint(join(base, 'link2')), join(base, 'real'));
  t.equal(resolveMountpoint(join(base, 'link', 'below')), join(base, 'real', 'below'));
  t.equal(resolveMountpoint(join(base, 'gone', 'below')), join(base, 'gone', 'below'));
  symlinkSync('loop', join(base, 'loop'));
  t.type(resolveMountpoint(join(base, 'loop')), 'string');
  rmSync(base, { recursive: true });
  t.end();
});

t.test(
  'a mountpoint that will not do is refused with a line that says what to do',
  { skip: usable },
  async (t) => {
    const base = newMountpoint();
    t.match(
      await refused(join(base, 'missing')),
      /^error missing .*no such directory; create it with: mkdir -p/,
    );
    writeFileSync(join(base, 'file'), '');
    t.match(await refused(join(base, 'file')), /^error notDirectory .*not a directory/);
    t.match(await refused(base), /^error notEmpty .*not empty.*-o nonempty/);
    t.match(await refused(join(base, 'file', 'x')), /^error notDirectory /);
    t.match(await refused('/proc'), /^error alreadyMounted .*already mounted \(proc\)/);
    unlinkSync(join(base, 'file'));
    t.match(await refused(base, ['-o', 'frobnicate']), /^error badOption .*frobnicate/);
    t.match(await refused('/dev/fd/77'), /^error failed .*no such descriptor/);
    rmdirSync(base);
  },
);

t.test('nonempty allows what would be hidden', { skip: usable }, async (t) => {
  const base = newMountpoint();
  writeFileSync(join(base, 'hidden'), '');
  const { mount, answer } = await ToyMount.start(['-o', 'nonempty'], { directory: base });
  t.equal(answer, 'ready');
  t.notOk(existsSync(join(base, 'hidden')));
  t.equal(await mount.command('unmount'), 'unmounted');
  await mount.exited();
  t.ok(existsSync(join(base, 'hidden')));
  unlinkSync(join(base, 'hidden'));
  await mount.remove();
});

t.test(
  'a second mount in the same place is refused while the first is alive',
  { skip: usable },
  async (t) => {
    const { mount, answer } = await ToyMount.start();
    t.equal(answer, 'ready');
    t.equal(await probeMount(mount.directory), 'alive');
    t.match(await refused(mount.directory), /^error alreadyMounted .*fuse\.leasefs/);
    await t.rejects(clearDeadMount(mount.directory), /is alive; unmount it first/);
    t.ok(mountAt(mount.directory), 'it is still there');
    await mount.remove();
  },
);

t.test(
  'the mount of a killed daemon is found dead, cleared, and mounted again',
  { skip: usable },
  async (t) => {
    const { mount } = await ToyMount.start();
    mount.daemon.kill('SIGKILL');
    await mount.exited();
    t.equal((await shell('ls .', { cwd: '/' })).code, 0);
    t.match((await shell(`ls ${mount.directory}`)).stderr, /not connected/);
    t.equal(await probeMount(mount.directory), 'dead');
    t.match(await refused(mount.directory), /^error dead .*Transport endpoint is not connected.*--force/);
    await clearDeadMount(mount.directory);
    t.equal(mountAt(mount.directory), undefined);
    await clearDeadMount(mount.directory);
    const again = await ToyMount.start([], { directory: mount.directory });
    t.equal(again.answer, 'ready');
    await again.mount.remove();
  },
);

t.test('a daemon that is killed lets go of the programs that wait for it', { skip: usable }, async (t) => {
  const { mount } = await ToyMount.start();
  const waiting = shell('cat wait', { cwd: mount.directory });
  await sleep(300);
  mount.daemon.kill('SIGKILL');
  const end = await waiting;
  t.match(end.stderr, /not connected|aborted/);
  await mount.remove();
});

t.test(
  'a mount that does not answer is called silent, without waiting for it',
  { skip: usable },
  async (t) => {
    const { mount } = await ToyMount.start();
    mount.daemon.kill('SIGSTOP');
    const since = Date.now();
    t.equal(await probeMount(mount.directory), 'silent');
    await t.rejects(clearDeadMount(mount.directory), /does not answer/);
    t.ok(Date.now() - since < 8000);
    mount.daemon.kill('SIGCONT');
    await mount.remove();
  },
);

t.test(
  'a busy mount is not taken away, unless by force; it ends with its last file',
  { skip: usable },
  async (t) => {
    const { mount } = await ToyMount.start();
    const holder = spawn('sh', ['-c', 'echo kept > held; exec 4< held; echo open; read go; cat <&4'], {
      cwd: mount.directory,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let said = '';
    holder.stdout.on('data', (data: Buffer) => {
      said += data.toString();
    });
    while (!said.includes('open')) await sleep(20);
    t.match(await mount.command('unmount'), /^error busy .*in use.*--force/);
    await t.rejects(unmountPath(mount.directory, { force: false }), /in use/);
    t.equal(await mount.command('force'), 'unmounted');
    t.equal(mountAt(mount.directory), undefined);
    const gone = new Promise((resolve) => holder.once('close', resolve));
    holder.stdin.end('go\n');
    await gone;
    t.match(said, /kept/, 'what was open could still be read');
    t.equal(await mount.line(), 'ended');
    await mount.exited();
    await mount.remove();
  },
);

t.test(
  'unmounting by path works for another process\u2019s mount, and says when there is none',
  { skip: usable },
  async (t) => {
    const { mount } = await ToyMount.start();
    await unmountPath(mount.directory, { force: false });
    t.equal(await mount.line(), 'ended');
    await mount.exited();
    const error = await unmountPath(mount.directory, { force: true }).catch((caught: unknown) => caught);
    t.ok(error instanceof MountError);
    t.match(error, { reason: 'notMounted', message: /nothing is mounted there/ });
    await mount.remove();
  },
);
