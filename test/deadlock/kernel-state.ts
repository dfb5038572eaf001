/** What the kernel says of a process: whether it sleeps where no signal reaches it, and in what. */
import { readdirSync, readFileSync } from 'node:fs';

/** Its threads in state D, each with the kernel function that it waits in. A process that is gone has none. */
export function uninterruptible(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
      const task = `/proc/${pid}/task/${thread}`;
      return stateOf(readFileSync(`${task}/stat`, 'utf8')) === 'D' ? [`${thread} in ${waitsIn(task)}`] : [];
    });
  } catch (error) {
    // ESRCH: it ended between two looks.
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH'))
      return [];
    throw error;
  }
}

/** Behind the program's name, which may hold anything. */
const stateOf = (stat: string): string | undefined => stat.slice(stat.lastIndexOf(')') + 2)[0];

function waitsIn(task: string): string {
  try {
    // Of root only.
    return readFileSync(`${task}/stack`, 'utf8')
      .replaceAll(/\[<0>\] |\+\S+/g, '')
      .trim()
      .replaceAll('\n', ' < ');
  } catch {
    return readFileSync(`${task}/wchan`, 'utf8');
  }
}

/** Where its main thread is in the kernel. */
export function whereabouts(pid: number): string {
  return `${stateOf(readFileSync(`/proc/${pid}/stat`, 'utf8'))} ${waitsIn(`/proc/${pid}`)}`;
}
