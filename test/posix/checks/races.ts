/** Many processes in one directory: every name has one winner, and nothing is lost. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { join } from 'node:path';
import type { Checks } from '../check.js';
import { together } from '../children.js';

const PROCESSES = [0, 1, 2, 3];
const ROUNDS = 60;

/** Asserts that each round was won by exactly one process and lost with `code` by the others. */
function oneWinner(results: string[][], code: string): void {
  for (let round = 0; round < ROUNDS; round++) {
    const outcomes = results.map((result) => result[round]);
    const sorted = [...outcomes].sort();
    const want = [...PROCESSES.slice(1).map(() => code), 'ok'].sort();
    assert.deepEqual(sorted, want, `round ${round}`);
  }
}

export const raceChecks: Checks = {
  'of many that create a name exclusively one succeeds': async (dir) => {
    const results = await together(dir, PROCESSES, ({ fs, attempt, arg }) =>
      Array.from({ length: 60 }, (_, round) =>
        attempt(() => fs.writeFileSync(`f${round}`, String(arg), { flag: 'wx' })),
      ),
    );
    oneWinner(results, 'EEXIST');
    for (let round = 0; round < ROUNDS; round++) {
      const winner = results.findIndex((result) => result[round] === 'ok');
      assert.equal(fs.readFileSync(join(dir, `f${round}`), 'utf8'), String(winner));
    }
  },
  'of many that make a directory one succeeds': async (dir) => {
    const results = await together(dir, PROCESSES, ({ fs, attempt }) =>
      Array.from({ length: 60 }, (_, round) => attempt(() => fs.mkdirSync(`d${round}`))),
    );
    oneWinner(results, 'EEXIST');
    assert.equal(fs.statSync(dir).nlink, 2 + ROUNDS);
  },
  'of many that rename a name one succeeds': async (dir) => {
    for (let round = 0; round < ROUNDS; round++) fs.writeFileSync(join(dir, `f${round}`), '');
    const results = await together(dir, PROCESSES, ({ fs, attempt, arg }) =>
      Array.from({ length: 60 }, (_, round) =>
        attempt(() => fs.renameSync(`f${round}`, `taken${round}-by-${arg}`)),
      ),
    );
    oneWinner(results, 'ENOENT');
    assert.equal(fs.readdirSync(dir).length, ROUNDS);
  },
  'of many that remove a name one succeeds': async (dir) => {
    for (let round = 0; round < ROUNDS; round++) fs.writeFileSync(join(dir, `f${round}`), '');
    const results = await together(dir, PROCESSES, ({ fs, attempt }) =>
      Array.from({ length: 60 }, (_, round) => attempt(() => fs.unlinkSync(`f${round}`))),
    );
    oneWinner(results, 'ENOENT');
    assert.deepEqual(fs.readdirSync(dir), []);
  },
  'of many that link to a name one succeeds': async (dir) => {
    fs.writeFileSync(join(dir, 'f'), '');
    const results = await together(dir, PROCESSES, ({ fs, attempt }) =>
      Array.from({ length: 60 }, (_, round) => attempt(() => fs.linkSync('f', `l${round}`))),
    );
    oneWinner(results, 'EEXIST');
    assert.equal(fs.statSync(join(dir, 'f')).nlink, 1 + ROUNDS);
  },
  'nothing is lost when many fill and empty one directory': async (dir) => {
    await together(dir, PROCESSES, ({ fs, arg }) => {
      for (let index = 0; index < 150; index++) fs.writeFileSync(`p${arg}-${index}`, `content ${index}`);
      for (let index = 0; index < 150; index += 3) fs.unlinkSync(`p${arg}-${index}`);
      for (let index = 1; index < 150; index += 3)
        fs.renameSync(`p${arg}-${index}`, `p${arg}-${index}-moved`);
    });
    const names = fs.readdirSync(dir);
    assert.equal(names.length, PROCESSES.length * 100);
    for (const name of names) {
      assert.equal(fs.readFileSync(join(dir, name), 'utf8'), `content ${name.split('-')[1]}`);
    }
  },
  'writers of different places in one file do not disturb one another': async (dir) => {
    fs.writeFileSync(join(dir, 'f'), '');
    await together(dir, PROCESSES, ({ fs, arg }) => {
      const fd = fs.openSync('f', 'r+');
      for (let index = 0; index < 64; index++) {
        const block = Buffer.alloc(3000, 65 + arg);
        fs.writeSync(fd, block, 0, block.length, (index * 4 + arg) * 3000);
      }
      fs.closeSync(fd);
    });
    const data = fs.readFileSync(join(dir, 'f'));
    assert.equal(data.length, 64 * 4 * 3000);
    for (let index = 0; index < 256; index++) {
      const block = data.subarray(index * 3000, (index + 1) * 3000);
      assert.ok(
        block.every((byte) => byte === 65 + (index % 4)),
        `block ${index}`,
      );
    }
  },
};
