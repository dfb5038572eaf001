import t from 'tap';
import { Prng } from '../../src/base/prng.js';
import { ExtentOverlay, type Piece, planRead } from '../../src/client/extent-overlay.js';

const piece = (offset: number, length: number, chunk: string, chunkOffset = 0): Piece<string> => ({
  offset,
  length,
  chunk,
  chunkOffset,
});

t.test('a newer piece splits the one it lies in', (t) => {
  const overlay = new ExtentOverlay<string>();
  overlay.insert(piece(0, 100, 'a'));
  overlay.insert(piece(40, 20, 'b'));
  t.same(overlay.pieces(), [piece(0, 40, 'a'), piece(40, 20, 'b'), piece(60, 40, 'a', 60)]);
  t.equal(overlay.end, 100);
  t.equal(overlay.bytes, 100);
  t.end();
});

t.test('writes that go on where the last one ended are one piece', (t) => {
  const overlay = new ExtentOverlay<string>();
  for (let index = 0; index < 10; index++) overlay.insert(piece(index * 7, 7, 'a', index * 7));
  t.same(overlay.pieces(), [piece(0, 70, 'a')]);
  overlay.insert(piece(70, 5, 'a', 71));
  t.equal(overlay.count, 2, 'a gap in the chunk keeps them apart');
  t.end();
});

t.test('a truncation cuts the piece it goes through and drops those behind', (t) => {
  const overlay = new ExtentOverlay([piece(0, 10, 'a'), piece(20, 10, 'b'), piece(40, 10, 'c')]);
  overlay.truncate(25);
  t.same(overlay.pieces(), [piece(0, 10, 'a'), piece(20, 5, 'b')]);
  overlay.truncate(15);
  t.same(overlay.pieces(), [piece(0, 10, 'a')]);
  t.end();
});

t.test('a read looks through pending pieces to committed ones and fills gaps with holes', (t) => {
  const pending = new ExtentOverlay([piece(10, 10, 'p')]);
  const committed = new ExtentOverlay([piece(5, 10, 'c'), piece(30, 10, 'd')]);
  t.same(planRead({ offset: 0, length: 50 }, pending, committed), [
    { from: 'hole', length: 5 },
    { from: 'chunk', piece: piece(5, 5, 'c') },
    { from: 'pending', piece: piece(10, 10, 'p') },
    { from: 'hole', length: 10 },
    { from: 'chunk', piece: piece(30, 10, 'd') },
    { from: 'hole', length: 10 },
  ]);
  t.end();
});

interface Model {
  readonly bytes: Uint8Array;
  readonly chunks: Map<string, Uint8Array>;
}

/** The bytes that a plan yields. */
function carryOut(
  plan: ReturnType<typeof planRead<string, string>>,
  chunks: ReadonlyMap<string, Uint8Array>,
): Buffer {
  return Buffer.concat(
    plan.map((step) => {
      if (step.from === 'hole') return Buffer.alloc(step.length);
      const { chunk, chunkOffset, length } = step.piece;
      return chunks.get(chunk)?.subarray(chunkOffset, chunkOffset + length) ?? Buffer.alloc(0);
    }),
  );
}

function randomStep(prng: Prng, layer: ExtentOverlay<string>, model: Model, name: string): void {
  const offset = prng.int(0, 200);
  if (prng.next() < 0.1) {
    layer.truncate(offset);
    model.bytes.fill(0, offset);
    return;
  }
  const data = prng.bytes(prng.int(1, 60));
  const before = prng.bytes(prng.int(0, 9));
  model.chunks.set(name, Buffer.concat([before, data]));
  model.bytes.set(data.subarray(0, 256 - offset), offset);
  layer.insert(piece(offset, Math.min(data.length, 256 - offset), name, before.length));
}

for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
  t.test(`random writes and truncations read back like a byte array (seed ${seed})`, (t) => {
    const prng = new Prng(seed);
    const overlay = new ExtentOverlay<string>();
    const committed = new ExtentOverlay<string>();
    const model: Model = { bytes: new Uint8Array(256), chunks: new Map() };
    for (let step = 0; step < 40; step++) randomStep(prng, committed, model, `c${step}`);
    for (let step = 0; step < 400; step++) {
      const offset = prng.int(0, 200);
      const data = prng.bytes(prng.int(1, 56));
      const name = `p${step % 50}-${step}`;
      model.chunks.set(name, data);
      model.bytes.set(data, offset);
      overlay.insert(piece(offset, data.length, name));
      overlay.checkInvariants();
      committed.checkInvariants();
      const from = prng.int(0, 255);
      const length = prng.int(1, 256 - from);
      const read = carryOut(planRead({ offset: from, length }, overlay, committed), model.chunks);
      const expected = model.bytes.subarray(from, from + length);
      if (Buffer.compare(read, expected) !== 0) t.fail(`step ${step}: [${from}, ${from + length}) differs`);
    }
    t.equal(overlay.end <= 256, true);
    t.end();
  });
}

t.test('pieces of a committed chunk are forgotten, others stay', (t) => {
  const overlay = new ExtentOverlay([piece(0, 5, 'a'), piece(5, 5, 'b'), piece(10, 5, 'a')]);
  overlay.removeChunk('a');
  t.same(overlay.pieces(), [piece(5, 5, 'b')]);
  t.end();
});
