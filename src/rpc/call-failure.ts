/**
 * How a failed call crosses the wire and comes out again: an FsError as the same errno, a ProtocolError as
 * the same code. Everything else becomes EIO here, the one place where an unknown exception turns into an
 * errno, with all of it in the log.
 */
import { InvariantError } from '../base/assert.js';
import { makeLog } from '../base/log.js';
import { FsError } from '../proto/errno.js';
import { ProtocolError } from '../proto/protocol-error.js';
import type { WireFailure } from './frame.js';

const log = makeLog('rpc');

/** Text in a failure is for people; it is cut to this many characters. */
const MESSAGE_CHARS = 1024;

/**
 * What the caller of `method` gets to know of an error that its handler threw. Undefined for an
 * InvariantError: it is thrown again outside of every handler, so that the process stops unanswered and the
 * caller asks whoever takes over.
 */
export function failureOf(error: unknown, method: string, remote: string): WireFailure | undefined {
  if (error instanceof FsError) {
    return { fs: error.code, op: cut(error.op), message: cut(detailOf(error)) };
  }
  if (error instanceof ProtocolError) {
    return { code: error.code, op: method, message: cut(withoutPrefix(error.message, `${error.code}: `)) };
  }
  if (error instanceof InvariantError) {
    throwOutOfBand(error);
    return undefined;
  }
  log.error('a call failed unexpectedly; its caller gets EIO', { method, remote, error });
  return { fs: 'EIO', op: cut(method), message: 'internal error, see the log of the server' };
}

/** The error that a failure stands for, at its caller. */
export function errorOf(failure: WireFailure): FsError | ProtocolError {
  if (failure.fs === undefined) return new ProtocolError(failure.code, failure.message);
  return new FsError(failure.fs, failure.op, failure.message === '' ? {} : { detail: failure.message });
}

/** A broken invariant must not end as somebody's error reply: it stops the process, as base/assert.ts says. */
function throwOutOfBand(error: InvariantError): void {
  setImmediate(() => {
    throw error;
  });
}

/** FsError puts op and code before what it was told: they travel by themselves. */
function detailOf(error: FsError): string {
  const rest = withoutPrefix(error.message, `${error.op}: ${error.code}`).trim();
  return rest.startsWith('(') && rest.endsWith(')') ? rest.slice(1, -1) : rest;
}

const withoutPrefix = (text: string, prefix: string): string =>
  text.startsWith(prefix) ? text.slice(prefix.length) : text;

const cut = (text: string): string => text.slice(0, MESSAGE_CHARS);
