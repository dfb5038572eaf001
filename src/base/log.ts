/**
 * One log line per event, on standard error: time, level, subsystem, message, fields as JSON. Programs that
 * go into the background point standard error at their log file, so this module knows no files.
 */
/** `none` is for who wants silence; no line has it. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'none';

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3, none: 4 };
let threshold: LogLevel = 'info';

/** Lines below `level` are dropped from now on, in the whole process. */
export function setLogLevel(level: LogLevel): void {
  threshold = level;
}

export interface Log {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

function describe(_key: string, value: unknown): unknown {
  if (value instanceof Error) return value.stack ?? value.message;
  if (typeof value === 'bigint') return value.toString();
  return value;
}

/** A logger whose lines carry `subsystem`, for example `meta` or `rpc`. */
export function makeLog(subsystem: string): Log {
  const write = (level: LogLevel, message: string, fields?: Record<string, unknown>): void => {
    if (RANK[level] < RANK[threshold]) return;
    const tail = fields === undefined ? '' : ` ${JSON.stringify(fields, describe)}`;
    process.stderr.write(`${new Date().toISOString()} ${level} ${subsystem}: ${message}${tail}\n`);
  };
  return {
    debug: (message, fields) => write('debug', message, fields),
    info: (message, fields) => write('info', message, fields),
    warn: (message, fields) => write('warn', message, fields),
    error: (message, fields) => write('error', message, fields),
  };
}
