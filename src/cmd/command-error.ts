/**
 * How a command ends otherwise than well. CommandError: it was understood and could not be done; its message
 * is the one line a person gets (what was attempted, on what, why it failed, what to do). UsageError: it was
 * not understood. Everything else that reaches the top is a bug or a foreign failure.
 */
export const ExitCode = {
  ok: 0,
  failure: 1,
  usage: 2,
} as const;

export class CommandError extends Error {
  override name = 'CommandError';
}

export class UsageError extends Error {
  override name = 'UsageError';
}

/** These say everything in their message; others leave part of it to their cause. */
const COMPLETE = new Set(['CommandError', 'UsageError', 'MountError']);

/** The line that tells a person about `error`, whatever was thrown; causes are appended when they add something. */
export function lineOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const text = error.message.split('\n', 1)[0] ?? '';
  const { cause } = error;
  if (cause === undefined || cause === null || COMPLETE.has(error.name))
    return text === '' ? error.name : text;
  const reason = lineOf(cause);
  return text.includes(reason) ? text : `${text}: ${reason}`;
}

/** The `code` of a system error such as ENOENT, or undefined. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
