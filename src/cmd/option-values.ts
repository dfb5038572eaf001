/**
 * The values that options and arguments take, from text: sizes, seconds, counts, addresses, URLs. Each throws
 * UsageError with what it expected.
 */
import { UsageError } from './command-error.js';

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
};

/** Bytes from `64M`, `10G`, `1.5g`, `4096`: binary units, with or without a trailing `B` or `iB`. */
export function parseSize(text: string, what: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  const bytes = Math.floor(Number(match?.[1]) * (SIZE_UNITS[match?.[2]?.toLowerCase() ?? ''] ?? Number.NaN));
  if (!Number.isSafeInteger(bytes) || bytes < 1)
    throw new UsageError(`${what}: '${text}' is not a size such as 64M or 10G`);
  return bytes;
}

/** Milliseconds from seconds such as `30` or `0.5`; > 0 and at most a day. */
export function parseSeconds(text: string, what: string): number {
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!(seconds > 0 && seconds <= 86_400))
    throw new UsageError(`${what}: '${text}' is not a number of seconds between 0 and 86400`);
  return Math.ceil(seconds * 1000);
}

/** An integer, min <= result <= max. */
export function parseCount(text: string, what: string, range: { min: number; max: number }): number {
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(count >= range.min && count <= range.max))
    throw new UsageError(`${what}: '${text}' is not a number from ${range.min} to ${range.max}`);
  return count;
}

export interface ListenAddress {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
}

/** `HOST:PORT`, `[::1]:PORT`, or `:PORT` (loopback). */
export function parseListen(text: string, what: string): ListenAddress {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^\s:/[\]]*)):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535)
    throw new UsageError(`${what}: '${text}' is not an address such as 127.0.0.1:9400`);
  const host = match[1] ?? match[2] ?? '';
  return { host: host === '' ? '127.0.0.1' : host, port };
}

/** Whether only programs on this machine can reach `host`. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** A metadata or chunk server's URL; `HOST:PORT` alone stands for `ws://HOST:PORT`. */
export function parseServerUrl(text: string, what: string): string {
  const withScheme = /^[a-z]+:\/\//i.test(text) ? text : `ws://${text}`;
  const expected = `${what}: '${text}' is not a server's URL such as ws://127.0.0.1:9400`;
  if (!URL.canParse(withScheme)) throw new UsageError(expected);
  const url = new URL(withScheme);
  if ((url.protocol !== 'ws:' && url.protocol !== 'wss:') || url.hostname === '' || url.port === '')
    throw new UsageError(expected);
  if (url.username !== '' || url.search !== '' || url.hash !== '' || url.pathname !== '/')
    throw new UsageError(expected);
  return `${url.protocol}//${url.host}`;
}
