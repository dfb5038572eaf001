/** Files mapped into memory. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import type { Checks } from '../check.js';
import { inside } from '../children.js';
import { Mapping } from '../libc.js';

const PAGE = 4096;

export const mappingChecks: Checks = {
  'a mapping shows what is in the file, zeros behind its end': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, Buffer.alloc(PAGE + 100, 7));
    const fd = fs.openSync(path, 'r');
    const map = new Mapping(fd, 2 * PAGE, { write: false, shared: true });
    fs.closeSync(fd);
    assert.deepEqual([map.bytes[0], map.bytes[PAGE + 99], map.bytes[PAGE + 100]], [7, 7, 0]);
    map.unmap();
  },
  'stores into a shared mapping reach the file and other processes': async (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, Buffer.alloc(3 * PAGE));
    const fd = fs.openSync(path, 'r+');
    const map = new Mapping(fd, 3 * PAGE, { write: true, shared: true });
    Buffer.from('mapped').copy(map.bytes, PAGE + 10);
    map.sync();
    const read = await inside(dir, null, ({ fs }) => fs.readFileSync('f').toString('latin1', 4106, 4112));
    assert.equal(read, 'mapped');
    Buffer.from('again').copy(map.bytes, 0);
    map.unmap();
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    assert.equal(fs.readFileSync(path).toString('latin1', 0, 5), 'again');
    assert.equal(fs.statSync(path).size, 3 * PAGE);
  },
  'writes to the file show in a shared mapping': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, Buffer.alloc(2 * PAGE, 1));
    const fd = fs.openSync(path, 'r+');
    const map = new Mapping(fd, 2 * PAGE, { write: false, shared: true });
    assert.equal(map.bytes[PAGE], 1);
    fs.writeSync(fd, Buffer.from([9]), 0, 1, PAGE);
    assert.equal(map.bytes[PAGE], 9);
    map.unmap();
    fs.closeSync(fd);
  },
  'stores into a private mapping stay private': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, Buffer.alloc(PAGE, 1));
    const fd = fs.openSync(path, 'r');
    const map = new Mapping(fd, PAGE, { write: true, shared: false });
    map.bytes[0] = 2;
    assert.equal(fs.readFileSync(path)[0], 1);
    map.unmap();
    fs.closeSync(fd);
  },
  'a mapping outlives the file’s name': (dir) => {
    const path = join(dir, 'f');
    fs.writeFileSync(path, Buffer.alloc(4 * PAGE, 5));
    const fd = fs.openSync(path, 'r+');
    const map = new Mapping(fd, 4 * PAGE, { write: true, shared: true });
    fs.closeSync(fd);
    fs.unlinkSync(path);
    assert.equal(map.bytes[3 * PAGE], 5);
    map.bytes[0] = 6;
    map.sync();
    assert.equal(map.bytes[0], 6);
    map.unmap();
  },
};
