/**
 * Results that are often ready at once. A request answered from a cache must not pay for a promise and a
 * turn of the event loop; one that needs a server returns a promise.
 */
export type MaybePromise<T> = T | Promise<T>;

/** Calls `use` with the value: now if it is here, later if it is promised. Errors travel as usual. */
export function chain<T, U>(value: MaybePromise<T>, use: (value: T) => MaybePromise<U>): MaybePromise<U> {
  return value instanceof Promise ? value.then(use) : use(value);
}

/** What `make` gives; what it throws, now or later, goes to `use`. */
export function rescue<T>(
  make: () => MaybePromise<T>,
  use: (error: unknown) => MaybePromise<T>,
): MaybePromise<T> {
  try {
    const value = make();
    return value instanceof Promise ? value.catch(use) : value;
  } catch (error) {
    return use(error);
  }
}

/** What `make` gives, or throws; `after` runs when that is known. */
export function finish<T>(make: () => MaybePromise<T>, after: () => void): MaybePromise<T> {
  let value: MaybePromise<T> | undefined;
  try {
    value = make();
  } finally {
    if (!(value instanceof Promise)) after();
  }
  return value instanceof Promise ? value.finally(after) : value;
}
