/**
 * Serves the toy filesystem at argv's mountpoint until it is unmounted, as a process of its own: a process
 * must never touch the mount that it serves. Prints `ready` when the mount can be used and `ended` when it
 * is over; on `error REASON message` it could not mount. Lines on standard input are commands:
 * `unmount`, `force`, `inval INO`, `entry PARENT NAME`, `delete PARENT NAME CHILD`, `epoch`, `forgotten`.
 */
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { setLogLevel } from '../../src/base/log.js';
import { defaultTuning, mountKernelTuned } from '../../src/fuse/kernel-driver.js';
import { MountError } from '../../src/fuse/mount-error.js';
import { asIno } from '../../src/proto/ids.js';
import { ToyOperations } from './toy-operations.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    loop: { type: 'string' },
    spin: { type: 'string' },
    option: { type: 'string', multiple: true, short: 'o' },
    allowOther: { type: 'boolean' },
    later: { type: 'boolean' },
    debug: { type: 'boolean' },
    timeout: { type: 'string' },
    source: { type: 'string' },
  },
});
if (values.debug === true) setLogLevel('debug');
const timeoutMs = Number(values.timeout ?? 0);
const toy = new ToyOperations({
  later: values.later === true,
  attrTimeoutMs: timeoutMs,
  entryTimeoutMs: timeoutMs,
});

try {
  const mounted = await mountKernelTuned(
    toy,
    {
      mountpoint: positionals[0] ?? '',
      source: values.source ?? 'toy',
      allowOther: values.allowOther ?? process.geteuid?.() === 0,
      defaultPermissions: true,
      readOnly: false,
      kernelOptions: values.option ?? [],
      debug: values.debug === true,
    },
    {
      loop: values.loop === 'parked' ? 'parked' : values.loop === 'watched' ? 'watched' : defaultTuning.loop,
      spinMs: values.spin === undefined ? defaultTuning.spinMs : Number(values.spin) / 1000,
    },
  );
  process.on('SIGTERM', () => mounted.unmount({ force: true }).catch(() => {}));
  const lines = createInterface(process.stdin);
  // Whoever started this process is gone: nobody else would take the mount away.
  lines.on('close', () => mounted.unmount({ force: true }).catch(() => {}));
  let answered = Promise.resolve();
  lines.on('line', (line) => {
    const [command, first = '', second = '', third = ''] = line.split(' ');
    const run = async (): Promise<string> => {
      switch (command) {
        case 'unmount':
          await mounted.unmount({ force: false });
          return 'unmounted';
        case 'force':
          await mounted.unmount({ force: true });
          return 'unmounted';
        case 'inval':
          await mounted.notifier.invalidateInode(asIno(Number(first)), 0, 0);
          return 'invalidated';
        case 'entry':
          await mounted.notifier.invalidateEntry(asIno(Number(first)), Buffer.from(second));
          return 'invalidated';
        case 'delete': {
          const [parent, child] = [asIno(Number(first)), asIno(Number(third))];
          await mounted.notifier.deleteEntry(parent, child, Buffer.from(second));
          return 'invalidated';
        }
        case 'epoch':
          await mounted.notifier.incrementEpoch();
          return 'invalidated';
        default:
          return `forgotten ${toy.forgotten}`;
      }
    };
    answered = run().then(
      (answer) => {
        process.stdout.write(`${answer}\n`);
      },
      (error: unknown) => {
        const reason = error instanceof MountError ? error.reason : '-';
        process.stdout.write(`error ${reason} ${String(error)}\n`);
      },
    );
  });
  process.stdout.write('ready\n');
  await mounted.ended;
  await answered;
  process.stdout.write('ended\n');
  process.exit(0);
} catch (error) {
  process.stdout.write(`error ${error instanceof MountError ? error.reason : '-'} ${String(error)}\n`);
  process.exit(1);
}
