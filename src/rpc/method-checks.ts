/**
 * The compiled checks of a method table: what a message from outside has to pass. Compiled once per table,
 * on first use, however many connections share it.
 */
import { type TypeCheck, TypeCompiler } from '@sinclair/typebox/compiler';
import type { Method, MethodTable } from '../proto/method.js';

export interface MethodChecks<M extends Method> {
  readonly args: TypeCheck<M['args']>;
  readonly reply: TypeCheck<M['reply']>;
}

export type TableChecks<Table extends MethodTable> = { readonly [K in keyof Table]: MethodChecks<Table[K]> };

const compiled = new WeakMap<MethodTable, unknown>();

export function checksOf<Table extends MethodTable>(table: Table): TableChecks<Table> {
  let checks = compiled.get(table);
  if (checks === undefined) {
    checks = Object.fromEntries(
      Object.entries(table).map(([name, method]) => [
        name,
        { args: TypeCompiler.Compile(method.args), reply: TypeCompiler.Compile(method.reply) },
      ]),
    );
    compiled.set(table, checks);
  }
  // The map holds for each table what was compiled from it; a Map's types cannot say so.
  return checks as TableChecks<Table>;
}

/** What is wrong with a value that failed `check`, for an error message: path and expectation. */
export function whatIsWrong(check: TypeCheck<Method['args']>, value: unknown): string {
  const first = check.Errors(value).First();
  return first === undefined
    ? 'unexpected shape'
    : `${first.path === '' ? '/' : first.path}: ${first.message}`;
}
