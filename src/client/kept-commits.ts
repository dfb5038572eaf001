/**
 * Commits of a mount: what was closed under a lease that may have ended since is said so, and what others have
 * overtaken is put elsewhere.
 */
import type { Ino } from '../proto/ids.js';
import type { CommitArgs } from './commit-message.js';
import type { CommitReply } from './commit-queue.js';
import type { KeptWrites } from './kept-writes.js';
import type { LostAndFound } from './lost-and-found.js';

export interface KeptCommitsOptions {
  readonly kept: KeptWrites;
  readonly lost: LostAndFound;
  readonly commit: (args: CommitArgs) => Promise<CommitReply>;
  /** The contents of this file are others'. */
  readonly onOvertaken: (ino: Ino) => void;
}

const OVERTAKEN = 'others have changed the file while this mount was silent';

/** **Errors:** those of commit. */
export async function commitKept(options: KeptCommitsOptions, args: CommitArgs): Promise<CommitReply> {
  const { kept, lost, commit, onOvertaken } = options;
  const files = args.files.map((file) => {
    const since = kept.since(file.ino);
    return since === undefined ? file : { ...file, since };
  });
  const reply = await commit({ ...args, files });
  for (const attr of reply.attrs) kept.version(attr.ino, attr);
  for (const { ino, since } of files) {
    if (since === undefined || !reply.missing.includes(ino)) continue;
    kept.overtaken(ino, (write) => lost.written(write, OVERTAKEN));
    onOvertaken(ino);
  }
  return reply;
}
