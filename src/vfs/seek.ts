/** Finding holes and data in what is known of a file's extents. Pure. */
import { type ExtentOverlay, planRead } from '../client/extent-overlay.js';

/** The first offset in [from, to) that lies in a hole, or in data; undefined when there is none. */
export function seekIn<Pending, Committed>(
  what: 'data' | 'hole',
  { from, to }: { readonly from: number; readonly to: number },
  pending: ExtentOverlay<Pending>,
  committed: ExtentOverlay<Committed>,
): number | undefined {
  let at = from;
  for (const step of planRead({ offset: from, length: Math.max(0, to - from) }, pending, committed)) {
    if ((step.from === 'hole') === (what === 'hole')) return at;
    at += step.from === 'hole' ? step.length : step.piece.length;
  }
  return undefined;
}
