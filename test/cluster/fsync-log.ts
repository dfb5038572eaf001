/**
 * A program for restart tests: copies files one after another, each written in pieces, fsynced and closed,
 * and says after every fsync what has been acknowledged. What it said must be found later, whatever was
 * killed meanwhile.
 */
import { createHash } from 'node:crypto';

/** The content of file `index`: sizes from nothing to 700 KB, every one different. */
export function contentOf(index: number): Buffer {
  const length = index % 10 === 0 ? 700_000 : (index * 7919) % 30_000;
  const out = Buffer.alloc(length);
  let state = index + 1;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    out[at] = state >>> 24;
  }
  return out;
}

export const hashOf = (content: Uint8Array): string => createHash('sha256').update(content).digest('hex');

/** JavaScript for `node`: copies until told to stop by the file named STOP, or COUNT files; prints `ok N`. */
export const COPY = `
import fs from 'node:fs';
${contentOf.toString()}
const { DIR, STOP, COUNT } = process.env;
fs.mkdirSync(DIR, { recursive: true });
let failures = 0;
for (let index = 0; index < Number(COUNT) && !fs.existsSync(STOP); index++) {
  const content = contentOf(index);
  const path = DIR + '/' + index;
  try {
    const fd = fs.openSync(path + '.part', 'w');
    try {
      const half = content.length >> 1;
      fs.writeSync(fd, content.subarray(0, half));
      fs.fsyncSync(fd);
      fs.writeSync(fd, content.subarray(half));
      fs.fsyncSync(fd);
    } finally { fs.closeSync(fd); }
    fs.renameSync(path + '.part', path);
    const dir = fs.openSync(DIR, 'r');
    fs.fsyncSync(dir);
    fs.closeSync(dir);
    console.log('ok ' + index);
  } catch (error) {
    failures += 1;
    console.log('failed ' + index + ' ' + error.code);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
console.log('done ' + failures);
process.exit(0);
`;

/** Numbers of the files that the program's output acknowledges. */
export function acknowledged(output: string): number[] {
  return [...output.matchAll(/^ok (\d+)$/gm)].map((match) => Number(match[1]));
}

/** JavaScript for `node`: compares the files in WANTED (JSON, number to hash) with what is in DIR. */
export const CHECK = `
import fs from 'node:fs';
import { createHash } from 'node:crypto';
const { DIR, WANTED } = process.env;
const wrong = [];
for (const [index, wanted] of Object.entries(JSON.parse(fs.readFileSync(WANTED, 'utf8')))) {
  try {
    const found = createHash('sha256').update(fs.readFileSync(DIR + '/' + index)).digest('hex');
    if (found !== wanted) wrong.push(index + ': other bytes');
  } catch (error) { wrong.push(index + ': ' + error.code); }
}
console.log(wrong.length === 0 ? 'all there' : wrong.slice(0, 5).join(', ') + ' (' + wrong.length + ')');
`;
