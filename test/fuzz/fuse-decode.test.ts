/**
 * Golden requests with bytes changed, cut off and added: whatever a frame says, the session answers at most
 * once, throws nothing, and hands the operations only values that are in bounds.
 */
import t from 'tap';
import { setLogLevel } from '../../src/base/log.js';
import { Prng } from '../../src/base/prng.js';
import { Opcode } from '../../src/fuse/abi.js';
import { decodeHeader, decodeSupplementaryGroup } from '../../src/fuse/decode.js';
import { Session } from '../../src/fuse/session.js';
import { FsError } from '../../src/proto/errno.js';
import { limits } from '../../src/proto/limits.js';
import { goldenFrames } from '../fuse/golden-frames.js';
import { RecordingOperations } from '../fuse/recording-operations.js';

const ROUNDS_PER_FRAME = 400;
const SEED = Number(process.env.FUZZ_SEED ?? 1);
const WITHOUT_REPLY = new Set<number>([Opcode.FORGET, Opcode.BATCH_FORGET]);
const golden = goldenFrames();
// Every malformed request makes a warning, which is right and not of interest here.
setLogLevel('error');

/** Changes a copy of `frame`; most copies keep a truthful length, so that the bodies are reached. */
function mutate(frame: Buffer, random: Prng): Buffer {
  let copy = Buffer.from(frame);
  const cut = random.int(0, 3);
  if (cut === 0) copy = copy.subarray(0, random.int(0, copy.length));
  if (cut === 1) copy = Buffer.concat([copy, random.bytes(random.int(1, 600))]);
  for (let changes = random.int(0, 6); changes > 0 && copy.length > 0; changes--) {
    const at = random.int(0, copy.length - 1);
    copy[at] = random.pick([0, 1, 0x2f, 0x7f, 0x80, 0xff, random.int(0, 255)]);
  }
  if (copy.length >= 8 && random.int(0, 9) > 0) {
    copy.writeUInt32LE(copy.length, 0);
    if (random.int(0, 3) > 0) copy.writeUInt32LE(frame.readUInt32LE(4), 4);
  }
  return copy;
}

function checkArgument(argument: unknown): boolean {
  if (typeof argument === 'number') return Number.isSafeInteger(argument);
  if (typeof argument === 'string') return argument.length <= limits.xattrValueBytes;
  return true;
}

t.test('mutated requests never crash the session, and are answered at most once', (t) => {
  const random = new Prng(SEED);
  let served = 0;
  for (const [name, frame] of golden.request) {
    for (let round = 0; round < ROUNDS_PER_FRAME; round++) {
      const recorder = new RecordingOperations();
      let replies = 0;
      let broken = 0;
      const session = new Session({
        operations: recorder.operations,
        debug: false,
        isSync: false,
        events: {
          onReady: () => {},
          onBroken: () => {
            broken += 1;
          },
        },
        port: {
          sendFrame: () => {
            replies += 1;
          },
          sendData: () => {
            replies += 1;
          },
        },
      });
      session.serve(golden.request.get('init') ?? Buffer.alloc(0));
      replies = 0;
      const mutated = mutate(frame, random);
      const where = `${name}, seed ${SEED}, round ${round}: ${mutated.subarray(0, 96).toString('hex')}`;
      try {
        session.serve(mutated);
      } catch (error) {
        t.fail(`${where}: threw ${String(error)}`);
      }
      const header = decodeHeader(mutated);
      const expected = header === undefined || WITHOUT_REPLY.has(header.opcode) ? 0 : 1;
      const interrupted = header?.opcode === Opcode.INIT && broken === 1 ? 1 : expected;
      if (replies !== interrupted) t.fail(`${where}: ${replies} replies`);
      if ((header === undefined) !== (broken === 1) && header?.opcode !== Opcode.INIT)
        t.fail(`${where}: broken`);
      for (const call of recorder.calls) {
        if (!call.every(checkArgument)) t.fail(`${where}: ${JSON.stringify(call)}`);
      }
      served += recorder.calls.length;
    }
  }
  t.ok(served > golden.request.size * 50, `${served} mutated requests reached an operation`);
  t.end();
});

t.test('extensions of any shape give a group, nothing, or a malformed request', (t) => {
  const random = new Prng(SEED);
  const frame = golden.request.get('mkdir') ?? Buffer.alloc(0);
  let found = 0;
  for (let round = 0; round < 5000; round++) {
    const mutated = Buffer.from(frame);
    for (let changes = random.int(0, 3); changes > 0; changes--) {
      mutated[random.int(frame.length - 16, frame.length - 1)] = random.int(0, 255);
    }
    const header = decodeHeader(mutated);
    if (header === undefined) continue;
    try {
      if (decodeSupplementaryGroup(mutated, header, 'mkdir') !== undefined) found += 1;
    } catch (error) {
      if (!(error instanceof FsError)) t.fail(String(error));
    }
  }
  t.ok(found > 0, `${found} groups found`);
  t.end();
});
