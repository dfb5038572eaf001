/** What was removed and is still used without being open: working directories, names on their way to an open. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import type { Checks } from '../check.js';
import { inside, together } from '../children.js';

export const removedChecks: Checks = {
  'a working directory that was removed is empty and takes nothing': async (dir) => {
    const seen = await inside(dir, null, ({ fs, attempt }) => {
      fs.mkdirSync('d');
      process.chdir('d');
      const { ino } = fs.statSync('.');
      fs.rmdirSync('../d');
      return {
        list: fs.readdirSync('.'),
        same: fs.statSync('.').ino === ino,
        nlink: fs.statSync('.').nlink,
        outcomes: [
          attempt(() => fs.writeFileSync('x', '')),
          attempt(() => fs.mkdirSync('y')),
          attempt(() => fs.symlinkSync('t', 'z')),
          attempt(() => fs.statSync('x')),
        ],
      };
    });
    assert.deepEqual(seen, {
      list: [],
      same: true,
      nlink: 0,
      outcomes: ['ENOENT', 'ENOENT', 'ENOENT', 'ENOENT'],
    });
  },
  'so is one that a rename replaced': async (dir) => {
    const seen = await inside(dir, null, ({ fs, attempt }) => {
      fs.mkdirSync('d');
      fs.mkdirSync('e');
      process.chdir('d');
      fs.renameSync('../e', '../d');
      return [fs.readdirSync('.'), fs.statSync('.').nlink, attempt(() => fs.writeFileSync('x', ''))];
    });
    assert.deepEqual(seen, [[], 0, 'ENOENT']);
    assert.deepEqual(fs.readdirSync(join(dir, 'd')), []);
  },
  'its way up leads on while its parent is there': async (dir) => {
    const seen = await inside(dir, null, ({ fs }) => {
      fs.writeFileSync('f', 'up here');
      fs.mkdirSync('d');
      process.chdir('d');
      fs.rmdirSync('../d');
      return fs.readFileSync('../f', 'utf8');
    });
    assert.equal(seen, 'up here');
  },
  'a name that is replaced all the time is always there': async (dir) => {
    fs.writeFileSync(join(dir, 'target'), 'complete');
    const seen = await together(dir, ['rename', 'open', 'open', 'stat'], ({ fs, arg }) => {
      const bad: string[] = [];
      for (let index = 0; index < 400; index++) {
        try {
          if (arg === 'rename') {
            fs.writeFileSync('new', 'complete');
            fs.renameSync('new', 'target');
          } else if (arg === 'stat') fs.statSync('target');
          else if (fs.readFileSync('target', 'utf8') !== 'complete') bad.push('other content');
        } catch (error) {
          bad.push(String(error));
        }
      }
      return bad;
    });
    assert.deepEqual(seen, [[], [], [], []]);
  },
};
