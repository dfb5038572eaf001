/**
 * Results that are often ready at once. A request answered from a cache must not pay for a promise and a
 * turn of the event loop; one that needs a server returns a promise.
 */
export type MaybePromise<T> = T | Promise<T>;

/** Calls `use` with the value: now if it is here, later if it is promised. Errors travel as usual. */
export function chain<T, U>(value: MaybePromise<T>, use: (value: T) => MaybePromise<U>): MaybePromise<U> {
  return value instanceof Promise ? value.then(use) : use(value);
}
