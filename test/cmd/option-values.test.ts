import t from 'tap';
import { UsageError } from '../../src/cmd/command-error.js';
import {
  isLoopback,
  parseCount,
  parseListen,
  parseSeconds,
  parseServerUrl,
  parseSize,
} from '../../src/cmd/option-values.js';

t.test('sizes are binary, with or without a unit', async (t) => {
  for (const [text, bytes] of [
    ['4096', 4096],
    ['1k', 1024],
    ['64M', 64 * 1024 ** 2],
    ['1.5G', 1.5 * 1024 ** 3],
    ['2TiB', 2 * 1024 ** 4],
    ['10gb', 10 * 1024 ** 3],
  ] as const)
    t.equal(parseSize(text, 'x'), bytes, text);
  for (const text of ['', 'M', '-1', '1X', '0', '1e9', '99999999T', '1 2'])
    t.throws(() => parseSize(text, '--capacity'), UsageError, `'${text}' is refused`);
});

t.test('seconds become milliseconds, within a day', async (t) => {
  t.equal(parseSeconds('30', 'x'), 30_000);
  t.equal(parseSeconds('0.5', 'x'), 500);
  for (const text of ['0', '-1', 'abc', '', '86401', 'Infinity', '1e3'])
    t.throws(() => parseSeconds(text, 'x'), UsageError, `'${text}' is refused`);
});

t.test('counts keep their range', async (t) => {
  t.equal(parseCount('3', 'x', { min: 1, max: 3 }), 3);
  for (const text of ['0', '4', '1.5', '-1', 'x', ''])
    t.throws(() => parseCount(text, 'x', { min: 1, max: 3 }), UsageError, `'${text}' is refused`);
});

t.test('listening addresses are host and port', async (t) => {
  t.same(parseListen('127.0.0.1:0', 'x'), { host: '127.0.0.1', port: 0 });
  t.same(parseListen(':9400', 'x'), { host: '127.0.0.1', port: 9400 });
  t.same(parseListen('[::1]:65535', 'x'), { host: '::1', port: 65_535 });
  t.same(parseListen('files.example:1', 'x'), { host: 'files.example', port: 1 });
  for (const text of ['', '9400', 'host', 'host:', 'host:65536', 'a:b:1', 'ws://host:1', 'host:1/x'])
    t.throws(() => parseListen(text, 'x'), UsageError, `'${text}' is refused`);
});

t.test('loopback is known from what others can reach', async (t) => {
  for (const host of ['127.0.0.1', '127.1.2.3', '::1', 'localhost']) t.ok(isLoopback(host), host);
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '127.example', '']) t.notOk(isLoopback(host), host);
});

t.test('server URLs are ws or wss with host and port and nothing else', async (t) => {
  t.equal(parseServerUrl('ws://127.0.0.1:9400', 'x'), 'ws://127.0.0.1:9400');
  t.equal(parseServerUrl('ws://127.0.0.1:9400/', 'x'), 'ws://127.0.0.1:9400');
  t.equal(parseServerUrl('localhost:9400', 'x'), 'ws://localhost:9400');
  t.equal(parseServerUrl('wss://h:1', 'x'), 'wss://h:1');
  for (const text of [
    '',
    'ws://h',
    'http://h:1',
    'ws://h:1/p',
    'ws://h:1?q',
    'ws://u@h:1',
    'ws://h:99999',
    '/dev/sda1',
  ])
    t.throws(() => parseServerUrl(text, 'URL'), UsageError, `'${text}' is refused`);
});
