/**
 * Invariants as code. A broken invariant is a bug in leasefs, never a reaction to input: it throws
 * InvariantError, which every program's top level answers by stopping the process (leases, journal and
 * fencing make that safe). Input from outside is answered with an FsError or a protocol code instead.
 */
export class InvariantError extends Error {
  override name = 'InvariantError';
}

/** Throws InvariantError with `what` unless `condition` holds. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new InvariantError(`invariant broken: ${what}`);
}

/** The value, asserted to be present. For look-ups that cannot fail unless there is a bug. */
export function present<T>(value: T | undefined | null, what: string): T {
  assert(value !== undefined && value !== null, what);
  return value;
}

/** Marks a branch that the types rule out. */
export function unreachable(value: never): never {
  throw new InvariantError(`unreachable: ${String(value)}`);
}
