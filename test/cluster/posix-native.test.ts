/** The table of POSIX checks on a mount with the fuse-native driver, and what is known not to work there. */
import t from 'tap';
import { aclChecks } from '../posix/checks/acl.js';
import type { ExpectedFailure } from '../posix/table.js';
import { mountedTables } from './mounted-table.js';

const limit = (pattern: string | RegExp, reason: string): ExpectedFailure => ({
  pattern,
  reason: `${reason}: native-notes/fuse-native.md`,
});

const OWNERS = "everything belongs to the daemon's user";

const noFallocate = limit(/EOPNOTSUPP|not supported/, 'no fallocate');
const noTmpfile = limit(/ENOTSUP|EOPNOTSUPP/, 'no O_TMPFILE');
const noAcls = limit(/EOPNOTSUPP|not supported/, 'no ACLs');
const writingTakesSetuid = limit(/\+ {3}511,?\n- {3}3583/, 'writing takes setuid even when root writes');
const notHeld = limit(/ENOENT/, 'what is removed is not held');

const expected: Readonly<Record<string, ExpectedFailure>> = {
  ...Object.fromEntries(Object.keys(aclChecks).map((name) => [`acl: ${name}`, noAcls])),
  'names: any bytes but slash and NUL make a name': limit(/EILSEQ/, 'names are text'),
  'times: times are set to the nanosecond': limit(/1000000001123000000n/, 'times are milliseconds'),
  'times: times before 1970 and after 2038 are kept': limit(/0n/, 'times before 1970 show as 1970'),
  'times: UTIME_OMIT leaves a time and UTIME_NOW sets it to now': limit(
    /1000000000000n/,
    'one time alone cannot be set',
  ),
  'mapping: a mapping shows what is in the file, zeros behind its end': limit(/ENODEV/, 'no shared mappings'),
  'mapping: stores into a shared mapping reach the file and other processes': limit(
    /ENODEV/,
    'no shared mappings',
  ),
  'mapping: writes to the file show in a shared mapping': limit(/ENODEV/, 'no shared mappings'),
  'mapping: a mapping outlives the file’s name': limit(/ENODEV/, 'no shared mappings'),
  'ranges: fallocate makes a file longer, with zeros, and never shorter': noFallocate,
  'ranges: fallocate with KEEP_SIZE keeps the size': noFallocate,
  'ranges: a punched hole reads as zeros and gives its blocks back': noFallocate,
  'ranges: a zeroed range reads as zeros, and may make the file longer': noFallocate,
  'ranges: holes are punched under a mapping, which shows them': limit(/ENODEV/, 'no shared mappings'),
  'ranges: fallocate moves mtime and ctime': noFallocate,
  'ranges: fallocate takes setuid away from who is not privileged': noFallocate,
  'ranges: more than there is room for is refused at once': noFallocate,
  'ranges: holes and data are found': limit(/pending/, 'no lseek: all of a file is data'),
  'removed: a working directory that was removed is empty and takes nothing': notHeld,
  'removed: so is one that a rename replaced': notHeld,
  'removed: its way up leads on while its parent is there': notHeld,
  'unnamed: a file without a name is written and read, and leaves nothing': noTmpfile,
  'unnamed: a link gives it its first name, with all that was written': noTmpfile,
  'unnamed: with O_EXCL it never gets a name': noTmpfile,
  'unnamed: what has lost its last name gets none again': noTmpfile,
  'unnamed: the umask and a setgid directory apply to it': noTmpfile,
  'size-limits: with SIGXFSZ ignored, all that would pass the limit is EFBIG': limit(
    /fallocate -l/,
    'no fallocate',
  ),
  'size-limits: an offset beyond what a file can have is EFBIG': noFallocate,
  'size-limits: the last byte that a file can have is written, read and cut, the next is EFBIG': noFallocate,
  'links: a symlink keeps its target byte for byte': limit(/EILSEQ/, 'names are text'),
  'rename: RENAME_NOREPLACE refuses an existing target': limit(/EINVAL/, 'rename has no flags'),
  'rename: RENAME_EXCHANGE swaps two names of any kind': limit(/EINVAL/, 'rename has no flags'),
  'rename: RENAME_WHITEOUT leaves a whiteout at the old name': limit(/EINVAL/, 'rename has no flags'),
  'permissions: a supplementary group counts as the caller’s own': limit(/not permitted/, OWNERS),
  'permissions: only the owner changes attributes': limit(/EPERM/, OWNERS),
  'permissions: in a sticky directory only owners remove and rename': limit(/EPERM/, OWNERS),
  'permissions: a setgid directory hands down its group': limit(/EACCES/, OWNERS),
  'permissions: an owner without permission bits is refused as well': limit(/EPERM/, OWNERS),
  'permissions: writing, cutting and giving away take setuid and setgid': writingTakesSetuid,
  'permissions: capabilities go with every change of content or owner, setuid not for root’s':
    writingTakesSetuid,
  'permissions: root’s write in the middle takes capabilities alone': writingTakesSetuid,
  'times: a chown that names neither owner nor group moves ctime': limit(
    /'' !== 'ctime'/,
    'a chown that changes nothing does not come',
  ),
  'times: a symlink has times of its own': limit(/88000000000n/, 'times are milliseconds'),
};

const leftOut = {
  'removed: a name that is replaced all the time is always there':
    'a replaced file is missing for a moment: native-notes/fuse-native.md',
  'rename: a replaced name is never missing and never half':
    'a replaced file that is open is missing for a moment: native-notes/fuse-native.md',
};

await mountedTables(t, [
  {
    name: 'on a mount with fuse-native',
    mount: { driver: 'fuse-native' },
    expected,
    leftOut,
    withLarge: false,
    mayDie: { times: 12, reason: 'native-notes/fuse-native.md: the daemon dies now and then' },
  },
]);
