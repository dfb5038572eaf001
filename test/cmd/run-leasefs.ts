/** Runs the compiled `leasefs` as a user would, and waits for it with a bound. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const executable = fileURLToPath(new URL('../../src/cmd/leasefs.js', import.meta.url));

export interface Outcome {
  /** Exit status; undefined when it was killed because it took too long. */
  readonly status: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export function runLeasefs(
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv; timeoutMs?: number } = {},
): Promise<Outcome> {
  return new Promise((resolve) => {
    const { LEASEFS_META: _, ...environment } = process.env;
    execFile(
      process.execPath,
      [executable, ...args],
      {
        timeout: options.timeoutMs ?? 60_000,
        killSignal: 'SIGKILL',
        env: { ...environment, ...options.env },
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      },
      (error, stdout, stderr) => {
        const status = error === null ? 0 : typeof error.code === 'number' ? error.code : undefined;
        resolve({ status, stdout, stderr });
      },
    );
  });
}
