/** What the commands say to input that is wrong, and with which exit status. No server runs here. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { runLeasefs } from './run-leasefs.js';

const COMMANDS = ['up', 'down', 'mount', 'umount', 'status', 'meta', 'chunk'];

t.test('every command explains itself', async (t) => {
  const program = await runLeasefs(['--help']);
  t.equal(program.status, 0);
  for (const command of COMMANDS) {
    t.match(program.stdout, new RegExp(`^ {2}${command} `, 'm'));
    const help = await runLeasefs([command, '--help']);
    t.equal(help.status, 0, command);
    t.match(help.stdout, `Usage: leasefs ${command}`);
  }
  for (const command of ['up', 'mount'])
    t.match(
      (await runLeasefs([command, '--help'])).stdout,
      /timeout=SECONDS[\s\S]*noexec/,
      'lists the -o options',
    );
  const version = await runLeasefs(['--version']);
  t.match(version, { status: 0, stdout: /^\d+\.\d+\.\d+\n$/ });
});

t.test('what is not understood gets the usage and status 2', async (t) => {
  const wrong = [
    [],
    ['bogus'],
    ['up'],
    ['up', 'a', 'b'],
    ['up', 'a', '--bogus'],
    ['up', 'a', '--chunk-servers', '0'],
    ['up', 'a', '--driver', 'nfs'],
    ['up', 'a', '-o', 'bogus'],
    ['mount', 'ws://127.0.0.1:1'],
    ['mount', 'http://127.0.0.1:1', '/'],
    ['mount', 'ws://127.0.0.1:1', '/', '-o', 'timeout=x'],
    ['meta', '--data', 'd'],
    ['meta', '--data', 'd', '--listen', 'nowhere'],
    ['chunk', '--data', 'd', '--listen', ':0'],
    ['status', 'ws://127.0.0.1:1', '--data', 'd'],
  ];
  for (const args of wrong) {
    const outcome = await runLeasefs(args);
    t.equal(outcome.status, 2, `leasefs ${args.join(' ')}`);
    t.match(outcome.stderr, /^Usage: leasefs/m);
    t.notMatch(outcome.stderr, /^ {4}at /m, 'no stack');
  }
});

/** One line on standard error, status 1. */
async function refuses(t: Test, args: readonly string[], reason: RegExp): Promise<void> {
  const { status, stderr } = await runLeasefs(args);
  t.equal(status, 1, `leasefs ${args.join(' ')}`);
  t.match(stderr, reason);
  t.equal(stderr.trimEnd().split('\n').length, 1, 'one line');
}

t.test('a mountpoint that cannot be used is refused in one line', async (t) => {
  const dir = t.testdir({ file: '', full: { file: '' } });
  const missing = join(dir, 'missing');
  for (const args of [
    ['mount', 'ws://127.0.0.1:1'],
    ['up', '--data', join(dir, 'data')],
  ]) {
    await refuses(t, [...args, missing], /no such directory; create it with: mkdir/);
    await refuses(t, [...args, join(dir, 'file')], /not a directory/);
    await refuses(t, [...args, join(dir, 'full')], /not empty/);
    await refuses(t, [...args, '/proc'], /already mounted/);
  }
  await refuses(t, ['umount', dir], /not mounted/);
  await refuses(t, ['umount', '/proc'], /not a leasefs mount/);
});

t.test('a data directory that is not a cluster is refused, untouched', async (t) => {
  const dir = t.testdir({ mine: { 'letter.txt': 'dear' }, mnt: {} });
  await refuses(
    t,
    ['up', join(dir, 'mnt'), '--data', join(dir, 'mine')],
    /not empty and holds no leasefs cluster/,
  );
  await refuses(t, ['up', join(dir, 'mnt'), '--data', join(dir, 'mnt/data')], /inside the mountpoint/);
  await refuses(t, ['down', '--data', join(dir, 'mine')], /no cluster in/);
  await refuses(t, ['status', '--data', join(dir, 'mine')], /no cluster in/);
});

t.test('a server that is not there, or is another kind, is said to be so', async (t) => {
  await refuses(
    t,
    ['status', 'ws://127.0.0.1:1'],
    /no answer from the metadata server ws:\/\/127\.0\.0\.1:1/,
  );
  const server = createServer((_, response) => response.end('hello'));
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  await refuses(t, ['status', `127.0.0.1:${port}`], /no answer from the metadata server/);
  const fromEnvironment = await runLeasefs(['status'], { env: { LEASEFS_META: `127.0.0.1:${port}` } });
  t.match(fromEnvironment, { status: 1, stderr: new RegExp(`127.0.0.1:${port}`) });
});
