/** Extended attributes. Values stay below what ext4 keeps in one block. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails, needsRoot, tick } from '../check.js';
import { succeed } from '../children.js';
import {
  getxattr,
  listxattr,
  lsetxattr,
  removexattr,
  setxattr,
  XATTR_CREATE,
  XATTR_REPLACE,
  xattrLength,
} from '../libc.js';

function file(dir: string): string {
  const path = join(dir, 'f');
  fs.writeFileSync(path, 'content');
  return path;
}

export const xattrChecks: Checks = {
  'attributes are set, read, listed and removed': (dir) => {
    const path = file(dir);
    const value = Buffer.from([0, 1, 255, 0]);
    setxattr(path, 'user.binary', value);
    setxattr(path, 'user.empty', '');
    setxattr(path, 'user.long', 'v'.repeat(1500));
    assert.deepEqual(getxattr(path, 'user.binary'), value);
    assert.equal(getxattr(path, 'user.empty').length, 0);
    assert.equal(getxattr(path, 'user.long').length, 1500);
    assert.deepEqual(listxattr(path).sort(), ['user.binary', 'user.empty', 'user.long']);
    setxattr(path, 'user.binary', 'text');
    assert.equal(getxattr(path, 'user.binary').toString(), 'text');
    removexattr(path, 'user.long');
    assert.deepEqual(listxattr(path).sort(), ['user.binary', 'user.empty']);
    fails('ENODATA', () => getxattr(path, 'user.long'));
    fails('ENODATA', () => removexattr(path, 'user.long'));
  },
  'create and replace are told apart': (dir) => {
    const path = file(dir);
    fails('ENODATA', () => setxattr(path, 'user.x', 'v', XATTR_REPLACE));
    setxattr(path, 'user.x', 'v', XATTR_CREATE);
    fails('EEXIST', () => setxattr(path, 'user.x', 'w', XATTR_CREATE));
    setxattr(path, 'user.x', 'w', XATTR_REPLACE);
    assert.equal(getxattr(path, 'user.x').toString(), 'w');
  },
  'too little room is ERANGE, none asks for the length': (dir) => {
    const path = file(dir);
    setxattr(path, 'user.x', 'twelve bytes');
    assert.equal(xattrLength(path, 'user.x'), 12);
    fails('ERANGE', () => getxattr(path, 'user.x', 5));
    fails('ERANGE', () => listxattr(path, 3));
  },
  'names have a namespace and at most 255 bytes': (dir) => {
    const path = file(dir);
    const long = `user.${'n'.repeat(250)}`;
    setxattr(path, long, 'v');
    assert.equal(getxattr(path, long).toString(), 'v');
    fails('ERANGE', () => setxattr(path, `${long}n`, 'v'));
    fails('EOPNOTSUPP', () => setxattr(path, 'nonsense.x', 'v'));
    fails('EOPNOTSUPP', () => setxattr(path, 'plain', 'v'));
    for (const call of [() => setxattr(path, 'user.', 'v'), () => removexattr(path, 'user.')])
      fails('EINVAL', call);
    fails('EINVAL', () => getxattr(path, 'user.'));
    fails('E2BIG', () => setxattr(path, 'user.x', Buffer.alloc(65_537)));
  },
  'directories have them, symlinks and removed files do not': (dir, host) => {
    setxattr(dir, 'user.d', 'v');
    assert.equal(getxattr(dir, 'user.d').toString(), 'v');
    removexattr(dir, 'user.d');
    fs.symlinkSync('nowhere', join(dir, 'l'));
    fails('EPERM', () => lsetxattr(join(dir, 'l'), 'user.x', 'v'));
    fails('ENOENT', () => setxattr(join(dir, 'l'), 'user.x', 'v'));
    fails('ENOENT', () => setxattr(join(dir, 'none'), 'user.x', 'v'));
    if (host.root) lsetxattr(join(dir, 'l'), 'trusted.x', 'v');
  },
  'root has attributes of its own': (dir, host) => {
    needsRoot(host);
    const path = file(dir);
    setxattr(path, 'trusted.x', 'secret');
    assert.equal(getxattr(path, 'trusted.x').toString(), 'secret');
    assert.ok(listxattr(path).includes('trusted.x'));
  },
  'they go with the file through rename, link and chmod, and change ctime alone': async (dir) => {
    const path = file(dir);
    const before = fs.statSync(path);
    await tick();
    setxattr(path, 'user.x', 'v');
    const after = fs.statSync(path);
    assert.ok(after.ctimeMs > before.ctimeMs);
    assert.equal(after.mtimeMs, before.mtimeMs);
    fs.linkSync(path, join(dir, 'l'));
    fs.renameSync(path, join(dir, 'g'));
    fs.chmodSync(join(dir, 'g'), 0o600);
    fs.appendFileSync(join(dir, 'g'), 'more');
    assert.equal(getxattr(join(dir, 'l'), 'user.x').toString(), 'v');
  },
  'setting the value that is there changes nothing': async (dir) => {
    const path = file(dir);
    const values = ['value', '', 'v'.repeat(3000)];
    for (const [index, value] of values.entries()) setxattr(path, `user.${index}`, value);
    const before = fs.statSync(path, { bigint: true }).ctimeNs;
    await tick();
    for (const [index, value] of values.entries()) setxattr(path, `user.${index}`, value);
    assert.equal(fs.statSync(path, { bigint: true }).ctimeNs, before);
    setxattr(path, 'user.1', 'more');
    assert.ok(fs.statSync(path, { bigint: true }).ctimeNs > before);
  },
  'cp carries them along': async (dir) => {
    const path = file(dir);
    setxattr(path, 'user.x', 'value');
    await succeed(dir, ['cp', '--preserve=all', 'f', 'g']);
    assert.equal(getxattr(join(dir, 'g'), 'user.x').toString(), 'value');
  },
};
