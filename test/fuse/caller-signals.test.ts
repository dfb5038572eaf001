import fs from 'node:fs';
import t from 'tap';
import { isEndedBySignal } from '../../src/fuse/caller-signals.js';

const status = (
  masks: Partial<Record<'own' | 'shared' | 'blocked' | 'ignored' | 'caught', number>>,
): string => {
  const line = (name: string, mask = 0): string => `${name}:\t${mask.toString(16).padStart(16, '0')}\n`;
  const { own, shared, blocked, ignored, caught } = masks;
  return `Name:\tx\n${line('SigPnd', own)}${line('ShdPnd', shared)}${line('SigBlk', blocked)}${line('SigIgn', ignored)}${line('SigCgt', caught)}CapInh:\t0\n`;
};
const [INT, KILL, TERM, CHLD, STOP, USR1] = [1 << 1, 1 << 8, 1 << 14, 1 << 16, 1 << 18, 1 << 9];

t.test('which signals end a program', async (t) => {
  t.notOk(isEndedBySignal(status({})), 'none');
  t.ok(isEndedBySignal(status({ shared: INT })), 'one that it does nothing about');
  t.ok(isEndedBySignal(status({ own: USR1 })), 'to one of its threads');
  t.notOk(isEndedBySignal(status({ shared: INT, caught: INT })), 'not one that it catches');
  t.notOk(isEndedBySignal(status({ shared: INT, ignored: INT })), 'nor ignores');
  t.notOk(isEndedBySignal(status({ shared: INT, blocked: INT })), 'nor has blocked');
  t.notOk(isEndedBySignal(status({ shared: CHLD | STOP })), 'nor one that ends nobody');
  t.ok(isEndedBySignal(status({ shared: INT | TERM, caught: INT })), 'the second of two');
  t.ok(
    isEndedBySignal(status({ own: KILL, blocked: KILL, caught: KILL })),
    'SIGKILL, whatever the others say',
  );
});

t.test('a status that does not say is taken for the end', async (t) => {
  t.ok(isEndedBySignal(''));
  t.ok(isEndedBySignal(status({}).replace('SigCgt', 'Other')));
  t.ok(isEndedBySignal(status({}).replace(/ShdPnd:\t0+/, 'ShdPnd:\tnone')));
});

t.test('the kernel writes it so', async (t) => {
  t.notOk(isEndedBySignal(fs.readFileSync('/proc/self/status', 'latin1')));
});
