/** A running client program (client.ts), seen from the one that tells it what to do. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ScratchDirectory } from '../cluster/scratch-directory.js';
import type { Reply, Request } from './client.js';

const PROGRAM = fileURLToPath(new URL('./client.js', import.meta.url));

export class ClientProcess {
  /** Index of its mount. */
  readonly mount: number;
  readonly #scratch: ScratchDirectory;
  #child: ChildProcess;

  constructor(mount: number, scratch: ScratchDirectory) {
    this.mount = mount;
    this.#scratch = scratch;
    this.#child = this.#start();
  }

  #start(): ChildProcess {
    const child = spawn(process.execPath, [PROGRAM], {
      cwd: '/',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const { pid } = child;
    if (pid !== undefined) {
      this.#scratch.addProcess(pid);
      child.once('exit', () => this.#scratch.removeProcess(pid));
    }
    return child;
  }

  /** Resolves to whether it was done in time. One that hangs is killed, and another started in its place. */
  async ask(request: Request, timeoutMs: number): Promise<boolean> {
    const child = this.#child;
    const reply = await new Promise<Reply | 'late'>((resolve) => {
      const settle = (said: Reply | 'late'): void => {
        clearTimeout(timer);
        child.off('message', settle).off('exit', gone);
        resolve(said);
      };
      const gone = (): void => settle({ failed: 'the client has ended' });
      const timer = setTimeout(() => settle('late'), timeoutMs);
      child.once('message', settle).once('exit', gone);
      child.send(request);
    });
    if (reply === 'late') {
      this.end();
      this.#child = this.#start();
      return false;
    }
    if (reply.failed !== undefined) throw new Error(`client on mount ${this.mount}: ${reply.failed}`);
    return true;
  }

  end(): void {
    this.#child.disconnect();
    this.#child.kill('SIGKILL');
    this.#child.unref();
  }
}
