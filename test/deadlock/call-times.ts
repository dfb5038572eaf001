/** How long calls took, by kind: exact counts and maxima, percentiles to within 5 %. Can be sent and added up. */

/** Buckets for each doubling of the time. */
const PER_DOUBLING = 16;

export interface KindTimes {
  count: number;
  longestMs: number;
  /** How many calls took up to 2^(index / PER_DOUBLING) microseconds, and more than the bucket before. */
  readonly buckets: number[];
  /** How many failed, by errno. */
  readonly errnos: Record<string, number>;
}

export type CallTimes = Record<string, KindTimes>;

function of(times: CallTimes, kind: string): KindTimes {
  times[kind] ??= { count: 0, longestMs: 0, buckets: [], errnos: {} };
  return times[kind];
}

export function note(times: CallTimes, call: { kind: string; ms: number; errno?: string | undefined }): void {
  const at = of(times, call.kind);
  at.count++;
  at.longestMs = Math.max(at.longestMs, call.ms);
  const index = Math.max(0, Math.ceil(Math.log2(call.ms * 1000) * PER_DOUBLING));
  at.buckets[index] = (at.buckets[index] ?? 0) + 1;
  if (call.errno !== undefined) at.errnos[call.errno] = (at.errnos[call.errno] ?? 0) + 1;
}

/** Adds `more` to `times`. */
export function add(times: CallTimes, more: CallTimes): void {
  for (const [kind, { count, longestMs, buckets, errnos }] of Object.entries(more)) {
    const at = of(times, kind);
    at.count += count;
    at.longestMs = Math.max(at.longestMs, longestMs);
    for (const [index, found] of buckets.entries())
      at.buckets[index] = (at.buckets[index] ?? 0) + (found ?? 0);
    for (const [errno, found] of Object.entries(errnos)) at.errnos[errno] = (at.errnos[errno] ?? 0) + found;
  }
}

/** The time, in milliseconds, that `ratio` of the calls did not exceed. */
export function percentileMs({ count, longestMs, buckets }: KindTimes, ratio: number): number {
  let left = count * ratio;
  for (const [index, found] of buckets.entries()) {
    left -= found ?? 0;
    if (left <= 0) return Math.min(2 ** (index / PER_DOUBLING) / 1000, longestMs);
  }
  return longestMs;
}
