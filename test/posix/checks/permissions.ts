/** What another user may and may not do, and what privileges files lose. Only root can try. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails, needsRoot } from '../check.js';
import { inside, succeed } from '../children.js';
import { getxattr, setxattr, truncate } from '../libc.js';

/** struct vfs_cap_data, revision 2: CAP_NET_RAW, permitted and effective. */
const NET_RAW = Buffer.from('0100000200200000000000000000000000000000', 'hex');

const mode = (path: string): number => fs.lstatSync(path).mode & 0o7777;

function file(dir: string, name: string, bits: number): string {
  const path = join(dir, name);
  fs.writeFileSync(path, 'content');
  fs.chmodSync(path, bits);
  return path;
}

function directory(dir: string, name: string, bits: number): string {
  const path = join(dir, name);
  fs.mkdirSync(path);
  fs.chmodSync(path, bits);
  return path;
}

export const permissionChecks: Checks = {
  'file modes are checked for others': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o755);
    for (const bits of [0o600, 0o604, 0o602, 0o606, 0o666]) file(dir, bits.toString(8), bits);
    const results = await inside(
      dir,
      ['600', '604', '602', '606', '666'],
      ({ fs, attempt, arg }) =>
        arg.map((name) => [
          attempt(() => fs.closeSync(fs.openSync(name, 'r'))),
          attempt(() => fs.closeSync(fs.openSync(name, fs.constants.O_WRONLY))),
          attempt(() => fs.closeSync(fs.openSync(name, fs.constants.O_WRONLY | fs.constants.O_TRUNC))),
          attempt(() => fs.accessSync(name, fs.constants.R_OK | fs.constants.W_OK)),
        ]),
      { user: host.other },
    );
    const no = 'EACCES';
    assert.deepEqual(results, [
      [no, no, no, no],
      ['ok', no, no, no],
      [no, 'ok', 'ok', no],
      ['ok', 'ok', 'ok', 'ok'],
      ['ok', 'ok', 'ok', 'ok'],
    ]);
  },
  'the group’s bits count for its members': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o755);
    fs.chownSync(file(dir, 'f', 0o640), 0, 4321);
    const read = ({ fs, attempt }: Parameters<Parameters<typeof inside<null, string>>[2]>[0]): string =>
      attempt(() => fs.readFileSync('f'));
    assert.equal(await inside(dir, null, read, { user: { ...host.other, gid: 4321 } }), 'ok');
    assert.equal(await inside(dir, null, read, { user: host.other }), 'EACCES');
  },
  'directory modes are checked for listing, searching and changing': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o755);
    for (const [name, bits] of [
      ['none', 0o700],
      ['list', 0o704],
      ['search', 0o701],
      ['read', 0o705],
      ['all', 0o707],
    ] as const) {
      file(directory(dir, name, bits), 'f', 0o644);
    }
    const results = await inside(
      dir,
      ['none', 'list', 'search', 'read', 'all'],
      ({ fs, attempt, arg }) =>
        arg.map((name) => [
          attempt(() => fs.readdirSync(name)),
          attempt(() => fs.readFileSync(`${name}/f`)),
          attempt(() => fs.writeFileSync(`${name}/new`, '')),
          attempt(() => fs.mkdirSync(`${name}/d`)),
          attempt(() => fs.renameSync(`${name}/f`, `${name}/g`)),
        ]),
      { user: host.other },
    );
    const no = 'EACCES';
    assert.deepEqual(results, [
      [no, no, no, no, no],
      ['ok', no, no, no, no],
      [no, 'ok', no, no, no],
      ['ok', 'ok', no, no, no],
      ['ok', 'ok', 'ok', 'ok', 'ok'],
    ]);
  },
  'only the owner changes attributes': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o777);
    file(dir, 'f', 0o666);
    const { uid, gid } = host.other;
    const results = await inside(
      dir,
      { uid, gid },
      ({ fs, attempt, arg }) => {
        fs.writeFileSync('own', '');
        return [
          attempt(() => fs.chmodSync('f', 0o600)),
          attempt(() => fs.chownSync('f', arg.uid, arg.gid)),
          attempt(() => fs.utimesSync('f', 1, 1)),
          attempt(() => fs.chmodSync('own', 0o640)),
          attempt(() => fs.chownSync('own', arg.uid, arg.gid)),
          attempt(() => fs.chownSync('own', 0, arg.gid)),
          attempt(() => fs.chownSync('own', arg.uid, 0)),
          attempt(() => fs.utimesSync('own', 1, 1)),
        ];
      },
      { user: host.other },
    );
    assert.deepEqual(results, ['EPERM', 'EPERM', 'EPERM', 'ok', 'ok', 'EPERM', 'EPERM', 'ok']);
    assert.deepEqual([fs.statSync(join(dir, 'own')).uid, mode(join(dir, 'own'))], [uid, 0o640]);
  },
  'in a sticky directory only owners remove and rename': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o1777);
    for (const name of ['f', 'g']) file(dir, name, 0o666);
    directory(dir, 'd', 0o777);
    const results = await inside(
      dir,
      null,
      ({ fs, attempt }) => {
        fs.writeFileSync('own', '');
        fs.writeFileSync('own2', '');
        return [
          attempt(() => fs.unlinkSync('f')),
          attempt(() => fs.renameSync('f', 'x')),
          attempt(() => fs.renameSync('own', 'g')),
          attempt(() => fs.rmdirSync('d')),
          attempt(() => fs.unlinkSync('own')),
          attempt(() => fs.renameSync('own2', 'own3')),
        ];
      },
      { user: host.other },
    );
    assert.deepEqual(results, ['EPERM', 'EPERM', 'EPERM', 'EPERM', 'ok', 'ok']);
  },
  'a setgid directory hands down its group': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o755);
    const shared = directory(dir, 'shared', 0o777);
    fs.chownSync(shared, 0, 4321);
    fs.chmodSync(shared, 0o2777);
    await inside(
      shared,
      null,
      ({ fs }) => {
        fs.mkdirSync('d');
        fs.writeFileSync('d/f', '');
        fs.symlinkSync('t', 'l');
      },
      { user: host.other },
    );
    for (const name of ['d', 'd/f', 'l']) {
      const { uid, gid } = fs.lstatSync(join(shared, name));
      assert.deepEqual([uid, gid], [host.other.uid, 4321], name);
    }
    assert.equal(mode(join(shared, 'd')), 0o2755);
    assert.equal(mode(join(shared, 'd/f')), 0o644);
  },
  'setgid is not given to a file of a foreign group': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o777);
    fs.chownSync(file(dir, 'f', 0o755), host.other.uid, 4321);
    await inside(dir, null, ({ fs }) => fs.chmodSync('f', 0o2755), { user: host.other });
    assert.equal(mode(join(dir, 'f')), 0o755);
  },
  'a supplementary group counts as the caller’s own': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o755);
    const shared = directory(dir, 'shared', 0o770);
    fs.chownSync(shared, 0, 4321);
    fs.chmodSync(shared, 0o2770);
    fs.chownSync(file(dir, 'mine', 0o644), host.other.uid, host.other.gid);
    fs.chownSync(file(dir, 'ours', 0o660), 0, 4321);
    const member = ['setpriv', `--reuid=${host.other.uid}`, `--regid=${host.other.gid}`, '--groups=4321'];
    const script = `
      umask 022; echo x > shared/f; mkdir shared/d; echo y >> ours; cat ours > shared/copy
      mknod shared/p p; ln -s f shared/l; chgrp 4321 mine; chmod 2755 mine; chmod 2775 shared/copy`;
    await succeed(dir, [...member, 'sh', '-ec', script]);
    for (const name of ['f', 'd', 'copy', 'p', 'l']) {
      const { uid, gid } = fs.lstatSync(join(shared, name));
      assert.deepEqual([uid, gid], [host.other.uid, 4321], name);
    }
    const modes = ['shared/f', 'shared/d', 'shared/copy', 'mine'].map((name) => mode(join(dir, name)));
    assert.deepEqual(modes, [0o644, 0o2755, 0o2775, 0o2755], 'setgid is given to its members');
  },
  'setgid at creation is for members of the group': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o755);
    const shared = directory(dir, 'shared', 0o777);
    fs.chownSync(shared, 0, 4321);
    fs.chmodSync(shared, 0o2777);
    const { uid, gid } = host.other;
    for (const groups of ['--clear-groups', '--groups=4321']) {
      const node = `process.umask(0); fs.closeSync(fs.openSync('${groups}', 'wx', 0o2755))`;
      const argv = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, groups, process.execPath, '-e', node];
      await succeed(shared, argv);
    }
    assert.equal(mode(join(shared, '--clear-groups')), 0o755);
    assert.equal(mode(join(shared, '--groups=4321')), 0o2755);
  },
  'writing, cutting and giving away take setuid and setgid': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o777);
    for (const name of ['write', 'cut', 'open', 'root']) {
      file(dir, name, 0o777);
      fs.chmodSync(join(dir, name), 0o6777);
    }
    await inside(
      dir,
      null,
      ({ fs }) => {
        fs.appendFileSync('write', 'x');
        fs.truncateSync('cut', 1);
        fs.closeSync(fs.openSync('open', 'w'));
      },
      { user: host.other },
    );
    fs.appendFileSync(join(dir, 'root'), 'x');
    assert.deepEqual(
      ['write', 'cut', 'open', 'root'].map((name) => mode(join(dir, name))),
      [0o777, 0o777, 0o777, 0o6777],
    );
  },
  'capabilities go with every change of content or owner, setuid not for root’s': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o777);
    const names = ['append', 'other', 'cut', 'chown', 'owned'] as const;
    for (const name of names) {
      file(dir, name, 0o777);
      setxattr(join(dir, name), 'security.capability', NET_RAW);
      fs.chmodSync(join(dir, name), 0o6777);
    }
    fs.appendFileSync(join(dir, 'append'), 'x');
    await inside(dir, null, ({ fs }) => fs.appendFileSync('other', 'x'), { user: host.other });
    truncate(join(dir, 'cut'), 3);
    fs.chownSync(join(dir, 'chown'), 2 ** 32 - 1, 2 ** 32 - 1);
    fs.chownSync(join(dir, 'owned'), 0, 2 ** 32 - 1);
    assert.deepEqual(
      names.map((name) => mode(join(dir, name))),
      [0o6777, 0o777, 0o6777, 0o777, 0o777],
    );
    for (const name of names) fails('ENODATA', () => getxattr(join(dir, name), 'security.capability'), name);
  },
  'root’s write in the middle takes capabilities alone': (dir, host) => {
    needsRoot(host);
    for (const name of ['setuid', 'capable']) file(dir, name, name === 'setuid' ? 0o6777 : 0o777);
    setxattr(join(dir, 'capable'), 'security.capability', NET_RAW);
    for (const name of ['setuid', 'capable']) fs.writeFileSync(join(dir, name), 'x', { flag: 'r+' });
    assert.deepEqual([mode(join(dir, 'setuid')), mode(join(dir, 'capable'))], [0o6777, 0o777]);
    fails('ENODATA', () => getxattr(join(dir, 'capable'), 'security.capability'));
  },
  'an owner without permission bits is refused as well': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o777);
    const results = await inside(
      dir,
      null,
      ({ fs, attempt }) => {
        fs.writeFileSync('f', 'x', { mode: 0o077 });
        fs.chmodSync('f', 0o077);
        return [attempt(() => fs.readFileSync('f')), attempt(() => fs.openSync('f', 'r+'))];
      },
      { user: host.other },
    );
    assert.deepEqual(results, ['EACCES', 'EACCES']);
    assert.equal(fs.readFileSync(join(dir, 'f'), 'utf8'), 'x', 'root is not');
  },
  'a change of mode is felt at once': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o755);
    const path = file(dir, 'f', 0o600);
    const read = (): Promise<string> =>
      inside(dir, null, ({ fs, attempt }) => attempt(() => fs.readFileSync('f')), { user: host.other });
    assert.equal(await read(), 'EACCES');
    fs.chmodSync(path, 0o644);
    assert.equal(await read(), 'ok');
    fs.chmodSync(path, 0o640);
    assert.equal(await read(), 'EACCES');
  },
};
