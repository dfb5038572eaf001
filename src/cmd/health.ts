/**
 * Whether a cluster is healthy, judged from one status reply. Degraded means that something needs a person or
 * time: data is still served as long as each placement group has a server that is up.
 */
import type { Status } from '../proto/meta-methods.js';

/** What is wrong, one phrase each; empty when the cluster is healthy. */
export function findProblems(status: Status): string[] {
  const { servers, replicas } = status.map;
  const problems: string[] = [];
  const down = servers.filter((server) => server.state === 'down');
  const full = servers.filter((server) => server.state === 'full');
  if (servers.length === 0) problems.push('no chunk server has joined yet');
  else if (servers.length < replicas)
    problems.push(`${counted(servers.length, 'chunk server')} for ${counted(replicas, 'replica')}`);
  if (down.length > 0)
    problems.push(
      `${down.length} of ${servers.length} chunk servers down (${down.map(({ url }) => url).join(', ')})`,
    );
  if (full.length > 0)
    problems.push(
      `${full.length} of ${servers.length} chunk servers full (${full.map(({ url }) => url).join(', ')})`,
    );
  const failed = status.tasks.filter((task) => task.state === 'failed');
  if (failed.length > 0) problems.push(`${counted(failed.length, 'task')} failed`);
  return problems;
}

/** `healthy`, or `degraded: ...`. */
export function healthLine(status: Status): string {
  const problems = findProblems(status);
  return problems.length === 0 ? 'healthy' : `degraded: ${problems.join('; ')}`;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
