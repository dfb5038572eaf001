/** Mount options as users write them, into mount(2)'s flags and fusermount3's argument. */
import t from 'tap';
import { MountError } from '../../src/fuse/mount-error.js';
import { fusermountOption, mountArguments } from '../../src/fuse/mount-options.js';
import type { MountOptions } from '../../src/vfs/operations.js';

const options = (change: Partial<MountOptions>): MountOptions => ({
  mountpoint: '/mnt',
  source: 'ws://meta:1',
  allowOther: false,
  defaultPermissions: true,
  readOnly: false,
  kernelOptions: [],
  debug: false,
  ...change,
});
const device = { fd: 7, uid: 1000, gid: 100 };

t.test('nosuid and nodev unless taken back', (t) => {
  t.equal(mountArguments(options({}), device).flags, 2 | 4);
  t.equal(mountArguments(options({ kernelOptions: ['suid', 'dev'] }), device).flags, 0);
  t.equal(
    mountArguments(options({ kernelOptions: ['dev', 'nodev'] }), device).flags,
    2 | 4,
    'the last one counts',
  );
  t.end();
});

t.test('flags and words that have none', (t) => {
  const kernelOptions = [
    'noexec',
    'noatime',
    'sync',
    'strictatime',
    '_netdev',
    'x-systemd.automount',
    'defaults',
  ];
  const { flags } = mountArguments(options({ kernelOptions, readOnly: true }), device);
  t.equal(flags, 1 | 2 | 4 | 8 | 16 | 1024 | (1 << 24));
  t.end();
});

t.test('the data says whose mount it is and who may use it', (t) => {
  t.equal(
    mountArguments(options({ allowOther: true }), device).data,
    'fd=7,rootmode=40000,user_id=1000,group_id=100,allow_other,default_permissions,max_read=1048576',
  );
  t.notMatch(mountArguments(options({ defaultPermissions: false }), device).data, /allow_other|permissions/);
  t.end();
});

t.test('fusermount3 gets the same, with commas in the source escaped', (t) => {
  t.equal(
    fusermountOption(options({ source: 'a,b\\c', readOnly: true, kernelOptions: ['noexec', 'nofail'] })),
    'ro,noexec,default_permissions,max_read=1048576,subtype=leasefs,fsname=a\\,b\\\\c',
  );
  t.end();
});

t.test('an unknown option is refused by name, also one that every object has', (t) => {
  for (const word of ['frobnicate', 'toString', '__proto__', 'noexec=1']) {
    try {
      mountArguments(options({ kernelOptions: [word] }), device);
      t.fail(word);
    } catch (error) {
      t.ok(error instanceof MountError && error.reason === 'badOption' && error.message.includes(word));
    }
  }
  t.end();
});
