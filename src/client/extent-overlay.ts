/**
 * Which bytes of a file lie where, as a sorted list of pieces that never overlap: a newer piece trims or
 * splits what it covers. A mount keeps two of them per file, the extents that the metadata server has told it
 * of and, over them, its own that are not committed yet; `planRead` looks through both.
 *
 * Pure: no clock, no I/O. `Chunk` is what a piece points into (a chunk id, or a chunk still in memory) and is
 * compared by identity. It knows no file size: a range without a piece is a hole to it.
 *
 * INVARIANT: pieces are sorted by offset, have length >= 1, and none reaches the next one's offset.
 */
import { assert } from '../base/assert.js';

/** `length` bytes of a file at `offset` are those at `chunkOffset` of `chunk`. */
export interface Piece<Chunk> {
  readonly offset: number;
  readonly length: number;
  readonly chunk: Chunk;
  readonly chunkOffset: number;
}

/** `piece` cut to [from, to), which it must overlap. */
function cut<Chunk>(piece: Piece<Chunk>, from: number, to: number): Piece<Chunk> {
  const offset = Math.max(piece.offset, from);
  const end = Math.min(piece.offset + piece.length, to);
  if (offset === piece.offset && end === piece.offset + piece.length) return piece;
  return {
    offset,
    length: end - offset,
    chunk: piece.chunk,
    chunkOffset: piece.chunkOffset + (offset - piece.offset),
  };
}

/** Whether `next` goes on where `piece` ends, in the file and in the chunk. */
function continues<Chunk>(piece: Piece<Chunk>, next: Piece<Chunk>): boolean {
  return (
    piece.chunk === next.chunk &&
    piece.offset + piece.length === next.offset &&
    piece.chunkOffset + piece.length === next.chunkOffset
  );
}

export class ExtentOverlay<Chunk> {
  #pieces: Piece<Chunk>[];

  /** Starts with `pieces`, which must be sorted and must not overlap. */
  constructor(pieces: readonly Piece<Chunk>[] = []) {
    this.#pieces = [...pieces];
  }

  get count(): number {
    return this.#pieces.length;
  }

  /** Where the last piece ends; 0 when there is none. */
  get end(): number {
    const last = this.#pieces[this.#pieces.length - 1];
    return last === undefined ? 0 : last.offset + last.length;
  }

  /** Bytes that pieces cover. */
  get bytes(): number {
    let sum = 0;
    for (const piece of this.#pieces) sum += piece.length;
    return sum;
  }

  pieces(): readonly Piece<Chunk>[] {
    return this.#pieces;
  }

  /** Index of the first piece that ends behind `offset`. */
  #firstBehind(offset: number): number {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const piece = this.#pieces[middle];
      if (piece !== undefined && piece.offset + piece.length <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Lays `piece` over whatever was there. */
  insert(piece: Piece<Chunk>): void {
    const end = piece.offset + piece.length;
    const first = this.#firstBehind(piece.offset);
    let behind = first;
    const kept: Piece<Chunk>[] = [];
    for (
      let old = this.#pieces[behind];
      old !== undefined && old.offset < end;
      old = this.#pieces[++behind]
    ) {
      if (old.offset < piece.offset) kept.push(cut(old, old.offset, piece.offset));
    }
    kept.push(piece);
    const last = this.#pieces[behind - 1];
    if (behind > first && last !== undefined && last.offset + last.length > end)
      kept.push(cut(last, end, last.offset + last.length));
    this.#pieces.splice(first, behind - first, ...kept);
    this.#joinAt(this.#pieces.indexOf(piece, first));
  }

  /** Joins the piece at `index` with the one before it when the two are one run of bytes. */
  #joinAt(index: number): void {
    const piece = this.#pieces[index];
    const before = this.#pieces[index - 1];
    if (piece === undefined || before === undefined || !continues(before, piece)) return;
    this.#pieces.splice(index - 1, 2, { ...before, length: before.length + piece.length });
  }

  /** Forgets everything at and behind `size`. */
  truncate(size: number): void {
    const first = this.#firstBehind(size);
    const straddling = this.#pieces[first];
    this.#pieces.length = first;
    if (straddling !== undefined && straddling.offset < size)
      this.#pieces.push(cut(straddling, straddling.offset, size));
  }

  /** Forgets every piece that points into `chunk`. */
  removeChunk(chunk: Chunk): void {
    this.#pieces = this.#pieces.filter((piece) => piece.chunk !== chunk);
  }

  /** The pieces within [offset, offset + length), cut to it. */
  slice(offset: number, length: number): Piece<Chunk>[] {
    const end = offset + length;
    const found: Piece<Chunk>[] = [];
    for (let index = this.#firstBehind(offset); ; index++) {
      const piece = this.#pieces[index];
      if (piece === undefined || piece.offset >= end) return found;
      found.push(cut(piece, offset, end));
    }
  }

  /** Throws InvariantError when the file header's invariant does not hold. */
  checkInvariants(): void {
    let end = 0;
    for (const piece of this.#pieces) {
      assert(piece.length >= 1, 'a piece is not empty');
      assert(piece.offset >= end, 'pieces are sorted and do not overlap');
      end = piece.offset + piece.length;
    }
  }
}

/** Where a run of a read's bytes comes from, in file order. */
export type ReadStep<Pending, Committed> =
  | { readonly from: 'pending'; readonly piece: Piece<Pending> }
  | { readonly from: 'chunk'; readonly piece: Piece<Committed> }
  | { readonly from: 'hole'; readonly length: number };

/** Covers [offset, offset + length) without a gap: pending bytes first, committed ones below, else holes. */
export function planRead<Pending, Committed>(
  range: { readonly offset: number; readonly length: number },
  pending: ExtentOverlay<Pending>,
  committed: ExtentOverlay<Committed>,
): ReadStep<Pending, Committed>[] {
  const steps: ReadStep<Pending, Committed>[] = [];
  let at = range.offset;
  const end = range.offset + range.length;
  const hole = (to: number): void => {
    if (to > at) steps.push({ from: 'hole', length: to - at });
    at = Math.max(at, to);
  };
  const below = (to: number): void => {
    if (to <= at) return;
    for (const piece of committed.slice(at, to - at)) {
      hole(piece.offset);
      steps.push({ from: 'chunk', piece });
      at = piece.offset + piece.length;
    }
    hole(to);
  };
  for (const piece of pending.slice(range.offset, range.length)) {
    below(piece.offset);
    steps.push({ from: 'pending', piece });
    at = piece.offset + piece.length;
  }
  below(end);
  return steps;
}
