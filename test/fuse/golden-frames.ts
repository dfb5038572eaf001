/** Reads test/fixtures/fuse-frames.txt: hex bytes, `#` comments, a `## KIND NAME` line before each frame. */
import { readFileSync } from 'node:fs';

const FILE = new URL('../../../test/fixtures/fuse-frames.txt', import.meta.url);

export interface GoldenFrames {
  readonly request: ReadonlyMap<string, Buffer>;
  readonly reply: ReadonlyMap<string, Buffer>;
  readonly notify: ReadonlyMap<string, Buffer>;
}

/** The fixture's frames by kind and name; every call gives new buffers. */
export function goldenFrames(): GoldenFrames {
  const frames = { request: new Map(), reply: new Map(), notify: new Map() };
  for (const section of readFileSync(FILE, 'utf8').split(/^## /m).slice(1)) {
    const [title = '', ...lines] = section.split('\n');
    const [kind, name] = title.trim().split(' ');
    const hex = lines.map((line) => line.replace(/#.*/, '').replaceAll(' ', '')).join('');
    if (kind === 'request' || kind === 'reply' || kind === 'notify')
      frames[kind].set(name, Buffer.from(hex, 'hex'));
  }
  return frames;
}
