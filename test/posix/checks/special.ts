/** FIFOs, sockets, device nodes, and what the filesystem says about itself. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import { type Checks, fails, needsRoot } from '../check.js';
import { inside, succeed } from '../children.js';
import { mkfifo, mknod } from '../libc.js';

const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_IFREG = 0o100000;

export const specialChecks: Checks = {
  'a FIFO carries bytes between processes': async (dir) => {
    const path = join(dir, 'fifo');
    mkfifo(path, 0o640);
    assert.ok(fs.lstatSync(path).isFIFO());
    assert.equal(fs.lstatSync(path).mode & 0o777, 0o640);
    const reading = inside(dir, null, ({ fs }) => fs.readFileSync('fifo', 'utf8'));
    await inside(dir, null, ({ fs }) => fs.writeFileSync('fifo', 'through the pipe'));
    assert.equal(await reading, 'through the pipe');
    assert.equal(fs.statSync(path).size, 0);
    fails('EEXIST', () => mkfifo(path, 0o640));
  },
  'a socket is bound and connected to': async (dir) => {
    const script = `
      const net = require('node:net');
      const server = net.createServer((socket) => socket.end('hello'));
      server.listen('s', () => {
        net.connect('s').on('data', (data) => { process.stdout.write(data); })
          .on('close', () => server.close());
      });`;
    assert.equal(await succeed(dir, [process.execPath, '-e', script]), 'hello');
    await succeed(dir, [
      process.execPath,
      '-e',
      "require('node:net').createServer().listen('t', () => process.exit())",
    ]);
    assert.ok(fs.lstatSync(join(dir, 't')).isSocket());
    fs.unlinkSync(join(dir, 't'));
  },
  'device nodes keep their numbers': (dir, host) => {
    needsRoot(host);
    const large = ((0xabc & 0xfff) << 8) | (0x12345 & 0xff) | ((0x12345 & ~0xff) << 12);
    mknod(join(dir, 'null'), S_IFCHR | 0o600, (1 << 8) | 3);
    mknod(join(dir, 'disk'), S_IFBLK | 0o600, large);
    assert.ok(fs.statSync(join(dir, 'null')).isCharacterDevice());
    assert.equal(fs.statSync(join(dir, 'null')).rdev, (1 << 8) | 3);
    assert.ok(fs.statSync(join(dir, 'disk')).isBlockDevice());
    assert.equal(fs.statSync(join(dir, 'disk')).rdev, large);
  },
  'mknod makes regular files too': (dir) => {
    mknod(join(dir, 'f'), S_IFREG | 0o640, 0);
    assert.ok(fs.statSync(join(dir, 'f')).isFile());
    fs.writeFileSync(join(dir, 'f'), 'x');
    assert.equal(fs.readFileSync(join(dir, 'f'), 'utf8'), 'x');
  },
  'the filesystem’s figures make sense': async (dir) => {
    const { bsize, blocks, bfree, bavail, files, ffree } = fs.statfsSync(dir);
    assert.ok(bsize >= 512 && blocks > 0, `${blocks} blocks of ${bsize}`);
    assert.ok(blocks >= bfree && bfree >= bavail && bavail > 0, `${bfree} free, ${bavail} available`);
    assert.ok(files >= ffree && ffree > 0, `${files} inodes, ${ffree} free`);
    assert.equal((await succeed(dir, ['stat', '-f', '-c', '%l', '.'])).trim(), '255');
    await succeed(dir, ['df', '-P', '.']);
  },
};
