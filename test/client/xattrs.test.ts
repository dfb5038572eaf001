import t from 'tap';
import { FsError } from '../../src/proto/errno.js';
import { asIno } from '../../src/proto/ids.js';
import { attrOf, RememberedRig } from './remembered.js';

const FILE = asIno(3);
const NAME = Buffer.from('user.name');
const OTHER = Buffer.from('user.other');
const args = { ino: FILE, name: NAME };
const NODATA = new FsError('ENODATA', 'getxattr');

function rigWith(dir: string): RememberedRig {
  const rig = new RememberedRig(dir);
  rig.leases.attr(attrOf(3, 1, { lease: 7 }));
  return rig;
}

const get = (rig: RememberedRig, name = NAME) => rig.xattrs.answer('getxattr', { ino: FILE, name });
const seen = (rig: RememberedRig) => rig.contents.seen('getxattr', args);

t.test('a value, or that there is none, is answered at its version alone', async (t) => {
  const rig = rigWith(t.testdir());
  t.equal(get(rig), undefined);
  rig.xattrs.learn('getxattr', args, { value: Buffer.from('v') }, seen(rig));
  rig.xattrs.learnMissing('getxattr', { ino: FILE, name: OTHER }, NODATA, seen(rig));
  t.strictSame(get(rig), { value: Buffer.from('v') });
  t.throws(() => get(rig, OTHER), { code: 'ENODATA' });
  t.equal(rig.xattrs.answer('listxattr', { ino: FILE }), undefined);
  rig.leases.attr(attrOf(3, 2, { lease: 7 }));
  t.equal(get(rig), undefined);
  t.equal(get(rig, OTHER), undefined);
});

t.test('a list says what there is not', async (t) => {
  const rig = rigWith(t.testdir());
  rig.xattrs.learn('listxattr', { ino: FILE }, { names: [NAME] }, seen(rig));
  t.strictSame(rig.xattrs.answer('listxattr', { ino: FILE }), { names: [NAME] });
  t.equal(get(rig), undefined, 'its value is not known');
  t.throws(() => get(rig, OTHER), { code: 'ENODATA' });
  rig.isTrusted = false;
  t.equal(get(rig, OTHER), undefined);
});

t.test('what may be of another version is not learned', async (t) => {
  const rig = rigWith(t.testdir());
  const before = seen(rig);
  rig.leases.attr(attrOf(3, 2, { lease: 7 }));
  rig.xattrs.learnMissing('getxattr', args, NODATA, before);
  t.equal(get(rig), undefined, 'changed between call and reply');
  rig.xattrs.learnMissing('getxattr', args, NODATA, undefined);
  rig.isQuiet = false;
  t.equal(seen(rig), undefined);
  rig.xattrs.learnMissing('getxattr', args, NODATA, attrOf(3, 2));
  t.equal(get(rig), undefined, 'a change is under way');
  rig.isQuiet = true;
  rig.xattrs.learnMissing('getxattr', args, new FsError('EIO', 'getxattr'), seen(rig));
  t.equal(get(rig), undefined, 'another error says nothing');
  rig.xattrs.learn('getxattr', args, { value: Buffer.alloc(5000) }, seen(rig));
  t.equal(get(rig), undefined, 'too large to be kept');
});
