/**
 * What a row of a method table is: the shapes of arguments and reply, whether bulk bytes travel beside them,
 * how a retransmission is treated, and the errnos a program may get from it. Tables are data: the rpc layer
 * checks both directions against them and knows no method by name.
 */
import type { Static, TSchema } from '@sinclair/typebox';
import type { ErrnoName } from './errno.js';

/**
 * - `read`: changes nothing; may be sent again at will.
 * - `mutation`: changes the filesystem; carries a sequence number, and the server answers a retransmission
 *   with the reply of the first execution.
 * - `control`: about the connection, session or server itself; idempotent by its own design.
 */
export type MethodKind = 'read' | 'mutation' | 'control';

export interface Method<Args extends TSchema = TSchema, Reply extends TSchema = TSchema> {
  readonly kind: MethodKind;
  readonly args: Args;
  readonly reply: Reply;
  /** Bulk bytes travel beside the header: with the request, with the reply, or not at all. */
  readonly bulk: 'none' | 'request' | 'reply';
  /** The errnos this method may give; a test fails on any other. */
  readonly errnos: readonly ErrnoName[];
}

export type MethodTable = Readonly<Record<string, Method>>;
export type ArgsOf<M extends Method> = Static<M['args']>;
export type ReplyOf<M extends Method> = Static<M['reply']>;

/** Declares a method; `bulk` is 'none' and `errnos` empty unless given. */
export function method<Args extends TSchema, Reply extends TSchema>(
  kind: MethodKind,
  shape: {
    args: Args;
    reply: Reply;
    bulk?: Method['bulk'];
    errnos?: readonly ErrnoName[];
  },
): Method<Args, Reply> {
  return {
    kind,
    args: shape.args,
    reply: shape.reply,
    bulk: shape.bulk ?? 'none',
    errnos: shape.errnos ?? [],
  };
}
