/**
 * A stretch of a file's extents in memory: overwriting, and joining what belongs together. Pure.
 * INVARIANT: sorted by offset, no overlap.
 */
import type { Extent } from '../proto/extent.js';

export const extentEnd = (extent: Extent): number => extent.offset + extent.length;

export class ExtentList {
  readonly #extents: Extent[];

  /** `extents`: sorted, without overlap. */
  constructor(extents: readonly Extent[]) {
    this.#extents = [...extents];
  }

  /** Lays `extent` over what is there: overlapped ones are trimmed, split or gone. */
  overwrite(extent: Extent): void {
    this.#replace(extent.offset, extentEnd(extent), [extent]);
  }

  /** Makes a hole of [offset, end). */
  clear(offset: number, end: number): void {
    this.#replace(offset, end, []);
  }

  #replace(offset: number, end: number, by: readonly Extent[]): void {
    const from = this.#firstEndingAfter(offset);
    let to = from;
    const pieces: Extent[] = [];
    for (let old = this.#extents[to]; old !== undefined && old.offset < end; old = this.#extents[to]) {
      if (old.offset < offset) pieces.push({ ...old, length: offset - old.offset });
      to += 1;
    }
    pieces.push(...by);
    const last = to > from ? this.#extents[to - 1] : undefined;
    if (last !== undefined && extentEnd(last) > end) pieces.push(tailOf(last, end));
    this.#extents.splice(from, to - from, ...pieces);
  }

  /** The extents, those joined that are contiguous in the file and in one chunk. */
  joined(): Extent[] {
    const out: Extent[] = [];
    for (const extent of this.#extents) {
      const last = out[out.length - 1];
      if (last !== undefined && continues(last, extent)) {
        out[out.length - 1] = { ...last, length: last.length + extent.length };
      } else out.push(extent);
    }
    return out;
  }

  /** Index of the first extent whose end lies behind `offset`. */
  #firstEndingAfter(offset: number): number {
    const last = this.#extents[this.#extents.length - 1];
    if (last === undefined || extentEnd(last) <= offset) return this.#extents.length;
    let low = 0;
    let high = this.#extents.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      const extent = this.#extents[middle];
      if (extent !== undefined && extentEnd(extent) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The part of an extent behind file offset `from`, which lies inside it. */
export function tailOf(extent: Extent, from: number): Extent {
  const skipped = from - extent.offset;
  return {
    ...extent,
    offset: from,
    length: extent.length - skipped,
    chunkOffset: extent.chunkOffset + skipped,
  };
}

function continues(a: Extent, b: Extent): boolean {
  return a.chunk === b.chunk && extentEnd(a) === b.offset && a.chunkOffset + a.length === b.chunkOffset;
}
