/** A kernel's side of the protocol in memory: golden requests in, replies out. */
import type { Header } from '../../src/fuse/decode.js';
import { type Frame, sealFrame } from '../../src/fuse/encode.js';
import { Session } from '../../src/fuse/session.js';
import { goldenFrames } from './golden-frames.js';
import { RecordingOperations } from './recording-operations.js';

const golden = goldenFrames();

export interface Conversation {
  readonly recorder: RecordingOperations;
  readonly replies: Buffer[];
  readonly broken: Error[];
  readonly session: Session;
  /** Sends the golden request `name`; its replies so far. */
  send(name: string): Buffer[];
}

export function conversation(options: { begun: boolean }): Conversation {
  const recorder = new RecordingOperations();
  const replies: Buffer[] = [];
  const broken: Error[] = [];
  const send = (header: Header, errno: number, frame: Frame, total: number): void => {
    sealFrame(frame, total, errno, header.uniqueLow, header.uniqueHigh);
    replies.push(frame);
  };
  const session = new Session({
    operations: recorder.operations,
    debug: false,
    isSync: false,
    events: { onReady: () => {}, onBroken: (error) => broken.push(error) },
    port: {
      sendFrame: (header, errno, frame) => send(header, errno, frame, frame.length),
      sendData: (header, parts, bytes) => {
        const whole = Buffer.concat([Buffer.alloc(16), ...parts]);
        send(header, 0, whole, 16 + bytes);
      },
    },
  });
  const sendGolden = (name: string): Buffer[] => {
    session.serve(golden.request.get(name) ?? Buffer.alloc(0));
    return replies;
  };
  if (options.begun) {
    sendGolden('init');
    replies.length = 0;
  }
  return { recorder, replies, broken, session, send: sendGolden };
}
