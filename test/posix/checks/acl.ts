/**
 * Access control lists, with the usual tools: how they and modes follow each other, what is inherited, who is
 * let in, and that nothing else than a list is taken for one.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails, needsRoot } from '../check.js';
import { inside, run, succeed } from '../children.js';
import {
  getxattr,
  linkOpen,
  listxattr,
  mknod,
  O_TMPFILE,
  RENAME_WHITEOUT,
  removexattr,
  renameat2,
  setxattr,
  xattrLength,
} from '../libc.js';

const ACCESS = 'system.posix_acl_access';
const DEFAULT = 'system.posix_acl_default';
const [USER, GROUP] = [4001, 4002];
const FOREIGN = { uid: 4003, gid: 4003 };
const S_IFREG = 0o100000;
const S_IFIFO = 0o010000;

const mode = (path: string): number => fs.lstatSync(path).mode & 0o7777;

/** Entries as getfacl prints them, numbers for names, separated by spaces; `default:` shortened to `d:`. */
async function listOf(path: string): Promise<string> {
  const text = await succeed('/', ['getfacl', '--absolute-names', '-cnE', path]);
  return text.trim().replaceAll('default:', 'd:').replaceAll('user:', 'u:').split('\n').join(' ');
}

async function setfacl(path: string, ...options: string[]): Promise<void> {
  await succeed('/', ['setfacl', ...options, path]);
}

function file(dir: string, name: string, bits: number): string {
  const path = join(dir, name);
  fs.writeFileSync(path, 'content');
  fs.chmodSync(path, bits);
  return path;
}

function directory(dir: string, name: string, bits = 0o755): string {
  const path = join(dir, name);
  fs.mkdirSync(path);
  fs.chmodSync(path, bits);
  return path;
}

/** Runs `action` under another umask. */
function masked(umask: number, action: () => void): void {
  const before = process.umask(umask);
  try {
    action();
  } finally {
    process.umask(before);
  }
}

/** An attribute's value: version 2, then tag, permissions and id for each entry. */
function listBytes(...entries: readonly (readonly [tag: number, perm: number, id?: number])[]): Buffer {
  const bytes = Buffer.alloc(4 + entries.length * 8);
  bytes.writeUInt32LE(2, 0);
  entries.forEach(([tag, perm, id = 0xffff_ffff], index) => {
    bytes.writeUInt16LE(tag, 4 + index * 8);
    bytes.writeUInt16LE(perm, 6 + index * 8);
    bytes.writeUInt32LE(id, 8 + index * 8);
  });
  return bytes;
}

const [OBJ, NAMED, GROUP_OBJ, NAMED_GROUP, MASK, OTHER] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20];

/** Values that are no list, by what is wrong with them. */
const hostile: Readonly<Record<string, Buffer>> = {
  'one byte': Buffer.from([2]),
  'half an entry': Buffer.concat([listBytes([OBJ, 7], [GROUP_OBJ, 5], [OTHER, 5]), Buffer.alloc(4)]),
  'no owner': listBytes([GROUP_OBJ, 5], [OTHER, 5]),
  'no others': listBytes([OBJ, 7], [GROUP_OBJ, 5]),
  'the owner twice': listBytes([OBJ, 7], [OBJ, 7], [GROUP_OBJ, 5], [OTHER, 5]),
  'a user without a mask': listBytes([OBJ, 7], [NAMED, 4, 7], [GROUP_OBJ, 5], [OTHER, 5]),
  'entries out of order': listBytes([GROUP_OBJ, 5], [OBJ, 7], [OTHER, 5]),
  'an unknown tag': listBytes([OBJ, 7], [GROUP_OBJ, 5], [OTHER, 5], [0x40, 5]),
  'a permission of 8': listBytes([OBJ, 8], [GROUP_OBJ, 5], [OTHER, 5]),
  'a user without a number': listBytes([OBJ, 7], [NAMED, 4], [GROUP_OBJ, 5], [MASK, 5], [OTHER, 5]),
};

const USER_AND_MASK = `u:${USER}:rwx,g:${GROUP}:r-x`;

export const aclChecks: Checks = {
  'a list names users and groups, and its mask stands in the mode': async (dir) => {
    const path = file(dir, 'f', 0o640);
    assert.equal(await listOf(path), 'u::rw- group::r-- other::---', 'the mode alone');
    assert.deepEqual(listxattr(path), []);
    await setfacl(path, '-m', USER_AND_MASK);
    assert.equal(
      await listOf(path),
      `u::rw- u:${USER}:rwx group::r-- group:${GROUP}:r-x mask::rwx other::---`,
    );
    assert.equal(mode(path), 0o670, 'the mask in the place of the group');
    assert.deepEqual(listxattr(path), [ACCESS]);
    await setfacl(path, '-m', 'm::r');
    assert.equal(mode(path), 0o640);
    assert.match(await listOf(path), /mask::r--/);
  },
  'chmod changes the list: owner, mask and others, never the group': async (dir) => {
    const path = file(dir, 'f', 0o640);
    await setfacl(path, '-m', `u:${USER}:rwx`);
    const chmods: [number, string][] = [
      [0o751, `u::rwx u:${USER}:rwx group::r-- mask::r-x other::--x`],
      [0o4604, `u::rw- u:${USER}:rwx group::r-- mask::--- other::r--`],
      [0o770, `u::rwx u:${USER}:rwx group::r-- mask::rwx other::---`],
    ];
    for (const [bits, list] of chmods) {
      fs.chmodSync(path, bits);
      assert.equal(mode(path), bits);
      assert.equal(await listOf(path), list, bits.toString(8));
    }
  },
  'a list that the mode can say is no list': async (dir) => {
    const path = file(dir, 'f', 0o640);
    setxattr(path, ACCESS, listBytes([OBJ, 7], [GROUP_OBJ, 1], [OTHER, 4]));
    assert.equal(mode(path), 0o714);
    assert.deepEqual(listxattr(path), []);
    fails('ENODATA', () => xattrLength(path, ACCESS));
    await setfacl(path, '-m', `u:${USER}:rw`);
    setxattr(path, ACCESS, listBytes([OBJ, 6], [GROUP_OBJ, 4], [OTHER, 0]));
    assert.deepEqual([mode(path), listxattr(path)], [0o640, []]);
  },
  'removing a list leaves the mode': async (dir) => {
    const path = file(dir, 'f', 0o600);
    await setfacl(path, '-m', `u:${USER}:rwx`);
    removexattr(path, ACCESS);
    assert.deepEqual([mode(path), listxattr(path)], [0o670, []]);
    assert.equal(await listOf(path), 'u::rw- group::rwx other::---');
    await setfacl(path, '-m', `u:${USER}:rwx`, '-m', 'g::r');
    await setfacl(path, '-b');
    assert.equal(await listOf(path), 'u::rw- group::r-- other::---');
    const d = directory(dir, 'd');
    await setfacl(d, '-d', '-m', `u:${USER}:rwx`);
    await setfacl(d, '-k');
    assert.deepEqual(listxattr(d), []);
  },
  'a default list goes to what is created, over the umask': async (dir) => {
    const d = directory(dir, 'd');
    await setfacl(d, '-d', '-m', `u::rwx,u:${USER}:rwx,g::r-x,o::r-x`);
    masked(0o077, () => {
      fs.closeSync(fs.openSync(join(d, 'file'), 'w', 0o666));
      fs.mkdirSync(join(d, 'dir'), 0o777);
      mknod(join(d, 'node'), S_IFREG | 0o664, 0);
      mknod(join(d, 'fifo'), S_IFIFO | 0o620, 0);
      fs.symlinkSync('nowhere', join(d, 'link'));
      const fd = fs.openSync(d, O_TMPFILE | fs.constants.O_WRONLY, 0o640);
      linkOpen(fd, join(d, 'tmpfile'));
      fs.closeSync(fd);
    });
    const list = (owner: string, mask: string, other: string) =>
      `u::${owner} u:${USER}:rwx group::r-x mask::${mask} other::${other}`;
    assert.equal(await listOf(join(d, 'file')), list('rw-', 'rw-', 'r--'));
    assert.equal(await listOf(join(d, 'node')), list('rw-', 'rw-', 'r--'));
    assert.equal(await listOf(join(d, 'fifo')), list('rw-', '-w-', '---'));
    assert.equal(await listOf(join(d, 'tmpfile')), list('rw-', 'r--', '---'));
    const access = list('rwx', 'rwx', 'r-x');
    assert.equal(await listOf(join(d, 'dir')), `${access} d:${access.replaceAll(' ', ' d:')}`, 'both kinds');
    assert.deepEqual(
      ['file', 'dir', 'node', 'fifo', 'tmpfile'].map((name) => mode(join(d, name))),
      [0o664, 0o775, 0o664, 0o620, 0o640],
    );
    assert.deepEqual(listxattr(join(d, 'file')), [ACCESS]);
  },
  'a default list without names goes into the mode, over the umask': async (dir) => {
    const d = directory(dir, 'd');
    await setfacl(d, '-d', '-m', 'u::rwx,g::rwx,o::r-x');
    masked(0o077, () => fs.writeFileSync(join(d, 'f'), ''));
    assert.deepEqual([mode(join(d, 'f')), listxattr(join(d, 'f'))], [0o664, []]);
    masked(0o077, () => fs.mkdirSync(join(d, 'deeper')));
    assert.deepEqual([mode(join(d, 'deeper')), listxattr(join(d, 'deeper'))], [0o775, [DEFAULT]]);
  },
  'a default list lets nobody in by itself, and is a directory’s': async (dir) => {
    const d = directory(dir, 'd', 0o750);
    await setfacl(d, '-d', '-m', `u:${USER}:rwx`);
    assert.equal(mode(d), 0o750);
    const value = getxattr(d, DEFAULT);
    const path = file(dir, 'f', 0o644);
    fails('EACCES', () => setxattr(path, DEFAULT, value));
    fails('ENODATA', () => xattrLength(path, DEFAULT));
  },
  'a whiteout inherits a list too': async (dir) => {
    file(dir, 'f', 0o644);
    await setfacl(dir, '-d', '-m', `u:${USER}:rwx`);
    renameat2(join(dir, 'f'), join(dir, 'g'), RENAME_WHITEOUT);
    assert.ok(fs.lstatSync(join(dir, 'f')).isCharacterDevice());
    assert.ok(listxattr(join(dir, 'f')).includes(ACCESS));
    assert.ok(!listxattr(join(dir, 'g')).includes(ACCESS));
  },
  'the user and the group that a list names are let in as far as the mask goes': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o755);
    const path = file(dir, 'f', 0o600);
    const tries = (user: { uid: number; gid: number }) =>
      inside(
        dir,
        null,
        ({ fs, attempt }) => {
          const { R_OK, W_OK, O_WRONLY } = fs.constants;
          return [
            attempt(() => fs.readFileSync('f')),
            attempt(() => fs.closeSync(fs.openSync('f', O_WRONLY))),
            attempt(() => fs.accessSync('f', R_OK | W_OK)),
          ];
        },
        { user },
      );
    const [no, none, all] = ['EACCES', ['EACCES', 'EACCES', 'EACCES'], ['ok', 'ok', 'ok']];
    const user = { ...FOREIGN, uid: USER };
    const member = { ...FOREIGN, gid: GROUP };
    assert.deepEqual(await tries(user), none);
    await setfacl(path, '-m', `u:${USER}:rw,g:${GROUP}:r`);
    assert.deepEqual(await tries(user), all);
    assert.deepEqual(await tries(member), ['ok', no, no]);
    assert.deepEqual(await tries(FOREIGN), none);
    fs.chmodSync(path, 0o640);
    assert.deepEqual(await tries(user), ['ok', no, no], 'the mask cuts');
    fs.chmodSync(path, 0o616);
    assert.deepEqual(await tries(user), none, 'who is named is not others');
    assert.deepEqual(await tries(FOREIGN), all);
    await setfacl(path, '-b');
    assert.deepEqual(await tries(user), all, 'without the list the others’ bits count');
  },
  'a directory lets in whom its list names': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o755);
    const d = directory(dir, 'd', 0o700);
    file(d, 'inner', 0o644);
    const tries = () =>
      inside(
        dir,
        null,
        ({ fs, attempt }) => [
          attempt(() => fs.readdirSync('d')),
          attempt(() => fs.statSync('d/inner')),
          attempt(() => fs.writeFileSync('d/new', '')),
        ],
        { user: { ...FOREIGN, uid: USER } },
      );
    const no = 'EACCES';
    assert.deepEqual(await tries(), [no, no, no]);
    await setfacl(d, '-m', `u:${USER}:x`);
    assert.deepEqual(await tries(), [no, 'ok', no]);
    await setfacl(d, '-m', `u:${USER}:rwx`);
    assert.deepEqual(await tries(), ['ok', 'ok', 'ok']);
  },
  'only the owner changes a list': async (dir, host) => {
    needsRoot(host);
    fs.chmodSync(dir, 0o755);
    const path = file(dir, 'f', 0o666);
    await setfacl(path, '-m', `u:${USER}:rwx`);
    const by = (options: string[]) =>
      run(dir, ['setfacl', ...options, 'f'], { user: { ...FOREIGN, uid: USER } });
    for (const options of [['-m', `u:${USER}:r`], ['-b']]) {
      const { status, stderr } = await by(options);
      assert.equal(status, 1);
      assert.match(stderr, /Operation not permitted/);
    }
    assert.match(await listOf(path), new RegExp(`u:${USER}:rwx`));
  },
  'copies keep lists, default ones too': async (dir) => {
    const d = directory(dir, 'd');
    const path = file(d, 'f', 0o640);
    await setfacl(path, '-m', USER_AND_MASK);
    await setfacl(d, '-m', `u:${USER}:rx`, '-d', '-m', `g:${GROUP}:rwx`);
    await succeed(dir, ['cp', '-a', 'd', 'e']);
    for (const name of ['', 'f']) {
      assert.equal(await listOf(join(dir, 'e', name)), await listOf(join(d, name)));
    }
    assert.match(await listOf(join(dir, 'e')), new RegExp(`u:${USER}:r-x .*d:group:${GROUP}:rwx`));
  },
  'a link shares the list, and a rename keeps it': async (dir) => {
    const path = file(dir, 'f', 0o600);
    await setfacl(path, '-m', `u:${USER}:r`);
    fs.linkSync(path, join(dir, 'l'));
    fs.renameSync(path, join(dir, 'g'));
    assert.equal(await listOf(join(dir, 'l')), await listOf(join(dir, 'g')));
    assert.match(await listOf(join(dir, 'g')), new RegExp(`u:${USER}:r--`));
  },
  'what is no list is refused and changes nothing': async (dir) => {
    const d = directory(dir, 'd', 0o750);
    await setfacl(d, '-m', `u:${USER}:r`, '-d', '-m', `u:${USER}:rw`);
    const before = await listOf(d);
    for (const [what, value] of Object.entries(hostile)) {
      for (const name of [ACCESS, DEFAULT]) fails('EINVAL', () => setxattr(d, name, value), what);
    }
    const other = listBytes([OBJ, 7], [GROUP_OBJ, 5], [OTHER, 5]);
    other.writeUInt32LE(3, 0);
    fails('EOPNOTSUPP', () => setxattr(d, ACCESS, other), 'another version');
    fails('EOPNOTSUPP', () => setxattr(d, 'system.posix_acl_other', other), 'another name');
    assert.equal(await listOf(d), before);
  },
  'a list of hundreds of entries is kept': async (dir) => {
    const path = file(dir, 'f', 0o600);
    const names = Array.from({ length: 300 }, (_, index) => [NAMED, 4, 10_000 + index] as const);
    const groups = [NAMED_GROUP, 1, GROUP] as const;
    const value = listBytes([OBJ, 6], ...names, [GROUP_OBJ, 0], groups, [MASK, 5], [OTHER, 0]);
    setxattr(path, ACCESS, value);
    assert.deepEqual(getxattr(path, ACCESS), value);
    assert.equal(mode(path), 0o650);
  },
};
