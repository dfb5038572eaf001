import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { present } from '../../src/base/assert.js';
import {
  findProcess,
  identifyProcess,
  isAlive,
  stopProcess,
  waitForEnd,
} from '../../src/cmd/process-identity.js';

/** A process that says `ready` once it runs; `deaf` to SIGTERM when asked. */
async function startProcess(options: { deaf: boolean }) {
  const body = `${options.deaf ? "process.on('SIGTERM', () => {});" : ''} setInterval(() => {}, 1000); console.log('ready');`;
  const child = spawn(process.execPath, ['-e', body, `marker-${process.pid}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  return { child, identity: present(identifyProcess(present(child.pid, 'pid')), 'the process runs') };
}

t.test('a process is known by its pid and start, not by its pid alone', async (t) => {
  const self = present(identifyProcess(process.pid), 'this process runs');
  t.ok(isAlive(self));
  t.notOk(isAlive({ ...self, start: `${self.start}0` }), 'another start is another process');
  t.equal(identifyProcess(2 ** 22 + 1), undefined, 'there is no such pid');
});

t.test('a process stops politely', async (t) => {
  const { child, identity } = await startProcess({ deaf: false });
  t.equal(await stopProcess(identity, 5000), 'stopped');
  t.equal(child.signalCode ?? (await once(child, 'exit'))[1], 'SIGTERM');
  t.equal(await stopProcess(identity, 5000), 'was not running');
});

t.test('a process that does not listen is killed after its grace', async (t) => {
  const { identity } = await startProcess({ deaf: true });
  t.notOk(await waitForEnd(identity, 100));
  t.equal(await stopProcess(identity, 200), 'killed');
  t.notOk(isAlive(identity));
});

t.test('a recorded pid that belongs to another process now is left alone', async (t) => {
  const { child, identity } = await startProcess({ deaf: false });
  t.equal(await stopProcess({ ...identity, start: 'earlier' }, 1000), 'was not running');
  t.ok(isAlive(identity), 'it still runs');
  child.kill();
  await once(child, 'exit');
});

t.test('a process is found by its command line', async (t) => {
  const { child, identity } = await startProcess({ deaf: false });
  t.same(
    findProcess((args) => args.includes(`marker-${process.pid}`)),
    identity,
  );
  t.equal(
    findProcess((args) => args.includes('no such argument anywhere')),
    undefined,
  );
  child.kill();
  await once(child, 'exit');
});
