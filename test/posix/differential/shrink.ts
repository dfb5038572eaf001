/** Delta debugging: the smallest part of a sequence that still shows a failure. */

/**
 * Leaves out what is not needed, first in halves, then in ever smaller parts, as long as `fails` holds.
 * @param fails must hold for `items`; is asked at most `tries` times.
 */
export function shrink<T>(
  items: readonly T[],
  fails: (part: readonly T[]) => boolean,
  tries: number,
): readonly T[] {
  let kept = items;
  let left = tries;
  for (let size = Math.ceil(items.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    let removed: boolean;
    do {
      removed = false;
      // From the end: later operations depend on earlier ones, not the other way.
      for (let at = Math.max(0, kept.length - size); ; at = Math.max(0, at - size)) {
        const rest = [...kept.slice(0, at), ...kept.slice(at + size)];
        if (rest.length > 0 && rest.length < kept.length && left > 0) {
          left -= 1;
          if (fails(rest)) {
            kept = rest;
            removed = true;
          }
        }
        if (at === 0) break;
      }
    } while (removed && size === 1 && left > 0);
  }
  return kept;
}
